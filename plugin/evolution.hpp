// How one entry of a large container becomes its next version, and how it goes back. Found from the types:
//
//     struct session {                                        // 2.0's
//       std::string user;
//       std::int64_t quota = 0;
//       static session evolve(const v1::session& old);         // up
//       static v1::session devolve(const session& now);        // down
//     };
//
// Both may take the key before the value. For types that are not the author's own, molt::evolution<Old, New> is
// specialised with `up` and `down` in their place.
//
// Invariant: whatever a hook throws, its input is as before. A hook that takes `const Old&`, or `Old&&` and is
// noexcept, costs nothing more; one that takes `Old&&` and may throw gets a copy.
#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace molt {

/// An entry's hook threw: the entry is as it was, and so is everything else. Thrown by whatever touches the entry; a
/// handler that lets it through fails its call, and its server goes on.
class not_converted : public std::runtime_error {
 public:
  explicit not_converted(const std::string& why) : std::runtime_error{"an entry could not be converted: " + why} {}
};

/// To be specialised: `static New up(const Old&)` and `static Old down(const New&)`.
template <class Old, class New>
struct evolution;

namespace detail {

template <class Old, class New>
concept evolution_is_specialised = requires {
  sizeof(evolution<Old, New>);
};

template <class Old, class New>
struct up_hook {
  template <class... From>
  static auto apply(From&&... from) noexcept(noexcept(New::evolve(std::forward<From>(from)...)))
      -> decltype(New::evolve(std::forward<From>(from)...)) {
    return New::evolve(std::forward<From>(from)...);
  }
};
template <class Old, class New>
requires evolution_is_specialised<Old, New>
struct up_hook<Old, New> {
  template <class... From>
  static auto apply(From&&... from) noexcept(noexcept(evolution<Old, New>::up(std::forward<From>(from)...)))
      -> decltype(evolution<Old, New>::up(std::forward<From>(from)...)) {
    return evolution<Old, New>::up(std::forward<From>(from)...);
  }
};

template <class Old, class New>
struct down_hook {
  template <class... From>
  static auto apply(From&&... from) noexcept(noexcept(New::devolve(std::forward<From>(from)...)))
      -> decltype(New::devolve(std::forward<From>(from)...)) {
    return New::devolve(std::forward<From>(from)...);
  }
};
template <class Old, class New>
requires evolution_is_specialised<Old, New>
struct down_hook<Old, New> {
  template <class... From>
  static auto apply(From&&... from) noexcept(noexcept(evolution<Old, New>::down(std::forward<From>(from)...)))
      -> decltype(evolution<Old, New>::down(std::forward<From>(from)...)) {
    return evolution<Old, New>::down(std::forward<From>(from)...);
  }
};

/// Where there is no key to tell.
struct no_key {};

/// One hook, called so that its input is whole if it throws.
template <class Hook, class Key, class From, class To>
struct entry_call {
  static constexpr bool whole = requires(const From& from) { Hook::apply(from); };
  static constexpr bool whole_keyed = requires(const Key& key, const From& from) { Hook::apply(key, from); };
  static constexpr bool taken = requires(From & from) { Hook::apply(std::move(from)); };
  static constexpr bool taken_keyed = requires(const Key& key, From& from) { Hook::apply(key, std::move(from)); };

  static constexpr bool exists = whole || whole_keyed || taken || taken_keyed;
  static constexpr bool leaves = whole || whole_keyed;
  static constexpr bool keyed = whole_keyed || (!whole && taken_keyed);

  static constexpr bool is_noexcept() {
    using argument = std::conditional_t<leaves, const From&, From&&>;
    if constexpr (!exists)
      return false;
    else if constexpr (keyed)
      return noexcept(Hook::apply(std::declval<const Key&>(), std::declval<argument>()));
    else
      return noexcept(Hook::apply(std::declval<argument>()));
  }

  /// `from` may be moved from, but only if this does not throw.
  static To apply(const Key& key, From& from) {
    if constexpr (leaves)
      return guarded(key, std::as_const(from));
    else if constexpr (is_noexcept())
      return call(key, std::move(from));
    else
      return copied(key, from);
  }
  /// Of a copy.
  static To copied(const Key& key, const From& from) {
    if constexpr (leaves) {
      return guarded(key, from);
    } else {
      static_assert(std::is_copy_constructible_v<From>,
                    "molt: this entry cannot be copied, so its hook takes it as const&, or is noexcept");
      From copy(from);
      return guarded(key, std::move(copy));
    }
  }

 private:
  template <class Argument>
  static To call(const Key& key, Argument&& from) {
    static_assert(std::is_same_v<decltype(result(key, std::forward<Argument>(from))), To>,
                  "molt: `evolve` returns the new entry, `devolve` the old one");
    return result(key, std::forward<Argument>(from));
  }
  template <class Argument>
  static decltype(auto) result([[maybe_unused]] const Key& key, Argument&& from) {
    if constexpr (keyed)
      return Hook::apply(key, std::forward<Argument>(from));
    else
      return Hook::apply(std::forward<Argument>(from));
  }
  template <class Argument>
  static To guarded(const Key& key, Argument&& from) {
    try {
      return call(key, std::forward<Argument>(from));
    } catch (const not_converted&) {
      throw;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& thrown) {
      throw not_converted{thrown.what()};
    } catch (...) {
      throw not_converted{"something was thrown that is not a std::exception"};
    }
  }
};

template <class Key, class Old, class New>
struct entry_evolution {
  using up = entry_call<up_hook<Old, New>, Key, Old, New>;
  using down = entry_call<down_hook<Old, New>, Key, New, Old>;
  static_assert(up::exists,
                "molt: there is no way from the old entry to the new one: give the new one `static New evolve(const "
                "Old&)`, public, or specialise molt::evolution<Old, New>");
  // What is made is moved into its place after the old value may have been taken: that must not fail.
  static_assert(up::leaves || std::is_nothrow_move_assignable_v<New>,
                "molt: the new entry's move assignment may throw, so its hook takes the old one as const&");
  static_assert(!down::exists || down::leaves || std::is_nothrow_move_assignable_v<Old>,
                "molt: the old entry's move assignment may throw, so `devolve` takes the new one as const&");
};

}  // namespace detail
}  // namespace molt
