#include "server/pool.hpp"

#include "base/assert.hpp"
#include "server/thread_record.hpp"

#include <chrono>
#include <utility>

namespace molt::servers {

namespace {

constexpr unsigned searches_before_sleep = 200;
constexpr unsigned next_in_a_row_max = 64;
constexpr unsigned common_first_every = 61;
constexpr std::chrono::milliseconds tick{1};

}  // namespace

pool::pool(unsigned threads, std::function<cell_detail&(cell&)> detail, turn_function turn, rescue_function rescue)
    : wanted_{threads}, detail_{std::move(detail)}, turn_{std::move(turn)}, rescue_{std::move(rescue)} {}

void pool::start() {
  std::lock_guard lock{mutex_};
  while (alive_ < wanted_) add_worker();
}

void pool::stop() {
  {
    std::lock_guard lock{mutex_};
    stopping_ = true;
    woken_.notify_all();
  }
  for (unsigned i = 0; i < workers_max; ++i) {
    worker* const each = workers_[i].load();
    if (each == nullptr) break;
    if (each->thread.joinable()) each->thread.join();
  }
  std::lock_guard lock{mutex_};
  for (auto& slot : workers_) delete slot.exchange(nullptr);
  worker_count_ = 0;
  alive_ = 0;
}

// Reuses the place of a worker that has ended, or takes a new one.
void pool::add_worker() {
  worker* place = nullptr;
  const unsigned count = worker_count_.load();
  for (unsigned i = 0; i < count && place == nullptr; ++i)
    if (worker* const each = workers_[i].load(); each->ended) place = each;
  if (place != nullptr) {
    place->thread.join();
    place->ended = false;
  } else {
    if (count == workers_max) return;
    place = new worker;
    place->owner = this;
    workers_[count].store(place);
    worker_count_.store(count + 1);
  }
  ++alive_;
  place->thread = std::thread{[this, place] { run(*place); }};
}

void pool::push(cell& ready) {
  auto* const mine = static_cast<worker*>(this_thread().worker);
  if (mine == nullptr || mine->owner != this) {
    put_common(ready);
    return;
  }
  cell* older = nullptr;
  if (mine->next.load(std::memory_order_relaxed) == nullptr)
    mine->next.store(&ready, fence::fast_store);
  else
    older = mine->next.exchange(&ready, std::memory_order_acq_rel);
  if (older != nullptr) put_ring(*mine, *older);
  fence::light();
  if (older == nullptr)
    attend_handoff();
  else if (asleep_.load(fence::fast_load) != 0 && searching_.load(fence::fast_load) == 0)
    wake_one();
}

void pool::wake_to_tick() {
  if (asleep_.load(fence::fast_load) != 0 && searching_.load(fence::fast_load) == 0) wake_one();
}

// A worker that was to run the same server next at this one's last tick.
thread_record* pool::find_stuck(const worker& sleeper) {
  const unsigned count = worker_count_.load(std::memory_order_acquire);
  thread_record* stuck = nullptr;
  for (unsigned i = 0; i < count; ++i) {
    worker* const each = workers_[i].load(std::memory_order_acquire);
    thread_record* const record = each->record.load(std::memory_order_acquire);
    if (each == &sleeper || record == nullptr) continue;
    const auto before = std::exchange(each->handoff_seen, record->handoff.word());
    if (before == each->handoff_seen && handoff::server_of(before) != nullptr) stuck = record;
  }
  return stuck;
}

bool pool::has_other_work(const thread_record& me) const noexcept {
  const auto& mine = *static_cast<const worker*>(me.worker);
  return common_size_.load(std::memory_order_relaxed) != 0 || mine.next.load(std::memory_order_relaxed) != nullptr ||
         mine.ring_head.load(std::memory_order_relaxed) != mine.ring_tail.load(std::memory_order_relaxed);
}

void pool::put_ring(worker& mine, cell& ready) {
  const auto tail = mine.ring_tail.load(std::memory_order_relaxed);
  if (tail - mine.ring_head.load(std::memory_order_acquire) == ring_size) {
    put_common(ready);
    return;
  }
  mine.ring[tail % ring_size].store(&ready, std::memory_order_relaxed);
  mine.ring_tail.store(tail + 1, fence::fast_store);
}

void pool::put_common(cell& ready) {
  detail_(ready).run_next.store(nullptr, std::memory_order_relaxed);
  std::lock_guard lock{mutex_};
  if (last_ != nullptr)
    detail_(*last_).run_next.store(&ready, std::memory_order_relaxed);
  else
    first_ = &ready;
  last_ = &ready;
  common_size_.store(common_size_.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
  if (asleep_.load() > wakes_ && searching_.load() == 0) {
    ++wakes_;
    woken_.notify_one();
  }
}

void pool::wake_one() {
  std::lock_guard lock{mutex_};
  if (asleep_.load() <= wakes_) return;
  ++wakes_;
  woken_.notify_one();
}

cell* pool::take_common() {
  if (common_size_.load(std::memory_order_seq_cst) == 0) return nullptr;
  std::lock_guard lock{mutex_};
  cell* const taken = first_;
  if (taken == nullptr) return nullptr;
  first_ = detail_(*taken).run_next.load(std::memory_order_relaxed);
  if (first_ == nullptr) last_ = nullptr;
  common_size_.store(common_size_.load(std::memory_order_relaxed) - 1, std::memory_order_seq_cst);
  return taken;
}

cell* pool::take_ring(worker& from) noexcept {
  auto head = from.ring_head.load(std::memory_order_acquire);
  while (head != from.ring_tail.load(std::memory_order_acquire)) {
    cell* const candidate = from.ring[head % ring_size].load(std::memory_order_relaxed);
    if (from.ring_head.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel)) return candidate;
  }
  return nullptr;
}

cell* pool::steal(worker& thief, bool next_too) noexcept {
  const unsigned count = worker_count_.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    worker* const each = workers_[i].load(std::memory_order_acquire);
    if (each == &thief) continue;
    if (cell* const taken = take_ring(*each)) return taken;
    if (next_too && each->next.load(std::memory_order_relaxed) != nullptr)
      if (cell* const taken = each->next.exchange(nullptr, std::memory_order_acq_rel)) return taken;
  }
  return nullptr;
}

