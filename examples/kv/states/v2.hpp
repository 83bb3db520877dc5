// The store's state as 2.x has it, and the steps between 1.x and 2.x. Frozen.
#pragma once

#include "../common/table.hpp"
#include "v1.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <utility>

namespace kv::v2 {

struct entry {
  std::string text{};
  std::int64_t expires_at_ms = 0;  ///< since the Unix epoch; 0: never
  std::uint64_t hits = 0;          ///< how often it was read
};

struct state {
  table<entry> keys;
  std::set<std::pair<std::int64_t, std::string>> deadlines{};  ///< each key that expires, the next one first
  std::int64_t look_at_ms = 0;                                 ///< when `remove_expired` is due; 0: none was sent
};

/// Both steps move every value and allocate; nothing else can go wrong, and without memory the process ends anyway.
/// Being noexcept, they spare the node a copy of the state to go back to.
inline state from_v1(v1::state&& old) noexcept {
  return {.keys =
              converted<entry>(std::move(old.keys), [](std::string&& text) { return entry{.text = std::move(text)}; })};
}

/// Deadlines and hits are lost: keys that were to expire stay.
inline v1::state to_v1(state&& now) noexcept {
  return {converted<std::string>(std::move(now.keys), [](entry&& each) { return std::move(each.text); })};
}

}  // namespace kv::v2
