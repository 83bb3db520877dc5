// molt::evolving_map: a large map whose entries change with a release, without a pause that grows with it.
//
//     struct state { molt::evolving_map<std::uint64_t, session, decltype(v1::state::live)> live; };
//     static state     code_change(v1::state&& old) noexcept { return {std::move(old.live)}; }
//     static v1::state code_change_down(state& now)          { return {std::move(now.live).devolved()}; }
//
// It takes over the old container in constant time, and holds two:
//
//   before   the entries not yet converted, in the container as the older version had it
//   now      the converted ones: a steady_map (std::map where the old one is ordered)
//
//   event                                       an entry in `before`      an entry in `now`
//   touched (find, [], at, insert, iteration)   is converted first        as in any map
//   erased, assigned over                       goes, unconverted         as in any map
//   a slice between two messages, up            is converted              stays
//   a slice before a rollback, down             stays                     is converted back
//   looked at through const                     a converted copy          itself
//   copied, moved, archived                     stays old                 stays new
//
// Invariants: a key stands in one of the two. A step moves one entry; if its hook throws (not_converted) or memory runs
// out, the entry is where it was. `before` keeps its buckets when it is empty, so that going back needs no growth: 8
// bytes for each entry adopted, until a release takes the entries over with finished().
//
// Chains: the next release adopts this container by either
//   - nesting it, evolving_map<K, session, v2::state::live's type>: in constant time, at any moment; an entry not yet
//     converted goes both steps at once. Each release that nests costs a look-up more for each old entry.
//   - finished(), which first converts what is left (nothing, if the upgrade before was committed), and is the
//     converted part alone: evolving_map<K, session, molt::steady_map<K, v2::session>>.
//
// Its layout is shared between images of different versions: a change of it raises MOLT_ABI_VERSION.
#pragma once

#include "plugin/evolution.hpp"
#include "plugin/evolving_entries.hpp"
#include "plugin/forms.hpp"
#include "plugin/steady_map.hpp"

#include <cstddef>
#include <iterator>
#include <map>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace molt {

template <class Key, class New, class Old>
class evolving_map;

namespace detail {

template <class K, class T, class H, class E, class New>
struct evolved<std::unordered_map<K, T, H, E>, New> {
  using type = steady_map<K, New, H, E>;
};
template <class K, class T, class H, class E, class New>
struct evolved<steady_map<K, T, H, E>, New> {
  using type = steady_map<K, New, H, E>;
};
template <class K, class T, class C, class New>
struct evolved<std::map<K, T, C>, New> {
  using type = std::map<K, New, C>;
};
template <class K, class T, class Older, class New>
struct evolved<evolving_map<K, T, Older>, New> : evolved<typename evolving_map<K, T, Older>::now_map, New> {};

template <class Map>
inline constexpr bool is_evolving_map = false;
template <class K, class T, class Older>
inline constexpr bool is_evolving_map<evolving_map<K, T, Older>> = true;

template <class Map>
concept is_ordered_map = requires(const Map& map, const typename Map::key_type& key) {
  map.upper_bound(key);
};

}  // namespace detail

/// `Old` is the container as the older version had it: a std::unordered_map, std::map, molt::steady_map or
/// evolving_map. What of its interface is not here is detail::evolving_entries'.
///
/// Iterators and references as in std::unordered_map (std::map): an insertion, and so touching an entry not yet
/// converted, invalidates iterators but no references. A loop converts what is left before it begins (ordered: as it
/// goes).
template <class Key, class New, class Old>
class evolving_map : public detail::evolving_entries<evolving_map<Key, New, Old>, New, Old> {
  using base = detail::evolving_entries<evolving_map, New, Old>;
  friend base;
  using base::before_;
  using base::now_;

 public:
  using now_map = typename base::now_container;
  using key_type = Key;
  using mapped_type = New;
  using value_type = typename now_map::value_type;
  using old_type = typename Old::mapped_type;

 private:
  using now_iterator = typename now_map::iterator;
  using hooks = detail::entry_evolution<Key, old_type, New>;
  static constexpr bool ordered = detail::is_ordered_map<now_map>;
  static constexpr bool nested = detail::is_evolving_map<Old>;
  static_assert(std::is_same_v<Key, typename Old::key_type>, "molt: the key of an evolving_map is that of the old map");

 public:
  class iterator {
   public:
    using iterator_category = std::conditional_t<ordered, std::bidirectional_iterator_tag, std::forward_iterator_tag>;
    using value_type = evolving_map::value_type;
    using difference_type = std::ptrdiff_t;
    using reference = value_type&;
    using pointer = value_type*;

