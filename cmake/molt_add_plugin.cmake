# molt_add_plugin(name VERSION v SOURCES ...)
#
# A plugin lib<name>-<v>.so that can be replaced in a running process: hidden visibility and a version script leave one
# exported symbol; -fno-gnu-unique and the local scope keep two versions' statics apart; a build ID names the image;
# -z now binds everything at load. What the inspector would refuse is an error when building, where the compiler can tell.
set(MOLT_PLUGIN_VERSION_SCRIPT "${CMAKE_CURRENT_LIST_DIR}/plugin.map")

function(molt_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 plugin "" "VERSION;TARGET;OUTPUT_DIRECTORY" "SOURCES")
  if(NOT plugin_VERSION OR NOT plugin_SOURCES)
    message(FATAL_ERROR "molt_add_plugin(${name}): say VERSION and SOURCES, e.g. "
                        "molt_add_plugin(${name} VERSION 1.0.0 SOURCES ${name}.cpp)")
  endif()
  if(plugin_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "molt_add_plugin(${name}): unknown arguments: ${plugin_UNPARSED_ARGUMENTS}")
  endif()
  set(target ${plugin_TARGET})
  if(NOT target)
    set(target ${name}-${plugin_VERSION})
  endif()
  add_library(${target} MODULE ${plugin_SOURCES})
  target_link_libraries(${target} PRIVATE molt::plugin)
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_definitions(${target} PRIVATE
    "MOLT_PLUGIN_NAME=\"${name}\"" "MOLT_PLUGIN_VERSION=\"${plugin_VERSION}\"")
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique> -Werror=return-type -Werror=odr
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-unknown-warning-option -Wno-undefined-var-template>)
  target_link_options(${target} PRIVATE
    -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,defs -Wl,--build-id=sha1
    "-Wl,--version-script=${MOLT_PLUGIN_VERSION_SCRIPT}" -Wl,--exclude-libs,ALL -Wl,--no-allow-shlib-undefined)
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME "${name}-${plugin_VERSION}" PREFIX "lib" SUFFIX ".so"
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON SKIP_BUILD_RPATH ON NO_SONAME ON
    LINK_DEPENDS "${MOLT_PLUGIN_VERSION_SCRIPT}")
  if(plugin_OUTPUT_DIRECTORY)
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${plugin_OUTPUT_DIRECTORY}")
  endif()
endfunction()
