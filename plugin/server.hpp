// The bases and lists that authors use to declare a server, and how its handlers and hooks are found.
//
// A server class is a view, made for one message: it holds nothing but a pointer to the state, so that an upgrade moves
// the state and nothing else.
#pragma once

#include "plugin/change.hpp"
#include "plugin/context.hpp"
#include "plugin/schema.hpp"
#include "plugin/types.hpp"

#include <string_view>
#include <type_traits>
#include <utility>

namespace molt {

/// The messages that a server handles.
template <class... Message>
using messages = detail::types<Message...>;

/// Older, frozen states (or messages) that hooks take or return. Needed only where a hook is overloaded.
template <class... Older>
using history = detail::types<Older...>;

namespace detail {
struct view_access;
}

/// Base of a server with this state.
template <class State>
class server {
 public:
  using state_type = State;
  static constexpr bool molt_is_connection = false;

 protected:
  [[nodiscard]] State& self() noexcept { return *state_; }
  [[nodiscard]] const State& self() const noexcept { return *state_; }

 private:
  friend struct detail::view_access;
  State* state_ = nullptr;
};

/// Base of a connection with this state: a server whose socket the node owns.
template <class State>
class connection : public server<State> {
 public:
  static constexpr bool molt_is_connection = true;
};

namespace detail {

struct view_access {
  /// A view of type S onto a state. S may have its constructors as it likes; it has no data of its own.
  template <class S>
  static S make(void* state) {
    S view{};
    static_cast<server<typename S::state_type>&>(view).state_ = static_cast<typename S::state_type*>(state);
    return view;
  }
};

// -- The argument of a function that is not overloaded

template <class Function>
struct signature;
#define MOLT_DETAIL_SIGNATURE(...)                               \
  template <class R, class C, class A, class... Rest>            \
  struct signature<R (C::*)(context&, A, Rest...) __VA_ARGS__> { \
    using message = std::remove_cvref_t<A>;                      \
  }
MOLT_DETAIL_SIGNATURE();
MOLT_DETAIL_SIGNATURE(const);
MOLT_DETAIL_SIGNATURE(noexcept);
MOLT_DETAIL_SIGNATURE(const noexcept);
#undef MOLT_DETAIL_SIGNATURE
#define MOLT_DETAIL_SIGNATURE(...)                            \
  template <class R, class A, class... Rest>                  \
  struct signature<R (*)(context&, A, Rest...) __VA_ARGS__> { \
    using message = std::remove_cvref_t<A>;                   \
  }
MOLT_DETAIL_SIGNATURE();
MOLT_DETAIL_SIGNATURE(noexcept);
#undef MOLT_DETAIL_SIGNATURE

template <class Function>
struct hook_signature;
template <class To, class From, class... Rest>
struct hook_signature<To (*)(From, Rest...)> {
  using from = std::remove_cvref_t<From>;
  using to = To;
};
template <class To, class From, class... Rest>
struct hook_signature<To (*)(From, Rest...) noexcept> : hook_signature<To (*)(From, Rest...)> {};

/// Asks of a class whether it has a member of a name (overloaded or not), and a single one (not overloaded).
#define MOLT_DETAIL_MEMBER(member)                 \
  struct fallback_##member {                       \
    int member;                                    \
  };                                               \
  template <class S>                               \
  struct probe_##member : S, fallback_##member {}; \
  template <class S>                               \
  concept has_##member = !requires {               \
    &probe_##member<S>::member;                    \
  };                                               \
  template <class S>                               \
  concept has_single_##member = requires {         \
    &S::member;                                    \
  }
MOLT_DETAIL_MEMBER(handle_call);
MOLT_DETAIL_MEMBER(handle_cast);
MOLT_DETAIL_MEMBER(handle_info);
MOLT_DETAIL_MEMBER(handle_continue);
MOLT_DETAIL_MEMBER(handle_data);
MOLT_DETAIL_MEMBER(init);
MOLT_DETAIL_MEMBER(terminate);
MOLT_DETAIL_MEMBER(self_check);
MOLT_DETAIL_MEMBER(format_status);
MOLT_DETAIL_MEMBER(config_change);
MOLT_DETAIL_MEMBER(code_change);
MOLT_DETAIL_MEMBER(code_change_down);
MOLT_DETAIL_MEMBER(message_change);
MOLT_DETAIL_MEMBER(message_change_down);
MOLT_DETAIL_MEMBER(reply_change);
MOLT_DETAIL_MEMBER(reply_change_down);
#undef MOLT_DETAIL_MEMBER

// -- The messages

template <class S>
concept lists_messages = requires {
  typename S::messages;
};

template <class List, class T>
struct with;
template <class... A, class T>
struct with<types<A...>, T> {
  using list = std::conditional_t<(std::is_same_v<A, T> || ...), types<A...>, types<A..., T>>;
};

