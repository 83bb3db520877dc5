#pragma once

#include <molt/plugin.hpp>

#include "audit_v1.hpp"

namespace shop::audit {

struct state {
  std::uint64_t lines = 0;
  std::string last;
};

struct note {
  using reply = std::uint64_t;
  std::string line;
};

struct audit : molt::server<state> {
  std::uint64_t handle_call(molt::context&, const note& message) {
    self().last = message.line;
    return ++self().lines;
  }

  static state code_change(v1::state&& old) {
    return {old.lines.size(), old.lines.empty() ? std::string{} : std::move(old.lines.back())};
  }
  static v1::state code_change_down(state&& now) {
    v1::state old;
    old.lines.resize(now.lines, "(forgotten by 2.0.0)");
    if (now.lines != 0) old.lines.back() = std::move(now.last);
    return old;
  }
  static constexpr molt::loss code_change_down_loss(const state*) {
    return {"audit_lines", "all lines but the last are only counted"};
  }
};

}  // namespace shop::audit
