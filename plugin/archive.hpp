// Archives: how states and messages are written down and read back. Models of Boost.Serialization's Archive concept.
//
// Form (docs/reference/archive-format.md): little-endian, no padding, no names. Numbers are their bytes, a size is a
// LEB128 number in its shortest form, containers are a size and their elements, records their members in order, and a
// class with its own serialize is its version and what serialize writes.
//
// Invariants of reading, whatever the bytes: nothing beyond the end is touched; no size is believed that the bytes left
// could not hold (zero-byte elements: zero_byte_elements_max); nesting is bounded by depth_max. Otherwise: bad_archive.
#pragma once

#include "plugin/abi.h"
#include "plugin/forms.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

// Boost.Serialization's wrappers, never defined here.
namespace boost::serialization {
template <class T>
class nvp;
template <class T>
class array_wrapper;
struct binary_object;
class collection_size_type;
class item_version_type;
}  // namespace boost::serialization

namespace molt {

/// Raise when the form of an archive changes. The first byte of each.
inline constexpr unsigned char archive_format = 1;

/// The bytes do not hold such an object. Thrown by reading; a serialize function may throw it too.
class bad_archive : public std::runtime_error {
 public:
  explicit bad_archive(const char* what) : std::runtime_error{what} {}
  explicit bad_archive(const std::string& what) : std::runtime_error{what} {}
};

/// A stated limit was reached: nesting, zero-byte elements, or what the sink's owner allows.
class archive_limit : public std::runtime_error {
 public:
  archive_limit(int status, const char* what) : std::runtime_error{what}, status_{status} {}
  [[nodiscard]] int status() const noexcept { return status_; }

 private:
  int status_;
};

namespace detail {

/// Containers, pointers and classes inside each other, in one archive.
inline constexpr unsigned depth_max = 512;
/// Elements that take no bytes (empty structs), in one container.
inline constexpr std::uint64_t zero_byte_elements_max = 1U << 16U;

/// A size inside Boost's own container formats that is believed whatever is left: it may count hash buckets.
inline constexpr std::uint64_t boost_size_believed = 1U << 20U;

/// The fewest bytes that a T takes. Recursion ends at containers, whose size takes one.
template <class T>
constexpr std::size_t bytes_min();

template <class... T>
constexpr std::size_t bytes_min_of(types<T...>) {
  return (bytes_min<std::remove_cv_t<T>>() + ... + 0);
}

template <class T>
constexpr std::size_t bytes_min() {
  constexpr form what = form_of<T>;
  if constexpr (what == form::boolean || what == form::number || what == form::enumeration)
    return sizeof(T);
  else if constexpr (what == form::ref || what == form::reply_to)
    return 8;
  else if constexpr (what == form::record)
    return bytes_min_of(part_types<T>{});
  else if constexpr (what == form::tuple || what == form::duration || what == form::time_point)
    return bytes_min_of(typename native<T>::inside{});
  else if constexpr (what == form::array)
    return native<T>::count * bytes_min_of(typename native<T>::inside{});
  else
    return 1;
}

/// Whether memory is already the archive form: copied whole.
template <class T>
inline constexpr bool is_plain = form_of<T> == form::number || form_of<T> == form::enumeration;
template <class T, std::size_t N>
inline constexpr bool is_plain<std::array<T, N>> = is_plain<T>;

struct depth_guard {
  unsigned& depth;
  explicit depth_guard(unsigned& counted) : depth{counted} {
    if (++depth > depth_max) {
      --depth;
      throw archive_limit{MOLT_OUT_OF_BOUNDS, "nested deeper than 512 levels"};
    }
  }
  depth_guard(const depth_guard&) = delete;
  depth_guard& operator=(const depth_guard&) = delete;
  ~depth_guard() { --depth; }
};

/// Calls the author's serialize: a member, a free function in the type's namespace, or through Boost.Serialization's
/// own dispatch if the author's file includes it (for private members and overloads in its namespace).
template <class Archive, class T, class Version = boost::serialization::version_type>
void call_serialize(Archive& archive, T& object, unsigned version) {
  if constexpr (requires { object.serialize(archive, version); }) {
    object.serialize(archive, version);
  } else if constexpr (requires { serialize(archive, object, version); }) {
    serialize(archive, object, version);
  } else if constexpr (boost_is_included<T>) {
    serialize(archive, object, Version{version});
  } else {
    static_assert(
        !std::is_class_v<T>,
        "molt: this type says that it has its own serialize, but there is none to call: declare template <class "
        "Archive> void serialize(Archive&, unsigned version) in the class, or include "
        "<boost/serialization/serialization.hpp> where it is private");
  }
}

template <class T>
inline constexpr bool is_boost_number = std::is_same_v<T, boost::serialization::collection_size_type> ||
                                        std::is_same_v<T, boost::serialization::item_version_type>;
template <class T>
inline constexpr bool is_nvp = false;
template <class T>
inline constexpr bool is_nvp<boost::serialization::nvp<T>> = true;
template <class T>
inline constexpr bool is_array_wrapper = false;
template <class T>
inline constexpr bool is_array_wrapper<boost::serialization::array_wrapper<T>> = true;

// -- Shared objects: each is written once, where the archive first meets it, and counted from 1

/// Stands for a type in one image.
template <class T>
inline constexpr char type_tag = 0;

/// One address may hold two objects: a struct and its first member.
using object_identity = std::pair<const void*, const void*>;  // address, type_tag

struct loaded_object {
  std::shared_ptr<void> object;
  const void* type = nullptr;
};

/// What both directions share of Boost's concept.
template <bool Saving>
class archive_base {
 public:
  using is_saving = std::bool_constant<Saving>;
  using is_loading = std::bool_constant<!Saving>;

