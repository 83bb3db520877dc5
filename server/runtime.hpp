// The servers of one process: their mailboxes, names, timers, and the release that they run.
//
// (The protocol of the mailbox word, the gate and the switch: see server/cell.hpp, server/gate.hpp.)
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

class runtime;

/// A server type of one loaded image, prepared for dispatch: its handlers and message edges indexed by message key.
///
/// Ownership: shares the lease that keeps the image mapped. Immutable.
class server_type {
 public:
  static std::shared_ptr<const server_type> make(const molt_server_type&, std::string version,
                                                 std::shared_ptr<const void> lease);
  [[nodiscard]] const molt_server_type& abi() const noexcept;
  [[nodiscard]] std::string_view name() const noexcept;
  [[nodiscard]] std::string_view version() const noexcept;  ///< of the plugin
  [[nodiscard]] const molt_handler* find(std::string_view message_name) const noexcept;
};

/// A server at rest, held by the calling thread: no handler runs, none will begin until it is let go.
class resting_server {
 public:
  [[nodiscard]] molt_ref ref() const noexcept;
  [[nodiscard]] std::string name() const;  ///< empty if unnamed
  [[nodiscard]] const server_type& type() const noexcept;
  [[nodiscard]] void* state() const noexcept;
  /// From here on the server has this type and state. The old state is the caller's to destroy.
  void become(const server_type&, void* state) noexcept;
};

/// What the runtime must know of a release; upgrade/ implements it.
class release {
 public:
  release() = default;
  release(const release&) = delete;
  release& operator=(const release&) = delete;
  virtual ~release() = default;

  /// Brings a server to this release, or leaves it wholly as it was. Called once per server for each switch, when the server is
  /// first active after it or by `sweep`, on the thread that is about to run the server. Failures are the implementation's to record.
  virtual void adopt(resting_server&) const noexcept = 0;
  /// The type a new server of that name gets; null if the release has none.
  [[nodiscard]] virtual const server_type* find_type(std::string_view name) const noexcept = 0;
};

/// Where a connection server's output goes; the owner of the socket implements it. Any thread.
class connection_output {
 public:
  virtual ~connection_output() = default;
  virtual int write(const char* data, std::size_t size) noexcept = 0;  ///< molt_status
  virtual void close() noexcept = 0;
  [[nodiscard]] virtual std::size_t pending() const noexcept = 0;
};

struct options {
  unsigned pool_threads = 0;             ///< 0: one per core
  std::size_t servers_max = 1U << 22U;   ///< further starts are refused with out_of_bounds
  std::size_t mailbox_max = 1U << 16U;   ///< messages waiting per server; further ones are overloaded
  std::size_t timers_max = 1U << 22U;
  std::chrono::nanoseconds call_timeout = std::chrono::seconds{5};
};

using arguments = std::vector<std::pair<std::string, std::string>>;

/// One server as `molt servers` shows it.
struct server_info {
  molt_ref ref{};
  std::string name;
  std::string type;
  std::string version;
  std::string status;  ///< "idle", "running", "suspended"
  std::size_t queued = 0;
  std::uint64_t handled = 0;
};

/// A server ended: by stop(), by a handler that threw, or with its runtime.
struct exit_event {
  molt_ref ref{};
  std::string name;
  std::string type;
  bool failed = false;
  std::string why;
};

/// Threading: any thread, unless said otherwise.
class runtime {
 public:
  explicit runtime(options = {});
  ~runtime();

  // -- The release
  /// The switch: one store. Afterwards no message is begun by a server that has not been offered to `next->adopt`.
  /// Ownership: shares `next` until another release is current and no adopt() of it runs.
  void switch_to(std::shared_ptr<const release> next) noexcept;
  [[nodiscard]] std::shared_ptr<const release> current() const;
  /// Offers every server that has not been active since the switch to the current release; returns how many it offered.
  /// Bounded: yields between slices so that callers are not starved. Ends early when `keep_going` returns false.
  std::size_t sweep(const std::function<bool()>& keep_going);

  // -- Servers
  /// Starts a server of a type of the current release; returns when init has.
  result<molt_ref> start(std::string_view type, std::string_view name, const arguments&);
  result<molt_ref> start_connection(std::string_view type, connection_output&, const arguments&);
  result<void> stop(molt_ref, std::string_view why);
  [[nodiscard]] molt_ref lookup(std::string_view name) const;
  [[nodiscard]] std::vector<server_info> servers() const;
  [[nodiscard]] std::size_t size() const noexcept;

  // -- Messages from outside any server
  int call(molt_ref to, const molt_message&, void* payload, void* reply_storage, std::chrono::nanoseconds timeout,
           molt_text* error);
  int cast(molt_ref to, const molt_message&, void* payload);
  /// Runs handle_data on this thread; waits for a running handler first.
  int deliver(molt_ref connection, const char* data, std::size_t size, std::size_t& consumed, molt_text* error);
  /// A handler of the server's present type, by the message's name; null if there is none. For calls that arrive as JSON.
  [[nodiscard]] const molt_handler* find_handler(molt_ref, std::string_view message_name) const;

  // -- Rest
  /// Holds one server at its next update point; its messages queue. Errors: timeout, no_such_server, busy (already suspended).
  result<void> suspend(molt_ref, std::chrono::nanoseconds timeout);
  result<void> resume(molt_ref);
  /// Brings everything to rest: no handler runs and none begins until the guard is gone. Handlers already begun may call on and
  /// are waited for. Error: timeout, and then everything runs as before.
  class rest_guard;
  result<rest_guard> rest(std::chrono::nanoseconds timeout);
  /// Visits every server. Only while at rest (needs the guard); several threads may visit disjoint parts.
  void for_each(const rest_guard&, unsigned part, unsigned parts, const std::function<void(resting_server&)>&);
  /// For code that never rests: waits until no server has `type`, no message or timer made by its image is pending, then forgets it.
  /// Error: busy, with what still uses it.
  result<void> retire(const server_type&, std::chrono::nanoseconds timeout);

  // -- Events
  /// Called on the thread that ended the server, with no server held. Set once, before the first start.
  void on_exit(std::function<void(const exit_event&)>);
};

}  // namespace molt::servers
