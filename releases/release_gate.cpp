#include "releases/release_gate.hpp"

#include "loader/foreign_file.hpp"
#include "releases/package.hpp"
#include "upgrade/plan.hpp"

#include <unistd.h>

#include <utility>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;

struct described_release {
  manifest release;
  std::vector<plugin_description> plugins;
};

result<described_release> describe_folder(const fs::path& folder) {
  described_release made;
  MOLT_TRY(made.release, read_manifest(folder));
  for (const auto& entry : made.release.plugins) {
    MOLT_TRY(auto found, loader::inspect_foreign(folder / entry.file));
    made.plugins.push_back(std::move(found.plugin));
  }
  return made;
}

result<described_release> describe_release(const fs::path& package_or_folder, const fs::path& scratch,
                                           file_system& system) {
  std::error_code failed;
  if (fs::is_directory(package_or_folder, failed)) return describe_folder(package_or_folder);
  const fs::path unpacked = scratch / ("." + package_or_folder.filename().string() + "." + std::to_string(::getpid()));
  MOLT_CHECK(unpack(package_or_folder, unpacked, system));
  auto described = describe_folder(unpacked);
  MOLT_CHECK(remove_tree(unpacked, system));
  return described;
}

}  // namespace

result<release_verdict> check_replacement(const fs::path& older, const fs::path& newer, const fs::path& scratch,
                                          file_system& system) {
  MOLT_TRY(const auto next, describe_folder(newer));
  MOLT_TRY(const auto before, describe_release(older, scratch, system));
  release_verdict verdict{before.release.id(), next.release.id(), {}, {}};
  if (before.release.name != next.release.name)
    verdict.problems.push_back(verdict.newer + " is another release than " + verdict.older +
                               ": a release is followed by a version of itself");
  upgrade::plan_options options;
  options.one_way = next.release.upgrade.one_way;
  for (const auto* plugins : {&before.plugins, &next.plugins})
    for (const auto& plugin : *plugins)
      for (const auto& edge : plugin.state_edges)
        if (!edge.loss.empty()) options.accept_loss.push_back(edge.loss);
  auto planned = upgrade::make_plan(before.plugins, next.plugins, options);
  verdict.problems.insert(verdict.problems.end(), planned.problems.begin(), planned.problems.end());
  verdict.notes = std::move(planned.notes);
  return verdict;
}

}  // namespace molt::releases
