// What a hook is told and may use beside the old state.
//
//   hook                            may use                                                 runs
//   to code_change(from)            the state alone: the same state gives the same          any time
//   to code_change(from, const      the change too: names, configuration, arguments, other  any time
//     molt::change&)                threads
//   to code_change(from,            the states of other servers, and may give states to     while everything rests:
//     molt::change&)                servers that the release starts                         mode atomic
//
// Threading: the thread that runs the hook, while it runs; `time_left` and `expired` also its parts. Not to be kept.
#pragma once

#include "plugin/abi.h"
#include "plugin/schema.hpp"
#include "plugin/types.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <exception>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace molt {

/// Entries that are converted at once by one thread, unless a hook says otherwise.
inline constexpr std::size_t part_least = 1024;

namespace detail {

/// Parts of a hook that several threads run. The first exception is kept for the hook.
template <class Part>
struct parallel_job {
  Part* part;
  std::atomic<bool> failed{false};
  std::exception_ptr thrown{};

  static int run(void* with, std::size_t begin, std::size_t end) {
    auto& self = *static_cast<parallel_job*>(with);
    try {
      (*self.part)(begin, end);
      return MOLT_OK;
    } catch (...) {
      if (!self.failed.exchange(true)) self.thrown = std::current_exception();
      return MOLT_THREW;
    }
  }
};

}  // namespace detail

class change {
 public:
  explicit change(const molt_change& abi) noexcept : abi_{&abi} {}

  [[nodiscard]] std::string_view from_version() const noexcept { return abi_->from_version; }
  [[nodiscard]] std::string_view to_version() const noexcept { return abi_->to_version; }
  /// Of the release and of the command line; OTP's Extra.
  [[nodiscard]] molt::arguments arguments() const noexcept { return molt::arguments{abi_->arguments}; }

  // -- In hooks of states; those of messages find nothing here
  /// The name under which the server is registered; empty if it has none.
  [[nodiscard]] std::string_view server_name() const noexcept {
    return abi_->host == nullptr ? "" : abi_->host->server_name(abi_);
  }
  /// What the server was started with, or told last by config_change. A view: not to be kept.
  [[nodiscard]] molt::arguments config() const noexcept {
    return abi_->host == nullptr ? molt::arguments{} : molt::arguments{abi_->host->config(abi_)};
  }

  /// Until the hooks of this server are over their deadline (hook_timeout); negative: since then.
  [[nodiscard]] std::chrono::nanoseconds time_left() const noexcept {
    return std::chrono::nanoseconds{abi_->host == nullptr ? std::numeric_limits<std::int64_t>::max()
                                                          : abi_->host->time_left_ns(abi_)};
  }
  /// Whether they are: what the hook makes will not be used. For long loops: throw then.
  [[nodiscard]] bool expired() const noexcept { return time_left().count() < 0; }

  /// Runs part(begin, end) for ranges of [0, count), on several threads, this one included, and returns when all have.
  /// For work that is independent per entry: ranges are in no order, and two of them run at once. What one throws is
  /// thrown here, once all have ended; throws too when the deadline passes.
  template <class Part>
  void parallel(std::size_t count, Part&& part, std::size_t least = part_least) const {
    if (count == 0) return;
    if (abi_->host == nullptr) return static_cast<void>(part(std::size_t{0}, count));
    using job = detail::parallel_job<std::remove_reference_t<Part>>;
    job all{&part};
    molt_text text;
    text.size = 0;
    const int status = abi_->host->parallel(abi_, count, least, &job::run, &all, &text);
    if (all.thrown != nullptr) std::rethrow_exception(all.thrown);
    if (status != MOLT_OK) throw std::runtime_error{std::string{text.data, text.size}};
  }

  // -- In hooks that take a change that is not const
  /// The state of the server registered under `name`, as it was when everything came to rest, even if its own hooks
  /// have run since; null if there is no such server. Valid until the hook returns. Throws std::runtime_error if its
  /// state has another structure than `State`.
  template <class State>
  [[nodiscard]] const State* other(std::string_view name) {
    const void* state = nullptr;
    molt_text text;
    text.size = 0;
    const std::string wanted{name};
    if (const int status = host().other(abi_, wanted.c_str(), &schema_of<State>(), &state, &text); status != MOLT_OK)
      throw std::runtime_error{"the state of " + wanted + ": " + std::string{text.data, text.size}};
    return static_cast<const State*>(state);
  }