template <class S>
constexpr auto deduced_call() {
  if constexpr (has_single_handle_call<S>)
    return types<typename signature<decltype(&S::handle_call)>::message>{};
  else
    return types<>{};
}
template <class S>
constexpr auto deduced_cast() {
  if constexpr (has_single_handle_cast<S>)
    return types<typename signature<decltype(&S::handle_cast)>::message>{};
  else
    return types<>{};
}
template <class S>
constexpr auto deduced_info() {
  if constexpr (has_single_handle_info<S>)
    return types<typename signature<decltype(&S::handle_info)>::message>{};
  else
    return types<>{};
}
template <class S>
constexpr auto deduced_continue() {
  if constexpr (has_single_handle_continue<S>)
    return types<typename signature<decltype(&S::handle_continue)>::message>{};
  else
    return types<>{};
}

template <class S>
constexpr auto messages_of() {
  if constexpr (lists_messages<S>) {
    return typename S::messages{};
  } else {
    constexpr bool calls_known = has_single_handle_call<S> || !has_handle_call<S>;
    constexpr bool casts_known = has_single_handle_cast<S> || !has_handle_cast<S>;
    constexpr bool infos_known = has_single_handle_info<S> || !has_handle_info<S>;
    constexpr bool continues_known = has_single_handle_continue<S> || !has_handle_continue<S>;
    static_assert(calls_known && casts_known && infos_known && continues_known,
                  "molt: this server has several handlers of one name: list what it handles, using messages = "
                  "molt::messages<add, reset>");
    using calls = decltype(deduced_call<S>());
    using casts = decltype(deduced_cast<S>());
    using infos = decltype(deduced_info<S>());
    using continues = decltype(deduced_continue<S>());
    using first = typename joined<calls, casts>::list;
    return typename joined<typename joined<first, infos>::list, continues>::list{};
  }
}

template <class S>
using messages_list = decltype(messages_of<S>());

template <class S, class M>
concept answers = requires(S& s, context& ctx, M& m) {
  s.handle_call(ctx, std::move(m));
};
template <class S, class M>
concept defers = requires(S& s, context& ctx, M& m, reply_to<reply_type<M>> token) {
  { s.handle_call(ctx, std::move(m), token) } -> std::same_as<void>;
};
template <class S, class M>
concept takes_cast = requires(S& s, context& ctx, M& m) {
  s.handle_cast(ctx, std::move(m));
};
template <class S, class M>
concept takes_info = requires(S& s, context& ctx, M& m) {
  s.handle_info(ctx, std::move(m));
};
template <class S, class M>
concept takes_continue = requires(S& s, context& ctx, M& m) {
  s.handle_continue(ctx, std::move(m));
};

// -- Hooks: edges between schemas, found by trying each type of the history

template <class S>
constexpr auto state_history() {
  if constexpr (requires { typename S::history; })
    return typename S::history{};
  else
    return types<>{};
}
template <class S>
constexpr auto message_history() {
  if constexpr (requires { typename S::message_history; })
    return typename S::message_history{};
  else
    return types<>{};
}
template <class S>
constexpr auto reply_history() {
  if constexpr (requires { typename S::reply_history; })
    return typename S::reply_history{};
  else
    return types<>{};
}

