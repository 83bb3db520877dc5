// Upgrades while clients call: nothing lost, nothing answered by the wrong version, nothing that grows.
#include "tests/upgrade/running_box.hpp"
#include "upgrade/transaction.hpp"

#include <malloc.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <thread>

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;

unsigned seed_of_this_run() {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  return seed;
}

std::size_t open_files() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator{"/proc/self/fd"}) ++count;
  return count;
}

class under_load : public running_box, public testing::WithParamInterface<mode> {
 protected:
  /// Threads that add to random servers, in turn speaking each of the versions, until stop_adding().
  void begin_adding(const std::vector<molt_ref>& servers, unsigned threads, unsigned seed,
                    std::vector<client> clients) {
    clients_ = std::move(clients);
    for (unsigned n = 0; n < threads; ++n)
      adders_.emplace_back([this, &servers, n, seed] {
        std::mt19937 random{seed + n};
        const auto& speaks = clients_[n % clients_.size()];
        while (!stop_.load(std::memory_order_relaxed)) {
          const auto by = static_cast<std::int64_t>(random() % 100);
          const auto [status, value] = speaks.try_add(servers[random() % servers.size()], by);
          if (status == MOLT_OK)
            added_ += by;
          else
            ++failed_calls_;
        }
      });
  }
  void stop_adding() {
    stop_ = true;
    for (auto& adder : adders_) adder.join();
  }

  std::vector<client> clients_;
  std::vector<std::thread> adders_;
  std::atomic<bool> stop_{false};
  std::atomic<std::int64_t> added_{0};
  std::atomic<int> failed_calls_{0};
};

INSTANTIATE_TEST_SUITE_P(each_mode, under_load, testing::Values(mode::lazy, mode::atomic),
                         [](const auto& each) { return std::string{to_string(each.param)}; });

TEST_P(under_load, no_increment_is_lost_over_many_upgrades_and_rollbacks) {
  const auto seed = seed_of_this_run();
  start(fixtures::counter_1_0_0);
  const auto all = counters(50);
  settings chosen;
  chosen.mode = GetParam();
  chosen.collect_timeout = 0ns;  // the images stay known, so that each version's messages are understood by the other
  ASSERT_EQ(upgrade(fixtures::counter_2_0_0, chosen).result, phase::done);
  begin_adding(all, 3, seed, {speaking(fixtures::counter_1_0_0), speaking(fixtures::counter_2_0_0)});
  for (int round = 0; round < 10 * stress; ++round) {
    const auto down = rollback(chosen);
    ASSERT_EQ(down.result, phase::done) << told(down);
    if (round % 4 == 0) {
      const auto failing = upgrade(fixtures::counter_2_0_1_throwing, chosen);
      ASSERT_TRUE(failing.result == phase::done || failing.result == phase::rolled_back) << told(failing);
      if (failing.result == phase::done) {
        ASSERT_EQ(rollback(chosen).result, phase::done);
      }
    }
    const auto up = upgrade(fixtures::counter_2_0_0, chosen);
    ASSERT_EQ(up.result, phase::done) << told(up);
  }
  stop_adding();
  std::int64_t total = 0;
  for (std::size_t n = 0; n < all.size(); ++n) total += clients_[0].get(all[n]) - static_cast<std::int64_t>(n);
  EXPECT_EQ(total, added_);
  EXPECT_EQ(failed_calls_, 0);
}

/// Callers who check each reply against what was known of the switch when they called.
///
/// Stores of the release are numbered; the code that answers between two of them is that of one version. What is known
/// when a call begins: the highest store of which somebody has had notice, be it from the thread that upgrades or from
/// a reply of the new version, whichever server gave it. What may have happened when it returns: every store that was
/// announced by then. A reply of any version but those in between was begun by code that was not current.
class stamped_replies {
 public:
  explicit stamped_replies(std::string first) { versions_.push_back(std::move(first)); }

  /// Before a store that may come, or may not.
  void announce(const std::string& version) {
    const std::scoped_lock lock{mutex_};
    versions_.push_back(version);
    announced_ = versions_.size() - 1;
  }
  /// The last store that was announced has happened.
  void has_switched() { notice(announced_); }

  void call(const client& speaks, molt_ref server) {
    const auto known = noticed_.load();
    const std::string version = speaks.version(server);
    const auto possible = announced_.load();
    ++replies_;
    const std::scoped_lock lock{mutex_};
    ++count_[version];
    for (auto store = known; store <= possible; ++store)
      if (versions_[store] == version) return notice(store);
    if (wrong_.size() < 10)
      wrong_.push_back("a reply of " + version + " between stores " + std::to_string(known) + " (" + versions_[known] +
                       ") and " + std::to_string(possible));
  }

