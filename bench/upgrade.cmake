if(TARGET molt_node)
  foreach(generation IN ITEMS 1 2)
    molt_add_plugin(gap VERSION ${generation}.0.0 TARGET molt_bench_gap_${generation} SOURCES upgrade/gap_${generation}.cpp
                    OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/plugins")
    target_link_libraries(molt_bench_gap_${generation} PRIVATE molt_options)
  endforeach()
  add_executable(molt_bench_upgrade upgrade.cpp)
  target_link_libraries(molt_bench_upgrade PRIVATE molt_options molt::node)
  target_compile_definitions(molt_bench_upgrade PRIVATE
    "GAP_FOLDER=\"${CMAKE_CURRENT_BINARY_DIR}/plugins\"" "GAP_OTP_FOLDER=\"${CMAKE_CURRENT_SOURCE_DIR}/otp\"")
  add_dependencies(molt_bench_upgrade molt_bench_gap_1 molt_bench_gap_2)
endif()
