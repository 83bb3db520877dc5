// The hooks of a server class as edges of the C boundary: from schema to schema, of its state, of a message, of
// replies.
#pragma once

#include "plugin/abi.h"
#include "plugin/server.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace molt::detail {

template <class Hook, class S, class From, class To>
int edge_thunk(void* from, void* to_storage, const molt_change* abi, molt_text* error) {
  try {
    change with{*abi};
    ::new (to_storage) To(hook_call<Hook, S, From>::apply(*static_cast<From*>(from), with));
    return MOLT_OK;
  } catch (...) {
    return caught_by_author(error);
  }
}

template <class Hook, class S, class From, class Ends>
struct edge_of;
template <class Hook, class S, class From, class... End>
struct edge_of<Hook, S, From, types<End...>> {
  using call = hook_call<Hook, S, From>;
  using to = std::remove_cv_t<decltype(call::apply(std::declval<From&>(), std::declval<change&>()))>;
  static_assert(Hook::of_states || !call::uses_others,
                "molt: a hook of messages takes the old message and, if it likes, `const molt::change&`: only hooks of "
                "states can use other servers' states");
  static_assert(
      (std::is_same_v<to, End> || ...),
      "molt: this hook returns a type that is neither the state (for message_change: a message of this server, for "
      "reply_change: a reply) nor in the history (message_history, reply_history)");

  static constexpr molt_edge make() {
    constexpr loss lost = Hook::template lost<S, From>();
    molt_edge edge{};
    edge.from = &schema_constant<From>;
    edge.to = &schema_constant<to>;
    edge.flags = (Hook::down ? static_cast<std::uint32_t>(MOLT_EDGE_DOWN) : 0U) |
                 (call::borrows ? static_cast<std::uint32_t>(MOLT_EDGE_WHOLE) : 0U) |
                 (call::leaves ? 0U : static_cast<std::uint32_t>(MOLT_EDGE_CONSUMES)) |
                 (call::told ? static_cast<std::uint32_t>(MOLT_EDGE_CONTEXT) : 0U) |
                 (call::uses_others ? static_cast<std::uint32_t>(MOLT_EDGE_OTHERS) : 0U) |
                 (call::is_noexcept() ? static_cast<std::uint32_t>(MOLT_EDGE_NOEXCEPT) : 0U);
    edge.loss = lost.name;
    edge.loss_text = lost.text;
    edge.apply = &edge_thunk<Hook, S, From, to>;
    return edge;
  }
};

template <class Hook, class S, class... From>
constexpr std::size_t count_edges(types<From...>) {
  return (std::size_t{hook_call<Hook, S, From>::exists} + ... + 0);
}

template <class Hook, class S, class Ends, class From, std::size_t N>
constexpr void add_edge(std::array<molt_edge, N>& edges, std::size_t& at) {
  if constexpr (hook_call<Hook, S, From>::exists) edges[at++] = edge_of<Hook, S, From, Ends>::make();
}

template <class Hook, class S, class Ends, class... From>
constexpr auto make_listed_edges(types<From...> listed) {
  std::array<molt_edge, count_edges<Hook, S>(decltype(listed){})> edges{};
  [[maybe_unused]] std::size_t at = 0;
  (add_edge<Hook, S, Ends, From>(edges, at), ...);
  return edges;
}

/// All edges of one hook: from its only form, or from each type of the history (and the present ones) that it takes.
template <class Hook, class S, class Now, class Older>
constexpr auto make_edges() {
  if constexpr (!Hook::template exists<S>) {
    return std::array<molt_edge, 0>{};
  } else if constexpr (Hook::template single<S>) {
    static_assert(
        requires { typename Hook::template single_signature<S>::from; },
        "molt: a hook is a static function of the old value and, if it likes, `const molt::change&` or "
        "`molt::change&`");
    using hook = typename Hook::template single_signature<S>;
    static_assert(
        hook_call<Hook, S, typename hook::from>::exists,
        "molt: a hook takes the old value as `const old&` or `old&&`, and, if it likes, `const molt::change&` or "
        "`molt::change&`");
    // Up, a hook ends in the present; down, it starts there. The other end is free, unless the history lists it.
    using far = std::conditional_t<Hook::down, typename hook::to, typename hook::from>;
    using ends = typename with<typename joined<Now, Older>::list, far>::list;
    return make_listed_edges<Hook, S, ends>(types<typename hook::from>{});
  } else {
    static_assert(Older::size > 0,
                  "molt: this hook is overloaded: list the older types it takes and returns, using history = "
                  "molt::history<v1::state, v2::state> (for messages: message_history, for replies: reply_history)");
    using all = typename joined<Now, Older>::list;
    return make_listed_edges<Hook, S, all>(all{});
  }
}

template <std::size_t A, std::size_t B>
constexpr auto both(const std::array<molt_edge, A>& first, const std::array<molt_edge, B>& second) {
  std::array<molt_edge, A + B> all{};
  for (std::size_t i = 0; i < A; ++i) all[i] = first[i];
  for (std::size_t i = 0; i < B; ++i) all[A + i] = second[i];
  return all;
}

template <class S>
inline constexpr auto state_edges =
    both(make_edges<code_change_hook, S, types<typename S::state_type>, decltype(state_history<S>())>(),
         make_edges<code_change_down_hook, S, types<typename S::state_type>, decltype(state_history<S>())>());