  archive_base() = default;
  archive_base(const archive_base&) = delete;
  archive_base& operator=(const archive_base&) = delete;

  /// The level of Boost.Serialization's own container formats that this follows.
  [[nodiscard]] static constexpr unsigned get_library_version() noexcept { return 19; }
  [[nodiscard]] static constexpr unsigned get_flags() noexcept { return 0; }
  /// Nothing is tracked and nothing is registered: polymorphic pointers have no archive form.
  template <class T>
  void register_type(const T* = nullptr) const noexcept {}
  template <class T, class U>
  void reset_object_address(const T*, const U*) const noexcept {}

 protected:
  unsigned depth_ = 0;
};

}  // namespace detail

/// Writes objects to a sink. Throws archive_limit with the sink's status when it will not grow, and what serialize
/// throws.
class output_archive : public detail::archive_base<true> {
 public:
  explicit output_archive(molt_sink& to) noexcept : sink_{to} {}

  template <class T>
  output_archive& operator<<(const T& value) {
    save(value);
    return *this;
  }
  template <class T>
  output_archive& operator&(const T& value) {
    save(value);
    return *this;
  }
  void save_binary(const void* data, std::size_t size) {
    if (size == 0) return;
    make_room(size);
    std::memcpy(sink_.cursor, data, size);
    sink_.cursor += size;
  }
  /// A number in LEB128.
  void save_size(std::uint64_t size) {
    make_room(10);
    char* at = sink_.cursor;
    for (; size >= 0x80U; size >>= 7U) *at++ = static_cast<char>(size | 0x80U);
    *at++ = static_cast<char>(size);
    sink_.cursor = at;
  }

 private:
  template <class T>
  void save(const T& value);
  template <class T>
  void save_native(const T& value);
  template <class T>
  void save_elements(const T& container);
  template <class T>
  void save_shared(const T* object);

  void make_room(std::size_t more) {
    if (static_cast<std::size_t>(sink_.end - sink_.cursor) < more) [[unlikely]]
      grow(more);
  }
  [[gnu::noinline]] void grow(std::size_t more) {
    if (const int status = sink_.grow(&sink_, more); status != MOLT_OK)
      throw archive_limit{status, "the archive may not grow any more"};
  }
  template <class T>
  void save_bytes(const T& value) {
    make_room(sizeof(T));
    std::memcpy(sink_.cursor, &value, sizeof(T));
    sink_.cursor += sizeof(T);
  }

  molt_sink& sink_;
  std::map<detail::object_identity, std::uint64_t> shared_;  // the number of each shared object written
};

/// Reads objects from a source. Throws bad_archive, archive_limit, and what serialize throws.
class input_archive : public detail::archive_base<false> {
 public:
  explicit input_archive(molt_source& from) noexcept : source_{from} {}

  template <class T>
  input_archive& operator>>(T&& value) {
    load(value);
    return *this;
  }
  template <class T>
  input_archive& operator&(T&& value) {
    load(value);
    return *this;
  }
  void load_binary(void* data, std::size_t size) {
    if (size == 0) return;
    need(size);
    std::memcpy(data, source_.cursor, size);
    source_.cursor += size;
  }
  /// A number in LEB128, in its shortest form.
  [[nodiscard]] std::uint64_t load_size() {
    std::uint64_t size = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      need(1);
      const auto byte = static_cast<unsigned char>(*source_.cursor++);
      if (shift == 63 && byte > 1) break;
      size |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80U) {
        if (byte == 0 && shift != 0) break;
        return size;
      }
    }
    throw bad_archive{"a size is not in its shortest form"};
  }
  [[nodiscard]] std::size_t bytes_left() const noexcept {
    return static_cast<std::size_t>(source_.end - source_.cursor);
  }

 private:
  template <class T>
  void load(T& value);
  template <class T>
  void load_native(T& value);
  template <class T>
  void load_sequence(T& value);
  template <class T>
  void load_associative(T& value);
  template <class T>
  std::shared_ptr<T> load_shared();
  template <class T, std::size_t I = 0>
  void load_alternative(T& value, std::uint64_t index);

  void need(std::size_t size) const {
    if (bytes_left() < size) [[unlikely]]
      throw bad_archive{"the archive ends too early"};
  }
  /// A number of elements that the bytes left can hold.
  [[nodiscard]] std::size_t load_count(std::size_t bytes_min) {
    const std::uint64_t count = load_size();
    const std::uint64_t most = bytes_min == 0 ? detail::zero_byte_elements_max : bytes_left() / bytes_min;
    if (count > most) throw bad_archive{"a size is larger than the bytes left"};
    return static_cast<std::size_t>(count);
  }
  template <class T>
  void load_bytes(T& value) {
    need(sizeof(T));
    std::memcpy(&value, source_.cursor, sizeof(T));
    source_.cursor += sizeof(T);
  }

  molt_source& source_;
  std::vector<detail::loaded_object> shared_;  // the shared objects read, by number
};

}  // namespace molt

#include "plugin/archive_forms.hpp"  // IWYU pragma: export
