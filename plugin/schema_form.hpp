// The canonical text of a type and its fingerprint, at compile time. Grammar: docs/reference/note-format.md.
//
// Offsets come from the layout rule (each member at the next multiple of its alignment); a type whose size that does
// not explain is refused when compiling, and molt_plugin() compares every offset with the real one (checked_table).
#pragma once

#include "plugin/forms.hpp"
#include "plugin/toolchain.hpp"

#include <bit>
#include <cstdint>
#include <limits>
#include <string_view>

namespace molt::detail {

// What reading and writing plain bytes relies on.
static_assert(std::endian::native == std::endian::little, "molt: archives are copied as little-endian memory");
static_assert(std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559);

/// FNV-1a 64.
struct fnv1a {
  std::uint64_t value = 0xcbf29ce484222325U;
  constexpr void byte(unsigned char more) noexcept { value = (value ^ more) * 0x100000001b3U; }
  constexpr void text(std::string_view more) noexcept {
    for (const char c : more) byte(static_cast<unsigned char>(c));
  }
  constexpr void u64(std::uint64_t more) noexcept {
    for (int i = 0; i < 8; ++i) byte(static_cast<unsigned char>(more >> (8 * i)));
  }
};

// -- A writer that counts when it has no room: run twice, it fills an array of the exact size.

struct text_writer {
  char* to = nullptr;
  std::size_t size = 0;

  constexpr void put(char c) noexcept {
    if (to != nullptr) to[size] = c;
    ++size;
  }
  constexpr void put(std::string_view text) noexcept {
    for (const char c : text) put(c);
  }
  constexpr void number(std::uint64_t value) noexcept {
    char digits[20] = {};
    int count = 0;
    do digits[count++] = static_cast<char>('0' + value % 10);
    while ((value /= 10) != 0);
    while (count > 0) put(digits[--count]);
  }
};

// -- Errors that name the member

/// Instantiated for a member that no schema can hold; the compiler's trace names the owner and the member.
template <class Owner, class Member, auto Pointer>
constexpr void check_member() {
  static_assert(
      form_of<std::remove_cv_t<Member>> != form::unsupported,
      "molt: this member cannot outlive its image: raw pointers, references, functions, any, string_view, span, "
      "polymorphic classes and classes with private members have no schema. Use values, containers, "
      "std::unique_ptr or molt::ref, describe a class with BOOST_DESCRIBE_CLASS, or give the struct that holds it "
      "`static constexpr unsigned molt_version` and its own serialize(archive, version)");
  static_assert(!std::is_const_v<Member>, "molt: a const member cannot be read back from an archive");
}

/// The same for each base that a description lists.
template <class Owner, class Base>
constexpr void check_base() {
  static_assert(form_of<Base> != form::unsupported,
                "molt: this base has no schema: describe it with BOOST_DESCRIBE_CLASS too, or give the class that "
                "derives from it its own serialize(archive, version)");
  static_assert(
      requires(Base * base) { static_cast<Owner*>(base); } || !std::is_convertible_v<Owner*, Base*>,
      "molt: a class with virtual bases cannot be described: give it its own serialize(archive, version)");
}

template <class T, std::size_t... Base, std::size_t... Member>
constexpr void check_parts(std::index_sequence<Base...>, std::index_sequence<Member...>) {
  (check_base<T, part_type<T, Base>>(), ...);
  (check_member<T, part_type<T, sizeof...(Base) + Member>, parts<T>::template pointer<Member>()>(), ...);
}

template <class T>
constexpr void check_inside() {
  static_assert(
      form_of<std::remove_cv_t<T>> != form::unsupported,
      "molt: this type has no schema: raw pointers, references, functions, any, string_view, span, polymorphic "
      "classes and classes with private members cannot outlive their image. Use values, containers or "
      "std::unique_ptr, describe the class with BOOST_DESCRIBE_CLASS, or give it `static constexpr unsigned "
      "molt_version` and its own serialize(archive, version)");
}

// -- Layout

constexpr std::size_t aligned(std::size_t offset, std::size_t align) noexcept {
  return (offset + align - 1) / align * align;
}

template <std::size_t Count>
struct layout {
  std::array<std::size_t, Count + 1> offsets{};  // one past the end is the size without tail padding
};

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"  // both compilers define it for all but virtual bases
#endif
/// How many bytes a base takes of the object around it: what derives from it may lie in its tail padding.
template <class Base>
struct behind : Base {
  char molt_behind;
};
template <class Base>
constexpr std::size_t size_as_base() {
  if constexpr (std::is_empty_v<Base>)
    return 0;
  else
    return __builtin_offsetof(behind<Base>, molt_behind);
}
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

template <class... Base, class... Member>
constexpr auto lay_out(types<Base...>, types<Member...>) {
  layout<sizeof...(Base) + sizeof...(Member)> result;
  std::size_t at = 0;
  std::size_t i = 0;
  [[maybe_unused]] const auto place = [&](std::size_t size, std::size_t align) {
    at = aligned(at, align);
    result.offsets[i++] = at;
    at += size;
  };
  // An empty base takes no room, wherever it lies.
  ((std::is_empty_v<Base> ? static_cast<void>(++i) : place(size_as_base<Base>(), alignof(Base))), ...);
  (place(sizeof(Member), alignof(Member)), ...);
  result.offsets[i] = at;
  return result;
}

template <class T>
constexpr auto layout_of() {
  constexpr auto result = lay_out(typename parts<T>::base_types{}, typename parts<T>::data_types{});
  constexpr std::size_t end = result.offsets[part_types<T>::size];
  static_assert(
      sizeof(T) == aligned(end == 0 ? 1 : end, alignof(T)),
      "molt: this struct's members do not lie by the plain layout rule: bit-fields, packed or over-aligned members "
      "and [[no_unique_address]] cannot be described, and a description lists all bases and members");
  return result;
}

/// Real offsets against the described ones, without making an object. Returns false if one differs.
template <class T>
bool offsets_are_real() noexcept {
  alignas(T) static char storage[sizeof(T)];
  constexpr auto described = layout_of<T>();
  return with_parts(*reinterpret_cast<T*>(storage), [&](auto&... part) {
    std::size_t i = 0;
    [[maybe_unused]] const auto is_there = [&]<class Part>(Part& at) {
      const auto offset = static_cast<std::size_t>(reinterpret_cast<const char*>(std::addressof(at)) - storage);
      const bool anywhere = i < parts<T>::bases && std::is_empty_v<Part>;
      return offset == described.offsets[i++] || anywhere;
    };
    return (is_there(part) && ... && true);
  });
}

// -- The text

template <class T, class... Enclosing>
constexpr void write_type(text_writer& out);

template <class... T, class... Enclosing>
constexpr void write_types(text_writer& out, types<T...>, types<Enclosing...>) {
  bool first = true;
  ((first ? void() : out.put(','), first = false, write_type<T, Enclosing...>(out)), ...);
}

template <class... Function>
constexpr void write_functions(text_writer& out, types<Function...>) {
  [[maybe_unused]] constexpr auto without_arguments = [](std::string_view name) {
    std::size_t size = 0;
    while (size < name.size() && name[size] != '<') ++size;
    return name.substr(0, size);
  };
  ((out.put(",="), out.put(without_arguments(type_name<Function>.view()))), ...);
}

template <class T>
constexpr std::string_view scalar_name() {
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_same_v<T, char>) return "char";
  if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 4 ? "f32" : "f64";
  constexpr std::string_view names[2][4] = {{"u8", "u16", "u32", "u64"}, {"i8", "i16", "i32", "i64"}};
  return names[std::is_signed_v<T> ? 1 : 0][std::bit_width(sizeof(T)) - 1];
}

