// kv 3.0.0: lists beside strings. Up from 2.x and, composed, from 1.x; down to both.
#include "../common/connection.hpp"
#include "../common/expiring_store.hpp"
#include "keyspace.hpp"

#include <molt/plugin.hpp>

#include <utility>

namespace kv {

struct store : molt::server<state> {
  using messages = molt::messages<execute, remove_expired>;

  executed handle_call(molt::context& context, const execute& batch) {
    return execute_and_look_later<keyspace>(context, self(), batch);
  }
  void handle_cast(molt::context& context, const remove_expired&) { remove_a_slice<keyspace>(context, self()); }

  using history = molt::history<v1::state, v2::state>;

  static v2::state code_change(v1::state&& old) noexcept { return v2::from_v1(std::move(old)); }
  static state code_change(v2::state&& old) noexcept { return v3::from_v2(std::move(old)); }

  static v2::state code_change_down(state&& now) noexcept { return v3::to_v2(std::move(now)); }
  static v1::state code_change_down(v2::state&& now) noexcept { return v2::to_v1(std::move(now)); }

  static constexpr molt::loss code_change_down_loss(const state*) {
    return {"lists", "lists are deleted; strings keep their values, times and hit counts"};
  }
  static constexpr molt::loss code_change_down_loss(const v2::state*) {
    return {"expiry", "keys that were to expire stay for ever; hit counts are dropped"};
  }
};

}  // namespace kv

MOLT_PLUGIN("kv", "3.0.0", kv::store, kv::connection)
