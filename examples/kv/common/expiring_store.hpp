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

template <class Keyspace, class State>
executed execute_and_look_later(molt::context& context, State& state, const execute& batch) {
  Keyspace keys{state, wall_clock_ms(context)};
  executed done = run_batch(keys, batch);
  if (const std::int64_t after = keys.next_look(); after > 0)
    context.send_after(std::chrono::milliseconds{after}, remove_expired{});
  return done;
}

template <class Keyspace, class State>
void remove_a_slice(molt::context& context, State& state) {
  Keyspace keys{state, wall_clock_ms(context)};
  state.look_at_ms = 0;
  if (keys.remove_expired())
    context.cast(context.self(), remove_expired{});
  else if (const std::int64_t after = keys.next_look(); after > 0)
    context.send_after(std::chrono::milliseconds{after}, remove_expired{});
}

}  // namespace kv
