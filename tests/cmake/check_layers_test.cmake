# The layers check must fail, in the documented words, on an include that the table does not allow.
#   cmake -D work=<empty folder> -D script=<check_layers.cmake> -P check_layers_test.cmake
cmake_minimum_required(VERSION 3.25)

function(expect_check tree expected_status expected_text)
  execute_process(COMMAND "${CMAKE_COMMAND}" -D "root=${tree}" -P "${script}"
                  RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err)
  if(expected_status STREQUAL "fails" AND status EQUAL 0)
    message(FATAL_ERROR "the check passed and should have failed:\n${out}${err}")
  elseif(expected_status STREQUAL "passes" AND NOT status EQUAL 0)
    message(FATAL_ERROR "the check failed and should have passed:\n${out}${err}")
  endif()
  string(FIND "${out}${err}" "${expected_text}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "expected \"${expected_text}\" in:\n${out}${err}")
  endif()
endfunction()

file(REMOVE_RECURSE "${work}")
file(WRITE "${work}/good/loader/elf_image.hpp" "#include \"base/result.hpp\"\n#include <molt/plugin.hpp>\n#include <vector>\n")
file(WRITE "${work}/good/upgrade/plan.hpp" "#include \"loader/elf_image.hpp\"\n")
expect_check("${work}/good" passes "2 files keep to")

file(WRITE "${work}/bad/loader/elf_image.hpp" "#include \"base/result.hpp\"\n  #  include \"upgrade/plan.hpp\"\n")
expect_check("${work}/bad" fails "loader/elf_image.hpp: loader/ may not include upgrade/")

file(WRITE "${work}/sdk/base/result.hpp" "#include <molt/plugin.hpp>\n")
expect_check("${work}/sdk" fails "base/result.hpp: base/ may not include plugin/")

file(WRITE "${work}/example/examples/counter/counter.cpp" "#include \"server/runtime.hpp\"\n#include \"loader/elf_image.hpp\"\n")
expect_check("${work}/example" fails "examples/counter/counter.cpp: examples/ may not include loader/")

file(MAKE_DIRECTORY "${work}/empty")
expect_check("${work}/empty" fails "no source files")
