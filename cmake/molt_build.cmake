# How every target of this project is built: compile options, sanitizers, and the functions that make layers and tests.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(MOLT_CCACHE ccache)
if(MOLT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without these two it caches nothing that uses a precompiled header (its manual, "Precompiled headers").
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros "${MOLT_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${MOLT_CCACHE}")
endif()

set(MOLT_SANITIZE "" CACHE STRING "Sanitizers for everything built here, e.g. address,undefined or thread")
option(MOLT_WERROR "Treat warnings as errors" ON)
option(MOLT_PRECOMPILE "Compile what all tests include once, which takes nearly half of their compilation" ON)

include(molt_dependencies)
molt_find_dependencies()

# Warnings and sanitizers: private to this project's own targets.
add_library(molt_options INTERFACE)
target_compile_options(molt_options INTERFACE -Wall -Wextra -Wpedantic $<$<CXX_COMPILER_ID:GNU>:-Wshadow=local> -Wconversion -Wno-sign-conversion
                       $<$<BOOL:${MOLT_WERROR}>:-Werror> -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(molt_options INTERFACE -Wthread-safety -Wno-shadow -Wno-undefined-var-template)
endif()
if(MOLT_SANITIZE)
  # Lines are all that a report shows; with more than that compiling takes a third longer.
  add_compile_options(-fsanitize=${MOLT_SANITIZE} -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${MOLT_SANITIZE})
endif()

# The same for what need not be fast: tests, their plugins, the tools. UndefinedBehaviorSanitizer's checks make the optimiser
# take half of a compilation.
add_library(molt_unhurried_options INTERFACE)
target_link_libraries(molt_unhurried_options INTERFACE molt_options)
if(MOLT_SANITIZE MATCHES "undefined")
  target_compile_options(molt_unhurried_options INTERFACE -O0)
endif()

# molt_add_layer(name [INTERFACE] HEADERS ... SOURCES ... LINK ... LINK_PUBLIC ...)
# The library molt_<name>, alias molt::<name>, linked to exactly the layers that cmake/layers.cmake allows it.
function(molt_add_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 layer "INTERFACE" "" "HEADERS;SOURCES;LINK;LINK_PUBLIC")
  set(target molt_${name})
  if(layer_INTERFACE)
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  else()
    add_library(${target} STATIC ${layer_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:molt_options> ${layer_LINK})
  endif()
  add_library(molt::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(${target} ${scope} cxx_std_20)
  target_include_directories(${target} ${scope}
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/molt>)
  foreach(lower IN LISTS molt_layer_${name})
    if(TARGET molt::${lower})  # lower layers are defined first; one without a CMakeLists.txt is empty
      target_link_libraries(${target} ${scope} molt::${lower})
    endif()
  endforeach()
  target_link_libraries(${target} ${scope} ${layer_LINK_PUBLIC})
  if(layer_HEADERS)
    target_sources(${target} ${scope} FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}" FILES ${layer_HEADERS})
    set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  endif()
  set_property(GLOBAL APPEND PROPERTY molt_installed_layers ${target})
endfunction()

# molt_add_test(name SOURCES ... LINK ... [LABELS ...] [TIMEOUT seconds] [COST seconds] [BUSY])
# A GoogleTest program whose cases are CTest tests named <name>.<suite>.<case>. COST is about what its longest case takes when
# that is many seconds: it begins before cheaper ones, so that no core waits for it at the end. BUSY: the program's own code,
# not a library's or another process's, is what takes its time; it is optimised under every sanitizer.
function(molt_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "BUSY" "TIMEOUT;COST" "SOURCES;LINK;LABELS;DEFINITIONS;DEPENDS")
  if(NOT test_TIMEOUT)
    set(test_TIMEOUT 120)
  endif()
  if(NOT test_COST)
    set(test_COST 0)
  endif()
  set(options molt_unhurried_options)
  if(test_BUSY)
    set(options molt_options)
  endif()
  add_executable(${name} ${test_SOURCES})
  target_link_libraries(${name} PRIVATE ${options} ${test_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE ${test_DEFINITIONS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  molt_precompile_test(${name} ${options})
  if(test_DEPENDS)
    add_dependencies(${name} ${test_DEPENDS})
  endif()
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT ${test_TIMEOUT} COST ${test_COST} LABELS "${test_LABELS}")
endfunction()

# Of molt_add_test: compiles `name` with tests/precompiled.hpp, of which there is one for each kind of options.
function(molt_precompile_test name options)
  if(NOT MOLT_PRECOMPILE)
    return()
  endif()
  set(holder ${options}_precompiled)
  if(NOT TARGET ${holder})
    # An executable's, as what is compiled for one differs in -fPIE.
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/${holder}.cpp" CONTENT "int main() {}\n")
    add_executable(${holder} "${PROJECT_BINARY_DIR}/${holder}.cpp")
    target_link_libraries(${holder} PRIVATE ${options} molt::plugin GTest::gmock)
    target_include_directories(${holder} PRIVATE "${PROJECT_SOURCE_DIR}")
    target_precompile_headers(${holder} PRIVATE "${PROJECT_SOURCE_DIR}/tests/precompiled.hpp")
    target_compile_options(${holder} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  endif()
  target_precompile_headers(${name} REUSE_FROM ${holder})
  # g++ forgets of a precompiled header that what it includes is the system's, and warns of its inside.
  target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess;-Wno-stringop-overread>)
endfunction()

# molt_add_fuzz_target(name SOURCES ... LINK ... [CORPUS folder])
# A libFuzzer program (LLVMFuzzerTestOneInput), built only by `cmake --preset fuzz` (clang). The target `fuzz` builds all of
# them; each is registered for tools/fuzz in <build>/fuzz_targets.txt as "program<TAB>corpus".
option(MOLT_BUILD_FUZZ "Build the fuzz targets; needs clang" OFF)
if(MOLT_BUILD_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "MOLT_BUILD_FUZZ needs clang: use cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_custom_target(fuzz)
  file(WRITE "${PROJECT_BINARY_DIR}/fuzz_targets.txt" "")
endif()
function(molt_add_fuzz_target name)
  if(NOT MOLT_BUILD_FUZZ)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 fuzz "" "CORPUS" "SOURCES;LINK")
  add_executable(${name} ${fuzz_SOURCES})
  target_link_libraries(${name} PRIVATE molt_options ${fuzz_LINK})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz ${name})
  if(fuzz_CORPUS)
    cmake_path(ABSOLUTE_PATH fuzz_CORPUS BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
  file(APPEND "${PROJECT_BINARY_DIR}/fuzz_targets.txt" "${CMAKE_CURRENT_BINARY_DIR}/${name}\t${fuzz_CORPUS}\n")
endfunction()
