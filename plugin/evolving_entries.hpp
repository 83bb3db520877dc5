// What evolving_map and evolving_set have in common: the two containers, and how entries go from one to the other.
//
//   before   the entries not yet converted, in the container as the older version had it
//   now      the converted ones
//
// How an entry is looked for and converted is the owner's. Called from here:
//
//   convert_one()         converts some entry of `before`, which is not empty
//   convert_back(entry)   converts back the one that this iterator of `now` is at
//
// Invariant: if one of them throws, its entry is where it was.
//
// Its layout is shared between images of different versions: a change of it raises MOLT_ABI_VERSION.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace molt::detail {

/// What converted entries stand in, by the old container: `type`.
template <class Old, class New>
struct evolved;

template <class Owner, class New, class Old>
class evolving_entries {
 public:
  using now_container = typename evolved<Old, New>::type;
  static constexpr unsigned entries_per_step = 1;

  // -- Where they come from and where they go

  evolving_entries() = default;
  /// Takes over the old container, in constant time.
  evolving_entries(Old&& before) noexcept(std::is_nothrow_move_constructible_v<Old>)  // NOLINT: converts on purpose
      : before_{std::move(before)} {}

  /// Takes over entries that are converted already, in constant time.
  evolving_entries(now_container&& now) noexcept(  // NOLINT: converts on purpose
      std::is_nothrow_move_constructible_v<now_container>&& std::is_nothrow_default_constructible_v<Old>)
      : now_{std::move(now)} {}

  /// The old container, with every entry converted back. Throws not_converted, and then everything is still here.
  [[nodiscard]] Old devolved() && {
    devolve();
    return std::move(before_);
  }
  /// The converted entries, all of them. Throws not_converted, and then everything is still here.
  [[nodiscard]] now_container finished() && {
    finish();
    before_ = Old{};
    return std::move(now_);
  }

  [[nodiscard]] std::size_t size() const noexcept { return now_.size() + before_.size(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  /// Entries not yet converted.
  [[nodiscard]] std::size_t left() const noexcept { return before_.size(); }
  [[nodiscard]] std::size_t converted() const noexcept { return now_.size(); }
  void clear() noexcept {
    now_.clear();
    before_.clear();
  }

  // -- Converting. Throws not_converted.

  void finish() {
    while (evolve_one()) continue;
  }
  /// One step up. False: nothing is left.
  bool evolve_one() {
    if (before_.empty()) return false;
    owner().convert_one();
    return !before_.empty();
  }
  /// One step down. False: nothing is converted any more.
  bool devolve_one() {
    if (now_.empty()) return false;
    owner().convert_back(now_.begin());
    return !now_.empty();
  }
  /// Everything down: for hooks that go back with several containers, of which none may be taken before all are ready.
  void devolve() {
    while (devolve_one()) continue;
  }

  // -- For archives, which hold both parts

  template <class Visit>
  void visit_parts(Visit&& visit) {
    visit(now_, before_);
  }
  template <class Visit>
  void visit_parts(Visit&& visit) const {
    visit(now_, before_);
  }

 protected:
  /// For all that will be converted, ahead of the first.
  void make_room() {
    if constexpr (requires { now_.reserve(before_.size()); })
      if (now_.empty()) now_.reserve(before_.size());
  }

  now_container now_;
  Old before_;

 private:
  Owner& owner() noexcept { return static_cast<Owner&>(*this); }
};

}  // namespace molt::detail
