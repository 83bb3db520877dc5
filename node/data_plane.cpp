#include "node/data_plane.hpp"

#include "node/connection_host.hpp"
#include "node/unix_socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace molt::node {
namespace {

using clock = std::chrono::steady_clock;

constexpr int accepts_per_event_max = 64;
constexpr auto log_again = std::chrono::seconds{1};
constexpr auto abort_patience = std::chrono::seconds{1};  // for handlers that still run, once every socket is closed
constexpr auto stop_poll = std::chrono::milliseconds{2};

std::string address_of(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
    return std::string{text.data()} + ":" + std::to_string(ntohs(address.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
    return "[" + std::string{text.data()} + "]:" + std::to_string(ntohs(address.sin6_port));
  }
  return "unix";
}

/// Lets the log hear of something at most once a second.
class rate_limit {
 public:
  [[nodiscard]] bool allows() noexcept {
    const auto now = clock::now();
    if (now < next_) return false;
    next_ = now + log_again;
    return true;
  }

 private:
  clock::time_point next_{};
};

}  // namespace

/// One listening socket. Events and descriptors: the first loop's thread.
class acceptor final : public io_source {
 public:
  acceptor(data_plane::implementation& plane, unique_fd fd, std::shared_ptr<const listener_settings> settings)
      : plane_{plane}, fd_{std::move(fd)}, address_{address_of(fd_.get())}, settings_{std::move(settings)} {}

  void on_events(std::uint32_t events) noexcept override;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::shared_ptr<const listener_settings> settings() const {
    const std::lock_guard lock{mutex_};
    return settings_;
  }
  void change(std::shared_ptr<const listener_settings> settings) {
    const std::lock_guard lock{mutex_};
    settings_ = std::move(settings);
  }
  [[nodiscard]] listener_status status() const {
    return {settings()->name, address_, state_->connections.load(std::memory_order_relaxed),
            state_->accepted.load(std::memory_order_relaxed), state_->refused.load(std::memory_order_relaxed)};
  }

 private:
  [[nodiscard]] bool accept_one();
  void refuse(std::string_view why);
  void out_of_descriptors();

  data_plane::implementation& plane_;
  const unique_fd fd_;
  const std::string address_;
  const std::shared_ptr<listener_state> state_ = std::make_shared<listener_state>();
  mutable std::mutex mutex_;
  std::shared_ptr<const listener_settings> settings_;  // guarded by mutex_
  rate_limit log_;                                     // the first loop's
};

class data_plane::implementation {
 public:
  implementation(servers::runtime& runtime, data_plane_options options, log_function log,
                 std::vector<std::unique_ptr<io_loop>> loops)
      : host{runtime, options, std::move(log), {}},
        loops_{std::move(loops)},
        reserve_{::open("/dev/null", O_RDONLY | O_CLOEXEC)} {
    for (auto& loop : loops_) loop->start();
  }
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;
  ~implementation() {
    for (auto& loop : loops_) loop->stop();
    // Their servers have ended, or the whole runtime has.
    for (connection* each : host.registry.all()) delete each;
  }

  /// On the first loop's thread, and not before everything queued until now is done. Ran at once if the loop has ended.
  void on_first_loop(const std::function<void()>& function) {
    if (loops_ended_ || loops_.front()->is_current()) return function();
    std::promise<void> done;
    loops_.front()->post([&] {
      function();
      done.set_value();
    });
    done.get_future().wait();
  }

  void each_connection(const std::function<void(connection&)>& function) {
    for (auto& loop : loops_)
      loop->post([this, function, &loop = *loop] {
        for (connection* each : host.registry.of(loop)) function(*each);
      });
  }

  [[nodiscard]] bool wait_for_none(clock::time_point deadline) const {
    while (host.registry.size() > 0) {
      if (clock::now() >= deadline) return false;
      std::this_thread::sleep_for(stop_poll);
    }
    return true;
  }

  void end_loops() {
    for (auto& loop : loops_) loop->stop();
    loops_ended_ = true;
  }

  io_loop& first_loop() noexcept { return *loops_.front(); }
  io_loop& next_loop() noexcept { return *loops_[next_++ % loops_.size()]; }

  /// Gives one connection up for lack of a descriptor: accepted with the reserve, closed, the reserve taken back.
  void accept_without_descriptor(int listening) {
    reserve_.reset();
    { const unique_fd given_up{::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC)}; }
    reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  }

  connection_host host;
  mutable std::mutex mutex;
  std::map<std::string, std::unique_ptr<acceptor>, std::less<>> acceptors;  // guarded by mutex
  bool accepting = true;                                                    // guarded by mutex

 private:
  std::vector<std::unique_ptr<io_loop>> loops_;
  std::size_t next_ = 0;  // the first loop's
  unique_fd reserve_;     // the first loop's
  std::atomic<bool> loops_ended_{false};
};

void acceptor::on_events(std::uint32_t) noexcept {
  for (int i = 0; i < accepts_per_event_max; ++i)
    if (!accept_one()) return;
}

