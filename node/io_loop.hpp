// One thread that waits for sockets and runs what they bring.
//
// Raw epoll: a request costs one read and one write, and a share of one epoll_wait. (Boost.Asio's reactor was weighed:
// its speculative reads cost a failing read per request, its edge-triggered registration the rest.)
//
// Order of one turn: events, then queued connections, then posted functions. Connections and listeners die only in the
// last two, so that no event of the turn leads to a dead one.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "node/byte_buffer.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace molt::node {

class connection;
class io_loop;

/// Something with a descriptor that a loop waits for.
class io_source {
 public:
  virtual ~io_source() = default;
  /// On the loop's thread; `events` are epoll's.
  virtual void on_events(std::uint32_t events) noexcept = 0;
};

class io_loop {
 public:
  static constexpr std::size_t scratch_size = std::size_t{64} << 10U;

  static result<std::unique_ptr<io_loop>> make();
  io_loop(const io_loop&) = delete;
  io_loop& operator=(const io_loop&) = delete;
  ~io_loop();  ///< stops and joins

  void start();
  /// Ends the thread after what is posted so far; joins. Nothing queued later is run.
  void stop();

  // Any thread.
  void post(std::function<void()>);
  /// Has the connection looked after (connection::attend) in this turn or the next. It is queued at most once at a
  /// time.
  void enqueue(connection&) noexcept;
  [[nodiscard]] bool is_current() const noexcept { return current == this; }

  // The loop's thread.
  [[nodiscard]] bool watch(int fd, std::uint32_t events, io_source&) noexcept;
  [[nodiscard]] bool rewatch(int fd, std::uint32_t events, io_source&) noexcept;
  void unwatch(int fd) noexcept;
  /// Where a read goes when its connection has nothing left over: scratch_size bytes.
  [[nodiscard]] char* scratch() noexcept { return scratch_.get(); }
  /// A buffer for output that is usually sent before the turn ends: saves every connection one of its own.
  [[nodiscard]] byte_buffer& spare() noexcept { return spare_; }
  /// Calls back about every 100 ms as long as it returns true.
  void every_tick(std::function<bool()>);

 private:
  io_loop(unique_fd epoll, unique_fd wake);
  void run();
  void wake() noexcept;
  void drain_wakes() noexcept;
  void run_queued();
  bool run_posted();
  void run_ticks();

  static constinit thread_local io_loop* current;

  // Constant after construction.
  unique_fd epoll_;
  unique_fd wake_;
  std::unique_ptr<char[]> scratch_;
  // Any thread's.
  std::atomic<connection*> queued_{nullptr};
  std::atomic<bool> woken_{false};
  std::atomic<bool> posted_any_{false};  // or stopping
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;  // guarded by mutex_
  bool stopping_ = false;                      // guarded by mutex_
  // The loop's thread's.
  byte_buffer spare_;
  std::vector<std::function<bool()>> ticks_;
  std::thread thread_;
};

}  // namespace molt::node
