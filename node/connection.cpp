#include "node/connection.hpp"

#include "node/connection_host.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

namespace molt::node {
namespace {

constexpr std::size_t read_room_min = std::size_t{16} << 10U;     // beside what is left over
constexpr std::size_t read_max = std::size_t{1} << 20U;           // one event: so that others get their turn
constexpr std::size_t send_at_once_min = std::size_t{64} << 10U;  // larger writes skip the buffer while it is empty
constexpr std::size_t spare_max = std::size_t{64} << 10U;
constexpr std::size_t discard_max = std::size_t{256} << 10U;
constexpr auto stop_patience = std::chrono::milliseconds{1};
constexpr unsigned drain_timeout_ms = 60'000;  // a client that takes nothing for that long is given up

}  // namespace

connection::connection(connection_host& host, io_loop& loop, unique_fd fd, std::shared_ptr<listener_state> listener)
    : host_{host}, loop_{loop}, listener_{std::move(listener)}, fd_{std::move(fd)} {
  host_.registry.add(*this);
}

connection::~connection() {
  if (state_ != state::closed) listener_->connections.fetch_sub(1, std::memory_order_relaxed);
}

void connection::open(const listener_settings& settings) {
  host_.registry.starting();
  auto started = host_.runtime.start_connection(settings.connection_type, *this, settings.arguments);
  if (!started && started.error().why() == reason::not_found && !settings.other_type.empty())
    started = host_.runtime.start_connection(settings.other_type, *this, settings.arguments);
  if (!started || started->bits == 0) {  // 0: its init wants no server, and so no connection
    host_.registry.start_failed();
    if (!started)
      host_.log(MOLT_LOG_ERROR,
                "listener " + settings.name + ": a connection did not start: " + started.error().text());
    server_ended_.store(true, std::memory_order_release);
    return close_socket({});
  }
  server_ = *started;
  host_.registry.started(*this, server_);
  watched_ = EPOLLIN;
  if (!loop_.watch(fd_.get(), watched_, *this)) abort("epoll refused the socket");
}

void connection::on_events(std::uint32_t events) noexcept {
  if (state_ == state::closed) return;
  if ((events & EPOLLOUT) != 0) {
    flush();
    if (redeliver_ && !broken_ && pending() <= host_.options.output_high_water / 2) redeliver();
  }
  const bool reading = (watched_ & EPOLLIN) != 0;
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 && !reading) return abort("connection lost");
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0 && state_ == state::open && reading) receive();
  settle();
}

void connection::receive() noexcept {
  const bool nothing_left_over = in_.empty();
  char* to = loop_.scratch();
  std::size_t room = io_loop::scratch_size;
  if (!nothing_left_over) {
    to = in_.prepare(read_room_min, room);
    if (to == nullptr) return abort("out of memory for input");
    room = std::min(room, read_max);
  }
  const ssize_t size = ::recv(fd_.get(), to, room, 0);
  if (size < 0) {
    if (errno != EAGAIN && errno != EINTR) abort("connection lost");
    return;
  }
  if (size == 0) {
    input_ended_ = true;
    return;
  }
  if (nothing_left_over) return deliver({to, static_cast<std::size_t>(size)});
  in_.commit(static_cast<std::size_t>(size));
  deliver(in_.bytes());
}

void connection::redeliver() noexcept {
  redeliver_ = false;
  if (state_ == state::open && !in_.empty()) deliver(in_.bytes());
}

void connection::deliver(std::string_view bytes) noexcept {
  for (;;) {
    take_foreign_output();
    const std::size_t waiting_before = pending();
    std::size_t consumed = 0;
    molt_text why;
    why.size = 0;
    delivering_ = true;
    const int status = host_.runtime.deliver(server_, bytes.data(), bytes.size(), consumed, &why);
    delivering_ = false;
    const bool asked_to_close = close_asked_.load(std::memory_order_acquire);
    if (status != MOLT_OK || consumed > bytes.size() || asked_to_close) {
      // Thrown, stopped or closed: send what was written until then. The server's end is logged where it is reported.
      begin_draining();
      return flush();
    }
    bytes.remove_prefix(consumed);
    const std::size_t waiting_after = pending();
    flush();
    // A plugin may hold back while its output waits; what it left it is to be offered again when the output is gone.
    const bool held_back = !bytes.empty() && (waiting_after > 0 || waiting_before > 0);
    if (broken_ || !held_back) break;
    if (!out_.empty()) {
      redeliver_ = true;
      break;
    }
  }
  keep(bytes);
}

