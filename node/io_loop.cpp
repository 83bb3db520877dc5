#include "node/io_loop.hpp"

#include "node/connection.hpp"
#include "node/unix_socket.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace molt::node {
namespace {

constexpr std::size_t events_max = 512;
constexpr int tick_ms = 100;

}  // namespace

constinit thread_local io_loop* io_loop::current = nullptr;

result<std::unique_ptr<io_loop>> io_loop::make() {
  unique_fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  if (!epoll) return system_error("epoll");
  unique_fd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!wake) return system_error("eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) return system_error("epoll");
  return std::unique_ptr<io_loop>{new io_loop{std::move(epoll), std::move(wake)}};
}

io_loop::io_loop(unique_fd epoll, unique_fd wake)
    : epoll_{std::move(epoll)}, wake_{std::move(wake)}, scratch_{new char[scratch_size]} {}

io_loop::~io_loop() { stop(); }

void io_loop::start() {
  thread_ = std::thread{[this] { run(); }};
}

void io_loop::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    posted_any_.store(true, std::memory_order_release);
  }
  wake();
  thread_.join();
}

void io_loop::post(std::function<void()> function) {
  {
    const std::lock_guard lock{mutex_};
    posted_.push_back(std::move(function));
    posted_any_.store(true, std::memory_order_release);
  }
  wake();
}

void io_loop::enqueue(connection& which) noexcept {
  if (which.queued_.exchange(true, std::memory_order_acq_rel)) return;
  connection* head = queued_.load(std::memory_order_relaxed);
  do {
    which.next_queued_ = head;
  } while (!queued_.compare_exchange_weak(head, &which, std::memory_order_release, std::memory_order_relaxed));
  if (head == nullptr && !is_current()) wake();
}

void io_loop::wake() noexcept {
  if (woken_.exchange(true, std::memory_order_acq_rel)) return;
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void io_loop::drain_wakes() noexcept {
  std::uint64_t count = 0;
  (void)!::read(wake_.get(), &count, sizeof count);
  // Before the queues are looked at: who adds afterwards wakes again. An exchange, to see what was added before.
  (void)woken_.exchange(false, std::memory_order_acq_rel);
}

bool io_loop::watch(int fd, std::uint32_t events, io_source& source) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &source;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

bool io_loop::rewatch(int fd, std::uint32_t events, io_source& source) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &source;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0;
}

void io_loop::unwatch(int fd) noexcept { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void io_loop::every_tick(std::function<bool()> function) { ticks_.push_back(std::move(function)); }

void io_loop::run() {
  current = this;
  std::array<epoll_event, events_max> events;
  for (;;) {
    const bool more = queued_.load(std::memory_order_relaxed) != nullptr || posted_any_.load(std::memory_order_relaxed);
    const int wait_ms = more ? 0 : ticks_.empty() ? -1 : tick_ms;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms);
    MOLT_ASSERT(count >= 0 || errno == EINTR, errno);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.ptr == nullptr) {
        drain_wakes();
      } else {
        static_cast<io_source*>(event.data.ptr)->on_events(event.events);
      }
    }
    run_queued();
    if (posted_any_.load(std::memory_order_acquire) && !run_posted()) return;
    if (!ticks_.empty()) run_ticks();
  }
}

void io_loop::run_queued() {
  connection* list = queued_.exchange(nullptr, std::memory_order_acquire);
  connection* in_order = nullptr;
  while (list != nullptr) {
    connection* next = list->next_queued_;
    list->next_queued_ = in_order;
    in_order = list;
    list = next;
  }
  while (in_order != nullptr) {
    connection& each = *in_order;
    in_order = each.next_queued_;
    each.queued_.store(false, std::memory_order_release);
    each.attend();  // perhaps its end
  }
}

/// False when the loop is to end.
bool io_loop::run_posted() {
  std::vector<std::function<void()>> functions;
  {
    const std::lock_guard lock{mutex_};
    if (posted_.empty() && stopping_) return false;
    functions.swap(posted_);
    posted_any_.store(stopping_, std::memory_order_relaxed);
  }
  for (const auto& function : functions) function();
  return true;
}

void io_loop::run_ticks() {
  std::vector<std::function<bool()>> functions;
  functions.swap(ticks_);
  for (auto& function : functions)
    if (function()) ticks_.push_back(std::move(function));
}

}  // namespace molt::node
