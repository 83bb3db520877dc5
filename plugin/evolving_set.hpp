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

template <class Old, class New>
struct evolved_set;
template <class K, class H, class E, class New>
struct evolved_set<std::unordered_set<K, H, E>, New> {
  using set = steady_set<New>;
};
template <class K, class H, class E, class New>
struct evolved_set<steady_set<K, H, E>, New> {
  using set = steady_set<New>;
};
template <class K, class C, class New>
struct evolved_set<std::set<K, C>, New> {
  using set = std::set<New>;
};

}  // namespace detail

/// `Old` is the set as the older version had it: a std::unordered_set, std::set or molt::steady_set. `New` has
/// std::hash and ==, or < where the old set is ordered.
template <class New, class Old>
class evolving_set {
 public:
  using now_set = typename detail::evolved_set<Old, New>::set;
  using key_type = New;
  using value_type = New;
  using old_type = typename Old::value_type;
  using const_iterator = typename now_set::const_iterator;
  using iterator = const_iterator;
  static constexpr unsigned entries_per_step = 1;

 private:
  using hooks = detail::entry_evolution<detail::no_key, old_type, New>;
  static constexpr bool ordered = requires(const now_set& set, const New& key) { set.upper_bound(key); };
  static_assert(
      hooks::down::exists,
      "molt: an element is looked for by converting it back: give the new one `static Old devolve(const New&)`");

 public:
  evolving_set() = default;
  /// Takes over the old set, in constant time.
  evolving_set(Old&& before) noexcept(std::is_nothrow_move_constructible_v<Old>)  // NOLINT: converts on purpose
      : before_{std::move(before)} {}

  /// Takes over elements that are converted already, in constant time.
  evolving_set(now_set&& now) noexcept(  // NOLINT: converts on purpose
      std::is_nothrow_move_constructible_v<now_set>&& std::is_nothrow_default_constructible_v<Old>)
      : now_{std::move(now)} {}

  /// The old set, with every element converted back. Throws not_converted, and then everything is still here.
  [[nodiscard]] Old devolved() && {
    devolve();
    return std::move(before_);
  }
  /// The converted elements, all of them. Throws not_converted, and then everything is still here.
  [[nodiscard]] now_set finished() && {
    finish();
    before_ = Old{};
    return std::move(now_);
  }

  // -- Looking

  [[nodiscard]] std::size_t size() const noexcept { return now_.size() + before_.size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// Elements not yet converted.
  [[nodiscard]] std::size_t left() const noexcept { return before_.size(); }
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
  void clear() noexcept {
    now_.clear();
    before_.clear();
  }
  [[nodiscard]] const_iterator find(const New& key) { return find_now(key); }
  /// Converts everything that is left.
  [[nodiscard]] const_iterator begin() {
    finish();
    return now_.begin();
  }
  [[nodiscard]] const_iterator end() { return now_.end(); }

  // -- Converting

  void finish() {
    while (evolve_one()) continue;
  }
  /// One step up. False: nothing is left.
  bool evolve_one() {
    if (before_.empty()) return false;
    convert(before_.begin());
    return !before_.empty();
  }
  /// One step down. False: nothing is converted any more.
  bool devolve_one() {
    if (now_.empty()) return false;
    const New& key = *now_.begin();
    const auto [made, fresh] = before_.insert(hooks::down::copied({}, key));
    if (!fresh) throw not_converted{"two elements become equal on the way back"};
    now_.erase(New(key));
    return !now_.empty();
  }
  /// Everything down: for hooks that go back with several containers, of which none may be taken before all are ready.
  void devolve() {
    while (devolve_one()) continue;
  }
  static constexpr bool devolves = true;
  [[nodiscard]] std::size_t converted() const noexcept { return now_.size(); }

  // -- For archives, which hold both parts

  template <class Visit>
  void visit_parts(Visit&& visit) {
    visit(now_, before_);
  }
  template <class Visit>
  void visit_parts(Visit&& visit) const {
    visit(now_, before_);
  }
  /// No element stands in both.
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
    if constexpr (!ordered)
      if (now_.empty()) now_.reserve(before_.size());
    const auto [made, fresh] = now_.insert(hooks::up::copied({}, *old));
    if (!fresh) throw not_converted{"two elements become equal"};
    if constexpr (requires { before_.erase(old); })
      before_.erase(old);
    else
      before_.erase(old_type(*old));
    return made;
  }

  now_set now_;
  Old before_;
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