  /// The server that the release starts under `name` begins with this state: its init gets it by ctx.given<State>().
  /// Throws std::runtime_error if there is no such server to be started, or its state has another structure.
  template <class State>
  void give(std::string_view name, State state) {
    static_assert(!std::is_pointer_v<State> && !std::is_reference_v<State>, "molt: a hook gives a state");
    molt_text text;
    text.size = 0;
    const std::string wanted{name};
    if (host().give(abi_, wanted.c_str(), &schema_of<State>(), &state, &text) != MOLT_OK)
      throw std::runtime_error{"a state for " + wanted + ": " + std::string{text.data, text.size}};
  }

 private:
  [[nodiscard]] const molt_change_host& host() const {
    if (abi_->host == nullptr || abi_->host->other == nullptr || abi_->host->give == nullptr)
      throw std::runtime_error{"states of other servers can be used only while everything rests"};
    return *abi_->host;
  }

  const molt_change* abi_;
};

// -- Containers whose entries are converted independently of each other, on several threads

namespace detail {

template <class Entry, class From>
using converted_entry = std::remove_cvref_t<std::invoke_result_t<const Entry&, From>>;

/// Into places that are there already.
template <class To, class Sequence, class Old, class Entry>
Sequence converted_sequence(const change& with, Old&& old, const Entry& entry) {
  static_assert(std::is_default_constructible_v<To> && std::is_move_assignable_v<To>,
                "molt: entries converted in parallel are made before, and assigned to");
  static_assert(!std::is_same_v<To, bool>, "molt: two threads cannot write to one std::vector<bool>");
  Sequence made(old.size());
  with.parallel(old.size(), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      if constexpr (std::is_lvalue_reference_v<Old>)
        made[i] = entry(std::as_const(old[i]));
      else
        made[i] = entry(std::move(old[i]));
    }
  });
  return made;
}

/// Converted side by side, then put into the new map one after the other.
template <class To, class Map, class Old, class Entry>
Map converted_map(const change& with, Old&& old, const Entry& entry) {
  static_assert(std::is_default_constructible_v<To> && std::is_move_assignable_v<To>,
                "molt: entries converted in parallel are made before, and assigned to");
  std::vector<decltype(&*old.begin())> from;
  from.reserve(old.size());
  for (auto& each : old) from.push_back(&each);
  std::vector<To> values(from.size());
  with.parallel(from.size(), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      if constexpr (std::is_lvalue_reference_v<Old>)
        values[i] = entry(std::as_const(from[i]->second));
      else
        values[i] = entry(std::move(from[i]->second));
    }
  });
  Map made;
  if constexpr (requires { made.reserve(values.size()); }) made.reserve(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) made.try_emplace(made.end(), from[i]->first, std::move(values[i]));
  return made;
}

}  // namespace detail

/// Each entry of a container by `entry(const From&)`, which several threads call at once; given an rvalue container, by
/// `entry(From&&)`. Returns the same kind of container. Maps keep their keys.
template <class From, class Entry>
auto converted(const change& with, const std::vector<From>& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, const From&>;
  return detail::converted_sequence<to, std::vector<to>>(with, old, entry);
}
template <class From, class Entry>
auto converted(const change& with, std::vector<From>&& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, From>;
  return detail::converted_sequence<to, std::vector<to>>(with, std::move(old), entry);
}
template <class From, class Entry>
auto converted(const change& with, const std::deque<From>& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, const From&>;
  return detail::converted_sequence<to, std::deque<to>>(with, old, entry);
}
template <class From, class Entry>
auto converted(const change& with, std::deque<From>&& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, From>;
  return detail::converted_sequence<to, std::deque<to>>(with, std::move(old), entry);
}
template <class Key, class From, class Hash, class Equal, class Entry>
auto converted(const change& with, const std::unordered_map<Key, From, Hash, Equal>& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, const From&>;
  return detail::converted_map<to, std::unordered_map<Key, to, Hash, Equal>>(with, old, entry);
}
template <class Key, class From, class Hash, class Equal, class Entry>
auto converted(const change& with, std::unordered_map<Key, From, Hash, Equal>&& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, From>;
  return detail::converted_map<to, std::unordered_map<Key, to, Hash, Equal>>(with, std::move(old), entry);
}
template <class Key, class From, class Less, class Entry>
auto converted(const change& with, const std::map<Key, From, Less>& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, const From&>;
  return detail::converted_map<to, std::map<Key, to, Less>>(with, old, entry);
}
template <class Key, class From, class Less, class Entry>
auto converted(const change& with, std::map<Key, From, Less>&& old, const Entry& entry) {
  using to = detail::converted_entry<Entry, From>;
  return detail::converted_map<to, std::map<Key, to, Less>>(with, std::move(old), entry);
}

}  // namespace molt
