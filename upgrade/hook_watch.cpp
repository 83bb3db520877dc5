#include "upgrade/hook_watch.hpp"

#include "base/assert.hpp"
#include "server/fence.hpp"

#include <algorithm>
#include <cstdio>
#include <new>
#include <set>

namespace molt::upgrade {
namespace {

/// How often a watchdog looks: so many times in hook_timeout, but within these bounds.
constexpr int looks_in_limit = 8;
constexpr std::chrono::milliseconds pause_min{2};
constexpr std::chrono::milliseconds pause_max{250};

}  // namespace

std::string shown_name(const servers::resting_server& server) {
  if (auto name = server.name(); !name.empty()) return name;
  return std::string{server.type().name()} + " " + std::to_string(server.ref().bits);
}

std::string to_text(const late_hook& late) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f s", std::chrono::duration<double>{late.running}.count());
  return late.server + " (" + late.type + "): " + (late.hook.empty() ? "archiving its state" : late.hook) + ", " +
         late.from_version + " to " + late.to_version + ", has run for " + seconds + "; hook_timeout_ms is " +
         std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(late.limit).count());
}

// ---- hook_watch

/// Of one thread.
struct alignas(64) hook_watch::run::place {
  std::atomic<const run*> current{nullptr};
  std::atomic<bool> looked_at{false};
  std::atomic<bool> owned{true};
  place* next = nullptr;
  std::mutex mutex;  // held by whoever looks
};

/// As long as it lives, the run that is at the place stays there.
struct hook_watch::run::look {
  explicit look(place& at) : lock{at.mutex}, here{at} {
    here.looked_at.store(true, std::memory_order_seq_cst);
    servers::fence::heavy();
  }
  look(const look&) = delete;
  look& operator=(const look&) = delete;
  ~look() { here.looked_at.store(false, std::memory_order_release); }
  std::scoped_lock<std::mutex> lock;
  place& here;
};

/// Gives a thread's place back when the thread ends.
struct hook_watch::run::place_owner {
  place* mine = nullptr;
  place_owner() = default;
  place_owner(const place_owner&) = delete;
  place_owner& operator=(const place_owner&) = delete;
  ~place_owner() {
    if (mine != nullptr) mine->owned.store(false, std::memory_order_release);
  }
};

std::atomic<hook_watch::run::place*> hook_watch::run::places{nullptr};

/// Null: there is no memory for one.
hook_watch::run::place* hook_watch::run::take_place() noexcept {
  for (place* each = places.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    bool owned = false;
    if (each->owned.compare_exchange_strong(owned, true, std::memory_order_acquire)) return each;
  }
  auto* const made = new (std::nothrow) place;
  if (made == nullptr) return nullptr;
  made->next = places.load(std::memory_order_relaxed);
  while (!places.compare_exchange_weak(made->next, made, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return made;
}

hook_watch::run::place* hook_watch::run::place_of_this_thread() noexcept {
  constinit thread_local place* known = nullptr;
  if (known != nullptr) [[likely]]
    return known;
  thread_local place_owner owner;
  owner.mine = known = take_place();
  return known;
}

hook_watch::run::run(hook_watch* watch, const servers::resting_server& server, std::chrono::nanoseconds limit,
                     const char* from_version, const char* to_version) noexcept
    : watch_{watch}, server_{server}, limit_{limit}, from_version_{from_version}, to_version_{to_version} {
  if (watch_ == nullptr || limit_.count() <= 0) return;
  place_ = place_of_this_thread();
  if (place_ == nullptr) return;
  MOLT_ASSERT(place_->current.load(std::memory_order_relaxed) == nullptr);  // hooks do not migrate servers
  place_->current.store(this, servers::fence::fast_store);
}

hook_watch::run::~run() {
  if (place_ == nullptr) return;
  place_->current.store(nullptr, servers::fence::fast_store);
  servers::fence::light();
  if (place_->looked_at.load(servers::fence::fast_load)) [[unlikely]] {
    const std::scoped_lock wait{place_->mutex};
  }
}

void hook_watch::run::step_begins(const migration::path_step* step) noexcept {
  if (step == nullptr) checks_.store(true, std::memory_order_relaxed);
  step_.store(step, std::memory_order_relaxed);
}

void hook_watch::run::tell_if_late(clock::time_point now, std::vector<late_hook>& all) const {
  const auto begun = begun_.load(std::memory_order_relaxed);
  if (begun == clock::time_point{} || now - begun <= limit_) return;
  const auto* const step = step_.load(std::memory_order_relaxed);
  all.push_back(
      {shown_name(server_), std::string{server_.type().name()},
       step != nullptr ? step->text() : std::string{checks_.load(std::memory_order_relaxed) ? "self_check" : ""},
       from_version_, to_version_, now - begun, limit_, server_.ref(), begun});
}

std::vector<late_hook> hook_watch::late() const {
  std::vector<late_hook> all;
  const auto now = clock::now();
  for (auto* each = run::places.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    if (each->current.load(std::memory_order_relaxed) == nullptr) continue;  // most threads, at most times
    const run::look here{*each};
    const run* const one = each->current.load(std::memory_order_seq_cst);
    if (one != nullptr && one->watch_ == this) one->tell_if_late(now, all);
  }
  return all;
}

// ---- hook_watchdog

hook_watchdog::hook_watchdog(const hook_watch& watch, std::chrono::nanoseconds limit, teller tell)
    : watch_{watch}, tell_{std::move(tell)} {
  thread_ = std::thread{[this, pause = std::clamp<std::chrono::nanoseconds>(limit / looks_in_limit, pause_min,
                                                                            pause_max)] { run(pause); }};
}

hook_watchdog::~hook_watchdog() {
  {
    const std::scoped_lock lock{mutex_};
    over_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void hook_watchdog::run(std::chrono::nanoseconds pause) {
  std::unique_lock lock{mutex_};
  for (;;) {
    const bool last = changed_.wait_for(lock, pause, [this] { return over_; });
    lock.unlock();
    try {
      look();
    } catch (const std::bad_alloc&) {
      // the next look may have the memory
    }
    if (last) return;
    lock.lock();
  }
}

void hook_watchdog::look() {
  std::set<key> still;
  for (auto& late : watch_.late()) {
    const key which{late.ref.bits, late.begun};
    still.insert(which);
    auto& known = known_[which];
    if (late.running >= known.again) {
      known.again = std::min<std::chrono::nanoseconds>(2 * late.running, late.running + told_again_max);
      tell_(late, false);
    }
    known.last = std::move(late);
  }
  std::erase_if(known_, [&](const auto& each) {
    if (still.contains(each.first)) return false;
    tell_(each.second.last, true);
    return true;
  });
}

}  // namespace molt::upgrade