/// Puts what is unconsumed where it stays: `rest` is the end of in_, or lies in the scratch.
void connection::keep(std::string_view rest) noexcept {
  if (!in_.empty()) return in_.consume(in_.size() - rest.size());
  if (rest.empty()) return;
  if (!in_.append(rest.data(), rest.size())) broken_ = true;
}

std::size_t connection::send_now(std::string_view bytes) noexcept {
  const ssize_t size = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (size >= 0) return static_cast<std::size_t>(size);
  if (errno != EAGAIN && errno != EINTR) broken_ = true;
  return 0;
}

void connection::flush() noexcept {
  if (out_.empty() || broken_ || state_ == state::closed) return;
  out_.take(send_now(out_.bytes()));
  out_size_.store(out_.size(), std::memory_order_relaxed);
  if (!out_.empty()) return;
  if (out_.capacity() <= spare_max && loop_.spare().capacity() < out_.capacity()) loop_.spare().swap(out_);
  out_.clear();
}

/// After anything that changed output, input or state: what comes next.
void connection::settle() noexcept {
  if (state_ == state::closed) return;
  if (broken_) return abort("connection lost");
  if (in_.size() > host_.options.input_max) {
    host_.log(MOLT_LOG_WARNING, "a connection sent more than " + std::to_string(host_.options.input_max) +
                                    " bytes that its server did not consume: closed");
    return abort("too much unconsumed input");
  }
  const bool output_gone = out_.empty();
  if (output_gone && redeliver_) {
    redeliver();
    return settle();  // at most once more: redeliver_ is set again only while output waits
  }
  if (output_gone && (state_ == state::draining || input_ended_)) return finish();
  const std::size_t waiting = pending();
  if (waiting > host_.options.output_high_water) paused_ = true;
  if (waiting <= host_.options.output_high_water / 2) paused_ = false;
  watch_for_what_matters();
}

void connection::watch_for_what_matters() noexcept {
  const bool read = state_ == state::open && !input_ended_ && !paused_;
  const std::uint32_t wanted = (read ? EPOLLIN : 0U) | (out_.empty() ? 0U : EPOLLOUT);
  if (wanted == watched_) return;
  watched_ = wanted;
  if (!loop_.rewatch(fd_.get(), wanted, *this)) abort("epoll refused the socket");
}

void connection::begin_draining() noexcept {
  state_ = state::draining;
  redeliver_ = false;
  in_.clear();
  (void)::setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &drain_timeout_ms, sizeof drain_timeout_ms);
}

void connection::drain() noexcept {
  if (state_ != state::open) return;
  begin_draining();
  flush();
  settle();
}

/// The output is gone. What the client sent beyond is read and dropped, for closing over it would reset the connection
/// and could cost the client our last answer.
void connection::finish() noexcept {
  ::shutdown(fd_.get(), SHUT_WR);
  for (std::size_t dropped = 0; dropped < discard_max && !input_ended_;) {
    const ssize_t size = ::recv(fd_.get(), loop_.scratch(), io_loop::scratch_size, 0);
    if (size <= 0) break;
    dropped += static_cast<std::size_t>(size);
  }
  close_socket("connection closed");
}

void connection::abort(std::string_view why) noexcept {
  if (state_ != state::closed) close_socket(why);
}

