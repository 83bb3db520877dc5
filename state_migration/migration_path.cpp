#include "state_migration/migration_path.hpp"

#include <algorithm>
#include <utility>

namespace molt::migration {
namespace {

/// The same type of the same image: nothing changes hands.
bool same_type(const graph_schema& a, const graph_schema& b) noexcept {
  return a.image == b.image && a.fingerprint == b.fingerprint && a.name == b.name;
}

/// Appends what brings an object of `from` to be one of `to`, whose structure is the same.
void hand_over(migration_path& path, const graph_schema& from, const graph_schema& to) {
  if (same_type(from, to) || (from.code_free() && to.code_free())) return;
  path.steps.push_back({path_step::kind::bridge, {}, from, to});
}

}  // namespace

std::string_view to_string(way chosen) noexcept {
  switch (chosen) {
    case way::keep:
      return "keep";
    case way::in_place:
      return "in_place";
    case way::archive:
      return "archive";
  }
  return "keep";
}

std::string path_step::text() const {
  if (what == kind::hook) return edge.text();
  if (from.name == to.name && from.version != to.version)
    return to.name + " by archive (version " + std::to_string(from.version) + " to " + std::to_string(to.version) + ")";
  return to.name + " by archive";
}

bool migration_path::needs_archive_to_undo() const noexcept {
  if (!needs_archive_to_revert()) return false;
  const auto from = steps.begin() + (steps.front().fails_whole() ? 1 : 0);
  return std::any_of(from, steps.end(), [](const path_step& step) { return step.may_fail(); });
}

bool migration_path::needs_archive_to_revert() const noexcept { return !steps.empty() && steps.front().consumes(); }

bool migration_path::uses_others() const noexcept {
  return std::any_of(steps.begin(), steps.end(), [](const path_step& step) { return step.uses_others(); });
}

std::vector<path_loss> migration_path::losses() const {
  std::vector<path_loss> all;
  for (const auto& step : steps)
    if (!step.edge.loss.empty()) all.push_back({step.edge.loss, step.edge.loss_text});
  return all;
}

std::vector<std::string> migration_path::step_texts() const {
  std::vector<std::string> texts;
  for (const auto& step : steps) texts.push_back(step.text());
  return texts;
}

result<migration_path> choose_path(const migration_graph& graph, const graph_schema& from, const graph_schema& to,
                                   direction going) {
  MOLT_TRY(const route hooks, graph.find(from.fingerprint, to.fingerprint, going));
  migration_path path{from, to, way::keep, {}};
  const graph_schema* here = &path.from;
  for (const auto& edge : hooks) {
    if (edge.archive) {
      path.steps.push_back({path_step::kind::bridge, {}, *here, edge.to});
    } else {
      hand_over(path, *here, edge.from);
      path.steps.push_back({path_step::kind::hook, edge, edge.from, edge.to});
    }
    here = &edge.to;
  }
  hand_over(path, *here, to);
  const bool bridged = std::any_of(path.steps.begin(), path.steps.end(),
                                   [](const path_step& step) { return step.what == path_step::kind::bridge; });
  path.way = bridged ? way::archive : path.steps.empty() ? way::keep : way::in_place;
  return path;
}

}  // namespace molt::migration