    iterator() = default;
    reference operator*() const { return *at_; }
    pointer operator->() const { return &*at_; }
    iterator& operator++() {
      at_ = owner_->after(at_);
      return *this;
    }
    iterator operator++(int) {
      auto here = *this;
      ++*this;
      return here;
    }
    iterator& operator--() requires ordered {
      at_ = owner_->ahead_of(at_);
      return *this;
    }
    iterator operator--(int) requires ordered {
      auto here = *this;
      --*this;
      return here;
    }
    friend bool operator==(const iterator& a, const iterator& b) { return a.at_ == b.at_; }

   private:
    friend class evolving_map;
    iterator(evolving_map& owner, now_iterator at) : owner_{&owner}, at_{at} {}
    evolving_map* owner_ = nullptr;
    now_iterator at_{};
  };

  using base::base;  // takes over the old container, or entries that are converted already

  // -- Looking

  [[nodiscard]] bool contains(const Key& key) const { return now_.contains(key) || before_.contains(key); }
  [[nodiscard]] std::size_t count(const Key& key) const { return contains(key) ? 1 : 0; }
  /// A copy of the entry, converted if it is not yet.
  [[nodiscard]] std::optional<New> get(const Key& key) const {
    if (const auto found = now_.find(key); found != now_.end()) return found->second;
    if constexpr (nested) {
      if (const auto old = before_.get(key)) return hooks::up::copied(key, *old);
    } else if (const auto old = before_.find(key); old != before_.end()) {
      return hooks::up::copied(key, old->second);
    }
    return std::nullopt;
  }
  /// Calls `visit(key, const New&)` for every entry, those not yet converted as converted copies; ordered maps too in
  /// no order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [key, value] : now_) visit(key, value);
    if constexpr (nested) {
      before_.for_each([&](const Key& key, const old_type& old) { visit(key, hooks::up::copied(key, old)); });
    } else {
      for (const auto& [key, old] : before_) visit(key, hooks::up::copied(key, old));
    }
  }
  friend bool operator==(const evolving_map& a, const evolving_map& b) requires requires(const New& value) {
    { value == value } -> std::convertible_to<bool>;
  }
  {
    if (a.size() != b.size()) return false;
    bool same = true;
    a.for_each([&](const Key& key, const New& value) {
      const auto other = same ? b.get(key) : std::nullopt;
      same = other && *other == value;
    });
    return same;
  }

  // -- Touching: what is touched is converted. Throws not_converted.

  [[nodiscard]] iterator find(const Key& key) { return {*this, find_now(key)}; }
  [[nodiscard]] New& at(const Key& key) {
    const auto found = find_now(key);
    if (found == now_.end()) throw std::out_of_range{"molt::evolving_map::at: there is no such key"};
    return found->second;
  }
  New& operator[](const Key& key) { return try_emplace(key).first->second; }
  New& operator[](Key&& key) { return try_emplace(std::move(key)).first->second; }
  template <class K, class... Arguments>
  std::pair<iterator, bool> try_emplace(K&& key, Arguments&&... made_of) {
    if (!before_.empty())
      if (const auto found = find_now(key); found != now_.end()) return {iterator{*this, found}, false};
    const auto [made, fresh] = now_.try_emplace(std::forward<K>(key), std::forward<Arguments>(made_of)...);
    return {iterator{*this, made}, fresh};
  }
  template <class K, class Value>
  std::pair<iterator, bool> emplace(K&& key, Value&& value) {
    return try_emplace(std::forward<K>(key), std::forward<Value>(value));
  }
  std::pair<iterator, bool> insert(const value_type& entry) { return try_emplace(entry.first, entry.second); }
  std::pair<iterator, bool> insert(std::pair<Key, New>&& entry) {
    return try_emplace(std::move(entry.first), std::move(entry.second));
  }
  /// An entry not yet converted is replaced without being converted.
  template <class K, class Value>
  std::pair<iterator, bool> insert_or_assign(K&& key, Value&& value) {
    auto [made, fresh] = now_.insert_or_assign(key, std::forward<Value>(value));
    if (fresh && before_.erase(made->first) != 0) fresh = false;
    return {iterator{*this, made}, fresh};
  }

  /// An entry not yet converted goes unconverted.
  std::size_t erase(const Key& key) { return now_.erase(key) != 0 || before_.erase(key) != 0 ? 1 : 0; }
  /// The one behind it. In a hash map that has not been looped over, only among those converted.
  iterator erase(iterator entry) {
    if constexpr (ordered) {
      const auto next = after(entry.at_);
      now_.erase(entry.at_);
      return {*this, next};
    } else {
      return {*this, now_.erase(entry.at_)};
    }
  }
  void reserve(std::size_t entries) requires(!ordered) { now_.reserve(entries); }

  /// Converts everything that is left, unless the map is ordered.
  [[nodiscard]] iterator begin() {
    if constexpr (ordered) {
      return {*this, earliest(now_.begin(), before_.begin())};
    } else {
      this->finish();
      return {*this, now_.begin()};
    }
  }
  [[nodiscard]] iterator end() { return {*this, now_.end()}; }
  [[nodiscard]] iterator lower_bound(const Key& key) requires ordered {
    return {*this, earliest(now_.lower_bound(key), before_.lower_bound(key))};
  }
  [[nodiscard]] iterator upper_bound(const Key& key) requires ordered {
    return {*this, earliest(now_.upper_bound(key), before_.upper_bound(key))};
  }

  // -- For slices, nesting and archives

  static constexpr bool devolves = hooks::down::exists;
  /// Some entry, converted. The map is not empty.
  [[nodiscard]] iterator any() { return {*this, !now_.empty() ? now_.begin() : convert(any_before())}; }
  /// After both parts were read: no key stands in both.
  [[nodiscard]] bool parts_fit() const {
    if constexpr (nested) {
      bool fit = true;
      before_.for_each_key([&](const Key& key) { fit = fit && !now_.contains(key); });
      return fit;
    } else {
      for (const auto& entry : before_)
        if (now_.contains(entry.first)) return false;
      return true;
    }
  }
  template <class Visit>
  void for_each_key(Visit&& visit) const {
    for (const auto& entry : now_) visit(entry.first);
    if constexpr (nested)
      before_.for_each_key(visit);
    else
      for (const auto& entry : before_) visit(entry.first);
  }

 private:
  auto any_before() {
    if constexpr (nested)
      return before_.any();
    else
      return before_.begin();
  }
  now_iterator find_now(const Key& key) {
    if (const auto found = now_.find(key); found != now_.end() || before_.empty()) return found;
    const auto old = before_.find(key);
    return old == before_.end() ? now_.end() : convert(old);
  }
  // The new entry's memory first: once the old value may have been taken, nothing fails any more.
  template <class OldIterator>
  now_iterator convert(OldIterator old) {
    this->make_room();
    const auto made = now_.try_emplace(old->first).first;
    try {
      made->second = hooks::up::apply(made->first, old->second);
    } catch (...) {
      now_.erase(made->first);
      throw;
    }
    if constexpr (nested)
      before_.erase(made->first);  // looks for no next one, which might convert it
    else
      before_.erase(old);
    return made;
  }
  void convert_one() { convert(any_before()); }
  void convert_back(now_iterator entry) {
    static_assert(devolves, "molt: there is no way back: give the new entry `static Old devolve(const New&)`");
    const auto made = before_.try_emplace(entry->first).first;
    try {
      made->second = hooks::down::apply(made->first, entry->second);
    } catch (...) {
      before_.erase(made->first);
      throw;
    }
    now_.erase(made->first);
  }

  /// The first of two places in order, converted if it is an old one.
  template <class OldIterator>
  now_iterator earliest(now_iterator now, OldIterator old) {
    if (old == before_.end() || (now != now_.end() && now_.key_comp()(now->first, old->first))) return now;
    return convert(old);
  }
  now_iterator after(now_iterator at) {
    if constexpr (ordered) {
      const auto next = std::next(at);
      return before_.empty() ? next : earliest(next, before_.upper_bound(at->first));
    } else {
      if (!before_.empty()) {
        const Key& key = at->first;  // stays where it is
        this->finish();
        at = now_.find(key);
      }
      return std::next(at);
    }
  }
  now_iterator ahead_of(now_iterator at) {
    if (before_.empty()) return std::prev(at);
    auto old = at == now_.end() ? before_.end() : before_.lower_bound(at->first);
    if (old == before_.begin()) return std::prev(at);
    --old;
    if (at != now_.begin())
      if (const auto now = std::prev(at); now_.key_comp()(old->first, now->first)) return now;
    return convert(old);
  }
};

/// Erases what `drop(value_type&)` says, converting each entry first; returns how many.
template <class Key, class New, class Old, class Drop>
std::size_t erase_if(evolving_map<Key, New, Old>& map, Drop drop) {
  std::size_t erased = 0;
  for (auto entry = map.begin(); entry != map.end();) {
    if (drop(*entry)) {
      entry = map.erase(entry);
      ++erased;
    } else {
      ++entry;
    }
  }
  return erased;
}

namespace detail {

template <class K, class New, class Old>
struct native<evolving_map<K, New, Old>> : no_functions {
  static constexpr form kind = form::evolving;
  static constexpr std::string_view name{"evolving_map"};
  using inside = types<typename evolving_map<K, New, Old>::now_map, Old>;
};

}  // namespace detail
}  // namespace molt
