# molt_add_plugin(name VERSION v SOURCES ... [REPLACES older...] [ONE_WAY] [POLICY file] [TARGET name]
#                 [OUTPUT_DIRECTORY folder])
#
# A plugin lib<name>-<v>.so that can be replaced in a running process: hidden visibility and a version script leave one
# exported symbol; -fno-gnu-unique and the local scope keep two versions' statics apart; a build ID names the image;
# -z now binds everything at load; -z text and -z defs refuse to link what could not be loaded; no path of the building machine
# is left in it. A call of pthread_create, pthread_key_create, atexit, fork or exec is an error when compiling
# (plugin/prevented.hpp). Whatever the compiler cannot see, `molt inspect` finds: docs/reference/inspect.md.
#
# REPLACES names the versions that may still run when this one comes: files (libcounter-1.0.0.so, as it was released) or
# targets. The build then fails, with what to write, where a state or message has changed and no hook leads from each of them
# to the new version, or none leads back and ONE_WAY is not given. It is what `molt gate` says, and what `molt plan` would.
#
# POLICY names a file of findings that are allowed, each with a reason. The build then fails at any warning of `molt inspect` that
# it does not allow.
set(MOLT_PLUGIN_VERSION_SCRIPT "${CMAKE_CURRENT_LIST_DIR}/plugin.map")

function(molt_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 plugin "ONE_WAY" "VERSION;TARGET;OUTPUT_DIRECTORY;POLICY" "SOURCES;REPLACES")
  if(NOT plugin_VERSION OR NOT plugin_SOURCES)
    message(FATAL_ERROR "molt_add_plugin(${name}): say VERSION and SOURCES, e.g. "
                        "molt_add_plugin(${name} VERSION 1.0.0 SOURCES ${name}.cpp)")
  endif()
  if(plugin_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "molt_add_plugin(${name}): unknown arguments: ${plugin_UNPARSED_ARGUMENTS}")
  endif()
  if(plugin_ONE_WAY AND NOT plugin_REPLACES)
    message(FATAL_ERROR "molt_add_plugin(${name}): ONE_WAY says that no hook leads back to what REPLACES names: name it, or "
                        "leave ONE_WAY out")
  endif()
  set(target ${plugin_TARGET})
  if(NOT target)
    set(target ${name}-${plugin_VERSION})
  endif()
  add_library(${target} MODULE ${plugin_SOURCES})
  set_property(GLOBAL APPEND PROPERTY molt_plugin_targets ${target})
  target_link_libraries(${target} PRIVATE molt::plugin)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_definitions(${target} PRIVATE
    "MOLT_PLUGIN_NAME=\"${name}\"" "MOLT_PLUGIN_VERSION=\"${plugin_VERSION}\"")
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique> -Werror=return-type -Werror=odr
    -ftls-model=global-dynamic "-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=" "-fmacro-prefix-map=${CMAKE_BINARY_DIR}/="
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-unknown-warning-option -Wno-undefined-var-template>)
  target_link_options(${target} PRIVATE
    -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,text -Wl,-z,defs -Wl,--build-id=sha1
    "-Wl,--version-script=${MOLT_PLUGIN_VERSION_SCRIPT}" -Wl,--exclude-libs,ALL -Wl,--no-allow-shlib-undefined)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME "${name}-${plugin_VERSION}" PREFIX "lib" SUFFIX ".so"
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON SKIP_BUILD_RPATH ON NO_SONAME ON
    LINK_DEPENDS "${MOLT_PLUGIN_VERSION_SCRIPT}")
  if(plugin_OUTPUT_DIRECTORY)
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${plugin_OUTPUT_DIRECTORY}")
  endif()
  if(plugin_REPLACES)
    molt_gate_plugin(${target} "${plugin_ONE_WAY}" ${plugin_REPLACES})
  endif()
  if(plugin_POLICY)
    molt_inspect_plugin(${target} "${plugin_POLICY}")
  endif()
endfunction()

# Of molt_add_plugin: the program molt, or an empty text where none may run; fails if `option` needs one and there is none.
function(molt_find_program target option to)
  if(TARGET molt AND MOLT_SANITIZE)  # molt's own tree: a sanitized molt may not run outside of tools/test
    set(${to} "" PARENT_SCOPE)
  elseif(TARGET molt)  # molt's own tree
    set(${to} "$<TARGET_FILE:molt>" PARENT_SCOPE)
    add_dependencies(${target} molt)
  elseif(MOLT_PROGRAM AND EXISTS "${MOLT_PROGRAM}")
    set(${to} "${MOLT_PROGRAM}" PARENT_SCOPE)
  else()
    message(FATAL_ERROR "molt_add_plugin(${target}): ${option} asks the program molt, which is not at \"${MOLT_PROGRAM}\": "
                        "install it, or set MOLT_PROGRAM to where it is")
  endif()
endfunction()

# Of molt_add_plugin: fails the build of `target` at findings that the policy does not allow.
function(molt_inspect_plugin target policy)
  molt_find_program(${target} POLICY program)
  if(NOT program)
    return()
  endif()
  cmake_path(ABSOLUTE_PATH policy BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${policy}")
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND "${program}" inspect --quiet --fail-on warn --policy "${policy}" "$<TARGET_FILE:${target}>" VERBATIM)
endfunction()

# Of molt_add_plugin: fails the build of `target` where it cannot replace one of the files or targets that follow.
function(molt_gate_plugin target one_way)
  molt_find_program(${target} REPLACES program)
  if(NOT program)
    return()
  endif()
  set(replaced "")
  foreach(older IN LISTS ARGN)
    if(TARGET ${older})
      add_dependencies(${target} ${older})
      set(older "$<TARGET_FILE:${older}>")
    else()
      cmake_path(ABSOLUTE_PATH older BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
    endif()
    list(APPEND replaced "${older}")
  endforeach()
  # Built anew, and so checked anew, when one of them changes.
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${replaced}")
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND "${program}" gate "$<TARGET_FILE:${target}>" ${replaced} $<$<BOOL:${one_way}>:--one-way>
    COMMAND_EXPAND_LISTS VERBATIM)
endfunction()
