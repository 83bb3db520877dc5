# The client of tools/demo.
add_executable(demo_probe demo_probe.cpp)
target_link_libraries(demo_probe PRIVATE molt_unhurried_options Boost::json)
