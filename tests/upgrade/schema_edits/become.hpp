// What the generated hooks convert members with: become(to, from), for every pair of types that an edit leads between.
#pragma once

#include <molt/plugin.hpp>

#include <concepts>
#include <type_traits>
#include <utility>

namespace edits {

template <class T>
concept range = requires(const T& from) {
  from.begin();
  from.end();
  typename T::value_type;
};
template <class T>
concept map = range<T> && requires {
  typename T::mapped_type;
};
template <class T>
concept holder = requires(const T& from) {
  *from;
  static_cast<bool>(from);
  from ? true : false;
}
&&!std::is_pointer_v<T>;

template <class To, class From>
void become(To& to, const From& from);

template <class... To, class... From>
void become(std::variant<To...>& to, const std::variant<From...>& from);
template <class A, class B, class C, class D>
void become(std::pair<A, B>& to, const std::pair<C, D>& from);
template <class... To, class... From>
void become(std::tuple<To...>& to, const std::tuple<From...>& from);
template <class To, std::size_t N, class From, std::size_t M>
void become(std::array<To, N>& to, const std::array<From, M>& from);
template <class To, class A, class From, class B>
void become(std::chrono::duration<To, A>& to, const std::chrono::duration<From, B>& from);

template <class To, class From>
void become(To& to, const From& from) {
  if constexpr (std::is_same_v<To, From> && std::is_copy_assignable_v<To>) {
    to = from;
  } else if constexpr (std::is_arithmetic_v<To> || std::is_enum_v<To>) {
    if constexpr (holder<From>) {
      to = To{};
      if (from) become(to, *from);
    } else {
      to = static_cast<To>(from);
    }
  } else if constexpr (map<To>) {
    to.clear();
    for (const auto& [key, value] : from) {
      typename To::key_type new_key{};
      typename To::mapped_type new_value{};
      become(new_key, key);
      become(new_value, value);
      to.emplace(std::move(new_key), std::move(new_value));
    }
  } else if constexpr (range<To>) {
    to.clear();
    for (const auto& each : from) {
      typename To::value_type made{};
      become(made, each);
      to.insert(to.end(), std::move(made));
    }
  } else if constexpr (holder<To> && !holder<From>) {  // an optional around what stood alone
    to.emplace();
    become(*to, from);
  } else {
    to = {};
    if (!from) return;
    if constexpr (requires { to.emplace(); })
      to.emplace();
    else
      to = std::make_unique<typename To::element_type>();
    become(*to, *from);
  }
}

template <class To, class From, std::size_t I>
void become_alternative(To& to, const From& from) {
  if constexpr (I < std::variant_size_v<From> && I < std::variant_size_v<To>) {
    if (from.index() != I) return become_alternative<To, From, I + 1>(to, from);
    become(to.template emplace<I>(), std::get<I>(from));
  }
}
template <class... To, class... From>
void become(std::variant<To...>& to, const std::variant<From...>& from) {
  become_alternative<std::variant<To...>, std::variant<From...>, 0>(to, from);
}
template <class A, class B, class C, class D>
void become(std::pair<A, B>& to, const std::pair<C, D>& from) {
  become(to.first, from.first);
  become(to.second, from.second);
}
template <class... To, class... From>
void become(std::tuple<To...>& to, const std::tuple<From...>& from) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (become(std::get<I>(to), std::get<I>(from)), ...); }
  (std::make_index_sequence<sizeof...(To)>{});
}
template <class To, std::size_t N, class From, std::size_t M>
void become(std::array<To, N>& to, const std::array<From, M>& from) {
  for (std::size_t i = 0; i < N && i < M; ++i) become(to[i], from[i]);
}
template <class To, class A, class From, class B>
void become(std::chrono::duration<To, A>& to, const std::chrono::duration<From, B>& from) {
  to = std::chrono::duration<To, A>{static_cast<To>(from.count())};
}

}  // namespace edits
