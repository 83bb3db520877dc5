#include "server/timers.hpp"

#include "server/thread_record.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace molt::servers {

namespace {

constexpr std::size_t deliveries_at_once_max = 1024;
constexpr std::int64_t longest_delay_ns = std::int64_t{1} << 61;

}  // namespace

timers::timers(clock& time, std::size_t timers_max, deliver_function deliver, copy_function copy)
    : clock_{time}, timers_max_{timers_max}, deliver_{std::move(deliver)}, copy_{std::move(copy)} {
  for (auto& each : shards_) each = std::make_unique<shard>(clock_.monotonic_ns());
}

void timers::start() {
  clock_.on_change([this] { tell(); });
  thread_ = std::thread{[this] { run(); }};
}

void timers::stop() {
  if (!thread_.joinable()) return;
  clock_.on_change({});
  stopping_ = true;
  tell();
  thread_.join();
}

void timers::tell() {
  if (changed_.load(std::memory_order_seq_cst) || changed_.exchange(true, std::memory_order_seq_cst)) return;
  std::lock_guard lock{sleep_mutex_};
  woken_.notify_one();
}

std::uint64_t timers::add(molt_ref to, std::int64_t delay_ns, std::int64_t period_ns, envelope* message) {
  const auto due =
      static_cast<std::uint64_t>(clock_.monotonic_ns() + std::clamp<std::int64_t>(delay_ns, 0, longest_delay_ns));
  const auto period = static_cast<std::uint64_t>(std::min(period_ns, longest_delay_ns));
  if (stopping_.load(std::memory_order_relaxed)) return 0;
  if (pending_.fetch_add(1, std::memory_order_relaxed) >= timers_max_) {
    pending_.fetch_sub(1, std::memory_order_relaxed);
    return 0;
  }
  const unsigned own = this_thread().id % shards;
  timer_wheel::handle added{};
  {
    shard& mine = *shards_[own];
    std::lock_guard lock{mine.mutex};
    added = mine.wheel.add(to, due, period, message);
  }
  if (added.index == timer_wheel::none) {
    pending_.fetch_sub(1, std::memory_order_relaxed);
    return 0;
  }
  if (timer_wheel::due_tick(due) < sleeping_until_.load(std::memory_order_seq_cst)) tell();
  return (std::uint64_t{added.generation} << 32U) | (std::uint64_t{added.index + 1} << shard_bits) | own;
}

envelope* timers::cancel(std::uint64_t id) {
  const auto index = static_cast<std::uint32_t>(id) >> shard_bits;
  if (index == 0) return nullptr;
  envelope* cancelled = nullptr;
  {
    shard& its = *shards_[id % shards];
    std::lock_guard lock{its.mutex};
    cancelled = its.wheel.cancel({index - 1, static_cast<std::uint32_t>(id >> 32U)});
  }
  if (cancelled != nullptr) pending_.fetch_sub(1, std::memory_order_relaxed);
  return cancelled;
}

void timers::for_each(const std::function<void(molt_ref, envelope*&)>& visit) {
  std::lock_guard delivering{delivery_mutex_};
  for (auto& each : shards_) {
    std::lock_guard lock{each->mutex};
    const std::size_t before = each->wheel.size();
    each->wheel.visit(visit);
    pending_.fetch_sub(before - each->wheel.size(), std::memory_order_relaxed);
  }
}

// True if there is nothing more to deliver now.
bool timers::deliver_due() {
  const auto now = clock_.monotonic_ns();
  bool all = true;
  std::lock_guard delivering{delivery_mutex_};
  for (auto& each : shards_) {
    {
      std::lock_guard lock{each->mutex};
      const std::size_t before = each->wheel.size();
      all = each->wheel.turn_to(now, deliveries_at_once_max, copy_, due_) && all;
      pending_.fetch_sub(before - each->wheel.size(), std::memory_order_relaxed);
    }
    for (auto& [to, message] : due_) deliver_(to, message);
    all = all && due_.empty();
    due_.clear();
  }
  return all;
}

void timers::run() {
  while (!stopping_.load()) {
    changed_.store(false, std::memory_order_seq_cst);
    sleeping_until_.store(timer_wheel::never, std::memory_order_seq_cst);
    if (stopping_.load()) return;
    if (deliver_due()) sleep();
  }
}

void timers::sleep() {
  std::uint64_t until = timer_wheel::never;
  for (auto& each : shards_) {
    std::lock_guard lock{each->mutex};
    until = std::min(until, each->wheel.next_event_tick());
  }
  sleeping_until_.store(until, std::memory_order_seq_cst);
  const auto woken = [&] { return changed_.load(std::memory_order_seq_cst); };
  std::unique_lock lock{sleep_mutex_};
  if (!clock_.is_steady() || until == timer_wheel::never) {
    woken_.wait(lock, woken);
  } else {
    const auto due_ns = static_cast<std::int64_t>(until << timer_wheel::tick_shift);
    woken_.wait_for(lock, std::chrono::nanoseconds{due_ns - clock_.monotonic_ns()}, woken);
  }
}

}  // namespace molt::servers
