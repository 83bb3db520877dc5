# Compiles a file that holds a mistake and looks for each of its `// expect:` texts in what the compiler says.
#   cmake -D cxx=<compiler> -D file=<file> -D include=<root> -P check.cmake
file(STRINGS "${file}" expectations REGEX "^// expect: ")
execute_process(COMMAND "${cxx}" -std=c++20 -fsyntax-only "-I${include}" "-I${include}/plugin" "${file}"
                RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err)
if(status EQUAL 0)
  message(FATAL_ERROR "${file} compiles, but should not")
endif()
foreach(expectation IN LISTS expectations)
  string(REGEX REPLACE "^// expect: " "" expectation "${expectation}")
  string(FIND "${err}" "${expectation}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "${file}: the compiler does not say \"${expectation}\" but:\n${err}")
  endif()
endforeach()
