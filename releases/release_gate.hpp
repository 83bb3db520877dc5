// Whether one release can follow another while it runs, from their files alone: what `molt pack --replaces` asks, so
// that a package is not made which every box would refuse.
//
// Threading: any thread. Nothing of either release is run.
#pragma once

#include "base/file_system.hpp"
#include "base/result.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace molt::releases {

struct release_verdict {
  std::string older;  ///< ids: "kv-1.0.0"
  std::string newer;
  std::vector<std::string> problems;  ///< why an upgrade would be refused, each one sentence
  std::vector<std::string> notes;

  [[nodiscard]] bool passed() const noexcept { return problems.empty(); }
};

/// The plan of an upgrade from `older`, a package or a release's folder, to the release in the folder `newer`. Losses
/// of the way back are the operator's to accept, and servers of types that are gone are taken to leave with their
/// release. A package is unpacked below `scratch`, an existing folder, and removed again. Errors: those of reading and
/// inspecting either release.
result<release_verdict> check_replacement(const std::filesystem::path& older, const std::filesystem::path& newer,
                                          const std::filesystem::path& scratch, file_system& = file_system::real());

}  // namespace molt::releases
