// What an aggregate is made of, at compile time and without macros: how many members, their names, types and
// references.
//
// The members are counted by trying how many initialisers fit, reached by structured bindings, and named by the
// compiler's own spelling of a pointer to each member of an object that is declared and never defined.
//
// Threading: compile time only, but for with_members.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace molt::detail {

/// Members of one aggregate. More: put some of them in a member of their own.
inline constexpr std::size_t members_max = 40;
/// Initialisers tried when counting; an array member takes one per element.
inline constexpr std::size_t initialisers_max = 64;

template <class... T>
struct types {
  static constexpr std::size_t size = sizeof...(T);
};

// -- Names

/// Text with static storage and a NUL at its end.
template <std::size_t Size>
struct static_text {
  char data[Size + 1] = {};
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data, Size}; }
};

template <class T>
constexpr auto spelled_type() {
  constexpr std::string_view all = __PRETTY_FUNCTION__;
  constexpr std::size_t begin = all.find("T = ") + 4;
  constexpr std::size_t size = all.rfind(']') - begin;
  static_text<size> text;
  for (std::size_t i = 0; i < size; ++i) text.data[i] = all[begin + i];
  return text;
}

/// The type's name as the compiler spells it, e.g. "sessions::state".
template <class T>
inline constexpr auto type_name = spelled_type<T>();

/// What follows the last "::" outside of template arguments.
constexpr std::string_view unqualified(std::string_view name) noexcept {
  std::size_t depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    if (name[i] == '>') ++depth;
    if (name[i] == '<') --depth;
    if (depth == 0 && name[i] == ':') return name.substr(i + 1);
  }
  return name;
}

// -- Counting members

/// Converts to anything a member may be, but not to T itself or a base of it.
template <class T>
struct any_member {
  template <class Member>
  requires(!std::is_base_of_v<Member, T> && !std::is_same_v<Member, T>) operator Member() const noexcept;
};

/// Converts only to a base of T.
template <class T>
struct any_base {
  template <class Base>
  requires(std::is_base_of_v<Base, T> && !std::is_same_v<Base, T>) operator Base() const noexcept;
};

template <class T, class Any, std::size_t... Before>
constexpr bool takes(std::index_sequence<Before...>) {
  return requires { T{(static_cast<void>(Before), Any{})...}; };
}

/// T{any x Before, {}, any x After}
template <class T, std::size_t... Before, std::size_t... After>
constexpr bool takes_empty(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires {
    T{(static_cast<void>(Before), any_member<T>{})..., {}, (static_cast<void>(After), any_member<T>{})...};
  };
}

template <class T, class Any, std::size_t N>
constexpr std::size_t count_initialisers() {
  if constexpr (N == 0)
    return 0;
  else if constexpr (takes<T, Any>(std::make_index_sequence<N>{}))
    return N;
  else
    return count_initialisers<T, Any, N - 1>();
}

/// Initialisers that the member at initialiser `At` takes: 1, or an array's number of elements. Found by how many more
/// fit behind it when it gets `{}`.
template <class T, std::size_t Total, std::size_t At, std::size_t N = 1>
constexpr std::size_t initialisers_at() {
  if constexpr (At + N > Total)
    return 1;
  else if constexpr (takes_empty<T>(std::make_index_sequence<At>{}, std::make_index_sequence<Total - At - N>{}))
    return N;
  else
    return initialisers_at<T, Total, At, N + 1>();
}

template <class T, std::size_t Total, std::size_t At = 0>
constexpr std::size_t count_members() {
  if constexpr (At >= Total)
    return 0;
  else
    return 1 + count_members<T, Total, At + initialisers_at<T, Total, At>()>();
}

template <class T>
constexpr std::size_t member_count_of() {
  static_assert(std::is_aggregate_v<T> && !std::is_union_v<T> && !std::is_array_v<T>);
  if constexpr (std::is_empty_v<T>) {
    return 0;
  } else {
    constexpr std::size_t most = sizeof(T) < initialisers_max ? sizeof(T) + 1 : initialisers_max;
    constexpr std::size_t total = count_initialisers<T, any_member<T>, most>();
    static_assert(!takes<T, any_base<T>>(std::index_sequence<0>{}),
                  "molt: this type derives from another one, so its members cannot be listed: make the base a member, "
                  "describe the type with BOOST_DESCRIBE_STRUCT, or give it its own serialize");
    constexpr std::size_t count = count_members<T, total>();
    static_assert(count <= members_max,
                  "molt: this struct has more than 40 members: put some of them in a struct of their own");
    return count;
  }
}

template <class T>
inline constexpr std::size_t member_count = member_count_of<T>();

// -- Reaching members

