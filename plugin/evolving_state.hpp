// The evolving containers of a state: found by its type, converted in slices.
//
// Looked for in members, their members, arrays, optional, unique_ptr, pair, tuple and variant. A container that stands
// in the elements of another one (a map in a session of a map) is converted when it is touched, or by the hook that
// makes its entry: looking through all elements for it, again and again, would take longer than the conversion.
#pragma once

#include "plugin/evolving_map.hpp"
#include "plugin/evolving_set.hpp"
#include "plugin/evolving_vector.hpp"
#include "plugin/forms.hpp"
#include "plugin/reflection.hpp"

#include <chrono>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace molt::detail {

template <class T, class... Enclosing>
constexpr bool evolves();

template <class... T, class... Enclosing>
constexpr bool any_evolves(types<T...>, types<Enclosing...>) {
  return (evolves<std::remove_cv_t<T>, Enclosing...>() || ... || false);
}

/// Whether a T has evolving containers that are converted in slices.
template <class T, class... Enclosing>
constexpr bool evolves() {
  constexpr form what = form_of<T>;
  if constexpr ((std::is_same_v<T, Enclosing> || ...))
    return false;
  else if constexpr (what == form::evolving)
    return true;
  else if constexpr (what == form::record)
    return any_evolves(part_types<T>{}, types<T, Enclosing...>{});
  else if constexpr (what == form::array || what == form::optional || what == form::pointer || what == form::tuple ||
                     what == form::variant)
    return any_evolves(typename native<T>::inside{}, types<T, Enclosing...>{});
  else
    return false;
}

/// Calls `visit` with each evolving container in `object`.
template <class T, class Visit>
void each_evolving(T& object, Visit& visit) {
  using plain = std::remove_const_t<T>;
  constexpr form what = form_of<plain>;
  if constexpr (!evolves<plain>()) {
    return;
  } else if constexpr (what == form::evolving) {
    visit(object);
  } else if constexpr (what == form::record) {
    with_parts(object, [&](auto&... part) { (each_evolving(part, visit), ...); });
  } else if constexpr (what == form::array) {
    for (auto& element : object) each_evolving(element, visit);
  } else if constexpr (what == form::optional || what == form::pointer) {
    if (object) each_evolving(*object, visit);
  } else if constexpr (what == form::tuple) {
    std::apply([&](auto&... element) { (each_evolving(element, visit), ...); }, object);
  } else if (!object.valueless_by_exception()) {
    std::visit([&](auto& alternative) { each_evolving(alternative, visit); }, object);
  }
}

/// What remains of the time for one slice.
class evolve_slice {
 public:
  evolve_slice(bool down, std::int64_t budget_ns)
      : down_{down}, until_{clock::now() + std::chrono::nanoseconds{budget_ns}} {}
  [[nodiscard]] bool down() const noexcept { return down_; }
  /// Asked after each step of so many entries; looks at the clock at every few.
  [[nodiscard]] bool is_over(unsigned entries) {
    if (over_ || (entries_ += entries) < entries_per_look) return over_;
    entries_ = 0;
    return over_ = clock::now() >= until_;
  }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr unsigned entries_per_look = 4;
  bool down_;
  clock::time_point until_;
  unsigned entries_ = 0;
  bool over_ = false;
};

template <class T>
void evolve_in(T& object, evolve_slice& slice) {
  auto convert = [&]<class Container>(Container& each) {
    if (slice.down()) {
      if constexpr (Container::devolves)
        while (each.devolve_one())
          if (slice.is_over(Container::entries_per_step)) return;
    } else {
      while (each.evolve_one())
        if (slice.is_over(Container::entries_per_step)) return;
    }
  };
  each_evolving(object, convert);
}

template <class T>
std::uint64_t left_in(const T& object, bool down) {
  std::uint64_t left = 0;
  auto count = [&]<class Container>(const Container& each) {
    if (!down)
      left += each.left();
    else if constexpr (Container::devolves)
      left += each.converted();
  };
  each_evolving(object, count);
  return left;
}

}  // namespace molt::detail
