// Mode atomic: everything comes to rest, every server migrates, and then all run on, or none has moved.
//
//   step       event                                               next
//   resting    no handler runs any more                            moving, first those whose hooks use others
//                                                                  (transaction_others.cpp)
//              switch_timeout passed                               as before: nothing had moved
//   moving     every server moved, in time                         the switch: everything runs on the new release
//              one failed, cancelled, or switch_timeout passed     reverting
//   reverting  every server that had moved is back                 everything runs on the old release
//
// How long everything rests: at most switch_timeout, until the hooks that run when it passes have returned (they cannot
// be interrupted; the time is looked at after each server), and for as long as reverting takes: destroying the new
// states and, where a hook consumed the old one, making that again from its archive.
#include "upgrade/transaction_attempt.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace molt::upgrade {
namespace {

using clock = std::chrono::steady_clock;

/// The servers are given out to the threads in parts of about so many: large ones are not all one thread's.
constexpr std::size_t servers_in_part = 1024;
constexpr std::size_t parts_max = 1U << 16U;

std::string in_ms(std::chrono::nanoseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

/// Servers are visited in the order of their slots (plugin/abi.h).
std::uint32_t slot_of(molt_ref ref) noexcept { return static_cast<std::uint32_t>(ref.bits); }

/// Runs work on so many threads; on fewer where the system gives no more.
void on_threads(unsigned count, const std::function<void()>& work) {
  std::vector<std::thread> threads;
  threads.reserve(count);
  try {
    while (threads.size() + 1 < count) threads.emplace_back(work);
  } catch (const std::system_error&) {
    // the others do it all
  }
  work();
  for (auto& thread : threads) thread.join();
}

/// What undoes the servers of one part, in the order in which they were visited.
class moved_part {
 public:
  struct entry {
    molt_ref ref{};
    std::optional<bound_release::move> undo;
  };

  /// Room for the undo, before the server is touched; null when there is no memory.
  entry* make_room(molt_ref ref) noexcept {
    try {
      if (blocks_.empty() || blocks_.back().size() == block_size) {
        blocks_.emplace_back();
        blocks_.back().reserve(block_size);
      }
      return &blocks_.back().emplace_back(entry{ref, std::nullopt});
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
  /// The room made last is not needed.
  void take_back() noexcept { blocks_.back().pop_back(); }
  /// Asked in the order in which room was made. Null: that server has not moved.
  std::optional<bound_release::move>* find(molt_ref ref) noexcept {
    for (; next_ < size(); ++next_) {
      entry& each = blocks_[next_ / block_size][next_ % block_size];
      if (each.ref.bits == ref.bits) return each.undo ? &each.undo : nullptr;
      if (slot_of(each.ref) >= slot_of(ref)) break;
    }
    return nullptr;
  }

 private:
  static constexpr std::size_t block_size = 64;
  [[nodiscard]] std::size_t size() const noexcept {
    return blocks_.empty() ? 0 : (blocks_.size() - 1) * block_size + blocks_.back().size();
  }

  std::vector<std::vector<entry>> blocks_;  // each but the last is full; none grows beyond what it has reserved
  std::size_t next_ = 0;
};

/// All servers, moved by several threads, all or none.
class atomic_move {
 public:
  atomic_move(servers::runtime& runtime, const servers::runtime::rest_guard& rest, const bound_release& bound,
              const settings& chosen, clock::time_point deadline)
      : runtime_{runtime},
        rest_{rest},
        bound_{bound},
        chosen_{chosen},
        deadline_{deadline},
        threads_{atomic_threads(chosen)},
        parts_(std::clamp<std::size_t>(runtime.size() / servers_in_part, threads_, parts_max)) {}

  /// False: one has failed, or it was stopped; then revert() is what is left to do.
  bool run() {
    in_parts([&](std::size_t part, servers::resting_server& server) { return move(parts_[part], server); });
    return !stopped_ && bound_.not_accepted().count == 0;
  }
  void revert() {
    in_parts([&](std::size_t part, servers::resting_server& server) {
      if (auto* const undo = parts_[part].find(server.ref()); undo != nullptr) bound_.revert(server, **undo);
      return true;
    });
  }

  /// After revert(): why it was stopped, unless a hook failed.
  void explain(report& in, std::uint64_t moved, clock::duration came_to_rest) const {
    if (late_)
      in.problems.push_back("switch_timeout_ms = " + in_ms(chosen_.switch_timeout) + " passed when " +
                            std::to_string(moved) + " of " + std::to_string(runtime_.size()) +
                            " servers had migrated, " + in_ms(came_to_rest) +
                            " ms of it gone until all were at rest; going back took " + in_ms(in.reverting) +
                            " ms. Raise it under [upgrade], or use mode lazy");
    if (cancelled_) in.problems.emplace_back("cancelled while everything was at rest");
    in.cancelled = cancelled_;
    if (no_room_) in.problems.emplace_back("no memory to note how a server goes back");
  }

 private:
  /// Visits every server; ends early when `visit` returns false.
  template <class Visit>
  void in_parts(const Visit& visit) {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> over{false};
    on_threads(threads_, [&] {
      while (!over.load(std::memory_order_relaxed)) {
        const auto part = next.fetch_add(1, std::memory_order_relaxed);
        if (part >= parts_.size()) return;
        runtime_.for_each(rest_, static_cast<unsigned>(part), static_cast<unsigned>(parts_.size()),
                          [&](servers::resting_server& server) {
                            if (!over.load(std::memory_order_relaxed) && !visit(part, server))
                              over.store(true, std::memory_order_relaxed);
                          });
      }
    });
  }

  bool move(moved_part& part, servers::resting_server& server) {
    auto* const room = part.make_room(server.ref());
    if (room == nullptr) no_room_ = true;
    const auto done = room == nullptr ? bound_release::moved::failed : bound_.adopt_revertibly(server, room->undo);
    if (done == bound_release::moved::nothing_to_do) part.take_back();
    if (clock::now() > deadline_) late_ = true;
    if (chosen_.cancelled && chosen_.cancelled()) cancelled_ = true;
    if (done != bound_release::moved::failed && !late_ && !cancelled_) return true;
    stopped_ = true;
    return false;
  }

  servers::runtime& runtime_;
  const servers::runtime::rest_guard& rest_;
  const bound_release& bound_;
  const settings& chosen_;
  clock::time_point deadline_;
  unsigned threads_;
  std::vector<moved_part> parts_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> late_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> no_room_{false};
};

}  // namespace

unsigned atomic_threads(const settings& chosen) noexcept {
  return std::max(1U, chosen.atomic_threads != 0 ? chosen.atomic_threads : std::thread::hardware_concurrency());
}

void switcher::run_atomic(attempt& now) {
  auto asked = clock::now();
  std::optional<rest_guard> rest;
  first_moved first;
  const auto begun = move_first(now, {now.bound, now.settings.switched ? now.settings.starts : std::nullopt},
                                now.handed, rest, first, asked);
  if (!begun) {
    now.report.problems.push_back("the servers did not come to rest: " + begun.error().text() +
                                  "; switch_timeout_ms under [upgrade] bounds it, and mode lazy waits for nobody");
    leave(now.to);
    return conclude(now, phase::rolled_back);
  }
  const auto came_to_rest = clock::now() - asked;
  phase_.store(phase::migrating, std::memory_order_release);
  std::optional<atomic_move> all{std::in_place, runtime_,     *rest,
                                 *now.bound,    now.settings, asked + now.settings.switch_timeout};
  if (*begun && all->run()) {
    std::optional<name_expectation> expected;
    expect_added(now, expected);
    make_current(now);
    runtime_.switch_to(now.bound);
    if (now.handed != nullptr) runtime_.gives_states(now.handed);
    rest.reset();
    now.report.at_rest = clock::now() - asked;
    now.report.servers_migrated = now.bound->adopted();
    auto restored = now.bound->restored();
    now.report.restored = std::move(restored.servers);
    now.report.servers_restored = restored.count;
    first.moves.clear();
    all.reset();  // the old states go while everything runs
    const bool good = begin_in(now);
    expected.reset();
    return good ? settle(now) : roll_back(now);
  }
  const auto how_far = now.bound->adopted();
  const auto turned = clock::now();
  phase_.store(phase::rolling_back, std::memory_order_release);
  all->revert();
  revert(*rest, *now.bound, first);
  rest.reset();
  now.report.at_rest = clock::now() - asked;
  now.report.reverting = clock::now() - turned;
  all->explain(now.report, how_far, came_to_rest);
  all.reset();
  leave(now.to);
  now.report.servers_migrated = now.bound->adopted();  // those not reverted: none
  now.report.servers_failed = now.bound->failed();
  now.report.failures = now.bound->failures();
  if (now.bound->lost() != 0) return conclude(now, phase::needs_attention);
  if (now.report.problems.empty() && now.report.servers_failed == 0) {
    refuse_loss(now);
    return conclude(now, phase::refused);
  }
  conclude(now, phase::rolled_back);
}

/// Everything is as it was; what would be lost by going back to what was kept is for the operator to accept.
void switcher::refuse_loss(attempt& now) {
  const auto wanted = now.bound->not_accepted();
  std::map<std::string, server_restoration> oldest;
  std::map<std::string, std::uint64_t> counts;
  for (const auto& each : wanted.servers) {
    const auto [at, added] = oldest.emplace(each.failed.type, each);
    if (!added && each.since < at->second.since) at->second = each;
    ++counts[each.failed.type];
  }
  for (const auto& [type, each] : oldest)
    now.report.problems.push_back(std::to_string(counts[type]) + " servers of " + type +
                                  " cannot go back by their hooks; what they were is kept since " +
                                  to_text(each.since) + ", so that up to " + std::to_string(each.lost.count()) +
                                  " s of what they did would be lost: " + each.failed.server + ": " + each.failed.hook +
                                  ": " + each.failed.error);
  if (wanted.count > wanted.servers.size())
    now.report.problems.push_back(std::to_string(wanted.count) + " servers in all");
  now.report.problems.push_back("nothing was changed; accept it with --accept-loss " + loss_since(*wanted.since));
}

}  // namespace molt::upgrade
