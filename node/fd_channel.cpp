#include "node/fd_channel.hpp"

#include "node/api_error.hpp"
#include "node/unix_socket.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <boost/json.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

namespace molt::node {
namespace {

namespace json = boost::json;
using clock = std::chrono::steady_clock;

constexpr std::size_t message_max = std::size_t{64} << 10U;
constexpr auto peer_timeout = std::chrono::milliseconds{5'000};

struct packet {
  std::string text;
  std::vector<unique_fd> fds;
};

/// Waits for `events`; false when the deadline passed.
bool wait_for(int fd, short events, clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
    if (left < 0) return false;
    pollfd poll{fd, events, 0};
    const int ready = ::poll(&poll, 1, static_cast<int>(left) + 1);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

result<void> send_packet(int to, const std::string& text, const std::vector<int>& fds, clock::time_point deadline) {
  if (fds.size() > fd_channel_fds_max) return error{reason::out_of_bounds, "too many descriptors for one message"};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * fd_channel_fds_max)> control{};
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  while (::sendmsg(to, &message, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return system_error("sending descriptors");
    if (!wait_for(to, POLLOUT, deadline))
      return error{reason::timeout, "descriptor channel: the other side takes nothing"};
  }
  return ok();
}

result<packet> receive_packet(int from, clock::time_point deadline) {
  packet got;
  got.text.resize(message_max);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * fd_channel_fds_max)> control{};
  iovec part{got.text.data(), got.text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = 0;
  while ((size = ::recvmsg(from, &message, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return system_error("receiving descriptors");
    if (!wait_for(from, POLLIN, deadline)) return error{reason::timeout, "descriptor channel: no answer in time"};
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      got.fds.emplace_back(fd);
    }
  }
  if (size == 0) return error{reason::unreachable, "descriptor channel: the other side went away"};
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return error{reason::corrupt, "descriptor channel: a message over the limit"};
  got.text.resize(static_cast<std::size_t>(size));
  return got;
}

result<std::vector<named_fd>> names_with_fds(const json::value* names, std::vector<unique_fd> fds) {
  const auto* list = names == nullptr ? nullptr : names->if_array();
  if (list == nullptr || list->size() != fds.size())
    return error{reason::corrupt, "descriptor channel: names and descriptors differ in number"};
  std::vector<named_fd> named;
  for (std::size_t i = 0; i < fds.size(); ++i) {
    if (!(*list)[i].is_string()) return error{reason::corrupt, "descriptor channel: a name is no string"};
    named.push_back({std::string{std::string_view{(*list)[i].get_string()}}, std::move(fds[i])});
  }
  return named;
}

result<json::object> parse_object(const std::string& text) {
  boost::system::error_code failed;
  json::value value = json::parse(text, failed);
  if (failed || !value.is_object()) return error{reason::corrupt, "descriptor channel: no JSON object"};
  return std::move(value.get_object());
}

result<packet> exchange(const std::string& path, const json::value& ask, const std::vector<int>& fds,
                        std::chrono::milliseconds timeout) {
  const auto deadline = clock::now() + timeout;
  MOLT_TRY(const unique_fd channel, connect_unix(path, SOCK_SEQPACKET, deadline));
  MOLT_CHECK(send_packet(channel.get(), json::serialize(ask), fds, deadline));
  return receive_packet(channel.get(), deadline);
}

}  // namespace

class fd_channel_server::implementation {
 public:
  implementation(unique_fd listener, unique_fd wake, const std::string& path, functions calls)
      : calls_{std::move(calls)}, file_{socket_file::of(path)}, listener_{std::move(listener)}, wake_{std::move(wake)} {
    thread_ = std::thread{[this] { run(); }};
  }
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;
  ~implementation() {
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
    file_.remove();
  }

 private:
  void run() {
    for (;;) {
      std::array<pollfd, 2> polls{{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}}};
      if (::poll(polls.data(), polls.size(), -1) < 0 && errno != EINTR) return;
      if (polls[0].revents != 0) return;
      const unique_fd peer{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (!peer) {
        // Out of descriptors: the connection waits; do not spin.
        if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(std::chrono::milliseconds{50});
        continue;
      }
      if (peer_is_ours(peer.get())) serve(peer.get());
    }
  }

  void serve(int peer) {
    const auto deadline = clock::now() + peer_timeout;
    auto asked = receive_packet(peer, deadline);
    if (!asked) return;
    std::vector<named_fd> given;
    const auto answer = answer_to(std::move(*asked), given);
    std::vector<int> fds;
    for (const auto& each : given) fds.push_back(each.fd.get());
    (void)send_packet(peer, answer, fds, deadline);
  }

  std::string answer_to(packet asked, std::vector<named_fd>& given) {
    const auto object = parse_object(asked.text);
    if (!object) return error_response(object.error()).body;
    if (object->contains("get")) {
      given = calls_.get();
      json::array names;
      for (const auto& each : given) names.emplace_back(each.name);
      return json::serialize(json::value{{"names", std::move(names)}});
    }
    auto named = names_with_fds(object->if_contains("put"), std::move(asked.fds));
    if (!named) return error_response(named.error()).body;
    const auto done = calls_.put(std::move(*named));
    return done ? std::string{R"({"ok":true})"} : error_response(done.error()).body;
  }

  functions calls_;
  socket_file file_;
  unique_fd listener_;
  unique_fd wake_;
  std::thread thread_;
};

fd_channel_server::fd_channel_server(std::unique_ptr<implementation> made) noexcept
    : implementation_{std::move(made)} {}
fd_channel_server::~fd_channel_server() = default;

result<std::unique_ptr<fd_channel_server>> fd_channel_server::listen(const std::string& path, functions calls) {
  MOLT_TRY(unique_fd listener, listen_unix(path, SOCK_SEQPACKET));
  unique_fd wake{::eventfd(0, EFD_CLOEXEC)};
  if (!wake) return system_error("eventfd");
  return std::unique_ptr<fd_channel_server>{new fd_channel_server{
      std::make_unique<implementation>(std::move(listener), std::move(wake), path, std::move(calls))}};
}

result<std::vector<named_fd>> get_fds(const std::string& socket_path, std::chrono::milliseconds timeout) {
  MOLT_TRY(packet answer, exchange(socket_path, {{"get", true}}, {}, timeout));
  MOLT_TRY(const json::object object, parse_object(answer.text));
  if (object.contains("error")) return error_of({500, answer.text, {}})->what;
  return names_with_fds(object.if_contains("names"), std::move(answer.fds));
}

result<void> put_fds(const std::string& socket_path, const std::vector<std::pair<std::string, int>>& fds,
                     std::chrono::milliseconds timeout) {
  json::array names;
  std::vector<int> numbers;
  for (const auto& [name, fd] : fds) {
    names.emplace_back(name);
    numbers.push_back(fd);
  }
  MOLT_TRY(const packet answer, exchange(socket_path, {{"put", std::move(names)}}, numbers, timeout));
  MOLT_TRY(const json::object object, parse_object(answer.text));
  if (object.contains("error")) return error_of({500, answer.text, {}})->what;
  return ok();
}

}  // namespace molt::node