  /// Until so many more have come.
  void await(std::uint64_t more) const {
    const auto wanted = replies_ + more;
    while (replies_ < wanted) std::this_thread::sleep_for(100us);
  }
  [[nodiscard]] std::vector<std::string> wrong() const {
    const std::scoped_lock lock{mutex_};
    return wrong_;
  }
  [[nodiscard]] std::uint64_t count(const std::string& version) {
    const std::scoped_lock lock{mutex_};
    return count_[version];
  }

 private:
  void notice(std::size_t store) {
    auto before = noticed_.load();
    while (before < store && !noticed_.compare_exchange_weak(before, store)) {
    }
  }

  mutable std::mutex mutex_;
  std::vector<std::string> versions_;  // by store
  std::vector<std::string> wrong_;
  std::map<std::string, std::uint64_t> count_;
  std::atomic<std::size_t> announced_{0};
  std::atomic<std::size_t> noticed_{0};
  std::atomic<std::uint64_t> replies_{0};
};

TEST_P(under_load, every_reply_comes_from_the_release_that_was_current_when_its_call_began) {
  const auto seed = seed_of_this_run();
  start(fixtures::counter_1_0_0);
  const auto all = counters(2000);
  const auto speaks = speaking(fixtures::counter_1_0_0);
  stamped_replies replies{"1.0.0"};
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (unsigned n = 0; n < 4; ++n)
    callers.emplace_back([&, n] {
      std::mt19937 random{seed + n};
      while (!stop) replies.call(speaks, all[random() % (random() % 2 == 0 ? 3 : all.size())]);  // three are busy
    });
  constexpr std::uint64_t some = 20;
  bool cancel_midway = false;
  settings chosen;
  chosen.mode = GetParam();
  chosen.sweep_rate_max = 40'000;
  chosen.collect_timeout = 0ns;
  chosen.before_switch = [&](const plan& planned) -> result<void> {
    replies.await(some);
    // Cancelled in mode atomic, it is never current: then no reply of it is right.
    if (!cancel_midway || GetParam() == mode::lazy)
      replies.announce(planned.going == direction::up ? "2.0.0" : "1.0.0");
    replies.await(some);
    return ok();
  };
  chosen.switched = [&]() -> result<void> {  // nothing has been swept yet; in mode atomic everything has moved
    replies.has_switched();
    replies.await(some);
    return ok();
  };
  chosen.going_back = [&] {
    replies.await(some);
    replies.announce("1.0.0");
  };
  chosen.cancelled = [&] { return cancel_midway && switcher_->migrated_so_far() > all.size() / 3; };
  for (int round = 0; round < 3 * stress; ++round) {
    cancel_midway = round % 2 == 0;
    auto done = upgrade(fixtures::counter_2_0_0, chosen);
    ASSERT_EQ(done.result, cancel_midway ? phase::rolled_back : phase::done) << told(done);
    replies.has_switched();
    replies.await(some);
    if (cancel_midway) continue;
    done = rollback(chosen);
    ASSERT_EQ(done.result, phase::done) << told(done);
    replies.has_switched();
  }
  stop = true;
  for (auto& caller : callers) caller.join();
  EXPECT_THAT(replies.wrong(), testing::IsEmpty());
  EXPECT_GT(replies.count("1.0.0"), 0U);
  EXPECT_GT(replies.count("2.0.0"), 0U);
  for (std::size_t n = 0; n < all.size(); ++n) ASSERT_EQ(speaks.get(all[n]), static_cast<std::int64_t>(n));
}

struct held_by_process {
  std::size_t heap = 0;
  std::size_t mappings = 0;
  std::size_t files = 0;
};

held_by_process held_now() {
  const auto memory = ::mallinfo2();
  std::ifstream maps{"/proc/self/maps"};
  std::size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return {memory.uordblks + memory.hblkhd, lines, open_files()};
}

/// Counters, which are converted in place, and a log, which goes by archive.
release_content both(const char* counter, const char* shared) {
  auto made = load(counter);
  made.plugins.push_back(load(shared).plugins.at(0));
  return made;
}