/// One of the six kinds of hook: how it is called, and what its single form takes and returns.
#define MOLT_DETAIL_HOOK(hook, is_down, is_of_states)                                                    \
  struct hook##_hook {                                                                                   \
    static constexpr bool of_states = is_of_states;                                                      \
    static constexpr bool down = is_down;                                                                \
    template <class S>                                                                                   \
    static constexpr bool exists = has_##hook<S>;                                                        \
    template <class S>                                                                                   \
    static constexpr bool single = has_single_##hook<S>;                                                 \
    template <class S, class... From>                                                                    \
    static constexpr auto apply(From&&... from) noexcept(noexcept(S::hook(std::forward<From>(from)...))) \
        -> decltype(S::hook(std::forward<From>(from)...)) {                                              \
      return S::hook(std::forward<From>(from)...);                                                       \
    }                                                                                                    \
    template <class S>                                                                                   \
    using single_signature = hook_signature<decltype(&S::hook)>;                                         \
    template <class S, class From>                                                                       \
    static constexpr loss lost() {                                                                       \
      if constexpr (requires { S::hook##_loss(static_cast<const From*>(nullptr)); })                     \
        return S::hook##_loss(static_cast<const From*>(nullptr));                                        \
      else                                                                                               \
        return {};                                                                                       \
    }                                                                                                    \
  }
MOLT_DETAIL_HOOK(code_change, false, true);
MOLT_DETAIL_HOOK(code_change_down, true, true);
MOLT_DETAIL_HOOK(message_change, false, false);
MOLT_DETAIL_HOOK(message_change_down, true, false);
MOLT_DETAIL_HOOK(reply_change, false, false);
MOLT_DETAIL_HOOK(reply_change_down, true, false);
#undef MOLT_DETAIL_HOOK

/// Converts to exactly T: tells `f(std::int64_t)` from one that an int only converts to.
template <class T>
struct exactly {
  template <class U>
  requires std::same_as<std::remove_cv_t<U>, T>
  operator U() const noexcept;  // NOLINT: converts on purpose, and is never called
};

/// A reply hook, as it stands. Replies are often numbers, which convert into each other: one hook must not pass for
/// several.
template <class Hook>
struct for_all_replies : Hook {
  template <class S, class From>
  static constexpr bool takes = !std::is_scalar_v<std::remove_cvref_t<From>> || requires {
    Hook::template apply<S>(exactly<std::remove_cvref_t<From>>{});
  }
  || requires(const change& told) { Hook::template apply<S>(exactly<std::remove_cvref_t<From>>{}, told); };
  template <class S, class From, class... Told>
  requires takes<S, From>
  static constexpr auto apply(From&& from,
                              const Told&... told) noexcept(noexcept(Hook::template apply<S>(std::forward<From>(from),
                                                                                             told...)))
      -> decltype(Hook::template apply<S>(std::forward<From>(from), told...)) {
    return Hook::template apply<S>(std::forward<From>(from), told...);
  }
};

/// A reply hook that wants to be told which message is answered.
template <class Hook, class M>
struct for_replies_to : Hook {
  template <class S, class From>
  static constexpr bool takes = !std::is_scalar_v<std::remove_cvref_t<From>> || requires {
    Hook::template apply<S>(exactly<std::remove_cvref_t<From>>{}, answer_to<M>{});
  }
  || requires(const change& told) {
    Hook::template apply<S>(exactly<std::remove_cvref_t<From>>{}, told, answer_to<M>{});
  };
  template <class S, class From, class... Told>
  requires takes<S, From>
  static constexpr auto apply(From&& from,
                              const Told&... told) noexcept(noexcept(Hook::template apply<S>(std::forward<From>(from),
                                                                                             told..., answer_to<M>{})))
      -> decltype(Hook::template apply<S>(std::forward<From>(from), told..., answer_to<M>{})) {
    return Hook::template apply<S>(std::forward<From>(from), told..., answer_to<M>{});
  }
};

/// How a hook takes From: by const reference or value (leaves it whole), by rvalue (consumes it) or by lvalue reference
/// (borrows it: consumes it, but only if it does not throw); and of the state alone, with a `const change&` (told), or
/// with a `change&` (uses other servers' states).
template <class Hook, class S, class From>
struct hook_call {
  static constexpr bool whole = requires(const From& from) { Hook::template apply<S>(from); };
  static constexpr bool whole_told = requires(const From& from, const change& told) {
    Hook::template apply<S>(from, told);
  };
  static constexpr bool whole_using = requires(const From& from, change& with) { Hook::template apply<S>(from, with); };
  static constexpr bool consumed = requires(From & from) { Hook::template apply<S>(std::move(from)); };
  static constexpr bool consumed_told = requires(From & from, const change& told) {
    Hook::template apply<S>(std::move(from), told);
  };
  static constexpr bool consumed_using = requires(From & from, change& with) {
    Hook::template apply<S>(std::move(from), with);
  };

  static constexpr bool borrowed = requires(From & from) { Hook::template apply<S>(from); };
  static constexpr bool borrowed_told = requires(From & from, const change& told) {
    Hook::template apply<S>(from, told);
  };
  static constexpr bool borrowed_using = requires(From & from, change& with) { Hook::template apply<S>(from, with); };

  // Who takes a const change& can be given one that is not const.
  static constexpr bool leaves = whole || whole_using;
  static constexpr bool borrows = !leaves && (borrowed || borrowed_using);
  static constexpr bool exists = leaves || borrows || consumed || consumed_using;
  static constexpr bool told = leaves ? whole_using : borrows ? borrowed_using && !borrowed : consumed_using;
  static constexpr bool uses_others = told && !(leaves ? whole_told : borrows ? borrowed_told : consumed_told);
  using argument = std::conditional_t<leaves, const From&, std::conditional_t<borrows, From&, From&&>>;

  static constexpr decltype(auto) apply(From& from, change& with) {
    if constexpr (told)
      return Hook::template apply<S>(static_cast<argument>(from), with);
    else
      return Hook::template apply<S>(static_cast<argument>(from));
  }
  static constexpr bool is_noexcept() {
    if constexpr (told)
      return noexcept(Hook::template apply<S>(std::declval<argument>(), std::declval<change&>()));
    else
      return noexcept(Hook::template apply<S>(std::declval<argument>()));
  }
};

}  // namespace detail
}  // namespace molt
