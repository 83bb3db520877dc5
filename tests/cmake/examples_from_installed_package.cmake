# Installs the build to an empty prefix, builds examples/ out of tree with find_package(molt) and nothing else of this tree, and
# inspects each plugin that came out.
#   cmake -D build= -D work= -D examples= -D cxx= -D build_type= [-D launcher=] -P examples_from_installed_package.cmake
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "exit ${status}: ${command}\n${out}${err}")
  endif()
endfunction()

file(REMOVE_RECURSE "${work}")
set(prefix "${work}/prefix")
run("${CMAKE_COMMAND}" --install "${build}" --prefix "${prefix}")
foreach(expected IN ITEMS include/molt/base/result.hpp include/molt/plugin/molt/plugin.hpp bin/molt)
  if(NOT EXISTS "${prefix}/${expected}")
    message(FATAL_ERROR "not installed: ${expected}")
  endif()
endforeach()

# A copy, so that nothing can reach the tree by a relative path.
file(COPY "${examples}" DESTINATION "${work}")
get_filename_component(folder "${examples}" NAME)
run("${CMAKE_COMMAND}" -S "${work}/${folder}" -B "${work}/build" -G Ninja "-DCMAKE_PREFIX_PATH=${prefix}"
    "-DCMAKE_CXX_COMPILER=${cxx}" "-DCMAKE_BUILD_TYPE=${build_type}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${launcher}")
run("${CMAKE_COMMAND}" --build "${work}/build")

file(GLOB_RECURSE plugins "${work}/build/*.so")
list(LENGTH plugins count)
if(count EQUAL 0)
  message(FATAL_ERROR "the examples built no plugin")
endif()
foreach(plugin IN LISTS plugins)
  run("${prefix}/bin/molt" inspect "${plugin}")
endforeach()
message("${count} plugins built with the installed package, all replaceable")
