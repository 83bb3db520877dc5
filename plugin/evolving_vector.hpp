// molt::evolving_vector: a long vector whose elements change with a release, without a pause that grows with it.
//
//     struct state { molt::evolving_vector<sample, decltype(v1::state::history)> history; };
//     static state     code_change(v1::state&& old) noexcept { return {std::move(old.history)}; }
//     static v1::state code_change_down(state& now)          { return {std::move(now.history).devolved()}; }
//
// It takes over the old vector in constant time. Elements are converted by runs of `run_size`:
//
//   before   the old vector; where a run is converted, its elements there are empty ones
//   now      for each run null, or the converted elements
//
//   event                                        a run not yet converted      a converted run
//   touched ([], at, back, a loop, push_back)    is converted first           as in any vector
//   a slice between two messages, up             is converted                 stays
//   a slice before a rollback, down              stays                        is converted back
//   looked at through const                      converted copies             itself
//   moved, archived                              stays old                    stays new
//
// Invariants: `now` is empty, or has a place for each run; all runs but the last are full; elements beyond the end of
// `before` are converted. If a hook throws (not_converted) or memory runs out, the run is as it was. Elements that were
// appended make a std::vector grow on the way back, which takes the time of moving it, once; a steady_vector does not.
//
// The next release takes finished() over: evolving_vector<sample, molt::steady_vector<v2::sample>>.
//
// Its layout is shared between images of different versions: a change of it raises MOLT_ABI_VERSION.
#pragma once

#include "plugin/evolution.hpp"
#include "plugin/forms.hpp"
#include "plugin/steady_vector.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace molt {

/// `Old` is the vector as the older version had it: std::vector or molt::steady_vector. Element hooks as for
/// evolving_map, without a key.
///
/// References stay valid until something is inserted or erased before the end; iterators are indices.
template <class New, class Old>
class evolving_vector {
 public:
  using value_type = New;
  using old_type = typename Old::value_type;
  using size_type = std::size_t;
  using run = typename steady_vector<New>::run;
  using now_runs = typename steady_vector<New>::runs;
  /// Elements that are converted at once.
  static constexpr std::size_t run_size = steady_vector<New>::run_size;
  static constexpr unsigned entries_per_step = run_size;

 private:
  using hooks = detail::entry_evolution<detail::no_key, old_type, New>;
  static_assert(std::is_same_v<Old, std::vector<old_type>> || std::is_same_v<Old, steady_vector<old_type>>,
                "molt: an evolving_vector takes over a std::vector or a molt::steady_vector");
  static_assert(!std::is_same_v<old_type, bool> && !std::is_same_v<New, bool>,
                "molt: elements of an evolving_vector are objects: use char in place of bool");
  static_assert(std::is_default_constructible_v<old_type> && std::is_move_assignable_v<old_type>,
                "molt: an element of an evolving_vector has a default and can be assigned");
  static_assert(hooks::up::leaves || std::is_nothrow_move_constructible_v<New>,
                "molt: the new element's move may throw, so its hook takes the old one as const&");

 public:
  using iterator = detail::index_iterator<evolving_vector, New>;

  // -- Where it comes from and where it goes

  evolving_vector() = default;
  /// Takes over the old vector, in constant time.
  evolving_vector(Old&& before) noexcept : before_{std::move(before)} {}  // NOLINT: converts on purpose
  /// Takes over elements that are converted already, in constant time.
  evolving_vector(steady_vector<New>&& now) noexcept : converted_{now.size()} {  // NOLINT: converts on purpose
    now_ = std::move(now).taken();
  }
  evolving_vector(evolving_vector&& other) noexcept
      : now_{std::move(other.now_)}, before_{std::move(other.before_)}, converted_{std::exchange(other.converted_, 0)} {
    other.now_.clear();
    other.before_.clear();
  }
  evolving_vector& operator=(evolving_vector&& other) noexcept {
    now_ = std::move(other.now_);
    before_ = std::move(other.before_);
    converted_ = std::exchange(other.converted_, 0);
    other.now_.clear();
    other.before_.clear();
    return *this;
  }
  evolving_vector(const evolving_vector& other) : before_{other.before_}, converted_{other.converted_} {
    now_.reserve(other.now_.size());
    for (const auto& each : other.now_) now_.push_back(each != nullptr ? std::make_unique<run>(*each) : nullptr);
  }
  evolving_vector& operator=(const evolving_vector& other) {
    if (this != &other) *this = evolving_vector{other};
    return *this;
  }
  ~evolving_vector() = default;