void connection::close_socket(std::string_view why) noexcept {
  state_ = state::closed;
  closed_.store(true, std::memory_order_release);
  // By hand: a copy of this process may hold a duplicate for a moment (rehearsal.hpp), and closing is then not enough.
  loop_.unwatch(fd_.get());
  fd_.reset();
  in_.clear();
  out_.clear();
  out_size_.store(0, std::memory_order_relaxed);
  listener_->connections.fetch_sub(1, std::memory_order_relaxed);
  if (server_ended_.load(std::memory_order_acquire)) return loop_.enqueue(*this);
  if (stop_server(why)) return;
  // Its handler runs on, or everything is at rest: try again later, rather than hold up the others.
  stopping_later_ = true;
  loop_.every_tick([this, text = std::string{why}] {
    stopping_later_ = !stop_server(text);
    if (!stopping_later_) loop_.enqueue(*this);
    return stopping_later_;
  });
}

/// False: it could not be stopped yet. The connection stays at least until the server's end is reported.
bool connection::stop_server(std::string_view why) noexcept {
  const auto stopped = host_.runtime.stop(server_, why, stop_patience);
  return stopped || stopped.error().why() != reason::timeout;
}

void connection::attend() noexcept {
  const bool ended = server_ended_.load(std::memory_order_acquire);
  take_foreign_output();
  if (state_ != state::closed) {
    if (ended || close_asked_.load(std::memory_order_acquire)) drain();
    flush();
    settle();
  }
  if (state_ == state::closed && ended && !stopping_later_ && host_.registry.remove(*this)) delete this;
}

int connection::write(const char* data, std::size_t size) noexcept {
  if (closed_.load(std::memory_order_relaxed)) return MOLT_STOPPING;
  return loop_.is_current() ? write_here({data, size}) : write_from_elsewhere({data, size});
}

int connection::write_here(std::string_view bytes) noexcept {
  take_foreign_output();
  if (out_.size() + bytes.size() > host_.options.output_max) {
    broken_ = true;
    if (!delivering_) loop_.enqueue(*this);
    return MOLT_OUT_OF_BOUNDS;
  }
  if (out_.empty() && bytes.size() >= send_at_once_min && !broken_) bytes.remove_prefix(send_now(bytes));
  if (out_.capacity() == 0 && bytes.size() <= spare_max) out_.swap(loop_.spare());
  if (!out_.append(bytes.data(), bytes.size())) broken_ = true;
  out_size_.store(out_.size(), std::memory_order_relaxed);
  if (!delivering_) loop_.enqueue(*this);
  return broken_ ? MOLT_STOPPING : MOLT_OK;
}

int connection::write_from_elsewhere(std::string_view bytes) noexcept {
  {
    const std::lock_guard lock{foreign_mutex_};
    const bool too_much =
        out_size_.load(std::memory_order_relaxed) + foreign_.size() + bytes.size() > host_.options.output_max;
    if (too_much || !foreign_.append(bytes.data(), bytes.size())) {
      close_asked_.store(true, std::memory_order_release);
      loop_.enqueue(*this);
      return MOLT_OUT_OF_BOUNDS;
    }
    foreign_size_.store(foreign_.size(), std::memory_order_release);
  }
  loop_.enqueue(*this);
  return MOLT_OK;
}

void connection::take_foreign_output() noexcept {
  if (foreign_size_.load(std::memory_order_acquire) == 0) return;
  byte_buffer taken;
  {
    const std::lock_guard lock{foreign_mutex_};
    taken.swap(foreign_);
    foreign_size_.store(0, std::memory_order_relaxed);
    if (state_ != state::closed) out_size_.store(out_.size() + taken.size(), std::memory_order_relaxed);
  }
  if (state_ == state::closed) return;
  if (out_.empty()) {
    out_.swap(taken);
  } else if (!out_.append(taken.bytes().data(), taken.size())) {
    broken_ = true;
  }
}

void connection::close() noexcept {
  close_asked_.store(true, std::memory_order_release);
  if (!(loop_.is_current() && delivering_)) loop_.enqueue(*this);
}

std::size_t connection::pending() const noexcept {
  return out_size_.load(std::memory_order_relaxed) + foreign_size_.load(std::memory_order_relaxed);
}

void connection::server_ended() noexcept {
  server_ended_.store(true, std::memory_order_release);
  loop_.enqueue(*this);
}

}  // namespace molt::node