/// Calls `visit` with references to all members of `object`, in order of declaration.
template <class T, class Visit>
constexpr decltype(auto) with_members(T& object, Visit&& visit) {
  constexpr std::size_t count = member_count<std::remove_const_t<T>>;
  // clang-format off
  if constexpr (count == 0) return visit();
  if constexpr (count == 1) { auto& [m0] = object; return visit(m0); }
  if constexpr (count == 2) { auto& [m0, m1] = object; return visit(m0, m1); }
  if constexpr (count == 3) { auto& [m0, m1, m2] = object; return visit(m0, m1, m2); }
  if constexpr (count == 4) { auto& [m0, m1, m2, m3] = object; return visit(m0, m1, m2, m3); }
  if constexpr (count == 5) { auto& [m0, m1, m2, m3, m4] = object; return visit(m0, m1, m2, m3, m4); }
  if constexpr (count == 6) { auto& [m0, m1, m2, m3, m4, m5] = object; return visit(m0, m1, m2, m3, m4, m5); }
  if constexpr (count == 7) { auto& [m0, m1, m2, m3, m4, m5, m6] = object; return visit(m0, m1, m2, m3, m4, m5, m6); }
  if constexpr (count == 8) { auto& [m0, m1, m2, m3, m4, m5, m6, m7] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7); }
  if constexpr (count == 9) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8); }
  if constexpr (count == 10) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9); }
  if constexpr (count == 11) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10); }
  if constexpr (count == 12) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11); }
  if constexpr (count == 13) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12); }
  if constexpr (count == 14) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13); }
  if constexpr (count == 15) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14); }
  if constexpr (count == 16) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15); }
  if constexpr (count == 17) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16); }
  if constexpr (count == 18) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17); }
  if constexpr (count == 19) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18); }
  if constexpr (count == 20) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19); }
  if constexpr (count == 21) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20); }
  if constexpr (count == 22) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21); }
  if constexpr (count == 23) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22); }
  if constexpr (count == 24) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23); }
  if constexpr (count == 25) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24); }
  if constexpr (count == 26) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25); }
  if constexpr (count == 27) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26); }
  if constexpr (count == 28) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27); }
  if constexpr (count == 29) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28); }
  if constexpr (count == 30) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29); }
  if constexpr (count == 31) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30); }
  if constexpr (count == 32) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31); }
  if constexpr (count == 33) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32); }
  if constexpr (count == 34) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33); }
  if constexpr (count == 35) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34); }
  if constexpr (count == 36) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35); }
  if constexpr (count == 37) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36); }
  if constexpr (count == 38) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36, m37] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36, m37); }
  if constexpr (count == 39) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36, m37, m38] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36, m37, m38); }
  if constexpr (count == 40) { auto& [m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36, m37, m38, m39] = object; return visit(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19, m20, m21, m22, m23, m24, m25, m26, m27, m28, m29, m30, m31, m32, m33, m34, m35, m36, m37, m38, m39); }
  // clang-format on
}

// Declared and never defined: only addresses of its members are taken, at compile time.
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-internal"
#pragma clang diagnostic ignored "-Wundefined-var-template"
#endif
template <class T>
struct phantom {
  T value;
  static phantom<T> object;
};

template <class Member>
struct member_pointer {
  Member* pointer;
};
template <class Member>
member_pointer(Member*) -> member_pointer<Member>;

template <auto Pointer>
constexpr auto spelled_member() {
  constexpr std::string_view all = __PRETTY_FUNCTION__;
#if defined(__clang__)
  constexpr std::size_t end = all.rfind("}]");
#else
  constexpr std::size_t end = all.rfind(")}");
#endif
  constexpr std::size_t begin = all.find_last_of(".:", end) + 1;
  static_text<end - begin> text;
  for (std::size_t i = begin; i < end; ++i) text.data[i - begin] = all[i];
  return text;
}

/// consteval, so that no code or data refers to the phantom.
template <class T>
consteval auto pointers_to_members() {
  return with_members(phantom<T>::object.value,
                      [](auto&... member) { return std::tuple{member_pointer{std::addressof(member)}...}; });
}

template <class T, std::size_t I>
consteval auto member_pointer_at() {
  return std::get<I>(pointers_to_members<T>());
}

template <class T, std::size_t I>
inline constexpr auto member_name = spelled_member<member_pointer_at<T, I>()>();
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

template <class Tuple>
struct pointed_to;
template <class... T>
struct pointed_to<std::tuple<member_pointer<T>...>> {
  using list = types<T...>;
};

/// The types of T's members in order of declaration, const where declared so.
template <class T>
using member_types = typename pointed_to<decltype(pointers_to_members<T>())>::list;

template <std::size_t I, class List>
struct type_at_index;
template <std::size_t I, class... T>
struct type_at_index<I, types<T...>> {
  using type = std::tuple_element_t<I, std::tuple<T...>>;
};

template <class T, std::size_t I>
using member_type = typename type_at_index<I, member_types<T>>::type;

}  // namespace molt::detail
