// Casts to be sent later: a hierarchical timing wheel, and the thread that turns it.
//
//   timer     event                       next
//   free      add()                       pending (in a wheel's slot)
//   pending   its time                    free; delivered as a cast
//             cancel(id)                  free; not delivered
//             take_if()                   free; handed to the caller (retire, shutdown)
//
// Four wheels of 256 slots: the first turns by ticks of 2^20 ns (1.05 ms), each further one by whole turns of the one
// before; what lies beyond (52 days) waits in the last. A timer is never early and at most two ticks late, if the
// thread gets to run. Starting and cancelling take constant time. An id is a slot and its generation: one that leads
// nowhere is harmless.
//
// Threading: any thread. Deliveries are made by the timers' own thread, without the lock.
#pragma once

#include "server/clock.hpp"
#include "server/envelope.hpp"

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace molt::servers {

class timers {
 public:
  /// Sends the envelope as a cast, or drops it.
  using deliver_function = std::function<void(molt_ref to, envelope*)>;

  timers(clock&, std::size_t timers_max, deliver_function);
  ~timers() { stop(); }
  timers(const timers&) = delete;
  timers& operator=(const timers&) = delete;

  void start();
  /// Ends the thread; pending timers stay.
  void stop();

  /// Takes over the envelope unless it returns 0 (full, or stopping).
  std::uint64_t add(molt_ref to, std::int64_t delay_ns, envelope*);
  /// The envelope if the timer was pending, else null.
  envelope* cancel(std::uint64_t id);
  /// Visits each pending timer under the lock; the function may replace the envelope or take it away by setting null.
  void for_each(const std::function<void(molt_ref to, envelope*&)>&);
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr unsigned wheels = 4;
  static constexpr unsigned slots = 256;
  static constexpr unsigned tick_shift = 20;
  static constexpr std::uint32_t none = 0xffffffff;

  struct timer {
    envelope* message = nullptr;  // null: free
    molt_ref to{};
    std::uint64_t due_tick = 0;
    std::uint32_t generation = 1;
    std::uint32_t next = none;
    std::uint32_t previous = none;  // or none: first of its slot
    std::uint32_t slot = 0;         // wheel * slots + slot
  };

  void run();
  void insert(std::uint32_t index);
  void unlink(std::uint32_t index);
  envelope* release(std::uint32_t index);
  void turn_to(std::uint64_t tick, std::vector<std::pair<molt_ref, envelope*>>& due);
  void cascade(unsigned wheel);
  [[nodiscard]] std::uint64_t next_event_tick() const;

  clock& clock_;
  const std::size_t timers_max_;
  const deliver_function deliver_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<timer> timers_;
  std::uint32_t unused_ = none;  // chained by next
  std::size_t pending_ = 0;
  std::array<std::uint32_t, wheels * slots> first_;
  std::array<std::array<std::uint64_t, slots / 64>, wheels> occupied_{};
  std::uint64_t now_tick_ = 0;  // all due up to and including it are out
  std::uint64_t sleeping_until_ = 0;
  bool changed_flag_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace molt::servers
