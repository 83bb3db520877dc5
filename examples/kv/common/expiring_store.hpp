// The store since 2.0.0: executes batches, and looks for expired keys while there are keys that expire.
#pragma once

#include "interpreter.hpp"
#include "request.hpp"

#include <molt/plugin.hpp>

#include <chrono>
#include <cstdint>

namespace kv {

/// To oneself, a while after a key was given a time.
struct remove_expired {};

inline std::int64_t wall_clock_ms(molt::context& context) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(context.wall_clock().time_since_epoch()).count();
}

/// Tells the store to look for expired keys later, if there are some that will and it has not been told.
template <class Keyspace>
void look_later(molt::context& context, Keyspace& keys) {
  if (const auto after = keys.next_look()) context.send_after(*after, remove_expired{});
}

template <class Keyspace, class State>
executed execute_and_look_later(molt::context& context, State& state, const execute& batch) {
  Keyspace keys{state, wall_clock_ms(context)};
  executed done = run_batch(keys, batch);
  look_later(context, keys);
  return done;
}

template <class Keyspace, class State>
void remove_a_slice(molt::context& context, State& state) {
  Keyspace keys{state, wall_clock_ms(context)};
  keys.remove_expired();
  state.look_at_ms = 0;
  look_later(context, keys);
}

}  // namespace kv
