// MOLT_PLUGIN: the exported function and the note of a plugin.
#pragma once

#include "plugin/abi.h"
#include "plugin/note.hpp"
#include "plugin/table.hpp"

#include <string_view>

namespace molt::detail {

// -- The real offsets against the described ones, when the plugin is loaded

template <class M>
using reply_or_done = std::conditional_t<is_call<M>, reply_type<M>, done>;

template <class... M>
bool messages_as_described(types<M...>) noexcept {
  return ((all_offsets_real<M>() && ... && true)) && ((all_offsets_real<reply_or_done<M>>() && ... && true));
}

template <class S>
bool as_described() noexcept {
  return all_offsets_real<typename S::state_type>() && messages_as_described(messages_list<S>{}) &&
         each_offsets_real(state_history<S>(), types<>{}) && each_offsets_real(message_history<S>(), types<>{}) &&
         each_offsets_real(reply_history<S>(), types<>{});
}

template <const molt_plugin_table& Table>
inline constexpr molt_plugin_table defective_table = [] {
  molt_plugin_table table = Table;
  table.defect = "a member of a state or message lies at another offset than its schema says (over-aligned or packed?)";
  return table;
}();

/// A plugin's table, with a defect if it has one. Called once or more, from any thread.
template <const molt_plugin_table& Table, class... S>
const molt_plugin_table* checked_table() noexcept {
  return (as_described<S>() && ...) ? &Table : &defective_table<Table>;
}

// What molt_add_plugin was told; empty without it.
#if defined(MOLT_PLUGIN_NAME)
inline constexpr std::string_view built_name = MOLT_PLUGIN_NAME;
#else
inline constexpr std::string_view built_name = "";
#endif
#if defined(MOLT_PLUGIN_VERSION)
inline constexpr std::string_view built_version = MOLT_PLUGIN_VERSION;
#else
inline constexpr std::string_view built_version = "";
#endif

}  // namespace molt::detail

#if defined(__clang__)
#define MOLT_DETAIL_NOTE_ATTRIBUTES gnu::section(MOLT_NOTE_SECTION), gnu::used, clang::no_sanitize("address")
#else
#define MOLT_DETAIL_NOTE_ATTRIBUTES gnu::section(MOLT_NOTE_SECTION), gnu::used
#endif

/// Makes this file a plugin: MOLT_PLUGIN("counter", "1.0.0", counter::server, counter::connection). Once, at namespace
/// scope. Name and version are those of molt_add_plugin.
#define MOLT_PLUGIN(plugin_name, plugin_version, ...)                                                              \
  static_assert(::molt::detail::built_name.empty() || ::molt::detail::built_name == plugin_name,                   \
                "molt: MOLT_PLUGIN names another plugin than molt_add_plugin");                                    \
  static_assert(::molt::detail::built_version.empty() || ::molt::detail::built_version == plugin_version,          \
                "molt: MOLT_PLUGIN states another version than molt_add_plugin");                                  \
  namespace molt_this_plugin {                                                                                     \
  [[MOLT_DETAIL_NOTE_ATTRIBUTES]] alignas(4) static constexpr auto note =                                          \
      ::molt::detail::make_note<::molt::detail::table_constant<plugin_name, plugin_version, __VA_ARGS__>>();       \
  }                                                                                                                \
  extern "C" [[gnu::visibility("default")]] const molt_plugin_table* molt_plugin() {                               \
    return ::molt::detail::checked_table<::molt::detail::table_constant<plugin_name, plugin_version, __VA_ARGS__>, \
                                         __VA_ARGS__>();                                                           \
  }
