# The libraries molt is built with, named in one place. The build includes this file and needs them all; find_package(molt)
# includes it too and needs only what a plugin does: Boost's headers and threads. Someone who embeds molt::node and lacks one
# of the others is told by the missing target's name.
#
#   target                       used by
#   Boost::headers               everything
#   Threads::Threads             everything
#   Boost::json                  node, tools: compiled once, not in every file
#   PkgConfig::libelf            loader
#   PkgConfig::libseccomp        loader
#   PkgConfig::nettle            loader
#   tomlplusplus::tomlplusplus   releases
#   LibArchive::LibArchive       releases
#   PkgConfig::libsystemd        tools
#   spdlog::spdlog               node
#   CLI11::CLI11                 tools
function(molt_find_dependencies)
  set(need REQUIRED)
  if(molt_dependencies_optional)
    set(need QUIET)
  endif()
  find_package(Threads REQUIRED)
  find_package(Boost 1.81 REQUIRED)
  find_package(Boost 1.81 ${need} COMPONENTS json)
  find_package(PkgConfig ${need})
  if(PkgConfig_FOUND)
    pkg_check_modules(libelf ${need} IMPORTED_TARGET libelf)
    pkg_check_modules(libseccomp ${need} IMPORTED_TARGET libseccomp)
    pkg_check_modules(nettle ${need} IMPORTED_TARGET nettle)
    pkg_check_modules(libsystemd ${need} IMPORTED_TARGET libsystemd)
  endif()
  find_package(tomlplusplus ${need})
  find_package(LibArchive ${need})
  find_package(spdlog ${need})
  find_package(CLI11 ${need})
endfunction()
