#pragma once

#include <molt/plugin.hpp>

#include "accounts_v1.hpp"

namespace shop::accounts {

struct account {
  std::string name;
  std::int64_t orders = 0;
  std::int64_t credit = 0;
};
struct state {
  std::map<std::uint64_t, account> all;
};

struct order {
  using reply = std::int64_t;
  std::uint64_t account = 0;
};
struct credit_of {
  using reply = std::int64_t;
  std::uint64_t account = 0;
};

struct accounts : molt::server<state> {
  using messages = molt::messages<order, credit_of>;

  std::int64_t handle_call(molt::context&, const order& message) { return ++self().all[message.account].orders; }
  std::int64_t handle_call(molt::context&, const credit_of& message) { return self().all[message.account].credit; }

  static state code_change(v1::state&& old) {
    state now;
    for (auto& [id, was] : old.all)
      now.all.emplace_hint(now.all.end(), id, account{std::move(was.name), was.orders, 100});
    return now;
  }
  static v1::state code_change_down(state&& now) {
    v1::state old;
    for (auto& [id, is] : now.all) old.all.emplace_hint(old.all.end(), id, v1::account{std::move(is.name), is.orders});
    return old;
  }
};

}  // namespace shop::accounts
