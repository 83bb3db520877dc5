// Something that speaks RESP2: a server behind a socket. And redis-server itself, to compare with.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kv_test {

/// Sends bytes and returns what comes back for them.
class peer {
 public:
  peer() = default;
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;
  virtual ~peer() = default;

  /// Everything answered to `request`, up to the answer to a mark sent after it, or to the end of the connection.
  virtual std::string exchange(std::string_view request) = 0;
  /// As if newly connected.
  virtual void reconnect() = 0;
  [[nodiscard]] virtual bool ended() const = 0;
};

/// A mark that is sent after a request: ECHO of a text that no other answer ends with.
inline constexpr std::string_view mark_request = "*2\r\n$4\r\nECHO\r\n$12\r\n#end-of-it!#\r\n";
inline constexpr std::string_view mark_reply = "$12\r\n#end-of-it!#\r\n";

/// A connected socket, closed with the object. Every operation throws std::runtime_error after `patience`.
class client {
 public:
  explicit client(std::uint16_t port, std::chrono::milliseconds patience = std::chrono::seconds{20});
  client(client&& other) noexcept;
  client& operator=(client&& other) noexcept;
  ~client();

  void send(std::string_view bytes);
  /// Sends as much as the server takes without waiting; returns how much.
  std::size_t try_send(std::string_view bytes);
  /// At least one byte, or empty at the end of the connection.
  std::string receive();
  /// Exactly so many bytes, or fewer at the end.
  std::string receive(std::size_t size);
  /// Up to and with `end`, or to the end of the connection.
  std::string receive_until(std::string_view end);
  /// No more will be sent.
  void finish();

 private:
  int descriptor_ = -1;
};

/// A peer behind a port of this machine.
std::unique_ptr<peer> connect(std::uint16_t port);

/// A process of its own group, ended with the object.
class process {
 public:
  process(const std::vector<std::string>& command, const std::string& log_file);
  ~process();
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  [[nodiscard]] int pid() const noexcept { return pid_; }
  void kill_now();

 private:
  int pid_ = -1;
};

[[nodiscard]] std::uint16_t free_port();
/// Waits until something listens there; false after `patience`.
[[nodiscard]] bool wait_for_port(std::uint16_t port, std::chrono::milliseconds patience);

/// redis-server without persistence; `port` 0 if there is none installed.
struct redis_server {
  redis_server();
  std::uint16_t port = 0;
  std::unique_ptr<process> running;
};

/// A multibulk request.
[[nodiscard]] std::string request(std::span<const std::string> words);

}  // namespace kv_test
