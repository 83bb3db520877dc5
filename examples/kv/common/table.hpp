// Keys and their values, in 4096 parts.
//
// - A part grows by itself, so no single command rehashes everything.
// - SCAN's cursor is a part's number: a key that is there during a whole scan is returned, however many others come and
// go.
// - Values stand apart from keys, side by side: to change their type, an upgrade walks through plain vectors (about 10
// ns a
//   value) and keeps the million nodes of the keys as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kv {

inline constexpr std::size_t part_count = 4096;

template <class Value>
struct part {
  std::unordered_map<std::string, std::uint32_t> places;  ///< of a key's value in `values`
  std::vector<Value> values;
  std::vector<std::uint32_t> vacant;  ///< places that no key has

  Value* find(const std::string& key) {
    const auto found = places.find(key);
    return found == places.end() ? nullptr : &values[found->second];
  }

  Value& find_or_add(const std::string& key) {
    const auto [found, added] = places.try_emplace(key, 0U);
    if (!added) return values[found->second];
    if (vacant.empty()) {
      found->second = static_cast<std::uint32_t>(values.size());
      return values.emplace_back();
    }
    found->second = vacant.back();
    vacant.pop_back();
    return values[found->second];
  }

  bool erase(const std::string& key) {
    const auto found = places.find(key);
    if (found == places.end()) return false;
    values[found->second] = Value{};
    vacant.push_back(found->second);
    places.erase(found);
    if (places.empty()) *this = part{};
    return true;
  }
};

template <class Value>
struct table {
  std::vector<part<Value>> parts = std::vector<part<Value>>(part_count);

  static std::size_t part_of(const std::string& key) noexcept { return std::hash<std::string>{}(key) >> 52U; }
  static_assert(sizeof(std::size_t) == 8 && part_count == std::size_t{1} << 12U);

  Value* find(const std::string& key) { return parts[part_of(key)].find(key); }
  Value& find_or_add(const std::string& key) { return parts[part_of(key)].find_or_add(key); }
  bool erase(const std::string& key) { return parts[part_of(key)].erase(key); }

  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t keys = 0;
    for (const part<Value>& each : parts) keys += each.places.size();
    return keys;
  }
};

/// The same keys with values of another type. Frees the old values as it goes, so memory stays about the same.
template <class To, class From, class Convert>
table<To> converted(table<From>&& from, Convert convert) {
  table<To> to;
  for (std::size_t i = 0; i < part_count; ++i) {
    part<From> old = std::move(from.parts[i]);
    part<To>& now = to.parts[i];
    now.values.reserve(old.values.size());
    for (From& value : old.values) now.values.push_back(convert(std::move(value)));
    now.places = std::move(old.places);
    now.vacant = std::move(old.vacant);
  }
  return to;
}

}  // namespace kv
