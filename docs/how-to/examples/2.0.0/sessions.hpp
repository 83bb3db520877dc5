#pragma once

#include <molt/plugin.hpp>

#include "sessions_v1.hpp"

namespace sessions {

struct session {
  std::string user;
  std::int64_t hits = 0;
  std::int64_t quota = 0;

  static session evolve(v1::session&& old) noexcept { return {std::move(old.user), old.hits, 100}; }
  static v1::session devolve(session&& now) noexcept { return {std::move(now.user), now.hits}; }
};

struct state {
  molt::evolving_map<std::uint64_t, session, decltype(v1::state::live)> live;
};

struct touch {
  using reply = std::int64_t;
  std::uint64_t id = 0;
};

struct server : molt::server<state> {
  std::int64_t handle_call(molt::context&, const touch& message) { return ++self().live[message.id].hits; }

  static state code_change(v1::state&& old) noexcept { return {std::move(old.live)}; }
  static v1::state code_change_down(state& now) { return {std::move(now.live).devolved()}; }
};

}  // namespace sessions
