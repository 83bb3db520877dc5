// What a class consists of: its bases, then its members in the order in which they lie. Of aggregates the compiler
// tells (plugin/reflection.hpp); of classes with bases or private members their author, by Boost.Describe:
//
//     class account : public owned {
//       std::int64_t cents_ = 0;
//       BOOST_DESCRIBE_CLASS(account, (owned), (), (), (cents_))
//     };
//
// Boost's headers are the author's to include: what its macros leave behind is found by argument-dependent look-up.
// Whatever order a description lists members in, they are taken in that of their addresses.
//
// Threading: compile time only, but for with_parts.
#pragma once

#include "plugin/reflection.hpp"

#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>

namespace molt::detail {

// -- What Boost.Describe leaves behind

template <class T>
concept boost_described = std::is_class_v<T> && requires(T** about) {
  boost_base_descriptor_fn(about);
  boost_public_member_descriptor_fn(about);
  boost_protected_member_descriptor_fn(about);
  boost_private_member_descriptor_fn(about);
};

template <class E>
concept boost_described_enum = std::is_enum_v<E> && requires(E** about) {
  boost_enum_descriptor_fn(about);
};

/// Its lists of descriptors, whatever template they are made of.
template <class List>
struct listed;
template <template <class...> class List, class... Descriptor>
struct listed<List<Descriptor...>> {
  using list = types<Descriptor...>;
};

template <class A, class B>
struct joined;
template <class... A, class... B>
struct joined<types<A...>, types<B...>> {
  using list = types<A..., B...>;
};

/// A description may list functions and static members too; they are no part of an object.
template <class Kept, class... Descriptor>
struct data_members;
template <class... Kept>
struct data_members<types<Kept...>> {
  using list = types<Kept...>;
};
template <class... Kept, class First, class... Rest>
struct data_members<types<Kept...>, First, Rest...> {
  static constexpr bool is_data = std::is_member_object_pointer_v<std::remove_cv_t<decltype(First::pointer)>>;
  using list = typename data_members<std::conditional_t<is_data, types<Kept..., First>, types<Kept...>>, Rest...>::list;
};
template <class List>
struct data_members_of;
template <class... Descriptor>
struct data_members_of<types<Descriptor...>> : data_members<types<>, Descriptor...> {};

template <class T>
struct class_description {
  static constexpr T** about = nullptr;
  using bases = typename listed<decltype(boost_base_descriptor_fn(about))>::list;
  using shown = typename joined<typename listed<decltype(boost_public_member_descriptor_fn(about))>::list,
                                typename listed<decltype(boost_protected_member_descriptor_fn(about))>::list>::list;
  using hidden = typename listed<decltype(boost_private_member_descriptor_fn(about))>::list;
  using members = typename data_members_of<typename joined<shown, hidden>::list>::list;
};

/// Whether the parts of T are taken from its description. An aggregate without bases needs none, and cannot forget a
/// member.
template <class T>
constexpr bool is_described_class() {
  if constexpr (!boost_described<T>)
    return false;
  else
    return !std::is_aggregate_v<T> || class_description<T>::bases::size != 0;
}

// -- The order in which members lie

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wundefined-internal"
#pragma clang diagnostic ignored "-Wundefined-var-template"
#endif
/// The index in the description of the member that lies first, second and so on.
template <class T, class... Descriptor>
consteval auto order_of_members(types<Descriptor...>) {
  constexpr std::size_t count = sizeof...(Descriptor);
  const std::array<const void*, count + 1> at{std::addressof(phantom<T>::object.value.*Descriptor::pointer)...,
                                              nullptr};
  std::array<std::size_t, count + 1> order{};
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t before = 0;
    // clang compares members under different access specifiers only when folding, which the first operand asks for.
    for (std::size_t j = 0; j < count; ++j)
      before += (__builtin_constant_p(at[j] < at[i]) ? at[j] < at[i] : at[j] < at[i]) ? 1 : 0;
    order[before] = i;
  }
  return order;
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

template <class T>
inline constexpr auto member_order = order_of_members<T>(typename class_description<T>::members{});

/// The descriptor of the member that lies at the Ith place.
template <class T, std::size_t I>
using descriptor_at = typename type_at_index<member_order<T>[I], typename class_description<T>::members>::type;

template <class Pointer>
struct pointee;
template <class Class, class Member>
struct pointee<Member Class::*> {
  using type = Member;
};

// -- Parts

template <class T, bool Described = is_described_class<T>()>
struct parts {
  static constexpr std::size_t bases = 0;
  static constexpr std::size_t members = member_count<T>;
  using base_types = types<>;
  using data_types = member_types<T>;
  using list = data_types;

  template <class Object, class Visit>
  static constexpr decltype(auto) visit(Object& object, Visit&& with) {
    return with_members(object, with);
  }
  template <std::size_t I>
  static constexpr std::string_view name() {
    return member_name<T, I>.view();
  }
  template <std::size_t I>
  static consteval auto pointer() {
    return member_pointer_at<T, I>();
  }
};

template <class T>
struct parts<T, true> {
  using base_list = typename class_description<T>::bases;
  static constexpr std::size_t bases = base_list::size;
  static constexpr std::size_t members = class_description<T>::members::size;

  template <std::size_t I>
  using member = typename pointee<std::remove_cv_t<decltype(descriptor_at<T, I>::pointer)>>::type;

  template <class... Base>
  static auto types_of(types<Base...>) -> types<typename Base::type...>;
  template <std::size_t... I>
  static auto types_of(std::index_sequence<I...>) -> types<member<I>...>;
  using base_types = decltype(types_of(base_list{}));
  using data_types = decltype(types_of(std::make_index_sequence<members>{}));
  using list = typename joined<base_types, data_types>::list;

  template <class Object, class Visit>
  static constexpr decltype(auto) visit(Object& object, Visit&& with) {
    return visit_listed(object, with, base_list{}, std::make_index_sequence<members>{});
  }
  template <std::size_t I>
  static constexpr std::string_view name() {
    return descriptor_at<T, I>::name;
  }
  template <std::size_t I>
  static consteval auto pointer() {
    return descriptor_at<T, I>::pointer;
  }

 private:
  template <class Object, class Visit, class... Base, std::size_t... I>
  static constexpr decltype(auto) visit_listed(Object& object, Visit&& with, types<Base...>,
                                               std::index_sequence<I...>) {
    // The old cast reaches private bases too.
    return with((std::conditional_t<std::is_const_v<Object>, const typename Base::type, typename Base::type>&)
                    object...,  // NOLINT
                object.*descriptor_at<T, I>::pointer...);
  }
};

/// The types of T's bases and members, const where declared so.
template <class T>
using part_types = typename parts<T>::list;

template <class T, std::size_t I>
using part_type = typename type_at_index<I, part_types<T>>::type;

/// Calls `visit` with references to all bases and members of `object`.
template <class T, class Visit>
constexpr decltype(auto) with_parts(T& object, Visit&& visit) {
  return parts<std::remove_const_t<T>>::visit(object, visit);
}

}  // namespace molt::detail
