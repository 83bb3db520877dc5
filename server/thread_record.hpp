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

/// One handler on a thread's stack, innermost first. Every word of it is written by each call.
struct activation {
  molt_context context;  // what the handler is given; `internal` leads back here
  activation* outer;
  cell* running;
  std::uint64_t depth;  // handlers on this stack, with this one; and `may_defer`
  std::uint64_t token;  // of the call being handled, if that bit is set

  static constexpr std::uint64_t may_defer = std::uint64_t{1} << 32U;
  [[nodiscard]] unsigned handlers() const noexcept { return static_cast<unsigned>(depth); }
};

struct alignas(64) thread_record {
  // The owner thread writes, others read.
  std::atomic<std::uint64_t> active{
      0};  // the gate's flag: of which runtime it is inside, and how often it was (gate.hpp)
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
  [[nodiscard]] unsigned depth() const noexcept { return top != nullptr ? top->handlers() : 0; }
};

namespace detail {
// Initial-exec: one load. The general model may call a function, around which every call would save its arguments.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local thread_record* current_record = nullptr;
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
