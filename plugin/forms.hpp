// What kind of thing a type is to molt: which form it has in schemas and archives, and whether it is code-free.
//
// Anything not listed here is `unsupported`: raw pointers, references, function pointers, std::function,
// any, string_view, span, containers with other allocators, polymorphic classes. None of them survives its image.
#pragma once

#include "plugin/parts.hpp"
#include "plugin/types.hpp"

#include <array>
#include <chrono>
#include <concepts>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

// Of Boost.Serialization, never defined here: used only if the author's file has included them.
namespace boost::serialization {
class access;
struct version_type;
template <class T>
struct version;
}  // namespace boost::serialization

namespace molt {

class output_archive;
class input_archive;

namespace detail {

enum class form {
  unsupported,
  boolean,
  number,  // char, integers, floats: their bytes, little-endian
  enumeration,
  string,
  sequence,
  set,
  map,
  optional,
  pointer,  // unique_ptr
  shared,   // shared_ptr, weak_ptr: one object may be reached by several
  tuple,    // pair, tuple
  variant,
  array,
  duration,
  time_point,
  ref,
  reply_to,
  evolving,  // two containers in one: what is converted, and what is not yet
  record,    // an aggregate or a class described with Boost.Describe, part by part
  own,       // a class with its own serialize
};

/// Specialised for what the standard library offers: form, name in the schema text, and the types inside.
template <class T>
struct native {
  static constexpr form kind = form::unsupported;
  using inside = types<>;
  using functions = types<>;
};

struct no_functions {
  using functions = types<>;
};

#define MOLT_DETAIL_NATIVE(Form, Name, ...)     \
  static constexpr form kind = form::Form;      \
  static constexpr std::string_view name{Name}; \
  using inside = types<__VA_ARGS__>

template <class T>
struct native<std::vector<T>> : no_functions {
  MOLT_DETAIL_NATIVE(sequence, "vector", T);
};
template <class T>
struct native<std::deque<T>> : no_functions {
  MOLT_DETAIL_NATIVE(sequence, "deque", T);
};
template <class T>
struct native<std::list<T>> : no_functions {
  MOLT_DETAIL_NATIVE(sequence, "list", T);
};

/// Functions other than the standard ones, which stand in the schema text.
template <class Function, class... Standard>
using unusual = std::conditional_t<(std::is_same_v<Function, Standard> || ...), types<>, types<Function>>;
template <class Key, class Compare>
struct ordered {
  using functions = unusual<Compare, std::less<Key>>;
};
template <class Key, class Hash, class Equal>
struct hashed {
  using functions = typename joined<unusual<Hash, std::hash<Key>>, unusual<Equal, std::equal_to<Key>>>::list;
};

template <class K, class C>
struct native<std::set<K, C>> : ordered<K, C> {
  MOLT_DETAIL_NATIVE(set, "set", K);
  static constexpr bool unique = true;
};
template <class K, class C>
struct native<std::multiset<K, C>> : ordered<K, C> {
  MOLT_DETAIL_NATIVE(set, "multiset", K);
  static constexpr bool unique = false;
};
template <class K, class H, class E>
struct native<std::unordered_set<K, H, E>> : hashed<K, H, E> {
  MOLT_DETAIL_NATIVE(set, "unordered_set", K);
  static constexpr bool unique = true;
};
template <class K, class H, class E>
struct native<std::unordered_multiset<K, H, E>> : hashed<K, H, E> {
  MOLT_DETAIL_NATIVE(set, "unordered_multiset", K);
  static constexpr bool unique = false;
};
template <class K, class T, class C>
struct native<std::map<K, T, C>> : ordered<K, C> {
  MOLT_DETAIL_NATIVE(map, "map", K, T);
  static constexpr bool unique = true;
};
template <class K, class T, class C>
struct native<std::multimap<K, T, C>> : ordered<K, C> {
  MOLT_DETAIL_NATIVE(map, "multimap", K, T);
  static constexpr bool unique = false;
};
template <class K, class T, class H, class E>
struct native<std::unordered_map<K, T, H, E>> : hashed<K, H, E> {
  MOLT_DETAIL_NATIVE(map, "unordered_map", K, T);
  static constexpr bool unique = true;
};
template <class K, class T, class H, class E>
struct native<std::unordered_multimap<K, T, H, E>> : hashed<K, H, E> {
  MOLT_DETAIL_NATIVE(map, "unordered_multimap", K, T);
  static constexpr bool unique = false;
};
template <class T>
struct native<std::optional<T>> : no_functions {
  MOLT_DETAIL_NATIVE(optional, "optional", T);
};
template <class T>
requires(!std::is_array_v<T> && !std::is_polymorphic_v<T>) struct native<std::unique_ptr<T>> : no_functions {
  MOLT_DETAIL_NATIVE(pointer, "unique_ptr", T);
};
template <class T>
requires(!std::is_array_v<T> && !std::is_polymorphic_v<T>) struct native<std::shared_ptr<T>> : no_functions {
  MOLT_DETAIL_NATIVE(shared, "shared_ptr", T);
};
template <class T>
requires(!std::is_array_v<T> && !std::is_polymorphic_v<T>) struct native<std::weak_ptr<T>> : no_functions {
  MOLT_DETAIL_NATIVE(shared, "weak_ptr", T);
};
template <class A, class B>
struct native<std::pair<A, B>> : no_functions {
  MOLT_DETAIL_NATIVE(tuple, "pair", A, B);
};
template <class... T>
struct native<std::tuple<T...>> : no_functions {
  MOLT_DETAIL_NATIVE(tuple, "tuple", T...);
};
template <class... T>
struct native<std::variant<T...>> : no_functions {
  MOLT_DETAIL_NATIVE(variant, "variant", T...);
};
template <class T, std::size_t N>
struct native<std::array<T, N>> : no_functions {
  MOLT_DETAIL_NATIVE(array, "array", T);
  static constexpr std::size_t count = N;
};
template <class T, std::size_t N>
struct native<T[N]> : no_functions {
  MOLT_DETAIL_NATIVE(array, "array", T);
  static constexpr std::size_t count = N;
};
template <class Rep, class Period>
struct native<std::chrono::duration<Rep, Period>> : no_functions {
  MOLT_DETAIL_NATIVE(duration, "duration", Rep);
};
template <class Duration>
struct native<std::chrono::time_point<std::chrono::system_clock, Duration>> : no_functions {
  MOLT_DETAIL_NATIVE(time_point, "system", Duration);
};
template <class Duration>
struct native<std::chrono::time_point<std::chrono::steady_clock, Duration>> : no_functions {
  MOLT_DETAIL_NATIVE(time_point, "steady", Duration);
};
template <>
struct native<std::string> : no_functions {
  static constexpr form kind = form::string;
  using inside = types<>;
};
template <>
struct native<ref> : no_functions {
  static constexpr form kind = form::ref;
  using inside = types<>;
};
template <class T>
struct native<reply_to<T>> : no_functions {
  MOLT_DETAIL_NATIVE(reply_to, "reply_to", T);
};
#undef MOLT_DETAIL_NATIVE

// -- Classes with their own serialize

template <class T>
concept is_described = requires {
  { described<T>::version } -> std::convertible_to<std::uint32_t>;
};

template <class T>
concept declares_itself = requires {
  T::molt_version;
}
|| requires { T::molt_name; }
|| requires { T::molt_code_free; };

template <class T>
concept has_member_serialize = requires(T& object, output_archive& archive) {
  object.serialize(archive, 0U);
};

template <class T>
concept has_free_serialize = requires(T& object, output_archive& archive) {
  serialize(archive, object, 0U);
};

/// Boost.Serialization's own overloads, if the author's file has included them.
template <class T, class Version = boost::serialization::version_type>
concept boost_is_included = requires(Version version) {
  sizeof(Version);
};

template <class T>
constexpr form form_of_type() {
  if constexpr (std::is_same_v<T, bool>) {
    return form::boolean;
  } else if constexpr (std::is_arithmetic_v<T>) {
    return sizeof(T) <= 8 && !std::is_same_v<T, long double> ? form::number : form::unsupported;
  } else if constexpr (std::is_enum_v<T>) {
    return form::enumeration;
  } else if constexpr (native<T>::kind != form::unsupported) {
    return native<T>::kind;
  } else if constexpr (!std::is_class_v<T>) {
    return form::unsupported;
  } else if constexpr (is_described<T> || declares_itself<T> || has_member_serialize<T> || has_free_serialize<T>) {
    return form::own;
  } else if constexpr ((std::is_aggregate_v<T> || boost_described<T>)&&!std::is_polymorphic_v<T>) {
    return form::record;
  } else {
    return form::unsupported;
  }
}

template <class T>
inline constexpr form form_of = form_of_type<T>();

/// BOOST_CLASS_VERSION's, if the author's file has it.
template <class T>
constexpr std::uint32_t boost_version() {
  if constexpr (requires { boost::serialization::version<T>::value; })
    return static_cast<std::uint32_t>(boost::serialization::version<T>::value);
  else
    return 0;
}

template <class T>
constexpr std::uint32_t declared_version() {
  if constexpr (form_of<T> != form::own)
    return 0;
  else if constexpr (is_described<T>)
    return described<T>::version;
  else if constexpr (requires { T::molt_version; })
    return T::molt_version;
  else
    return boost_version<T>();
}

/// Of an aggregate or described class: raised by its author when the same members come to mean something else.
template <class T>
constexpr std::uint64_t declared_meaning() {
  if constexpr (requires { T::molt_meaning; }) {
    static_assert(T::molt_meaning > 0, "molt: molt_meaning counts from 1; without it the meaning is 0");
    return T::molt_meaning;
  } else {
    return 0;
  }
}

/// The name that stands for a class with its own serialize: declared, or its unqualified type name.
template <class T>
constexpr std::string_view declared_name() {
  if constexpr (requires { std::string_view{described<T>::name}; })
    return described<T>::name;
  else if constexpr (requires { std::string_view{T::molt_name}; })
    return T::molt_name;
  else
    return unqualified(type_name<T>.view());
}

// -- Code-free

template <class T>
constexpr bool declared_code_free() {
  if constexpr (requires { described<T>::code_free; })
    return described<T>::code_free;
  else if constexpr (requires { T::molt_code_free; })
    return T::molt_code_free;
  else
    return false;
}

template <class T, class... Enclosing>
constexpr bool is_code_free();

template <class... T, class... Enclosing>
constexpr bool all_code_free(types<T...>, types<Enclosing...>) {
  return (is_code_free<std::remove_cv_t<T>, Enclosing...>() && ...);
}

template <class... Function>
constexpr bool all_stateless(types<Function...>) {
  return ((std::is_empty_v<Function> && !std::is_polymorphic_v<Function>)&&...);
}

template <class T, class... Enclosing>
constexpr bool is_code_free() {
  if constexpr ((std::is_same_v<T, Enclosing> || ...))
    return true;  // decided by the enclosing type
  else if constexpr (form_of<T> == form::unsupported || form_of<T> == form::shared)
    return false;  // the block that counts a shared_ptr's owners leads to the image that made it
  else if constexpr (form_of<T> == form::own)
    return declared_code_free<T>() && !std::is_polymorphic_v<T>;
  else if constexpr (form_of<T> == form::record)
    return all_code_free(part_types<T>{}, types<T, Enclosing...>{});
  else
    return all_code_free(typename native<T>::inside{}, types<Enclosing...>{}) &&
           all_stateless(typename native<T>::functions{});
}

}  // namespace detail

/// Whether an object of T can outlive the image that made it: no code and no static data of the image is reachable from
/// it.
template <class T>
inline constexpr bool code_free = detail::is_code_free<std::remove_cv_t<T>>();

}  // namespace molt
