// A hierarchical timing wheel: what is due when.
//
//   timer     event                       next
//   free      add()                       pending (in a wheel's slot)
//   pending   its time, once              free; taken out
//             its time, periodic          pending, at the first multiple of its period to come; a copy is taken out
//             its time, receiver gone     free; taken out
//             cancel()                    free; handed to the caller
//             visit() takes it            free; handed to the visitor
//
// Four wheels of 256 slots: the first turns by ticks of 2^20 ns (1.05 ms), each further one by whole turns of the one
// before; what lies beyond (52 days) waits in the last. Starting and cancelling take constant time, and touch no other
// timer but the neighbours in the slot; records lie in chunks that never move.
//
// Threading: one at a time.
#pragma once

#include "server/envelope.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace molt::servers {

class timer_wheel {
 public:
  static constexpr unsigned tick_shift = 20;
  static constexpr std::uint64_t never = UINT64_MAX;
  /// Timers in one wheel, at most.
  static constexpr std::uint32_t timers_max = std::uint32_t{1} << 28U;

  /// Of a periodic timer whose time has come: the message to send; null if the timer is to end.
  using copy_function = std::function<envelope*(molt_ref to, envelope&)>;
  using due_list = std::vector<std::pair<molt_ref, envelope*>>;

  explicit timer_wheel(std::int64_t now_ns);

  /// Takes over the envelope; `period_ns` 0: once. The timer's index and generation; index `none` when full.
  struct handle {
    std::uint32_t index;
    std::uint32_t generation;
  };
  static constexpr std::uint32_t none = UINT32_MAX;
  handle add(molt_ref to, std::uint64_t due_ns, std::uint64_t period_ns, envelope*);
  /// The envelope if the timer is pending, else null.
  envelope* cancel(handle);
  /// Appends what has come due, at least 1 and not much more than `most` unless there is nothing more. True: nothing
  /// more is.
  bool turn_to(std::int64_t now_ns, std::size_t most, const copy_function&, due_list& due);
  /// The tick at which something may come due; `never` if nothing is pending.
  [[nodiscard]] std::uint64_t next_event_tick() const;
  /// Visits each pending timer; the function may replace the envelope or take it away by setting null.
  void visit(const std::function<void(molt_ref to, envelope*&)>&);
  [[nodiscard]] std::size_t size() const noexcept { return pending_; }

  /// Rounded up: never early.
  [[nodiscard]] static std::uint64_t due_tick(std::uint64_t due_ns) noexcept { return (due_ns >> tick_shift) + 1; }

 private:
  static constexpr unsigned wheels = 4;
  static constexpr unsigned slots = 256;
  static constexpr unsigned chunk_shift = 12;
  static constexpr std::uint32_t chunk_size = std::uint32_t{1} << chunk_shift;

  struct timer {
    envelope* message = nullptr;  // null: free
    molt_ref to{};
    std::uint64_t due_ns = 0;
    std::uint64_t period_ns = 0;
    std::uint32_t generation = 1;
    std::uint32_t next = none;
    std::uint32_t previous = none;  // or none: first of its slot
    std::uint32_t slot = 0;         // wheel * slots + slot
  };

  [[nodiscard]] timer& at(std::uint32_t index) noexcept {
    return chunks_[index >> chunk_shift][index & (chunk_size - 1)];
  }
  void insert(std::uint32_t index);
  void push(std::uint32_t index, unsigned slot);
  void unlink(std::uint32_t index);
  envelope* release(std::uint32_t index);
  void cascade(unsigned wheel);
  void take(std::uint32_t index, std::int64_t now_ns, const copy_function&, due_list& due);

  std::vector<std::unique_ptr<timer[]>> chunks_;
  std::uint32_t used_ = 0;
  std::uint32_t unused_ = none;  // chained by next
  std::size_t pending_ = 0;
  std::array<std::uint32_t, wheels * slots> first_;
  std::array<std::array<std::uint64_t, slots / 64>, wheels> occupied_{};
  std::uint64_t now_tick_;  // all due up to and including it are out
};

}  // namespace molt::servers
