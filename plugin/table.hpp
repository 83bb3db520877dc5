// A server class as constants of the C boundary: its handlers, hooks and other functions as thunks that let nothing
// through.
//
//   server_type_of<counter::server, "counter">()            one server type
//   plugin_table_of<"counter", "1.0.0", counter::server>()  a whole table, as MOLT_PLUGIN makes it
#pragma once

#include "plugin/abi.h"
#include "plugin/edges.hpp"
#include "plugin/evolution.hpp"
#include "plugin/evolving_state.hpp"
#include "plugin/server.hpp"

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>

namespace molt {

namespace detail {

/// Text as a template argument.
template <std::size_t Size>
struct fixed_string {
  char data[Size] = {};
  constexpr fixed_string(const char (&text)[Size]) noexcept {  // NOLINT: converts on purpose
    for (std::size_t i = 0; i < Size; ++i) data[i] = text[i];
  }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data, Size - 1}; }
};

/// Within a catch block.
[[gnu::noinline, gnu::cold]] inline bool is_not_converted() noexcept {
  try {
    throw;
  } catch (const not_converted&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// Within a catch block of a server's function: the host may want to look before the exception is gone.
[[gnu::noinline, gnu::cold]] inline int caught_in(molt_context* c, const char* where, molt_text* error) noexcept {
  if (c->host->size >= offsetof(molt_host, not_converted) + sizeof c->host->not_converted &&
      c->host->not_converted != nullptr && is_not_converted()) {
    c->host->not_converted(c);
    return caught_by_author(error);
  }
  if (c->host->size >= offsetof(molt_host, threw) + sizeof c->host->threw && c->host->threw != nullptr)
    c->host->threw(c, where);
  return caught_by_author(error);
}

// -- Handlers

template <class S, class M>
int call_thunk(molt_context* c, void* state, void* payload, void* reply_storage, molt_text* error) {
  try {
    context ctx{*c};
    auto view = view_access::make<S>(state);
    if constexpr (std::is_void_v<typename M::reply>) {
      view.handle_call(ctx, std::move(*static_cast<M*>(payload)));
      ::new (reply_storage) done{};
    } else {
      ::new (reply_storage) typename M::reply(view.handle_call(ctx, std::move(*static_cast<M*>(payload))));
    }
    return MOLT_OK;
  } catch (...) {
    return caught_in(c, message_constant<M>.name, error);
  }
}

template <class S, class M>
int deferred_thunk(molt_context* c, void* state, void* payload, void*, molt_text* error) {
  try {
    context ctx{*c};
    const reply_to<reply_type<M>> token{c->host->defer(c)};
    view_access::make<S>(state).handle_call(ctx, std::move(*static_cast<M*>(payload)), token);
    return MOLT_OK;
  } catch (...) {
    return caught_in(c, message_constant<M>.name, error);
  }
}

template <class S, class M>
int cast_thunk(molt_context* c, void* state, void* payload, void*, molt_text* error) {
  try {
    context ctx{*c};
    auto view = view_access::make<S>(state);
    if constexpr (takes_continue<S, M>)
      view.handle_continue(ctx, std::move(*static_cast<M*>(payload)));
    else if constexpr (takes_info<S, M>)
      view.handle_info(ctx, std::move(*static_cast<M*>(payload)));
    else
      view.handle_cast(ctx, std::move(*static_cast<M*>(payload)));
    return MOLT_OK;
  } catch (...) {
    return caught_in(c, message_constant<M>.name, error);
  }
}

template <class S, class M>
constexpr void check_answer() {
  using returned = decltype(std::declval<S&>().handle_call(std::declval<context&>(), std::declval<M>()));
  static_assert(std::is_same_v<returned, typename M::reply>,
                "molt: handle_call returns another type than the message's `reply`");
}

template <class S, class M>
constexpr molt_handler make_handler() {
  molt_handler handler{};
  handler.message = &message_constant<M>;
  if constexpr (is_call<M>) {
    if constexpr (answers<S, M>) {
      check_answer<S, M>();
      handler.handle = &call_thunk<S, M>;
    } else if constexpr (defers<S, M>) {
      handler.flags = MOLT_HANDLER_DEFERS;
      handler.handle = &deferred_thunk<S, M>;
    } else {
      static_assert(answers<S, M>,
                    "molt: this server lists a message with a reply and has no handler for it: add "
                    "`reply handle_call(molt::context&, const message&)`, public");
    }
  } else if constexpr (takes_continue<S, M> || takes_info<S, M> || takes_cast<S, M>) {
    handler.handle = &cast_thunk<S, M>;
  } else {
    static_assert(
        takes_cast<S, M>,
        "molt: this server lists a message without a reply and has no handler for it: add "
        "`void handle_cast(molt::context&, const message&)` or handle_info, public; a call's message says `using "
        "reply = ...`");
  }
  return handler;
}

template <class S, class... M>
constexpr auto make_handlers(types<M...>) {
  constexpr std::array<std::string_view, sizeof...(M)> names{message_name<M>()...};
  constexpr bool distinct = [&] {
    for (std::size_t i = 0; i < names.size(); ++i)
      for (std::size_t j = i + 1; j < names.size(); ++j)
        if (names[i] == names[j]) return false;
    return true;
  }();
  static_assert(distinct, "molt: two messages of this server have the same unqualified name: rename one");
  return std::array<molt_handler, sizeof...(M)>{make_handler<S, M>()...};
}

template <class S>
inline constexpr auto handlers = make_handlers<S>(messages_list<S>{});

// -- The other functions

template <class S>
int init_thunk(molt_context* c, const molt_arguments* given, void* state_storage, molt_text* error) {
  using state = typename S::state_type;
  try {
    [[maybe_unused]] context ctx{*c};
    [[maybe_unused]] auto view = view_access::make<S>(nullptr);
    if constexpr (requires(const arguments& list) {
                    { view.init(ctx, list) } -> std::same_as<state>;
                  })
      ::new (state_storage) state(view.init(ctx, arguments{*given}));
    else if constexpr (requires {
                         { view.init(ctx) } -> std::same_as<state>;
                       })
      ::new (state_storage) state(view.init(ctx));
    else if constexpr (requires {
                         { view.init() } -> std::same_as<state>;
                       })
      ::new (state_storage) state(view.init());
    else {
      static_assert(
          !has_init<S>,
          "molt: init is `state init(molt::context&, const molt::arguments&)`, public, and returns the state");
      ::new (state_storage) state();
    }
    return MOLT_OK;
  } catch (const refused& why) {
    copy_text(error, why.what());
    return MOLT_REFUSED;
  } catch (const ignored&) {
    return MOLT_IGNORED;
  } catch (...) {
    return caught_in(c, "init()", error);
  }
}

template <class S>
int format_status_thunk(const void* state, void* shown_storage, molt_text* error) {
  using type = typename S::state_type;
  try {
    ::new (shown_storage) type(S::format_status(*static_cast<const type*>(state)));
    return MOLT_OK;
  } catch (...) {
    return caught_by_author(error);
  }
}

template <class S>
int config_change_thunk(molt_context* c, void* state, const molt_arguments* now, molt_text* error) {
  try {
    context ctx{*c};
    view_access::make<S>(state).config_change(ctx, arguments{*now});
    return MOLT_OK;
  } catch (...) {
    return caught_in(c, "config_change()", error);
  }
}

template <class S>
int terminate_thunk(molt_context* c, void* state, const char* why, molt_text* error) {
  try {
    context ctx{*c};
    view_access::make<S>(state).terminate(ctx, std::string_view{why == nullptr ? "" : why});
    return MOLT_OK;
  } catch (...) {
    return caught_by_author(error);
  }
}

template <class S>
int self_check_thunk(const void* state, molt_text* error) {
  try {
    const auto view = view_access::make<S>(const_cast<void*>(state));
    view.self_check();
    return MOLT_OK;
  } catch (...) {
    return caught_by_author(error);
  }
}

template <class S>
int evolve_thunk(void* state, int down, std::int64_t budget_ns, std::uint64_t* left, molt_text* error) {
  auto& object = *static_cast<typename S::state_type*>(state);
  int status = MOLT_OK;
  try {
    evolve_slice slice{down != 0, budget_ns};
    evolve_in(object, slice);
  } catch (...) {
    status = caught_by_author(error);
  }
  *left = left_in(object, down != 0);
  return status;
}

template <class S>
int handle_data_thunk(molt_context* c, void* state, const char* data, std::size_t size, std::size_t* consumed,
                      molt_text* error) {
  *consumed = 0;
  try {
    context ctx{*c};
    const std::size_t taken = view_access::make<S>(state).handle_data(ctx, std::string_view{data, size});
    *consumed = taken < size ? taken : size;
    return MOLT_OK;
  } catch (...) {
    return caught_in(c, "handle_data()", error);
  }
}

template <class S>
constexpr void check_server() {
  static_assert(
      requires { typename S::state_type; },
      "molt: a server derives from molt::server<state> or molt::connection<state>");
  static_assert(sizeof(S) == sizeof(server<typename S::state_type>),
                "molt: a server class holds no data of its own: put it into the state, which upgrades carry along");
  static_assert(!std::is_polymorphic_v<S>, "molt: a server class has no virtual functions");
  static_assert(std::is_default_constructible_v<S>,
                "molt: a server class is default-constructible: init makes the state");
  static_assert(
      !has_terminate<S> || requires(S & s, context & ctx) { s.terminate(ctx, std::string_view{}); },
      "molt: terminate is `void terminate(molt::context&, std::string_view why)`, public");
  static_assert(
      !has_self_check<S> || requires(const S& s) { s.self_check(); },
      "molt: self_check is `void self_check() const`, public, and throws if the state is broken");
  static_assert(
      !has_format_status<S> ||
          requires(const typename S::state_type& now) {
            { S::format_status(now) } -> std::same_as<typename S::state_type>;
          },
      "molt: format_status is `static state format_status(const state&)`, public: a copy that may be shown");
  static_assert(
      !has_config_change<S> || requires(S & s, context & ctx, const arguments& now) { s.config_change(ctx, now); },
      "molt: config_change is `void config_change(molt::context&, const molt::arguments& now)`, public");
  if constexpr (S::molt_is_connection)
    static_assert(
        requires(S & s, context & ctx) {
          { s.handle_data(ctx, std::string_view{}) } -> std::same_as<std::size_t>;
        },
        "molt: a connection has `std::size_t handle_data(molt::context&, std::string_view)`, public, which returns how "
        "many bytes it consumed");
  else
    static_assert(!has_handle_data<S>,
                  "molt: handle_data belongs to a connection: derive from molt::connection<state>");
}

template <fixed_string Plugin, class S>
constexpr auto make_server_name() {
  constexpr std::string_view type = unqualified(type_name<S>.view());
  static_text<Plugin.view().size() + 1 + type.size()> name;
  std::size_t at = 0;
  for (const char c : Plugin.view()) name.data[at++] = c;
  name.data[at++] = '.';
  for (const char c : type) name.data[at++] = c;
  return name;
}

template <fixed_string Plugin, class S>
inline constexpr auto server_name = make_server_name<Plugin, S>();

template <fixed_string Plugin, class S>
constexpr molt_server_type make_server_type() {
  check_server<S>();
  molt_server_type type{};
  type.name = server_name<Plugin, S>.data;
  type.kind = S::molt_is_connection ? MOLT_KIND_CONNECTION : MOLT_KIND_SERVER;
  type.state = &schema_constant<typename S::state_type>;
  type.handler_count = handlers<S>.size();
  type.handlers = handlers<S>.data();
  type.state_edge_count = state_edges<S>.size();
  type.state_edges = state_edges<S>.data();
  type.message_edge_count = message_edges<S>.size();
  type.message_edges = message_edges<S>.data();
  type.reply_edge_count = reply_edges<S>.size();
  type.reply_edges = reply_edges<S>.data();
  type.init = &init_thunk<S>;
  if constexpr (has_terminate<S>) type.terminate = &terminate_thunk<S>;
  if constexpr (has_self_check<S>) type.self_check = &self_check_thunk<S>;
  if constexpr (has_format_status<S>) type.format_status = &format_status_thunk<S>;
  if constexpr (has_config_change<S>) type.config_change = &config_change_thunk<S>;
  if constexpr (S::molt_is_connection) type.handle_data = &handle_data_thunk<S>;
  if constexpr (evolves<typename S::state_type>()) type.evolve = &evolve_thunk<S>;
  return type;
}

template <fixed_string Plugin, class S>
inline constexpr molt_server_type server_type_constant = make_server_type<Plugin, S>();

// -- The table

template <fixed_string Plugin, class... S>
inline constexpr std::array<molt_server_type, sizeof...(S)> server_types{make_server_type<Plugin, S>()...};

constexpr bool is_plugin_name(std::string_view name) {
  if (name.empty() || name.size() > 64 || name[0] < 'a' || name[0] > 'z') return false;
  for (const char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) return false;
  return true;
}

constexpr bool is_version(std::string_view version) {
  if (version.empty() || version.size() > 64) return false;
  char before = '.';
  for (const char c : version) {
    if (c == '.' ? before == '.' : (c < '0' || c > '9')) return false;
    before = c;
  }
  return before != '.';
}

template <fixed_string Name, fixed_string Version, class... S>
constexpr molt_plugin_table make_table() {
  static_assert(is_plugin_name(Name.view()), "molt: a plugin's name is [a-z][a-z0-9_-]*, at most 64 bytes");
  static_assert(is_version(Version.view()), "molt: a plugin's version is dotted numbers, e.g. 1.0.0, at most 64 bytes");
  static_assert(sizeof...(S) > 0, "molt: a plugin has at least one server");
  molt_plugin_table table{};
  table.abi_version = MOLT_ABI_VERSION;
  table.size = sizeof(molt_plugin_table);
  table.name = Name.data;
  table.version = Version.data;
  table.toolchain = toolchain_text.data();
  table.server_type_count = sizeof...(S);
  table.server_types = server_types<Name, S...>.data();
  table.build = build_text.data();
  return table;
}

template <fixed_string Name, fixed_string Version, class... S>
inline constexpr molt_plugin_table table_constant = make_table<Name, Version, S...>();

}  // namespace detail

/// The boundary's description of a server class, a constant. For programs and tests that have the class compiled in.
template <class S, detail::fixed_string Plugin>
[[nodiscard]] constexpr const molt_server_type& server_type_of() noexcept {
  return detail::server_type_constant<Plugin, S>;
}

/// The table of a whole plugin that is compiled in, a constant.
template <detail::fixed_string Name, detail::fixed_string Version, class... S>
[[nodiscard]] constexpr const molt_plugin_table& plugin_table_of() noexcept {
  return detail::table_constant<Name, Version, S...>;
}

}  // namespace molt
