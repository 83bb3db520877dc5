// Casts to be sent later: timing wheels (timer_wheel.hpp), and the thread that turns them.
//
// There are several wheels, each with its mutex, and a thread that starts timers uses the one of its number: so
// starting and cancelling seldom meet. A timer is never early and at most two ticks (2.1 ms) late, if the timers'
// thread gets to run. An id says wheel, record and generation: one that leads nowhere is harmless.
//
// Waking the thread: before it looks at the wheels it resets `changed_` and sets `sleeping_until_` to never; having
// looked at all, to the first event. Whoever adds a timer does so first, then, if it is due before `sleeping_until_`,
// sets `changed_`. So a timer that was not there when its wheel was looked at makes the thread look again.
//
// Threading: any thread. Deliveries are made by the timers' own thread, holding no wheel's mutex.
#pragma once

#include "server/clock.hpp"
#include "server/timer_wheel.hpp"

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace molt::servers {

class timers {
 public:
  /// Sends the envelope as a cast, or drops it.
  using deliver_function = std::function<void(molt_ref to, envelope*)>;
  using copy_function = timer_wheel::copy_function;

  timers(clock&, std::size_t timers_max, deliver_function, copy_function);
  ~timers() { stop(); }
  timers(const timers&) = delete;
  timers& operator=(const timers&) = delete;

  void start();
  /// Ends the thread; pending timers stay.
  void stop();

  /// Takes over the envelope unless it returns 0 (full, or stopping). `period_ns` 0: once, else at least 2^20.
  std::uint64_t add(molt_ref to, std::int64_t delay_ns, std::int64_t period_ns, envelope*);
  /// The envelope if the timer was pending, else null.
  envelope* cancel(std::uint64_t id);
  /// Visits each pending timer; the function may replace the envelope or take it away by setting null. What is not
  /// visited has been delivered when this returns.
  void for_each(const std::function<void(molt_ref to, envelope*&)>&);
  [[nodiscard]] std::size_t size() const noexcept { return pending_.load(std::memory_order_relaxed); }

 private:
  static constexpr unsigned shard_bits = 3;
  static constexpr unsigned shards = 1U << shard_bits;

  struct alignas(64) shard {
    explicit shard(std::int64_t now_ns) : wheel{now_ns} {}
    std::mutex mutex;
    timer_wheel wheel;
  };

  void run();
  bool deliver_due();
  void tell();
  void sleep();

  clock& clock_;
  const std::size_t timers_max_;
  const deliver_function deliver_;
  const copy_function copy_;
  std::array<std::unique_ptr<shard>, shards> shards_;
  std::atomic<std::size_t> pending_{0};

  std::mutex delivery_mutex_;  // from taking what is due until it is delivered; before any wheel's
  timer_wheel::due_list due_;

  std::atomic<std::uint64_t> sleeping_until_{timer_wheel::never};  // a tick
  std::atomic<bool> changed_{false};
  std::atomic<bool> stopping_{false};
  std::mutex sleep_mutex_;
  std::condition_variable woken_;
  std::thread thread_;
};

}  // namespace molt::servers
