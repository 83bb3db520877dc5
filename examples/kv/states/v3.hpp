// The store's state as 3.x has it, and the steps between 2.x and 3.x. Frozen.
#pragma once

#include "../common/table.hpp"
#include "v2.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace kv::v3 {

using list = std::deque<std::string>;

struct entry {
  std::variant<std::string, std::unique_ptr<list>> value;
  std::int64_t expires_at_ms = 0;  ///< since the Unix epoch; 0: never
  std::uint64_t hits = 0;          ///< how often it was read
};

struct state {
  table<entry> keys;
  std::set<std::pair<std::int64_t, std::string>> deadlines{};  ///< each key that expires, the next one first
  std::int64_t look_at_ms = 0;                                 ///< when `remove_expired` is due; 0: none was sent
};

inline state from_v2(v2::state&& old) noexcept {
  const auto convert = [](v2::entry&& each) {
    return entry{.value = std::move(each.text), .expires_at_ms = each.expires_at_ms, .hits = each.hits};
  };
  return {.keys = converted<entry>(std::move(old.keys), convert),
          .deadlines = std::move(old.deadlines),
          .look_at_ms = old.look_at_ms};
}

[[nodiscard]] inline bool is_list(const entry& each) noexcept {
  return !std::holds_alternative<std::string>(each.value);
}

/// 2.x knows no lists. Looks through the values, which lie side by side, and visits the keys only where there is a
/// list.
inline void delete_lists(state& of) {
  for (part<entry>& each : of.keys.parts) {
    if (std::none_of(each.values.begin(), each.values.end(), is_list)) continue;
    std::vector<std::string> lists;
    for (const auto& [key, place] : each.places)
      if (is_list(each.values[place])) lists.push_back(key);
    for (const std::string& key : lists) {
      of.deadlines.erase({each.find(key)->expires_at_ms, key});
      each.erase(key);
    }
  }
}

inline v2::state to_v2(state&& now) noexcept {
  delete_lists(now);
  const auto convert = [](entry&& each) {
    return v2::entry{
        .text = std::get<std::string>(std::move(each.value)), .expires_at_ms = each.expires_at_ms, .hits = each.hits};
  };
  return {.keys = converted<v2::entry>(std::move(now.keys), convert),
          .deadlines = std::move(now.deadlines),
          .look_at_ms = now.look_at_ms};
}

}  // namespace kv::v3
