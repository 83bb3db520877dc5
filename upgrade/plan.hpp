// What an upgrade will do, computed before anything is touched: from descriptions alone, so a plan needs no code of
// either release.
//
// Everything that could be left without a way is a problem, named as plugin.type.member with what to write, and so is a
// state or message that changed while its plugin's version did not; a plan with problems is refused. The same is
// computed backwards, because a release that cannot be left again must say so (one_way).
//
// Threading: plain values.
#pragma once

#include "base/result.hpp"
#include "plugin/description.hpp"
#include "state_migration/migration_path.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::upgrade {

using migration::direction;
using migration::way;

struct plan_options {
  direction going = direction::up;
  std::vector<std::string> accept_loss;   ///< names of losses the operator accepts; each must be one of some hook
  bool one_way = false;                   ///< the release says that it cannot be rolled back
  std::vector<std::string> types_in_use;  ///< supervised, listening, or with living servers
  bool everything_rests = true;           ///< mode atomic: hooks up may use the states of other servers
  /// Going down: servers without a way become what was kept of them. What has no way back is then no problem, but a
  /// loss to be accepted, by a time that is not before the oldest of `kept`.
  bool from_kept = false;
  struct kept_type {
    std::string type;
    std::uint64_t servers = 0;
    std::string since;  ///< "2026-01-31T12:00:00Z", the oldest
  };
  std::vector<kept_type> kept{};
};

enum class type_change { unchanged, changed, added, removed };
[[nodiscard]] std::string_view to_string(type_change) noexcept;  ///< "unchanged", ...

enum class message_cover {
  same_key,   ///< the receiver knows the very same message
  edge,       ///< hooks convert it, or its reply, or both
  unhandled,  ///< added by the release that is left: a caller in flight gets unknown_message (noted, not refused)
  uncovered,  ///< nothing fits: refused
};
[[nodiscard]] std::string_view to_string(message_cover) noexcept;

struct message_plan {
  std::string name;
  message_cover cover = message_cover::same_key;
  std::vector<std::string> steps;        ///< of an edge: hooks in order, none where only the reply changes
  std::vector<std::string> reply_steps;  ///< the same for the reply on its way back
};

/// One server type in one direction.
struct type_plan {
  std::string type;  ///< "counter.server"
  type_change change = type_change::unchanged;
  std::string from_version;  ///< of the plugin; empty if added
  std::string to_version;    ///< empty if removed
  std::vector<std::string> changes;  ///< of its state, messages and replies: "counter.server.state: added step: i64"
  migration::way way = way::keep;
  std::vector<std::string> steps;  ///< hooks and bridges in order
  std::vector<migration::path_loss> losses;
  bool uses_others = false;            ///< a hook uses the states of other servers: everything rests
  bool archive_to_undo = false;        ///< the old state is archived before, since its hook may empty it and then throw
  std::vector<message_plan> messages;  ///< those of the release that is left
};

struct plan {
  direction going = direction::up;
  std::vector<type_plan> types;       ///< this direction
  std::vector<type_plan> back;        ///< undoing it; empty if one_way
  std::vector<std::string> problems;  ///< each one sentence; not empty: refused
  std::vector<std::string> notes;     ///< worth knowing, refuses nothing
  bool one_way = false;

  [[nodiscard]] bool refused() const noexcept { return !problems.empty(); }
  /// Whether a hook of this direction uses the states of other servers.
  [[nodiscard]] bool uses_others() const noexcept;
  /// The most expensive way used; keep if there is nothing to do.
  [[nodiscard]] migration::way costliest() const noexcept;
  [[nodiscard]] const type_plan* find(std::string_view type) const noexcept;
};

/// Plans going from one set of plugins to another.
[[nodiscard]] plan make_plan(std::span<const plugin_description> running, std::span<const plugin_description> next,
                             const plan_options&);

/// For people, several lines, each ended.
[[nodiscard]] std::string to_text(const plan&);

}  // namespace molt::upgrade
