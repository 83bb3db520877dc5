// One client: its socket, what it sent and the plugin has not consumed yet, what it is still to get, and its server.
//
//   state       event                                    next
//   open        input                                    open: handle_data runs on the loop's thread
//   open        more output waits than the high water    open, but not read: TCP holds the client back
//   open        handler closed, threw or was stopped     draining
//   open        client sent its end                      draining once nothing can be delivered any more
//   draining    output gone                              closed
//   any         socket broken                            closed
//   closed      server ended                             destroyed
//
// Invariants: the socket is used by the loop's thread alone; output written by one server keeps its order whichever
// thread its handlers ran on; the connection outlives its server, since the server writes to it.
//
// The input buffer is the node's, not the plugin's: so bytes that one version did not consume are the next version's.
#pragma once

#include "node/byte_buffer.hpp"
#include "node/io_loop.hpp"
#include "server/runtime.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>

namespace molt::node {

struct connection_host;
struct listener_settings;
struct listener_state;

class connection final : public io_source, public servers::connection_output {
 public:
  connection(connection_host&, io_loop&, unique_fd, std::shared_ptr<listener_state>);
  ~connection() override;
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  // The loop's thread.
  /// Starts the server and begins to read; closes when it does not start. From here on it owns itself: attend() ends
  /// it.
  void open(const listener_settings&);
  void on_events(std::uint32_t events) noexcept override;
  /// Does what other threads asked for; destroys the connection when it is closed and its server has ended.
  void attend() noexcept;
  /// Sends what there is and closes; no more input is taken.
  void drain() noexcept;
  /// Closes at once.
  void abort(std::string_view why) noexcept;

  // Any thread: the one that runs the server's handler.
  int write(const char* data, std::size_t size) noexcept override;
  void close() noexcept override;
  [[nodiscard]] std::size_t pending() const noexcept override;
  /// The server is gone and writes no more.
  void server_ended() noexcept;

  [[nodiscard]] const io_loop& loop() const noexcept { return loop_; }
  [[nodiscard]] bool queued() const noexcept { return queued_.load(std::memory_order_acquire); }

 private:
  friend class io_loop;
  enum class state : std::uint8_t { open, draining, closed };

  void receive() noexcept;
  void deliver(std::string_view bytes) noexcept;
  void keep(std::string_view rest) noexcept;
  void redeliver() noexcept;
  void flush() noexcept;
  void take_foreign_output() noexcept;
  void begin_draining() noexcept;
  void settle() noexcept;
  void finish() noexcept;
  void watch_for_what_matters() noexcept;
  void close_socket(std::string_view why) noexcept;
  [[nodiscard]] bool stop_server(std::string_view why) noexcept;
  [[nodiscard]] std::size_t send_now(std::string_view) noexcept;
  [[nodiscard]] int write_here(std::string_view) noexcept;
  [[nodiscard]] int write_from_elsewhere(std::string_view) noexcept;

  // Constant after open().
  connection_host& host_;
  io_loop& loop_;
  std::shared_ptr<listener_state> listener_;
  molt_ref server_{};

  // The loop's thread's.
  unique_fd fd_;
  state state_ = state::open;
  bool delivering_ = false;
  bool paused_ = false;     // reading, for output that waits
  bool redeliver_ = false;  // the plugin left bytes while output waited: offer them again when there is room
  bool input_ended_ = false;
  bool broken_ = false;          // a send failed
  bool stopping_later_ = false;  // a tick of the loop holds this connection
  std::uint32_t watched_ = 0;
  byte_buffer in_;
  byte_buffer out_;
  connection* next_queued_ = nullptr;

  // Any thread's.
  std::atomic<bool> queued_{false};
  std::atomic<bool> server_ended_{false};
  std::atomic<bool> close_asked_{false};
  std::atomic<bool> closed_{false};           // output is discarded
  std::atomic<std::size_t> out_size_{0};      // of out_
  std::atomic<std::size_t> foreign_size_{0};  // of foreign_
  mutable std::mutex foreign_mutex_;
  byte_buffer foreign_;  // written by handlers on other threads; guarded by foreign_mutex_
};

}  // namespace molt::node
