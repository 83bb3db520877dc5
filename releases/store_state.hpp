// The store's states and what may follow what: store.hpp's table as plain functions on plain values. Touches no file.
// Private to releases/.
//
// Every function either changes the state to one for which check() holds, or returns an error with the state unchanged.
#pragma once

#include "base/result.hpp"
#include "releases/store.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::releases {

struct store_state {
  std::vector<release_record> releases;
  std::optional<transition> in_flight;
  std::vector<past_transition> history;
  std::string attention;

  [[nodiscard]] const release_record* find(std::string_view id) const noexcept;
  [[nodiscard]] release_record* find(std::string_view id) noexcept;
  /// The id of the release with that status; empty: none.
  [[nodiscard]] std::string with(release_status) const;
  [[nodiscard]] std::string running() const;
  result<release_record> rollback_target() const;

  result<void> add(release_record);
  result<void> remove(std::string_view id);
  result<void> begin(transition_kind, std::string_view to, std::string now);
  result<void> begin_switch();
  result<void> finish(transition_outcome, std::string detail, std::string_view runs, std::string now);
  result<void> commit(std::string now);
  /// False: nothing was under way.
  bool node_lost(std::string_view why, const std::string& now);
  /// The error is for the caller; the state is changed all the same, by `attention`.
  result<void> resolve_by(std::string_view runs, const std::string& now);

  /// The invariants of store.hpp. Error: corrupt, naming the broken one.
  result<void> check() const;

 private:
  void arrive();  ///< the transition's `to` runs
  void remember(past_transition);
};

/// store.json. Errors: corrupt; incompatible (made by a newer molt).
[[nodiscard]] std::string print_state(const store_state&);
result<store_state> parse_state(std::string_view json);

/// Valid UTF-8 of at most `text_bytes_max` bytes, whatever a plugin said: what cannot be kept becomes "?". JSON that
/// cannot be read back would lose the whole store.
inline constexpr std::size_t text_bytes_max = 4096;
[[nodiscard]] std::string clean_text(std::string_view);

/// "2026-01-31T12:00:00Z"
[[nodiscard]] std::string utc_now();

}  // namespace molt::releases
