// What the runtime knows of a thread: where it is active, which servers it runs, what it waits for.
//
// Records are numbered, never freed, and used again after their thread has ended, so that one may be read at any time.
#pragma once

#include "server/envelope.hpp"
#include "server/runtime.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace molt::servers {

/// One handler on a thread's stack, innermost first.
struct activation {
  activation* outer = nullptr;
  engine* owner = nullptr;
  cell* running = nullptr;
  unsigned depth = 1;       // handlers on this stack, with this one
  std::uint64_t token = 0;  // of the call being handled, if its handler may defer
};

struct alignas(64) thread_record {
  // The owner thread writes, others read.
  std::atomic<engine*> active_in{nullptr};  // the gate's flag: inside a root activation of that runtime
  std::atomic<std::uint64_t> entries{0};    // how often it became active
  // Owner only.
  activation* top = nullptr;
  std::uint32_t id = 0;
  bool is_worker = false;  // of the pool, inside a turn
  bool has_exits = false;
  void* worker = nullptr;  // the pool's
  envelope_cache envelopes;
  std::vector<exit_event> exits;  // to be told once no server is held
  molt_text scratch;              // where callers want no text
  // Under the engine's waits_mutex_.
  cell* waiting_on = nullptr;
  call_envelope* waiting_for = nullptr;

  /// Handlers on the stack.
  [[nodiscard]] unsigned depth() const noexcept { return top != nullptr ? top->depth : 0; }
};

namespace detail {
inline constinit thread_local thread_record* current_record = nullptr;
thread_record& register_thread();
}  // namespace detail

inline thread_record& this_thread() {
  if (thread_record* const mine = detail::current_record) [[likely]]
    return *mine;
  return detail::register_thread();
}

/// The record of that number. It exists for every number that a thread ever had.
[[nodiscard]] thread_record& record_of(std::uint32_t id);
/// Visits all records, those of ended threads too.
void for_each_thread(const std::function<void(thread_record&)>&);

}  // namespace molt::servers
