// molt::evolving_set: a large set whose elements change with a release, without a pause that grows with it.
//
//     struct state { molt::evolving_set<address, decltype(v1::state::banned)> banned; };
//     static state     code_change(v1::state&& old) noexcept { return {std::move(old.banned)}; }
//     static v1::state code_change_down(state& now)          { return {std::move(now.banned).devolved()}; }
//
// It takes over the old set in constant time, and holds two as evolving_map does: `before`, whose elements are not yet
// converted, and `now` (a steady_set; std::set where the old one is ordered). An element is looked for in `before` by
// converting it back, so both of its hooks are needed, and each undoes the other: evolve(devolve(x)) == x.
//
// Invariants: an element stands in one of the two. A step moves one element; if its hook throws (not_converted), if it
// becomes equal to another one, or if memory runs out, it is where it was.
// Its layout is shared between images of different versions: a change of it raises MOLT_ABI_VERSION.
#pragma once

#include "plugin/evolution.hpp"
#include "plugin/evolving_entries.hpp"
#include "plugin/forms.hpp"
#include "plugin/steady_set.hpp"

#include <cstddef>
#include <set>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace molt {

template <class New, class Old>
class evolving_set;

namespace detail {

template <class K, class H, class E, class New>
struct evolved<std::unordered_set<K, H, E>, New> {
  using type = steady_set<New>;
};
template <class K, class H, class E, class New>
struct evolved<steady_set<K, H, E>, New> {
  using type = steady_set<New>;
};
template <class K, class C, class New>
struct evolved<std::set<K, C>, New> {
  using type = std::set<New>;
};

}  // namespace detail

/// `Old` is the set as the older version had it: a std::unordered_set, std::set or molt::steady_set. `New` has
/// std::hash and ==, or < where the old set is ordered. What of its interface is not here is detail::evolving_entries'.
template <class New, class Old>
class evolving_set : public detail::evolving_entries<evolving_set<New, Old>, New, Old> {
  using base = detail::evolving_entries<evolving_set, New, Old>;
  friend base;
  using base::before_;
  using base::now_;

 public:
  using now_set = typename base::now_container;
  using key_type = New;
  using value_type = New;
  using old_type = typename Old::value_type;
  using const_iterator = typename now_set::const_iterator;
  using iterator = const_iterator;

 private:
  using hooks = detail::entry_evolution<detail::no_key, old_type, New>;
  static constexpr bool ordered = requires(const now_set& set, const New& key) { set.upper_bound(key); };
  static_assert(
      hooks::down::exists,
      "molt: an element is looked for by converting it back: give the new one `static Old devolve(const New&)`");

 public:
  using base::base;  // takes over the old set, or elements that are converted already

  // -- Looking

  [[nodiscard]] bool contains(const New& key) const {
    return now_.contains(key) || (!before_.empty() && before_.contains(hooks::down::copied({}, key)));
  }
  [[nodiscard]] std::size_t count(const New& key) const { return contains(key) ? 1 : 0; }
  /// Calls `visit(const New&)` for every element, those not yet converted as converted copies; in no order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& key : now_) visit(key);
    for (const auto& old : before_) visit(hooks::up::copied({}, old));
  }
  friend bool operator==(const evolving_set& a, const evolving_set& b) {
    if (a.size() != b.size()) return false;
    bool same = true;
    a.for_each([&](const New& key) { same = same && b.contains(key); });
    return same;
  }

  // -- Touching: what is touched is converted. Throws not_converted.

  template <class K>
  std::pair<const_iterator, bool> emplace(K&& key) {
    New made(std::forward<K>(key));
    if (const auto found = find_now(made); found != now_.end()) return {found, false};
    const auto [at, fresh] = now_.insert(std::move(made));
    return {at, fresh};
  }
  std::pair<const_iterator, bool> insert(const New& key) { return emplace(key); }
  std::pair<const_iterator, bool> insert(New&& key) { return emplace(std::move(key)); }
  /// An element not yet converted goes unconverted.
  std::size_t erase(const New& key) {
    if (now_.erase(key) != 0) return 1;
    return before_.empty() ? 0 : before_.erase(hooks::down::copied({}, key));
  }
  [[nodiscard]] const_iterator find(const New& key) { return find_now(key); }
  /// Converts everything that is left.
  [[nodiscard]] const_iterator begin() {
    this->finish();
    return now_.begin();
  }
  [[nodiscard]] const_iterator end() { return now_.end(); }

  // -- For slices and archives

  static constexpr bool devolves = true;
  /// After both parts were read: no element stands in both.
  [[nodiscard]] bool parts_fit() const {
    for (const auto& old : before_)
      if (now_.contains(hooks::up::copied({}, old))) return false;
    return true;
  }

 private:
  const_iterator find_now(const New& key) {
    if (const auto found = now_.find(key); found != now_.end() || before_.empty()) return found;
    const auto old = before_.find(hooks::down::copied({}, key));
    return old == before_.end() ? now_.end() : convert(old);
  }
  // From a copy: an element of a set cannot be moved from in its place.
  template <class OldIterator>
  const_iterator convert(OldIterator old) {
    this->make_room();
    const auto [made, fresh] = now_.insert(hooks::up::copied({}, *old));
    if (!fresh) throw not_converted{"two elements become equal"};
    if constexpr (requires { before_.erase(old); })
      before_.erase(old);
    else
      before_.erase(old_type(*old));
    return made;
  }
  void convert_one() { convert(before_.begin()); }
  void convert_back(const_iterator element) {
    const auto [made, fresh] = before_.insert(hooks::down::copied({}, *element));
    if (!fresh) throw not_converted{"two elements become equal on the way back"};
    now_.erase(New(*element));
  }
};

namespace detail {

template <class New, class Old>
struct native<evolving_set<New, Old>> : no_functions {
  static constexpr form kind = form::evolving;
  static constexpr std::string_view name{"evolving_set"};
  using inside = types<typename evolving_set<New, Old>::now_set, Old>;
};

}  // namespace detail
}  // namespace molt
