#include "peer.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace kv_test {
namespace {

[[noreturn]] void fail(const char* what) { throw std::system_error{errno, std::generic_category(), what}; }

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int open_connection(std::uint16_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) fail("socket");
  const sockaddr_in address = loopback(port);
  if (::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(descriptor);
    fail("connect");
  }
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return descriptor;
}

class socket_peer final : public peer {
 public:
  explicit socket_peer(std::uint16_t port) : port_{port}, socket_{port} {}

  std::string exchange(std::string_view request) override {
    ended_ = false;
    try {
      socket_.send(std::string{request}.append(mark_request));
    } catch (const std::system_error&) {
      ended_ = true;  // the server may close before it has read the mark
    }
    std::string answer = socket_.receive_until(mark_reply);
    if (answer.ends_with(mark_reply))
      answer.resize(answer.size() - mark_reply.size());
    else
      ended_ = true;
    return answer;
  }
  void reconnect() override {
    socket_ = client{port_};
    ended_ = false;
  }
  [[nodiscard]] bool ended() const override { return ended_; }

 private:
  std::uint16_t port_;
  client socket_;
  bool ended_ = false;
};

}  // namespace

client::client(std::uint16_t port, std::chrono::milliseconds patience) : descriptor_{open_connection(port)} {
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(patience.count() / 1000);
  limit.tv_usec = static_cast<suseconds_t>(patience.count() % 1000 * 1000);
  ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}
client::client(client&& other) noexcept : descriptor_{std::exchange(other.descriptor_, -1)} {}
client& client::operator=(client&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}
client::~client() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) fail("send");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::size_t client::try_send(std::string_view bytes) {
  const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) fail("send");
  return sent < 0 ? 0 : static_cast<std::size_t>(sent);
}

std::string client::receive() {
  std::string bytes(std::size_t{64} << 10U, '\0');
  while (true) {
    const ssize_t got = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ECONNRESET) return {};
    if (got < 0) fail("recv");
    bytes.resize(static_cast<std::size_t>(got));
    return bytes;
  }
}

std::string client::receive(std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t filled = 0;
  while (filled < size) {
    const ssize_t got = ::recv(descriptor_, bytes.data() + filled, size - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != ECONNRESET) fail("recv");
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

std::string client::receive_until(std::string_view end) {
  std::string all;
  while (!all.ends_with(end)) {
    const std::string more = receive();
    if (more.empty()) break;
    all += more;
  }
  return all;
}

void client::finish() { ::shutdown(descriptor_, SHUT_WR); }

std::unique_ptr<peer> connect(std::uint16_t port) { return std::make_unique<socket_peer>(port); }

process::process(const std::vector<std::string>& command, const std::string& log_file) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const int parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) fail("fork");
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  const int log = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (log >= 0) {
    ::dup2(log, 1);
    ::dup2(log, 2);
  }
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

void process::kill_now() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

process::~process() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  for (int i = 0; i < 1000; ++i) {
    if (::waitpid(pid_, nullptr, WNOHANG) != 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  kill_now();
}

std::uint16_t free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) fail("socket");
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  const bool bound = ::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
                     ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  ::close(descriptor);
  if (!bound) fail("bind");
  return ntohs(address.sin_port);
}

bool wait_for_port(std::uint16_t port, std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < until) {
    try {
      const client reached{port};
      return true;
    } catch (const std::system_error&) {
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
  }
  return false;
}

redis_server::redis_server() {
  if (std::system("command -v redis-server >/dev/null 2>&1") != 0) return;
  port = free_port();
  running = std::make_unique<process>(
      std::vector<std::string>{"redis-server", "--port", std::to_string(port), "--bind", "127.0.0.1", "--save", "",
                               "--appendonly", "no", "--databases", "1", "--proto-max-bulk-len", "64mb"},
      "/dev/null");
  if (!wait_for_port(port, std::chrono::seconds{10})) throw std::runtime_error{"redis-server did not start"};
}

std::string request(std::span<const std::string> words) {
  std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) bytes += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  return bytes;
}

}  // namespace kv_test