template <class T, class... Enclosing, std::size_t... Base, std::size_t... Member>
constexpr void write_record(text_writer& out, std::index_sequence<Base...> bases,
                            std::index_sequence<Member...> members) {
  check_parts<T>(bases, members);
  [[maybe_unused]] constexpr auto lies = layout_of<T>();
  out.put("struct(");
  out.number(sizeof(T));
  out.put(',');
  out.number(alignof(T));
  if (declared_meaning<T>() != 0) {
    out.put(',');
    out.number(declared_meaning<T>());
  }
  out.put("){");
  ((Base == 0 ? void() : out.put(','), out.put('+'),
    write_type<std::remove_cv_t<part_type<T, Base>>, T, Enclosing...>(out), out.put('@'),
    out.number(lies.offsets[Base])),
   ...);
  constexpr std::size_t first = sizeof...(Base);
  ((first + Member == 0 ? void() : out.put(','), out.put(parts<T>::template name<Member>()), out.put(':'),
    write_type<std::remove_cv_t<part_type<T, first + Member>>, T, Enclosing...>(out), out.put('@'),
    out.number(lies.offsets[first + Member])),
   ...);
  out.put('}');
}

/// Names and values of an enum that its author describes: `,red=0,green=1`.
template <class E, class... Descriptor>
constexpr void write_enumerators(text_writer& out, types<Descriptor...>) {
  [[maybe_unused]] const auto write = [&out](std::string_view name, E enumerator) {
    auto value = static_cast<std::uint64_t>(enumerator);
    out.put(',');
    out.put(name);
    out.put('=');
    if (std::is_signed_v<std::underlying_type_t<E>> && value >> 63U != 0) {
      out.put('-');
      value = 0 - value;
    }
    out.number(value);
  };
  (write(Descriptor::name, Descriptor::value), ...);
}

