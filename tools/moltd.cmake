# moltd: supervises one box; loads no plugin.
add_executable(moltd moltd.cpp moltd_api.cpp moltd_cancel.cpp moltd_changes.cpp moltd_commit.cpp moltd_daemon.cpp
                     moltd_node_process.cpp moltd_outcomes.cpp moltd_rehearsal.cpp)
target_compile_definitions(moltd PRIVATE "MOLT_VERSION=\"${PROJECT_VERSION}\"")
target_link_libraries(moltd PRIVATE molt_unhurried_options molt::node molt::releases Boost::json CLI11::CLI11
                                    PkgConfig::libsystemd spdlog::spdlog)
molt_precompile_source(moltd molt_unhurried_options)