  /// The old vector, with every element converted back. Throws not_converted, and then everything is still here.
  [[nodiscard]] Old devolved() && {
    devolve();
    now_.clear();
    return std::move(before_);
  }
  /// The converted elements, all of them; in constant time once nothing is left. Throws not_converted, and then
  /// everything is still here.
  [[nodiscard]] steady_vector<New> finished() && {
    finish();
    before_ = Old{};
    converted_ = 0;
    return steady_vector<New>{std::exchange(now_, {})};
  }

  // -- Looking

  [[nodiscard]] std::size_t size() const noexcept {
    return now_.empty() || now_.back() == nullptr ? before_.size() : (now_.size() - 1) * run_size + now_.back()->size();
  }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// Elements not yet converted.
  [[nodiscard]] std::size_t left() const noexcept { return size() - converted_; }
  /// A copy of the element, converted if it is not yet; nullopt beyond the end.
  [[nodiscard]] std::optional<New> get(std::size_t index) const {
    if (index >= size()) return std::nullopt;
    if (const auto* const there = run_at(index / run_size)) return (*there)[index % run_size];
    return hooks::up::copied({}, before_[index]);
  }
  /// Calls `visit(const New&)` for every element in order, those not yet converted as converted copies.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (std::size_t index = 0; index < size(); ++index) {
      if (const auto* const there = run_at(index / run_size))
        visit((*there)[index % run_size]);
      else
        visit(hooks::up::copied({}, before_[index]));
    }
  }
  friend bool operator==(const evolving_vector& a, const evolving_vector& b) requires requires(const New& value) {
    { value == value } -> std::convertible_to<bool>;
  }
  {
    if (a.size() != b.size()) return false;
    for (std::size_t index = 0; index < a.size(); ++index)
      if (!(a.get(index) == b.get(index))) return false;
    return true;
  }

  // -- Touching: what is touched is converted, with its run. Throws not_converted.

  [[nodiscard]] New& operator[](std::size_t index) { return touched(index / run_size)[index % run_size]; }
  [[nodiscard]] New& at(std::size_t index) {
    if (index >= size()) throw std::out_of_range{"molt::evolving_vector::at: there is no such element"};
    return (*this)[index];
  }
  [[nodiscard]] New& front() { return (*this)[0]; }
  [[nodiscard]] New& back() { return (*this)[size() - 1]; }
  [[nodiscard]] iterator begin() { return {*this, 0}; }
  [[nodiscard]] iterator end() { return {*this, size()}; }

  template <class... Arguments>
  New& emplace_back(Arguments&&... made_of) {
    const auto at = size();
    make_places();
    if (at % run_size != 0) {
      auto& last = touched(at / run_size);
      last.reserve(run_size);  // one that was read from an archive
      last.emplace_back(std::forward<Arguments>(made_of)...);
      ++converted_;
      return last.back();
    }
    auto fresh = std::make_unique<run>();
    fresh->reserve(run_size);
    fresh->emplace_back(std::forward<Arguments>(made_of)...);
    now_.push_back(std::move(fresh));
    ++converted_;
    return now_.back()->back();
  }
  void push_back(const New& value) { emplace_back(value); }
  void push_back(New&& value) { emplace_back(std::move(value)); }
  void pop_back() {
    const auto last = size() - 1;
    touched(last / run_size).pop_back();
    --converted_;
    if (before_.size() > last) before_.pop_back();
    if (now_.back()->empty()) now_.pop_back();
  }
  void resize(std::size_t count) {
    while (size() > count) pop_back();
    while (size() < count) emplace_back();
  }
  /// Converts what is left, then takes the time of moving what stands behind.
  iterator insert(iterator where, New value) {
    finish();
    emplace_back(std::move(value));
    std::rotate(where, end() - 1, end());
    return where;
  }
  iterator erase(iterator where) { return erase(where, where + 1); }
  iterator erase(iterator from, iterator to) {
    if (from == to) return from;
    finish();
    std::move(to, end(), from);
    resize(size() - static_cast<std::size_t>(to - from));
    return from;
  }
  void clear() noexcept {
    now_.clear();
    before_.clear();
    converted_ = 0;
  }

  // -- Converting

  void finish() {
    while (evolve_one()) continue;
  }
  /// One run up. False: nothing is left.
  bool evolve_one() {
    if (left() == 0) return false;
    make_places();
    while (now_[next_up_ %= now_.size()] != nullptr) ++next_up_;
    touched(next_up_);
    return left() != 0;
  }
  /// One run down, those at the end last. False: nothing is converted any more.
  bool devolve_one() {
    static_assert(devolves, "molt: there is no way back: give the new element `static Old devolve(const New&)`");
    if (converted_ == 0) return false;
    next_down_ = next_down_ < now_.size() ? next_down_ : 0;
    if (now_[next_down_] == nullptr || next_down_ * run_size > before_.size()) {
      next_down_ = 0;  // something was touched behind it
      while (now_[next_down_] == nullptr) ++next_down_;
    }
    while (now_[next_down_] == nullptr) ++next_down_;
    convert_back(next_down_++);
    return converted_ != 0;
  }
  /// Everything down: for hooks that go back with several containers, of which none may be taken before all are ready.
  void devolve() {
    while (devolve_one()) continue;
  }
  static constexpr bool devolves = hooks::down::exists;
  [[nodiscard]] std::size_t converted() const noexcept { return converted_; }

  // -- For archives, which hold both parts

  template <class Visit>
  void visit_parts(Visit&& visit) {
    visit(now_, before_);
  }
  template <class Visit>
  void visit_parts(Visit&& visit) const {
    visit(now_, before_);
  }
  /// After both were read.
  [[nodiscard]] bool parts_fit() {
    converted_ = 0;
    for (std::size_t each = 0; each < now_.size(); ++each) {
      const bool last = each + 1 == now_.size();
      const auto old = before_.size() - std::min(before_.size(), each * run_size);
      if (now_[each] == nullptr) {
        if (old == 0 || (old < run_size && !last) || (old > run_size && last)) return false;
        continue;
      }
      const auto count = now_[each]->size();
      if (count == 0 || count > run_size || (count < run_size && !last) || (last && old > count)) return false;
      converted_ += count;
    }
    return true;
  }

 private:
  static constexpr std::size_t runs_of(std::size_t elements) { return (elements + run_size - 1) / run_size; }
  [[nodiscard]] const run* run_at(std::size_t index) const noexcept {
    return now_.empty() ? nullptr : now_[index].get();
  }
  void make_places() {
    if (now_.empty()) now_.resize(runs_of(before_.size()));
  }
  run& touched(std::size_t index) {
    make_places();
    if (now_[index] == nullptr) convert(index);
    return *now_[index];
  }
  void convert(std::size_t index) {
    const auto from = index * run_size;
    const auto to = std::min(from + run_size, before_.size());
    auto made = std::make_unique<run>();
    made->reserve(run_size);
    for (auto at = from; at < to; ++at) made->push_back(hooks::up::apply({}, before_[at]));
    converted_ += made->size();
    now_[index] = std::move(made);
    try {
      for (auto at = from; at < to; ++at) before_[at] = old_type{};
    } catch (...) {
      return;  // what is converted already keeps its memory until the end
    }
  }
  void convert_back(std::size_t index) {
    auto& from = *now_[index];
    const auto begin = index * run_size;
    if constexpr (requires { before_.reserve(size()); })
      if (before_.size() < begin + from.size()) before_.reserve(size());
    const auto had = before_.size();
    try {
      for (std::size_t at = 0; at < from.size(); ++at) {
        if (begin + at < had)
          before_[begin + at] = hooks::down::apply({}, from[at]);
        else
          before_.push_back(hooks::down::apply({}, from[at]));
      }
    } catch (...) {
      before_.resize(had);
      throw;
    }
    converted_ -= from.size();
    now_[index] = nullptr;
  }

  now_runs now_;
  Old before_;
  std::size_t converted_ = 0;
  std::size_t next_up_ = 0;
  std::size_t next_down_ = 0;
};

namespace detail {

template <class New, class Old>
struct native<evolving_vector<New, Old>> : no_functions {
  static constexpr form kind = form::evolving;
  static constexpr std::string_view name{"evolving_vector"};
  using inside = types<typename evolving_vector<New, Old>::now_runs, Old>;
};

}  // namespace detail
}  // namespace molt
