#include "server/timers.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <utility>

namespace molt::servers {

namespace {

constexpr std::size_t deliveries_at_once_max = 1024;
constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
constexpr std::int64_t longest_delay_ns = std::int64_t{1} << 61;

}  // namespace

timers::timers(clock& time, std::size_t timers_max, deliver_function deliver)
    : clock_{time}, timers_max_{std::min<std::size_t>(timers_max, none - 1)}, deliver_{std::move(deliver)} {
  first_.fill(none);
  now_tick_ = static_cast<std::uint64_t>(clock_.monotonic_ns()) >> tick_shift;
}

void timers::start() {
  clock_.on_change([this] {
    std::lock_guard lock{mutex_};
    changed_flag_ = true;
    changed_.notify_one();
  });
  thread_ = std::thread{[this] { run(); }};
}

void timers::stop() {
  if (thread_.joinable()) clock_.on_change({});
  {
    std::lock_guard lock{mutex_};
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

std::uint64_t timers::add(molt_ref to, std::int64_t delay_ns, envelope* message) {
  const auto due =
      static_cast<std::uint64_t>(clock_.monotonic_ns() + std::clamp<std::int64_t>(delay_ns, 0, longest_delay_ns));
  std::lock_guard lock{mutex_};
  if (stopping_ || pending_ >= timers_max_) return 0;
  std::uint32_t index = unused_;
  if (index != none) {
    unused_ = timers_[index].next;
  } else {
    index = static_cast<std::uint32_t>(timers_.size());
    timers_.emplace_back();
  }
  timer& added = timers_[index];
  added.message = message;
  added.to = to;
  added.due_tick = (due >> tick_shift) + 1;  // rounded up: never early
  insert(index);
  ++pending_;
  if (added.due_tick < sleeping_until_) {
    changed_flag_ = true;
    changed_.notify_one();
  }
  return (std::uint64_t{added.generation} << 32U) | (index + 1);
}

// Wheel w holds what is due within 256^(w+1) ticks of now; its slot is the w-th byte of the due tick.
void timers::insert(std::uint32_t index) {
  timer& added = timers_[index];
  const std::uint64_t due = std::max(added.due_tick, now_tick_ + 1);
  const std::uint64_t differs = due ^ now_tick_;
  unsigned wheel = differs == 0 ? 0 : (static_cast<unsigned>(std::bit_width(differs)) - 1) / 8;
  unsigned slot = 0;
  if (wheel >= wheels) {
    wheel = wheels - 1;  // farther than the last wheel reaches: looked at again when the slot just passed comes round
    slot = static_cast<unsigned>((now_tick_ >> (8 * wheel)) + slots - 1) % slots;
  } else {
    slot = static_cast<unsigned>(due >> (8 * wheel)) % slots;
  }
  added.slot = wheel * slots + slot;
  added.previous = none;
  added.next = first_[added.slot];
  if (added.next != none) timers_[added.next].previous = index;
  first_[added.slot] = index;
  occupied_[wheel][slot / 64] |= std::uint64_t{1} << (slot % 64);
}

void timers::unlink(std::uint32_t index) {
  timer& gone = timers_[index];
  if (gone.next != none) timers_[gone.next].previous = gone.previous;
  if (gone.previous != none) {
    timers_[gone.previous].next = gone.next;
    return;
  }
  first_[gone.slot] = gone.next;
  if (gone.next == none)
    occupied_[gone.slot / slots][gone.slot % slots / 64] &= ~(std::uint64_t{1} << (gone.slot % 64));
}

envelope* timers::release(std::uint32_t index) {
  timer& freed = timers_[index];
  if (++freed.generation == 0) freed.generation = 1;
  freed.next = unused_;
  unused_ = index;
  --pending_;
  return std::exchange(freed.message, nullptr);
}

envelope* timers::cancel(std::uint64_t id) {
  const std::uint64_t index = (id & 0xffffffffU) - 1;
  std::lock_guard lock{mutex_};
  if (index >= timers_.size() || timers_[index].message == nullptr || timers_[index].generation != id >> 32U)
    return nullptr;
  unlink(static_cast<std::uint32_t>(index));
  return release(static_cast<std::uint32_t>(index));
}

void timers::for_each(const std::function<void(molt_ref, envelope*&)>& visit) {
  std::lock_guard lock{mutex_};
  for (std::uint32_t i = 0; i < timers_.size(); ++i) {
    if (timers_[i].message == nullptr) continue;
    visit(timers_[i].to, timers_[i].message);
    if (timers_[i].message != nullptr) continue;
    unlink(i);
    release(i);
  }
}

std::size_t timers::size() const {
  std::lock_guard lock{mutex_};
  return pending_;
}

// The tick at which the wheels must next be looked at: the first occupied slot of the first wheel, or where a further
// wheel's occupied slot begins.
std::uint64_t timers::next_event_tick() const {
  for (unsigned wheel = 0; wheel < wheels; ++wheel) {
    const std::uint64_t at = now_tick_ >> (8 * wheel);
    for (unsigned step = 1; step <= slots; ++step) {
      const auto slot = static_cast<unsigned>(at + step) % slots;
      if ((occupied_[wheel][slot / 64] >> (slot % 64) & 1U) == 0) continue;
      if (wheel == 0 || step < slots) return (at + step) << (8 * wheel);
      return (at + step) << (8 * wheel);
    }
  }
  return never;
}

void timers::cascade(unsigned wheel) {
  const auto slot = static_cast<unsigned>(now_tick_ >> (8 * wheel)) % slots;
  std::uint32_t index = std::exchange(first_[wheel * slots + slot], none);
  occupied_[wheel][slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
  while (index != none) {
    const std::uint32_t next = timers_[index].next;
    if (timers_[index].due_tick <= now_tick_) {
      // Due right now: into the first wheel's present slot, which is emptied next.
      timer& due = timers_[index];
      due.slot = static_cast<unsigned>(now_tick_ % slots);
      due.previous = none;
      due.next = first_[due.slot];
      if (due.next != none) timers_[due.next].previous = index;
      first_[due.slot] = index;
      occupied_[0][due.slot / 64] |= std::uint64_t{1} << (due.slot % 64);
    } else {
      insert(index);
    }
    index = next;
  }
}

void timers::turn_to(std::uint64_t tick, std::vector<std::pair<molt_ref, envelope*>>& due) {
  while (now_tick_ < tick && due.size() < deliveries_at_once_max) {
    const std::uint64_t next = next_event_tick();
    if (next > tick) {
      now_tick_ = tick;
      return;
    }
    now_tick_ = next;
    for (unsigned wheel = wheels - 1; wheel > 0; --wheel)
      if ((now_tick_ & ((std::uint64_t{1} << (8 * wheel)) - 1)) == 0) cascade(wheel);
    const auto slot = static_cast<unsigned>(now_tick_ % slots);
    while (first_[slot] != none) {
      const std::uint32_t index = first_[slot];
      unlink(index);
      const molt_ref to = timers_[index].to;
      due.emplace_back(to, release(index));
    }
  }
}

void timers::run() {
  std::vector<std::pair<molt_ref, envelope*>> due;
  std::unique_lock lock{mutex_};
  while (!stopping_) {
    changed_flag_ = false;
    const auto now_ns = clock_.monotonic_ns();
    turn_to(static_cast<std::uint64_t>(now_ns) >> tick_shift, due);
    if (!due.empty()) {
      lock.unlock();
      for (auto& [to, message] : due) deliver_(to, message);
      due.clear();
      lock.lock();
      continue;
    }
    sleeping_until_ = next_event_tick();
    if (!changed_flag_ && !stopping_) {
      if (!clock_.is_steady() || sleeping_until_ == never) {
        changed_.wait(lock, [&] { return changed_flag_ || stopping_; });
      } else {
        const auto until = static_cast<std::int64_t>(sleeping_until_ << tick_shift);
        changed_.wait_for(lock, std::chrono::nanoseconds{until - now_ns}, [&] { return changed_flag_ || stopping_; });
      }
    }
    sleeping_until_ = 0;
  }
}

}  // namespace molt::servers