template <class T, class... Enclosing>
constexpr void write_container(text_writer& out) {
  using traits = native<T>;
  if constexpr (form_of<T> == form::duration) {
    out.put("duration<");
    write_types(out, typename traits::inside{}, types<Enclosing...>{});
    out.put(',');
    out.number(static_cast<std::uint64_t>(T::period::num));
    out.put(',');
    out.number(static_cast<std::uint64_t>(T::period::den));
  } else if constexpr (form_of<T> == form::time_point) {
    out.put("time_point<");
    out.put(traits::name);
    out.put(',');
    write_types(out, typename traits::inside{}, types<Enclosing...>{});
  } else {
    out.put(traits::name);
    out.put('<');
    write_types(out, typename traits::inside{}, types<Enclosing...>{});
    if constexpr (form_of<T> == form::array) {
      out.put(',');
      out.number(traits::count);
    }
    write_functions(out, typename traits::functions{});
  }
  out.put('>');
}

/// How many steps out T stands among the enclosing structs; their number if it does not.
template <class T, class... Enclosing>
constexpr std::size_t steps_out() {
  std::size_t steps = 0;
  bool found = false;
  ((found = found || std::is_same_v<T, Enclosing>, steps += found ? 0 : 1), ...);
  return steps;
}

template <class T, class... Enclosing>
constexpr void write_type(text_writer& out) {
  constexpr form what = form_of<T>;
  check_inside<T>();
  if constexpr (what == form::boolean || what == form::number) {
    out.put(scalar_name<T>());
  } else if constexpr (what == form::enumeration) {
    static_assert(
        requires { T{0}; }, "molt: give this enum an underlying type, e.g. enum colour : int");
    out.put("enum<");
    out.put(scalar_name<std::underlying_type_t<T>>());
    if constexpr (boost_described_enum<T>)
      write_enumerators<T>(out, typename listed<decltype(boost_enum_descriptor_fn(static_cast<T**>(nullptr)))>::list{});
    out.put('>');
  } else if constexpr (what == form::string) {
    out.put("string");
  } else if constexpr (what == form::ref) {
    out.put("ref");
  } else if constexpr (what == form::own) {
    out.put("opaque(");
    out.number(sizeof(T));
    out.put(',');
    out.number(alignof(T));
    out.put(")\"");
    out.put(declared_name<T>());
    out.put("\"v");
    out.number(declared_version<T>());
  } else if constexpr (what == form::record) {
    if constexpr (constexpr std::size_t steps = steps_out<T, Enclosing...>(); steps < sizeof...(Enclosing)) {
      out.put('^');
      out.number(steps);
    } else {
      write_record<T, Enclosing...>(out, std::make_index_sequence<parts<T>::bases>{},
                                    std::make_index_sequence<parts<T>::members>{});
    }
  } else if constexpr (what != form::unsupported) {
    write_container<T, Enclosing...>(out);
  }
}

template <class T>
constexpr auto make_text() {
  constexpr std::size_t size = [] {
    text_writer counting;
    write_type<T>(counting);
    return counting.size;
  }();
  static_text<size> text;
  text_writer filling{text.data};
  write_type<T>(filling);
  return text;
}

/// The canonical structure of T.
template <class T>
inline constexpr auto schema_text = make_text<T>();

template <class T>
constexpr std::uint64_t make_fingerprint() {
  fnv1a hash;
  hash.text(toolchain_text);
  hash.byte(0);
  hash.text(schema_text<T>.view());
  return hash.value;
}

template <class T>
inline constexpr std::uint64_t fingerprint = make_fingerprint<T>();

/// string_view::find is no constant under -fsanitize=undefined.
constexpr bool mentions(std::string_view text, std::string_view word) noexcept {
  for (std::size_t at = 0; at + word.size() <= text.size(); ++at) {
    std::size_t same = 0;
    while (same < word.size() && text[at + same] == word[same]) ++same;
    if (same == word.size()) return true;
  }
  return false;
}

/// Whether the archive form follows from the text: no class with its own serialize inside, and no pointers that may
/// share.
template <class T>
inline constexpr bool transparent =
    !mentions(schema_text<T>.view(), "opaque(") && !mentions(schema_text<T>.view(), "shared_ptr<") &&
    !mentions(schema_text<T>.view(), "weak_ptr<");

// -- Walking all records inside a type, once each

template <class T, class... Seen>
bool all_offsets_real() noexcept;

template <class... T, class... Seen>
bool each_offsets_real(types<T...>, types<Seen...>) noexcept {
  return (all_offsets_real<std::remove_cv_t<T>, Seen...>() && ... && true);
}

template <class T, class... Seen>
bool all_offsets_real() noexcept {
  if constexpr ((std::is_same_v<T, Seen> || ...))
    return true;
  else if constexpr (form_of<T> == form::record)
    return offsets_are_real<T>() && each_offsets_real(part_types<T>{}, types<T, Seen...>{});
  else if constexpr (form_of<T> == form::own)
    return true;
  else
    return each_offsets_real(typename native<T>::inside{}, types<Seen...>{});
}

}  // namespace molt::detail