cell* pool::find(worker& mine) {
  if (++mine.turns % common_first_every == 0)
    if (cell* const taken = take_common()) return taken;
  if (mine.next.load(std::memory_order_relaxed) != nullptr)
    if (cell* const taken = mine.next.exchange(nullptr, std::memory_order_acq_rel)) {
      if (++mine.next_in_a_row < next_in_a_row_max) return taken;
      mine.next_in_a_row = 0;
      put_ring(mine, *taken);
    }
  mine.next_in_a_row = 0;
  if (cell* const taken = take_ring(mine)) return taken;
  if (cell* const taken = take_common()) return taken;
  return steal(mine, false);
}

void pool::run(worker& mine) {
  auto& me = this_thread();
  me.worker = &mine;
  mine.record.store(&me, std::memory_order_release);
  bool searching = false;
  unsigned fruitless = 0;
  for (;;) {
    if (cell* const found = find(mine)) {
      if (searching) {
        searching = false;
        // Whoever scheduled while this one searched has woken nobody.
        if (searching_.fetch_sub(1) == 1 && asleep_.load() != 0 && common_size_.load() != 0) wake_one();
      }
      fruitless = 0;
      me.is_worker = true;
      turn_(*found);
      me.is_worker = false;
      continue;
    }
    if (!searching) {
      searching = true;
      searching_.fetch_add(1);
    }
    if (++fruitless < searches_before_sleep) {
      for (int i = 0; i < 4; ++i) fence::spin_pause();
      continue;
    }
    searching = false;
    fruitless = 0;
    searching_.fetch_sub(1);
    if (!sleep(mine)) break;
  }
  me.worker = nullptr;
}

bool pool::sleep(worker& mine) {
  std::unique_lock lock{mutex_};
  const auto surplus = [&] { return alive_ - blocked_ > wanted_; };
  asleep_.fetch_add(1);
  fence::heavy();
  // Looks once more at what others may have put in place without seeing this one announced.
  cell* found = first_ == nullptr ? steal(mine, false) : nullptr;
  bool ticked = false;
  bool ticks = false;
  while (found == nullptr && first_ == nullptr && !stopping_ && wakes_ == 0 && !surplus()) {
    if (alive_ - blocked_ <= asleep_.load() && blocked_ == 0) {
      if (std::exchange(ticks, false)) ticking_.fetch_sub(1);
      woken_.wait(lock);
    } else {
      if (!std::exchange(ticks, true)) ticking_.fetch_add(1);
      if (woken_.wait_for(lock, tick) != std::cv_status::timeout) continue;
      found = steal(mine, ticked);  // in `next` for a whole tick: its worker may be busy for long
      ticked = true;
      if (found != nullptr) break;
      if (thread_record* const stuck = find_stuck(mine)) {
        lock.unlock();
        const bool rescued = rescue_(*stuck);
        lock.lock();
        if (rescued) break;  // it stands in this worker's `next` now
      }
    }
  }
  if (ticks) ticking_.fetch_sub(1);
  asleep_.fetch_sub(1);
  if (wakes_ != 0) --wakes_;
  const bool end = stopping_ || (surplus() && found == nullptr && first_ == nullptr);
  if (end) {
    --alive_;
    mine.ended = true;
  }
  lock.unlock();
  if (end)
    if (cell* const rescued = mine.next.exchange(nullptr, std::memory_order_acq_rel)) put_common(*rescued);
  if (found == nullptr) return !end;
  if (end)
    put_common(*found);
  else
    put_ring(mine, *found);
  return !end;
}

void pool::blocking_begin(thread_record& me) {
  auto& mine = *static_cast<worker*>(me.worker);
  if (cell* const taken = mine.next.exchange(nullptr, std::memory_order_acq_rel)) put_common(*taken);
  std::lock_guard lock{mutex_};
  ++blocked_;
  if (stopping_) return;
  if (alive_ - blocked_ < wanted_)
    add_worker();
  else if (asleep_.load() > wakes_) {
    ++wakes_;
    woken_.notify_one();
  }
}

void pool::blocking_end(thread_record&) {
  std::lock_guard lock{mutex_};
  --blocked_;
}

}  // namespace molt::servers
