#include "server/gate.hpp"

#include <thread>
#include <utility>
#include <vector>

namespace molt::servers {

namespace {

constexpr std::chrono::milliseconds recheck{1};  // bounds what a missed notification costs; none is known

std::chrono::steady_clock::time_point time_point_of(std::int64_t ns) noexcept {
  return std::chrono::steady_clock::time_point{std::chrono::nanoseconds{ns}};
}

}  // namespace

std::int64_t steady_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool gate::enter(thread_record& me, std::int64_t deadline_ns) {
  while (!try_enter(me)) {
    std::unique_lock lock{mutex_};
    while (closed_.load()) {
      if (deadline_ns == INT64_MAX) {
        changed_.wait(lock);
      } else {
        if (steady_ns() >= deadline_ns) return false;
        changed_.wait_until(lock, time_point_of(deadline_ns));
      }
    }
  }
  return true;
}

void gate::tell_closer() noexcept {
  std::lock_guard lock{mutex_};
  changed_.notify_all();
}

bool gate::nobody_inside() {
  bool nobody = true;
  for_each_thread(
      [&](thread_record& each) { nobody = nobody && !is_inside(each, each.active.load(std::memory_order_seq_cst)); });
  return nobody;
}

gate::outcome gate::close(std::int64_t deadline_ns) {
  {
    std::lock_guard lock{mutex_};
    if (closed_.load()) return outcome::busy;
    closed_.store(true, std::memory_order_seq_cst);
  }
  fence::heavy();
  for (;;) {
    if (nobody_inside()) return outcome::closed;
    if (steady_ns() >= deadline_ns) break;
    std::unique_lock lock{mutex_};
    changed_.wait_for(lock, recheck);
  }
  open();
  return outcome::timed_out;
}

void gate::open() {
  std::lock_guard lock{mutex_};
  closed_.store(false, std::memory_order_seq_cst);
  changed_.notify_all();
}

bool gate::grace(std::int64_t deadline_ns) {
  fence::heavy();
  const thread_record* const mine = detail::current_record;
  std::vector<std::pair<thread_record*, std::uint64_t>> begun;
  for_each_thread([&](thread_record& each) {
    if (&each == mine) return;
    const auto seen = each.active.load(std::memory_order_seq_cst);
    if (is_inside(each, seen)) begun.emplace_back(&each, seen);
  });
  const auto still_inside = [](const thread_record& each, std::uint64_t seen) {
    const auto now = each.active.load(std::memory_order_seq_cst);
    return active::is_inside(now) && active::leavings(now) == active::leavings(seen);
  };
  for (const auto& [each, seen] : begun)
    while (still_inside(*each, seen)) {
      if (steady_ns() >= deadline_ns) return false;
      std::this_thread::sleep_for(std::chrono::microseconds{50});
    }
  return true;
}

}  // namespace molt::servers
