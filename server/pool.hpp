// The threads that run servers which have messages waiting.
//
// A server to be run stands in exactly one place (cell::scheduled sees to it): in a worker's slot `next` (the newest
// that its turn has scheduled), in its ring, or in the common queue. A worker takes from its slot, its ring, the common
// queue, and then from other workers; every so often the common queue comes first, and `next` is taken only so many
// times in a row, so nobody starves.
//
//   worker     event                                        next
//   searching  found a server                               running
//              nothing anywhere for a while                 asleep
//   running    turn over                                    searching
//              its handler waits for another server         blocked (another worker is woken or made in its place)
//   asleep     woken, or the tick                           searching (or ended, when there are more than wanted)
//   blocked    got its reply                                running
//
// Falling asleep: announce it, make a heavy fence, look once more; who schedules: put the server in place, make a light
// fence, look whether anyone is announced. What stands in `next` wakes nobody, as its worker is about to run it; should
// that worker not come to it (a long handler), a sleeper takes it at its second tick, and likewise what it was to run
// right after its turn (handoff, thread_record.hpp); ticks only go while somebody else
// is awake, and who puts a server into `next` while nobody ticks wakes one.
#pragma once

#include "server/cell.hpp"

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace molt::servers {

class pool {
 public:
  /// Runs a turn of the server on the calling worker.
  using turn_function = std::function<void(cell&)>;
  /// Takes away what a worker was to run next, and schedules it; false if there is nothing any more.
  using rescue_function = std::function<bool(thread_record& from)>;

  pool(unsigned threads, std::function<cell_detail&(cell&)> detail, turn_function, rescue_function);
  ~pool() { stop(); }
  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;

  void start();
  /// Ends the workers after their present turn. What stands in queues stays there.
  void stop();

  /// The server must not stand anywhere in the pool. Any thread.
  void push(cell&);
  /// Of a worker: whether anything else waits for it.
  [[nodiscard]] bool has_other_work(const thread_record&) const noexcept;
  /// A worker has taken a server to run next: sees to it that somebody ticks.
  void attend_handoff() {
    if (ticking_.load(fence::fast_load) == 0) [[unlikely]]
      wake_to_tick();
  }
  /// Around a wait inside a turn: others do this worker's work in the meantime.
  void blocking_begin(thread_record&);
  void blocking_end(thread_record&);

 private:
  static constexpr unsigned ring_size = 256;
  static constexpr unsigned workers_max = 512;

  struct alignas(64) worker {
    std::atomic<cell*> next{nullptr};
    alignas(64) std::atomic<std::uint32_t> ring_head{0};  // taken from, by anyone
    std::atomic<std::uint32_t> ring_tail{0};              // put to, by the worker
    std::array<std::atomic<cell*>, ring_size> ring{};
    pool* owner = nullptr;
    std::atomic<thread_record*> record{nullptr};  // once it runs
    std::uint64_t handoff_seen = 0;               // its word; under mutex_
    unsigned next_in_a_row = 0;
    unsigned turns = 0;
    std::thread thread;
    bool ended = false;  // under mutex_
  };

  void run(worker&);
  cell* find(worker&);
  cell* take_ring(worker&) noexcept;
  cell* take_common();
  cell* steal(worker& thief, bool next_too) noexcept;
  void put_ring(worker&, cell&);
  void put_common(cell&);
  void wake_one();
  void wake_to_tick();
  thread_record* find_stuck(const worker& sleeper);  // under mutex_
  bool sleep(worker&);                               // false: end the worker
  void add_worker();                                 // under mutex_

  const unsigned wanted_;
  const std::function<cell_detail&(cell&)> detail_;
  const turn_function turn_;
  const rescue_function rescue_;

  std::array<std::atomic<worker*>, workers_max> workers_{};
  std::atomic<unsigned> worker_count_{0};  // slots of workers_ in use, some may have ended

  std::mutex mutex_;
  std::condition_variable woken_;
  cell* first_ = nullptr;  // the common queue
  cell* last_ = nullptr;
  unsigned alive_ = 0;
  unsigned blocked_ = 0;
  unsigned wakes_ = 0;  // given and not yet taken
  bool stopping_ = false;
  std::atomic<std::size_t> common_size_{0};
  std::atomic<unsigned> asleep_{0};
  std::atomic<unsigned> searching_{0};
  std::atomic<unsigned> ticking_{0};
};

}  // namespace molt::servers
