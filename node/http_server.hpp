// HTTP/1.1 over a Unix socket: how moltd and molt-node are asked things by the user who runs them.
//
// One thread moves bytes for all connections, so a slow client delays nobody; a few more run the handler. These stand
// in lanes: requests of one lane never wait for those of another, so that a status is answered while an upgrade and any
// number of long calls run. Every request has a bound for its header, its body and the time it may take to arrive.
#pragma once

#include "base/result.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::node {

struct http_request {
  std::string method;  ///< "GET"
  std::string path;    ///< percent-decoded, without the query: "/v1/releases/kv-1.0.0"
  std::vector<std::pair<std::string, std::string>> query;  ///< percent-decoded, in order
  std::string body;
  /// While it is handled: whether the client has closed the connection. Any thread. Empty: unknown.
  std::function<bool()> client_gone{};

  /// The first value of a query parameter, or empty.
  [[nodiscard]] std::string_view parameter(std::string_view name) const noexcept {
    for (const auto& [key, value] : query)
      if (key == name) return value;
    return {};
  }
};

struct http_response {
  unsigned status = 200;
  std::string body;
  std::string content_type = "application/json";
};

struct http_server_options {
  std::size_t header_max = std::size_t{16} << 10U;  ///< bytes of request line and header fields: 431 beyond
  std::size_t body_max = std::size_t{64} << 20U;    ///< bytes: 413 beyond
  /// At once. A further one takes the place of the one that has waited longest for its request to be whole, which can
  /// send no more from then on (what it has sent counts: a whole request is answered); when there is none, all are
  /// being handled, and it is answered 503 and closed.
  std::size_t connections_max = 128;
  std::chrono::milliseconds request_timeout{10'000};  ///< from the first wait for a request until its header is there
  std::chrono::milliseconds body_timeout{60'000};     ///< from then until its body is
  std::chrono::milliseconds write_timeout{30'000};    ///< a client that takes no bytes for that long is cut off
  std::vector<unsigned> lanes{4};                     ///< threads of each; none is 0
  /// Below lanes.size(); empty: the first. Called on the thread that moves bytes: must be quick, and not throw.
  std::function<std::size_t(const http_request&)> lane_of;
  bool check_peer = true;  ///< peers must be root or run as our user (SO_PEERCRED)
};

/// Serves one Unix socket until destroyed.
///
/// Threading: create and destroy anywhere; the handler is called on the server's own threads, several at once.
/// A handler that throws is answered with 500.
class http_server {
 public:
  using handler = std::function<http_response(const http_request&)>;

  /// Binds `path` with mode 0600. A socket file that nobody answers on is replaced.
  /// Errors: busy (somebody answers on that path), invalid_argument (path too long), io.
  static result<std::unique_ptr<http_server>> listen(const std::string& path, handler, http_server_options = {});
  /// Serves a listening Unix socket made by somebody else (systemd, a parent process). Owns `fd`.
  static result<std::unique_ptr<http_server>> adopt(int fd, handler, http_server_options = {});

  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;
  /// Takes no more requests, lets the handlers that run end, answers them, removes the socket file it made.
  ~http_server();

  [[nodiscard]] std::size_t connections() const noexcept;

 private:
  class implementation;
  explicit http_server(std::unique_ptr<implementation>) noexcept;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace molt::node
