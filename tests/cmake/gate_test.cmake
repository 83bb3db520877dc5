# molt_add_plugin(... REPLACES ...) with an installed molt: builds what is covered, and fails the build, with the sentence that
# says what to write, where it is not. POLICY: fails at a warning that the policy does not allow.
#   cmake -D prefix=<installed molt> -D source=<tests/cmake/gate> -D work= -D cxx= [-D launcher=] -P gate_test.cmake
cmake_minimum_required(VERSION 3.25)

function(configure one_way)
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${source}" -B "${work}" -G Ninja "-DCMAKE_PREFIX_PATH=${prefix}"
                          "-DCMAKE_CXX_COMPILER=${cxx}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${launcher}" "-DONE_WAY=${one_way}"
                  OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "configuring failed:\n${out}")
  endif()
endfunction()

# Builds a target; it must build, or fail and say each of the texts.
function(expect_build target outcome)
  execute_process(COMMAND "${CMAKE_COMMAND}" --build "${work}" --target ${target}
                  OUTPUT_VARIABLE out ERROR_VARIABLE out RESULT_VARIABLE status)
  if(outcome STREQUAL "builds" AND NOT status EQUAL 0)
    message(FATAL_ERROR "${target} should build:\n${out}")
  elseif(outcome STREQUAL "fails" AND status EQUAL 0)
    message(FATAL_ERROR "${target} should not build:\n${out}")
  endif()
  foreach(text IN LISTS ARGN)
    string(FIND "${out}" "${text}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "${target}: expected \"${text}\" in:\n${out}")
    endif()
  endforeach()
endfunction()

file(REMOVE_RECURSE "${work}")
configure(OFF)
expect_build(covered builds)
set(missing "shop.server.state: removed returned: i64, and no hook leads down from 2.0.0 to 1.0.0: write static v1::state code_change_down(shop::state&&) in shop.server 2.0.0, or declare the release one_way")
expect_build(up_only fails "cannot replace shop 1.0.0 while it runs" "${missing}")
expect_build(up_only fails "${missing}")  # again: a failed build is not taken for done
expect_build(same_version fails "the state of shop.server changed but the version is still 1.0.0: raise it")
configure(ON)
expect_build(up_only builds)
expect_build(opens fails "loads further code (imports dlopen) (loads_code)")
expect_build(opens_allowed builds)
if(NOT cxx MATCHES "clang")
  expect_build(threads fails "plugins own no threads")
endif()
