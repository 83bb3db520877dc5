// How one state gets from the running image's type to the next image's: the cheapest sound way over a route of the
// graph.
//
//   way       when                                               steps
//   keep      same fingerprint, code-free on both sides          none: the pointer is handed over
//   in place  hooks; every type that changes image is code-free  hook, hook, ...
//   archive   otherwise: a type that reaches code of its image,  bridge (save by one image,
//             or an archive edge                                 load by the other),
//                                                                hook, ...
#pragma once

#include "base/result.hpp"
#include "state_migration/migration_graph.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace molt::migration {

/// From cheap to expensive.
enum class way { keep, in_place, archive };

/// As it stands in JSON: "keep", "in_place", "archive".
[[nodiscard]] std::string_view to_string(way) noexcept;

struct path_step {
  enum class kind { hook, bridge };
  kind what = kind::hook;
  graph_edge edge;    ///< of a hook
  graph_schema from;  ///< a bridge is saved as this type
  graph_schema to;    ///< what the step makes

  [[nodiscard]] bool consumes() const noexcept { return what == kind::hook && (edge.flags & MOLT_EDGE_CONSUMES) != 0; }
  /// Is its input whole if it fails, though it consumes it if it does not?
  [[nodiscard]] bool fails_whole() const noexcept { return what == kind::hook && (edge.flags & MOLT_EDGE_WHOLE) != 0; }
  /// May it fail halfway? A bridge may; a hook unless it is noexcept.
  [[nodiscard]] bool may_fail() const noexcept {
    return what == kind::bridge || (edge.flags & MOLT_EDGE_NOEXCEPT) == 0;
  }
  [[nodiscard]] bool uses_others() const noexcept { return what == kind::hook && (edge.flags & MOLT_EDGE_OTHERS) != 0; }
  [[nodiscard]] std::string text() const;
};

struct path_loss {
  std::string name;  ///< by which an operator accepts it
  std::string text;
  friend bool operator==(const path_loss&, const path_loss&) = default;
};

/// A path from one image's state to another's. With schemas from loaded images (schema != null) it can be run.
struct migration_path {
  graph_schema from;
  graph_schema to;
  migration::way way = way::keep;
  std::vector<path_step> steps;

  /// Does undoing need an archive of the old state, taken before? Where the first hook consumes its input and a step
  /// may fail, other than that one leaving its input whole.
  [[nodiscard]] bool needs_archive_to_undo() const noexcept;
  /// The same when a complete path may have to be undone as well (mode atomic): where the first hook consumes its
  /// input.
  [[nodiscard]] bool needs_archive_to_revert() const noexcept;
  /// Does a hook use the states of other servers?
  [[nodiscard]] bool uses_others() const noexcept;
  [[nodiscard]] std::vector<path_loss> losses() const;
  [[nodiscard]] std::vector<std::string> step_texts() const;
};

/// Chooses the way from `from` to `to` over a graph that knows both. Errors: those of migration_graph::find.
[[nodiscard]] result<migration_path> choose_path(const migration_graph&, const graph_schema& from,
                                                 const graph_schema& to, direction);

}  // namespace molt::migration