TEST_P(under_load, a_hundred_upgrades_and_rollbacks_change_no_state_and_leave_nothing_behind) {
  const auto seed = seed_of_this_run();
  switcher_.emplace(runtime_);
  switcher_->start(both(fixtures::counter_1_0_0, fixtures::shared_1_0_0));
  const auto all = counters(50);
  const auto log = server("shared.server", "log");
  {
    const auto writes = speaking(fixtures::shared_1_0_0);
    for (const char* line : {"a line", "and another one that is longer"})
      ASSERT_EQ(writes.call<std::uint64_t>(log, "append", std::string{line}).first, MOLT_OK);
  }
  std::vector<std::string> before;
  for (std::size_t n = 25; n < 50; ++n) before.push_back(archive_of(runtime_, all[n]));
  before.push_back(archive_of(runtime_, log));
  const std::vector<molt_ref> busy{all.begin(), all.begin() + 25};  // the others rest
  begin_adding(busy, 2, seed, {speaking(fixtures::counter_1_0_0)});
  settings chosen;
  chosen.mode = GetParam();
  chosen.collect_timeout = 10s;
  held_by_process early;
  for (int round = 0; round < 25 * stress; ++round) {
    auto done = switcher_->upgrade(both(fixtures::counter_2_0_0, fixtures::shared_1_1_0), chosen);
    ASSERT_TRUE(done) << done.error().text();
    ASSERT_EQ(done->result, phase::done) << told(*done);
    ASSERT_EQ(done->servers_migrated, 51U);
    done = switcher_->rollback(chosen);
    ASSERT_TRUE(done) << done.error().text();
    ASSERT_EQ(done->result, phase::done) << told(*done);
    if (round == 10 * stress) early = held_now();  // the caches of threads are full
  }
  const auto late = held_now();
  stop_adding();
  EXPECT_LE(late.files, early.files);
  if (unloads) {  // a sanitizer has memory of its own, and keeps images
    EXPECT_LE(late.mappings, early.mappings + 8) << "the heaps of threads come and go";
    EXPECT_LE(late.heap, early.heap + (64U << 10U)) << "before: " << early.heap;
  }
  EXPECT_EQ(failed_calls_, 0);
  std::int64_t total = 0;
  for (std::size_t n = 0; n < busy.size(); ++n) total += clients_[0].get(busy[n]) - static_cast<std::int64_t>(n);
  EXPECT_EQ(total, added_) << "every write that was answered, and no other";
  std::vector<std::string> after;
  for (std::size_t n = 25; n < 50; ++n) after.push_back(archive_of(runtime_, all[n]));
  after.push_back(archive_of(runtime_, log));
  EXPECT_EQ(after, before) << "the states of those that nobody called, to the byte";
}

TEST_F(running_box, a_lazy_migration_that_is_cancelled_midway_goes_back_with_every_write) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(2000);
  const auto speaks = speaking(fixtures::counter_1_0_0);
  settings chosen;
  chosen.cancelled = [&] { return switcher_->migrated_so_far() > 700; };
  chosen.switched = [&]() -> result<void> {  // these migrate by being called, wherever they stand
    for (std::size_t n = 0; n < all.size(); n += 20) EXPECT_EQ(speaks.add(all[n], 5000), 5000 + static_cast<int>(n));
    return ok();
  };
  chosen.sweep_rate_max = 100'000;
  std::uint64_t new_ones = 0;
  chosen.going_back = [&] {
    for (std::size_t n = 0; n < all.size(); n += 20) new_ones += speaks.version(all[n]) == "2.0.0" ? 1 : 0;
  };
  const auto done = upgrade(fixtures::counter_2_0_0, chosen);
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_EQ(new_ones, 100U) << "it was under way";
  EXPECT_GE(done.servers_migrated, 700U);
  EXPECT_LT(done.servers_migrated, 2000U) << "it was not at its end";
  for (std::size_t n = 0; n < all.size(); ++n) {
    ASSERT_EQ(speaks.version(all[n]), "1.0.0") << n;
    ASSERT_EQ(speaks.get(all[n]), static_cast<std::int64_t>(n) + (n % 20 == 0 ? 5000 : 0)) << n;
  }
}

TEST_F(running_box, the_background_migration_keeps_to_its_rate) {
  start(fixtures::counter_1_0_0);
  counters(4000);
  settings slow;
  slow.sweep_rate_max = 10'000;
  const auto done = upgrade(fixtures::counter_2_0_0, slow);
  ASSERT_EQ(done.result, phase::done);
  EXPECT_GE(done.total, 150ms) << "4,000 servers at 10,000 a second";
}

}  // namespace
}  // namespace molt::upgrade