/// The message that an edge converts.
template <class Hook, class S, class From>
constexpr const char* name_edge() {
  using to =
      std::remove_cv_t<decltype(hook_call<Hook, S, From>::apply(std::declval<From&>(), std::declval<change&>()))>;
  static_assert(
      message_name<From>() == message_name<to>(),
      "molt: message_change turns a message into another version of itself: both have the same unqualified name "
      "(keep the older one in a namespace of its own)");
  return message_name_text<From>.data;
}
template <class Hook, class S, class... From>
constexpr auto named_edges(types<From...>, auto edges) {
  [[maybe_unused]] std::size_t at = 0;
  [[maybe_unused]] const auto name = [&]<class Each>(types<Each>) {
    if constexpr (hook_call<Hook, S, Each>::exists) edges[at++].message = name_edge<Hook, S, Each>();
  };
  (name(types<From>{}), ...);
  return edges;
}

/// What a hook is tried with: the type that its only form takes, or every present and older one.
template <class Hook, class S, class Now, class Older>
constexpr auto candidates() {
  if constexpr (!Hook::template exists<S>)
    return types<>{};
  else if constexpr (Hook::template single<S>)
    return types<typename Hook::template single_signature<S>::from>{};
  else
    return typename joined<Now, Older>::list{};
}

template <class Hook, class S>
constexpr auto make_message_edges() {
  using now = messages_list<S>;
  using older = decltype(message_history<S>());
  return named_edges<Hook, S>(candidates<Hook, S, now, older>(), make_edges<Hook, S, now, older>());
}

template <class S>
inline constexpr auto message_edges = both(make_message_edges<message_change_hook, S>(),
                                           make_message_edges<message_change_down_hook, S>());

// -- Reply edges: like those of messages, for all messages or, with answer_to, for one

/// A list and what of another it lacks.
template <class List, class More>
struct merged;
template <class List>
struct merged<List, types<>> {
  using list = List;
};
template <class List, class T, class... Rest>
struct merged<List, types<T, Rest...>> : merged<typename with<List, T>::list, types<Rest...>> {};

/// The distinct types of the replies to these messages.
template <class List, class... M>
struct replies_of;
template <class List>
struct replies_of<List> {
  using list = List;
};
template <class List, class M, class... Rest>
struct replies_of<List, M, Rest...> : replies_of<List, Rest...> {};
template <class List, is_call M, class... Rest>
struct replies_of<List, M, Rest...> : replies_of<typename with<List, reply_type<M>>::list, Rest...> {};

template <class... M>
constexpr auto reply_list(types<M...>) {
  return typename replies_of<types<>, M...>::list{};
}

/// M: void for replies to all messages.
template <class Hook, class S, class M>
constexpr auto edges_of_replies_to() {
  using now = decltype(reply_list(messages_list<S>{}));
  using older = decltype(reply_history<S>());
  using all = typename merged<now, older>::list;
  using told = std::conditional_t<std::is_void_v<M>, for_all_replies<Hook>, for_replies_to<Hook, M>>;
  if constexpr (Hook::template single<S>) {
    using hook = typename Hook::template single_signature<S>;
    using far = std::conditional_t<Hook::down, typename hook::to, typename hook::from>;
    return make_listed_edges<told, S, typename with<all, far>::list>(types<typename hook::from>{});
  } else {
    return make_listed_edges<told, S, all>(all{});
  }
}

template <class Hook, class S, class M>
constexpr auto edges_of_call() {
  if constexpr (is_call<M>) {
    auto edges = edges_of_replies_to<Hook, S, M>();
    for (auto& edge : edges) edge.message = message_name_text<M>.data;
    return edges;
  } else {
    return std::array<molt_edge, 0>{};
  }
}

template <class Hook, class S>
constexpr auto edges_of_all_replies() {
  auto edges = edges_of_replies_to<Hook, S, void>();
  for (auto& edge : edges) edge.message = "";
  return edges;
}

constexpr auto all_of_them(const auto& only) { return only; }
constexpr auto all_of_them(const auto& first, const auto&... rest) { return both(first, all_of_them(rest...)); }

template <class Hook, class S, class... M>
constexpr auto make_reply_edges(types<M...>) {
  if constexpr (!Hook::template exists<S>) {
    return std::array<molt_edge, 0>{};
  } else {
    static_assert(Hook::template single<S> || decltype(reply_history<S>())::size > 0,
                  "molt: this hook is overloaded: list the older types it takes and returns, using reply_history = "
                  "molt::history<v1::total, std::int64_t>");
    constexpr auto all = all_of_them(edges_of_all_replies<Hook, S>(), edges_of_call<Hook, S, M>()...);
    static_assert(
        all.size() > 0,
        "molt: a reply hook is a static function of the old reply as `const old&`, `old&&` or, of a number, `old`, "
        "then, if it likes, `const molt::change&` and `molt::answer_to<message>`");
    return all;
  }
}

template <class S>
inline constexpr auto reply_edges = both(make_reply_edges<reply_change_hook, S>(messages_list<S>{}),
                                         make_reply_edges<reply_change_down_hook, S>(messages_list<S>{}));

}  // namespace molt::detail
