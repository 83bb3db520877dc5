// Keys of which some expire: at the first touch after their time, and by a message to the store now and then.
#pragma once

#include "table.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

inline constexpr std::size_t expired_slice = 1000;           ///< keys that one `remove_expired` deletes
inline constexpr std::int64_t look_every_ms = 100;           ///< for expired keys, when nothing is overdue
inline constexpr std::int64_t look_overdue_after_ms = 5000;  ///< the message was lost: send another

/// A view of a state with `keys`, `deadlines` and `look_at_ms` while one message is handled.
template <class State, class Entry>
class expiring_keys {
 public:
  expiring_keys(State& of, std::int64_t now_ms) : state_{of}, now_ms_{now_ms} {}

  [[nodiscard]] std::int64_t now_ms() const noexcept { return now_ms_; }

  /// The key's entry, or null if there is none or its time has passed; then it is gone.
  Entry* living(std::string_view key) {
    Entry* const found = state_.keys.find(named(key));
    if (!found || !expired(*found)) return found;
    remove(*found);
    return nullptr;
  }

  Entry& living_or_new(std::string_view key) {
    Entry& found = state_.keys.find_or_add(named(key));
    if (expired(found)) {
      set_deadline(key, found, 0);
      found = Entry{};
    }
    return found;
  }

  bool contains(std::string_view key) { return living(key) != nullptr; }

  bool erase(std::string_view key) {
    const Entry* const found = living(key);
    if (found) remove(*found);
    return found != nullptr;
  }

  /// 0: never expires.
  void set_deadline(std::string_view key, Entry& of, std::int64_t at_ms) {
    if (of.expires_at_ms == at_ms) return;
    if (of.expires_at_ms != 0) state_.deadlines.erase({of.expires_at_ms, std::string{key}});
    if (at_ms != 0) state_.deadlines.emplace(at_ms, std::string{key});
    of.expires_at_ms = at_ms;
  }

  [[nodiscard]] std::size_t size() const noexcept { return state_.keys.size(); }

  void clear() {
    state_.keys = {};
    state_.deadlines.clear();
  }

  template <class Visit>
  void each_key(std::size_t part, Visit visit) const {
    const auto& in = state_.keys.parts[part];
    for (const auto& [key, place] : in.places)
      if (!expired(in.values[place])) visit(key);
  }

  [[nodiscard]] std::string statistics() const {
    return "keys=" + std::to_string(size()) + ",expires=" + std::to_string(state_.deadlines.size()) + ",avg_ttl=0";
  }

  /// Deletes what has expired, a slice of it.
  void remove_expired() {
    for (std::size_t removed = 0; removed < expired_slice && overdue(); ++removed) {
      state_.keys.erase(state_.deadlines.begin()->second);
      state_.deadlines.erase(state_.deadlines.begin());
    }
  }

  /// When to look for expired keys, if somebody must be asked to.
  std::optional<std::chrono::milliseconds> next_look() {
    if (state_.deadlines.empty()) return std::nullopt;
    if (state_.look_at_ms != 0 && now_ms_ < state_.look_at_ms + look_overdue_after_ms) return std::nullopt;
    const std::int64_t after = overdue() ? 1 : look_every_ms;
    state_.look_at_ms = now_ms_ + after;
    return std::chrono::milliseconds{after};
  }

 private:
  [[nodiscard]] bool expired(const Entry& each) const noexcept {
    return each.expires_at_ms != 0 && each.expires_at_ms <= now_ms_;
  }
  [[nodiscard]] bool overdue() const { return !state_.deadlines.empty() && state_.deadlines.begin()->first <= now_ms_; }

  /// Removes the entry of the key that was named last.
  void remove(const Entry& found) {
    if (found.expires_at_ms != 0) state_.deadlines.erase({found.expires_at_ms, key_});
    state_.keys.erase(key_);
  }

  const std::string& named(std::string_view key) { return key_.assign(key); }

  State& state_;
  std::int64_t now_ms_;
  std::string key_;
};

}  // namespace kv
