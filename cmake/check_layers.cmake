# Reads every #include of the layers against the table in layers.cmake:
#
#   cmake [-D root=<folder of the layers>] -P cmake/check_layers.cmake
#
# prints `loader/elf_image.hpp: loader/ may not include upgrade/` for each breach and fails if there was one.
# The examples may include what is installed, by <molt/...>, and nothing by a layer's path.
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/layers.cmake")
if(NOT DEFINED root)
  cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)
endif()
get_filename_component(root "${root}" ABSOLUTE)

set(breaches 0)
set(files_read 0)

# Checks each include of the files below `folder`: a path into another layer must begin with one of `allowed`.
function(check_folder folder allowed)
  file(GLOB_RECURSE files RELATIVE "${root}" "${root}/${folder}/*.[ch]pp" "${root}/${folder}/*.[ch]")
  list(SORT files)
  foreach(file IN LISTS files)
    math(EXPR files_read "${files_read} + 1")
    file(STRINGS "${root}/${file}" lines REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"][a-z_]+/")
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*[<\"]([a-z_]+)/.*" "\\1" included "${line}")
      if(included STREQUAL "molt")  # <molt/plugin.hpp> lies in plugin/molt/
        set(included plugin)
      endif()
      if(included IN_LIST molt_layers AND NOT included STREQUAL folder AND NOT included IN_LIST allowed)
        message("${file}: ${folder}/ may not include ${included}/")
        math(EXPR breaches "${breaches} + 1")
      endif()
    endforeach()
  endforeach()
  set(breaches ${breaches} PARENT_SCOPE)
  set(files_read ${files_read} PARENT_SCOPE)
endfunction()

foreach(layer IN LISTS molt_layers)
  check_folder(${layer} "${molt_layer_${layer}}")
endforeach()
# An example's own folders come before the layers' names; what it may name of molt's is <molt/plugin.hpp> and friends.
set(molt_layers base plugin loader state_migration upgrade releases)
file(GLOB_RECURSE example_files RELATIVE "${root}" "${root}/examples/*.[ch]pp" "${root}/examples/*.h")
foreach(file IN LISTS example_files)
  math(EXPR files_read "${files_read} + 1")
  file(STRINGS "${root}/${file}" lines REGEX "^[ \t]*#[ \t]*include[ \t]*\"[a-z_]+/")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*\"([a-z_]+)/.*" "\\1" included "${line}")
    if(included IN_LIST molt_layers)
      message("${file}: examples/ may not include ${included}/ (only the installed <molt/...>)")
      math(EXPR breaches "${breaches} + 1")
    endif()
  endforeach()
endforeach()

if(files_read EQUAL 0)
  message(FATAL_ERROR "no source files below ${root}")
endif()
if(breaches GREATER 0)
  message(FATAL_ERROR "${breaches} include(s) against cmake/layers.cmake, in ${files_read} files")
endif()
message("${files_read} files keep to cmake/layers.cmake")
