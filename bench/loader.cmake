if(TARGET molt_node)
  foreach(generation IN ITEMS 1 2)
    molt_add_plugin(padded VERSION ${generation}.0.0 TARGET molt_bench_padded_${generation} SOURCES loader/padded.cpp
                    OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/plugins")
    target_link_libraries(molt_bench_padded_${generation} PRIVATE molt_options)
    target_compile_definitions(molt_bench_padded_${generation} PRIVATE
      "PADDING=\"${generation}\"" "PADDED_VERSION=\"${generation}.0.0\"")
  endforeach()
  add_executable(molt_bench_loader loader.cpp messaging/measure.cpp)
  target_link_libraries(molt_bench_loader PRIVATE molt_options molt::node)
  target_include_directories(molt_bench_loader PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(molt_bench_loader PRIVATE "PADDED_FOLDER=\"${CMAKE_CURRENT_BINARY_DIR}/plugins\"")
  add_dependencies(molt_bench_loader molt_bench_padded_1 molt_bench_padded_2)
endif()
