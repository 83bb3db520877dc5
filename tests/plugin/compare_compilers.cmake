# Compiles one program with two compilers and compares what it prints.
#   cmake -D cxx=<one> -D other=<other> -D source= -D include= -D work= -P compare_compilers.cmake
file(MAKE_DIRECTORY "${work}")
foreach(which IN ITEMS cxx other)
  execute_process(COMMAND "${${which}}" -std=c++20 -O0 -Wno-undefined-var-template "-I${include}" "-I${include}/plugin"
                          "${source}" -o "${work}/${which}" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND "${work}/${which}" OUTPUT_VARIABLE said_${which} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
if(NOT said_cxx STREQUAL said_other)
  message(FATAL_ERROR "${cxx} says\n${said_cxx}\n${other} says\n${said_other}")
endif()
