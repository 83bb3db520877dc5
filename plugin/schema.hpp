// Schemas and messages as constants of the C boundary, made from types: schema_of<T>(), message_of<M>().
//
// Threading: constants; the functions in them are as thread-safe as the type's own.
#pragma once

#include "plugin/abi.h"
#include "plugin/archive.hpp"
#include "plugin/schema_form.hpp"

#include <cstring>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

namespace molt {

namespace detail {

// -- Nothing is thrown across the boundary

inline void copy_text(molt_text* to, std::string_view text) noexcept {
  if (to == nullptr) return;
  to->size = static_cast<std::uint32_t>(text.size() < MOLT_TEXT_CAPACITY ? text.size() : MOLT_TEXT_CAPACITY - 1);
  std::memcpy(to->data, text.data(), to->size);
  to->data[to->size] = '\0';
}

/// Inside a catch block: the status of what was thrown, its text copied out.
[[gnu::noinline]] inline int caught(molt_text* error) noexcept {
  try {
    throw;
  } catch (const bad_archive& bad) {
    copy_text(error, bad.what());
    return MOLT_BAD_ARCHIVE;
  } catch (const archive_limit& limit) {
    copy_text(error, limit.what());
    return limit.status();
  } catch (const std::exception& thrown) {
    copy_text(error, thrown.what());
    return MOLT_THREW;
  } catch (...) {
    copy_text(error, "something was thrown that is not a std::exception");
    return MOLT_THREW;
  }
}

/// The same outside of archives, where only the author's code can throw.
[[gnu::noinline]] inline int caught_by_author(molt_text* error) noexcept {
  caught(error);
  return MOLT_THREW;
}

// -- Thunks of one type

template <class T>
int save_thunk(const void* object, molt_sink* to, molt_text* error) {
  try {
    output_archive archive{*to};
    archive.save_binary(&archive_format, 1);
    archive << *static_cast<const T*>(object);
    return MOLT_OK;
  } catch (...) {
    return caught(error);
  }
}

template <class T>
int load_thunk(void* storage, molt_source* from, molt_text* error) {
  T* object = nullptr;
  try {
    input_archive archive{*from};
    unsigned char format = 0;
    archive.load_binary(&format, 1);
    if (format != archive_format) throw bad_archive{"the archive has another format version"};
    object = ::new (storage) T();
    archive >> *object;
    return MOLT_OK;
  } catch (...) {
    if (object != nullptr) object->~T();
    return caught(error);
  }
}

template <class T>
void destroy_thunk(void* object) {
  static_cast<T*>(object)->~T();
}

template <class T>
void move_thunk(void* storage, void* from) {
  ::new (storage) T(std::move(*static_cast<T*>(from)));
}

template <class T>
constexpr auto movable() {
  using function = void (*)(void*, void*);
  if constexpr (std::is_nothrow_move_constructible_v<T>)
    return function{&move_thunk<T>};
  else
    return function{nullptr};
}

/// As the author spells it; types of the library by their text, which no compiler spells otherwise.
template <class T>
constexpr const char* shown_name() {
  if constexpr (form_of<T> == form::record || form_of<T> == form::own || form_of<T> == form::enumeration)
    return type_name<T>.data;
  else
    return schema_text<T>.data;
}

template <class T>
constexpr molt_schema make_schema() {
  static_assert(std::is_object_v<T> && !std::is_const_v<T>);
  static_assert(std::is_default_constructible_v<T>,
                "molt: a state or message is default-constructible, so that it can be read");
  static_assert(std::is_nothrow_destructible_v<T>, "molt: a destructor may not throw");
  molt_schema schema{};
  schema.fingerprint = fingerprint<T>;
  schema.name = shown_name<T>();
  schema.text = schema_text<T>.data;
  schema.size = sizeof(T);
  schema.align = alignof(T);
  schema.flags = (code_free<T> ? static_cast<std::uint32_t>(MOLT_SCHEMA_CODE_FREE) : 0U) |
                 (form_of<T> == form::own ? static_cast<std::uint32_t>(MOLT_SCHEMA_READS_OLDER) : 0U) |
                 (transparent<T> ? static_cast<std::uint32_t>(MOLT_SCHEMA_TRANSPARENT) : 0U);
  schema.version = declared_version<T>();
  schema.save = &save_thunk<T>;
  schema.load = &load_thunk<T>;
  schema.destroy = &destroy_thunk<T>;
  schema.move = movable<T>();
  return schema;
}

template <class T>
inline constexpr molt_schema schema_constant = make_schema<T>();

// -- Messages

template <class M>
concept is_call = requires {
  typename M::reply;
};

template <class M>
struct reply_of {
  using type = void;
};
template <is_call M>
struct reply_of<M> {
  using type = std::conditional_t<std::is_void_v<typename M::reply>, done, typename M::reply>;
};
/// void for a cast; molt::done for a call that answers nothing.
template <class M>
using reply_type = typename reply_of<M>::type;

/// Instantiated for each member that is not code-free; the compiler's trace names the owner and the member.
template <class Owner, class Member, auto Pointer>
constexpr void require_code_free_member();

template <class T>
constexpr void require_code_free();

/// The same for each base.
template <class Owner, class Base>
constexpr void require_code_free_base() {
  static_assert(code_free<Base>, "molt: this base of a message is not code-free: see its members");
}

template <class T, std::size_t... Base, std::size_t... Member>
constexpr void require_code_free_parts(std::index_sequence<Base...>, std::index_sequence<Member...>) {
  (require_code_free_base<T, std::remove_cv_t<part_type<T, Base>>>(), ...);
  (require_code_free_member<T, std::remove_cv_t<part_type<T, sizeof...(Base) + Member>>,
                            parts<T>::template pointer<Member>()>(),
   ...);
}

template <class Owner, class Member, auto Pointer>
constexpr void require_code_free_member() {
  static_assert(
      code_free<Member>,
      "molt: this member of a message is not code-free: a message may be handled by another image than the one that "
      "made it. Use values, containers, std::unique_ptr, molt::ref, or declare molt_code_free");
}

template <class T>
constexpr void require_code_free() {
  if constexpr (form_of<T> == form::record && !code_free<T>)
    require_code_free_parts<T>(std::make_index_sequence<parts<T>::bases>{},
                               std::make_index_sequence<parts<T>::members>{});
  static_assert(code_free<T>, "molt: messages and replies must be code-free; see the member named above");
}

template <class M>
constexpr std::string_view message_name() {
  if constexpr (requires { std::string_view{M::molt_message_name}; })
    return M::molt_message_name;
  else
    return unqualified(type_name<M>.view());
}

template <class M>
constexpr auto make_message_name() {
  static_text<message_name<M>().size()> text;
  for (std::size_t i = 0; i < message_name<M>().size(); ++i) text.data[i] = message_name<M>()[i];
  return text;
}
template <class M>
inline constexpr auto message_name_text = make_message_name<M>();

template <class M>
constexpr molt_message make_message() {
  static_assert(std::is_class_v<M>, "molt: a message is a struct, named after what it asks");
  require_code_free<M>();
  static_assert(
      std::is_nothrow_move_constructible_v<M>,
      "molt: a message is queued by moving it, so its move may not throw (std::deque's may: use std::vector)");
  molt_message message{};
  message.name = message_name_text<M>.data;
  message.payload = &schema_constant<M>;
  fnv1a key;
  key.text(message_name<M>());
  key.byte(0);
  key.u64(fingerprint<M>);
  if constexpr (is_call<M>) {
    using reply = reply_type<M>;
    require_code_free<reply>();
    static_assert(std::is_nothrow_move_constructible_v<reply>,
                  "molt: a reply is moved to its caller, which may not throw");
    message.reply = &schema_constant<reply>;
    key.u64(fingerprint<reply>);
  } else {
    key.u64(0);
  }
  message.key = key.value;
  return message;
}

template <class M>
inline constexpr molt_message message_constant = make_message<M>();

}  // namespace detail

/// The boundary's description of T, a constant.
template <class T>
[[nodiscard]] constexpr const molt_schema& schema_of() noexcept {
  return detail::schema_constant<T>;
}

/// The boundary's description of the message M, a constant. Also for typed calls from outside: runtime.call(to,
/// message_of<M>(), ...).
template <class M>
[[nodiscard]] constexpr const molt_message& message_of() noexcept {
  return detail::message_constant<M>;
}

}  // namespace molt
