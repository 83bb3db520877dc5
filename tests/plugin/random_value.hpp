// Random values of any type that has a schema, for property tests. The same seed gives the same value.
#pragma once

#include <molt/plugin.hpp>

#include <random>

namespace molt::tests {

using random = std::mt19937_64;

template <class T>
T random_value(random& from, unsigned depth = 4);

template <class T, std::size_t... I>
T random_variant(random& from, unsigned depth, std::index_sequence<I...>) {
  T value;
  const std::size_t index = from() % sizeof...(I);
  ((index == I
        ? static_cast<void>(value.template emplace<I>(random_value<std::variant_alternative_t<I, T>>(from, depth)))
        : void()),
   ...);
  return value;
}

template <class T>
T random_value(random& from, unsigned depth) {
  using molt::detail::form;
  constexpr form what = molt::detail::form_of<T>;
  const std::size_t count = depth == 0 ? 0 : from() % 4;
  if constexpr (what == form::boolean) {
    return from() % 2 == 0;
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(static_cast<std::int64_t>(from()) / 1024);
  } else if constexpr (what == form::number || what == form::enumeration) {
    return static_cast<T>(from());
  } else if constexpr (what == form::string) {
    std::string text(from() % (depth + 20), '\0');
    for (char& c : text) c = static_cast<char>(from());
    return text;
  } else if constexpr (what == form::sequence || what == form::set) {
    T value;
    for (std::size_t i = 0; i < count; ++i)
      value.insert(value.end(), random_value<typename T::value_type>(from, depth - 1));
    return value;
  } else if constexpr (what == form::map) {
    T value;
    for (std::size_t i = 0; i < count; ++i) {
      auto key = random_value<typename T::key_type>(from, depth - 1);  // in this order with every compiler
      value.emplace(std::move(key), random_value<typename T::mapped_type>(from, depth - 1));
    }
    return value;
  } else if constexpr (what == form::optional) {
    return count == 0 ? T{} : T{random_value<typename T::value_type>(from, depth - 1)};
  } else if constexpr (what == form::pointer) {
    using element = typename T::element_type;
    return count == 0 ? T{} : std::make_unique<element>(random_value<element>(from, depth - 1));
  } else if constexpr (what == form::shared) {
    using element = typename T::element_type;
    return count == 0 ? T{} : T{std::make_shared<element>(random_value<element>(from, depth - 1))};
  } else if constexpr (what == form::tuple) {
    T value;
    std::apply([&](auto&... part) { ((part = random_value<std::remove_cvref_t<decltype(part)>>(from, depth)), ...); },
               value);
    return value;
  } else if constexpr (what == form::variant) {
    return random_variant<T>(from, depth, std::make_index_sequence<std::variant_size_v<T>>{});
  } else if constexpr (what == form::array) {
    T value{};
    for (auto& part : value) part = random_value<std::remove_cvref_t<decltype(part)>>(from, depth);
    return value;
  } else if constexpr (what == form::duration) {
    return T{random_value<typename T::rep>(from, depth)};
  } else if constexpr (what == form::time_point) {
    return T{random_value<typename T::duration>(from, depth)};
  } else if constexpr (what == form::ref) {
    return T{from()};
  } else if constexpr (what == form::reply_to) {
    return T{from()};
  } else {
    T value{};
    const auto fill = [&](auto& member) {
      using type = std::remove_reference_t<decltype(member)>;
      if constexpr (std::is_array_v<type>)
        for (auto& part : member) part = random_value<std::remove_extent_t<type>>(from, depth);
      else
        member = random_value<type>(from, depth);
    };
    molt::detail::with_parts(value, [&](auto&... part) { (fill(part), ...); });
    return value;
  }
}

}  // namespace molt::tests
