# What `cmake --install` puts where, and what find_package(molt) finds:
#
#   include/molt/<layer>/...       headers, found as "base/result.hpp" and <molt/plugin.hpp>
#   lib/libmolt_<layer>.a          one library per layer: molt::<layer>
#   lib/cmake/molt/                moltConfig.cmake, the version, the targets, molt_add_plugin and its version script
#   bin/molt, bin/moltd, libexec/molt/molt-node
include(CMakePackageConfigHelpers)

set(molt_config_folder "${CMAKE_INSTALL_LIBDIR}/cmake/molt")

# <molt/plugin.hpp> is plugin/molt/plugin.hpp here and include/molt/plugin/molt/plugin.hpp installed.
target_include_directories(molt_plugin INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/molt/plugin>)

get_property(molt_layer_targets GLOBAL PROPERTY molt_installed_layers)
install(TARGETS ${molt_layer_targets} EXPORT molt
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/molt")
install(EXPORT molt NAMESPACE molt:: FILE moltTargets.cmake DESTINATION "${molt_config_folder}")

configure_package_config_file(cmake/moltConfig.cmake.in "${PROJECT_BINARY_DIR}/moltConfig.cmake"
                              INSTALL_DESTINATION "${molt_config_folder}" PATH_VARS CMAKE_INSTALL_BINDIR)
# Before 1.0 each minor version may break its users.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/moltConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/moltConfig.cmake" "${PROJECT_BINARY_DIR}/moltConfigVersion.cmake"
              cmake/molt_dependencies.cmake cmake/molt_add_plugin.cmake cmake/plugin.map
        DESTINATION "${molt_config_folder}")
install(FILES LICENSE README.md CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")

foreach(program IN ITEMS molt moltd)  # molt-node: tools/molt_node.cmake
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
