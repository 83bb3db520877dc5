// The gate before every root activation: an external call, a turn of the pool, a delivery from a connection, a start.
//
//   gate     event                          next      activations
//   open     close()                        closing   none begins; those begun go on, with the calls that they make
//   closing  no thread is active            closed    none
//            deadline passed                open      as before
//   closed   open()                         open
//
// A thread entering stores its flag (thread_record::active), makes a light fence, and loads `closed_`; the closing
// thread stores `closed_`, makes a heavy fence, and loads the flags: one of them sees the other. Invariant: a thread
// inside an activation begun here has its flag set; nested activations do not look at the gate. A caller that waits for
// a reply outside of any handler takes its flag back while it waits. Which runtime the flag is about stands in
// thread_record::owner, stored before it: who sees a later flag sees a later owner, and who sees an earlier flag was
// seen, or will see `closed_`.
//
// The same flags give grace periods: after `grace`, every activation that was under way when it was called has ended.
#pragma once

#include "server/fence.hpp"
#include "server/thread_record.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace molt::servers {

class gate {
 public:
  explicit gate(engine& owner) noexcept : owner_{&owner} {}

  /// The calling thread.
  [[nodiscard]] bool inside(const thread_record& me) const noexcept {
    return active::is_inside(me.active.load(std::memory_order_relaxed));
  }

  /// False if the gate is not open.
  [[nodiscard]] bool try_enter(thread_record& me) noexcept {
    enter_regardless(me);
    if (!closing()) [[likely]]
      return true;
    leave(me);
    return false;
  }
  /// Waits while the gate is not open, at most until `deadline_ns` of the machine's clock. False: it passed.
  bool enter(thread_record& me, std::int64_t deadline_ns = INT64_MAX);
  /// Whether the gate is open or not: for what runs no handler.
  void enter_regardless(thread_record& me) noexcept {
    me.owner.store(owner_, std::memory_order_release);
    me.active.store(me.active.load(std::memory_order_relaxed) | active::inside, fence::fast_store);
    fence::light();
  }
  void leave(thread_record& me) noexcept {
    me.active.store(active::left(me.active.load(std::memory_order_relaxed)), fence::fast_store);
    fence::light();
    has_left();
  }
  void has_left() noexcept {
    if (closing()) [[unlikely]]
      tell_closer();
  }

  [[nodiscard]] bool closing() const noexcept { return closed_.load(fence::fast_load); }

  enum class outcome { closed, busy, timed_out };
  outcome close(std::int64_t deadline_ns);
  void open();

  /// False: not all had ended by the deadline. The calling thread's own activation is not waited for.
  bool grace(std::int64_t deadline_ns);

 private:
  void tell_closer() noexcept;
  /// Another thread, or this one.
  [[nodiscard]] bool is_inside(const thread_record& each, std::uint64_t seen) const noexcept {
    return active::is_inside(seen) && each.owner.load(std::memory_order_acquire) == owner_;
  }
  bool nobody_inside();

  engine* owner_;
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::condition_variable changed_;  // opened, or somebody left while closing
};

/// The machine's steady clock, for waits.
[[nodiscard]] std::int64_t steady_ns() noexcept;

/// When a wait of so long ends; a longer one than the clock can tell never does.
[[nodiscard]] inline std::int64_t deadline_in(std::int64_t limit_ns, std::int64_t now_ns = steady_ns()) noexcept {
  return limit_ns < INT64_MAX - now_ns ? now_ns + limit_ns : INT64_MAX;
}

}  // namespace molt::servers
