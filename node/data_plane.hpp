// Listening sockets and the connections that come in by them, each of them a connection server of the runtime.
//
// Sockets are accepted by the first loop and dealt out to all. At `connections_max` of a listener, and when descriptors
// run out, a connection is accepted and closed at once, so that the client learns of it, and the log is told (at most
// once a second).
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "server/runtime.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::node {

/// Levels are MOLT_LOG_...; any thread.
using log_function = std::function<void(int level, std::string_view text)>;

struct data_plane_options {
  unsigned io_threads = 1;
  std::size_t output_high_water = std::size_t{1} << 20U;  ///< bytes; a client that has more to take is not read from
  std::size_t output_max = std::size_t{1} << 30U;         ///< bytes; beyond, writes fail and the connection is closed
  std::size_t input_max = std::size_t{256} << 20U;        ///< bytes received and not consumed; beyond, it is closed
};

struct listener_settings {
  std::string name;
  std::string connection_type;  ///< e.g. "kv.connection"
  std::string other_type;       ///< while an upgrade changes the type: taken where the release lacks the first
  servers::arguments arguments;
  std::size_t connections_max = 10'000;
};

struct listener_status {
  std::string name;
  std::string address;  ///< "127.0.0.1:6379", as the socket says
  std::size_t connections = 0;
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;  ///< over connections_max or without a descriptor
};

/// Threading: any thread but a handler's. Ownership: borrows the runtime, which outlives it; owns the sockets.
class data_plane {
 public:
  static result<std::unique_ptr<data_plane>> make(servers::runtime&, data_plane_options, log_function);
  data_plane(const data_plane&) = delete;
  data_plane& operator=(const data_plane&) = delete;
  ~data_plane();  ///< as stop(), without waiting for slow clients

  /// Accepts on a listening socket from now on. A listener of that name gets the new settings and the new socket.
  /// Errors: invalid_argument (not a listening socket), io.
  result<void> listen(unique_fd, listener_settings);
  /// New settings for connections that come from now on. Error: not_found.
  result<void> change(listener_settings);
  /// Accepts no more and closes the listening socket. Connections stay. False: there is none of that name.
  bool close_listener(std::string_view name);
  /// Accepts no more anywhere; the sockets stay open for whoever gets them (duplicates).
  void stop_accepting();
  /// Stops accepting, sends every connection what it is still to get, and closes it; after `patience` without that.
  void stop(std::chrono::milliseconds patience);

  /// To be told of every exit of the runtime. Any thread, a handler's too.
  void server_ended(const servers::exit_event&) noexcept;

  [[nodiscard]] std::vector<listener_status> listeners() const;
  /// Duplicates of the listening sockets by name.
  [[nodiscard]] std::vector<std::pair<std::string, unique_fd>> duplicate_listeners() const;
  [[nodiscard]] std::size_t connections() const noexcept;

  class implementation;

 private:
  friend class connection;
  explicit data_plane(std::unique_ptr<implementation>) noexcept;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace molt::node