bool acceptor::accept_one() {
  unique_fd fd{::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
  if (!fd) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) out_of_descriptors();
    return errno == ECONNABORTED || errno == EINTR;
  }
  const auto settings = this->settings();
  if (state_->connections.load(std::memory_order_relaxed) >= settings->connections_max) {
    refuse("has its " + std::to_string(settings->connections_max) + " connections; further ones are closed");
    return true;
  }
  state_->connections.fetch_add(1, std::memory_order_relaxed);
  state_->accepted.fetch_add(1, std::memory_order_relaxed);
  io_loop& loop = plane_.next_loop();
  auto* made = new connection{plane_.host, loop, std::move(fd), state_};
  if (loop.is_current()) {
    made->open(*settings);
  } else {
    loop.post([made, settings] { made->open(*settings); });
  }
  return true;
}

void acceptor::refuse(std::string_view why) {
  state_->refused.fetch_add(1, std::memory_order_relaxed);
  if (log_.allows()) plane_.host.log(MOLT_LOG_WARNING, "listener " + settings()->name + " " + std::string{why});
}

void acceptor::out_of_descriptors() {
  plane_.accept_without_descriptor(fd_.get());
  refuse("gets no descriptor from the system; connections are closed (raise the limit of open files)");
}

data_plane::data_plane(std::unique_ptr<implementation> made) noexcept : implementation_{std::move(made)} {}

data_plane::~data_plane() {
  if (implementation_) stop(std::chrono::milliseconds{0});
}

result<std::unique_ptr<data_plane>> data_plane::make(servers::runtime& runtime, data_plane_options options,
                                                     log_function log) {
  if (options.io_threads == 0) return error{reason::invalid_argument, "at least one I/O thread is needed"};
  std::vector<std::unique_ptr<io_loop>> loops;
  for (unsigned i = 0; i < options.io_threads; ++i) {
    MOLT_TRY(auto loop, io_loop::make());
    loops.push_back(std::move(loop));
  }
  return std::unique_ptr<data_plane>{
      new data_plane{std::make_unique<implementation>(runtime, options, std::move(log), std::move(loops))}};
}

result<void> data_plane::listen(unique_fd fd, listener_settings settings) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0)
    return error{reason::invalid_argument, "listener " + settings.name + ": the descriptor is no listening socket"};
  if (::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK) != 0)
    return system_error("listener " + settings.name);
  const int on = 1;  // inherited by what is accepted: saves two calls for each
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);

  auto& plane = *implementation_;
  const std::string name = settings.name;
  close_listener(name);
  auto made =
      std::make_unique<acceptor>(plane, std::move(fd), std::make_shared<const listener_settings>(std::move(settings)));
  const std::lock_guard lock{plane.mutex};
  if (!plane.accepting) return error{reason::stopping, "listener " + name + ": the node stops"};
  if (!plane.first_loop().watch(made->fd(), EPOLLIN, *made)) return system_error("listener " + name);
  plane.acceptors.emplace(name, std::move(made));
  return ok();
}

result<void> data_plane::change(listener_settings settings) {
  auto& plane = *implementation_;
  const std::lock_guard lock{plane.mutex};
  const auto found = plane.acceptors.find(settings.name);
  if (found == plane.acceptors.end()) return error{reason::not_found, "no listener " + settings.name};
  found->second->change(std::make_shared<const listener_settings>(std::move(settings)));
  return ok();
}

bool data_plane::close_listener(std::string_view name) {
  auto& plane = *implementation_;
  std::unique_ptr<acceptor> gone;
  {
    const std::lock_guard lock{plane.mutex};
    const auto found = plane.acceptors.find(name);
    if (found == plane.acceptors.end()) return false;
    gone = std::move(found->second);
    plane.acceptors.erase(found);
  }
  // Between two turns, so that no event of a turn leads to it.
  plane.on_first_loop([&] {
    plane.first_loop().unwatch(gone->fd());
    gone.reset();
  });
  return true;
}

void data_plane::stop_accepting() {
  auto& plane = *implementation_;
  plane.on_first_loop([&] {
    const std::lock_guard lock{plane.mutex};
    if (!std::exchange(plane.accepting, false)) return;
    for (const auto& [name, each] : plane.acceptors) plane.first_loop().unwatch(each->fd());
  });
}

void data_plane::stop(std::chrono::milliseconds patience) {
  auto& plane = *implementation_;
  stop_accepting();
  plane.each_connection([](connection& each) { each.drain(); });
  if (!plane.wait_for_none(clock::now() + patience)) {
    plane.each_connection([](connection& each) { each.abort("the node stops"); });
    (void)plane.wait_for_none(clock::now() + abort_patience);
  }
  plane.end_loops();
}

void data_plane::server_ended(const servers::exit_event& event) noexcept {
  auto& host = implementation_->host;
  if (host.registry.server_ended(event.ref) && event.failed)
    host.log(MOLT_LOG_WARNING, "a connection (" + event.type + ") failed and is closed: " + event.why);
}

std::vector<listener_status> data_plane::listeners() const {
  const std::lock_guard lock{implementation_->mutex};
  std::vector<listener_status> all;
  for (const auto& [name, each] : implementation_->acceptors) all.push_back(each->status());
  return all;
}

std::vector<std::pair<std::string, unique_fd>> data_plane::duplicate_listeners() const {
  const std::lock_guard lock{implementation_->mutex};
  std::vector<std::pair<std::string, unique_fd>> all;
  for (const auto& [name, each] : implementation_->acceptors)
    all.emplace_back(name, unique_fd{::fcntl(each->fd(), F_DUPFD_CLOEXEC, 0)});
  return all;
}

std::size_t data_plane::connections() const noexcept { return implementation_->host.registry.size(); }

}  // namespace molt::node
