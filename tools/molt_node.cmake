# molt-node: runs the plugins of one release.
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
add_executable(molt-node molt_node.cpp molt_node_heap.cpp molt_node_throws.cpp)
target_compile_definitions(molt-node PRIVATE "MOLT_VERSION=\"${PROJECT_VERSION}\"")
target_link_libraries(molt-node PRIVATE molt_unhurried_options molt::node spdlog::spdlog CLI11::CLI11)
molt_precompile_source(molt-node molt_unhurried_options)
# Plugins' throws and allocations come through ours (molt_node_throws.cpp, molt_node_heap.cpp). _Znwm is operator new, _ZdlPv
# operator delete, in their forms with sizes and alignments.
target_link_options(molt-node PRIVATE "LINKER:--export-dynamic-symbol=__cxa_throw"
                                      "LINKER:--export-dynamic-symbol=__cxa_allocate_exception"
                                      "LINKER:--export-dynamic-symbol=_Znw*" "LINKER:--export-dynamic-symbol=_Zdl*")
install(TARGETS molt-node RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/molt")
