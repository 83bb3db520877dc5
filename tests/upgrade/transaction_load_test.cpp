// Upgrades while clients call: nothing lost, nothing answered by the wrong version, nothing that grows.
#include "tests/upgrade/running_box.hpp"
#include "upgrade/transaction.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <fstream>
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

std::size_t mapped_plugins() {
  std::ifstream maps{"/proc/self/maps"};
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find("counter") != std::string::npos || line.find("memfd") != std::string::npos) ++count;
  return count;
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

/// After the store, no message is begun by old code; before it, none by new code.
TEST_P(under_load, the_switch_is_one_moment) {
  const auto seed = seed_of_this_run();
  start(fixtures::counter_1_0_0);
  const auto all = counters(100);
  const auto speaks = speaking(fixtures::counter_1_0_0);
  std::atomic<bool> about_to_switch{false};
  std::atomic<bool> switched{false};
  std::atomic<bool> stop{false};
  std::atomic<int> too_early{0};
  std::atomic<int> too_late{0};
  std::vector<std::thread> callers;
  for (unsigned n = 0; n < 3; ++n)
    callers.emplace_back([&, n] {
      std::mt19937 random{seed + n};
      while (!stop.load()) {
        const bool after = switched.load();
        const auto version = speaks.version(all[random() % all.size()]);
        const bool before = !about_to_switch.load();
        if (after && version != "2.0.0") ++too_late;
        if (before && version != "1.0.0") ++too_early;
      }
    });
  std::this_thread::sleep_for(20ms);
  const std::vector sources{switcher_->current()};
  const auto image = release_image::make(load(fixtures::counter_2_0_0), sources, {});
  about_to_switch = true;
  runtime_.switch_to(image);
  switched = true;
  std::this_thread::sleep_for(50ms);
  runtime_.sweep([] { return true; });
  stop = true;
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(too_early, 0);
  EXPECT_EQ(too_late, 0);
  EXPECT_EQ(image->failed(), 0U);
  EXPECT_EQ(image->adopted(), 100U);
}

TEST_P(under_load, nothing_grows_over_a_hundred_upgrades) {
  const auto seed = seed_of_this_run();
  start(fixtures::counter_1_0_0);
  const auto all = counters(50);
  begin_adding(all, 2, seed, {speaking(fixtures::counter_1_0_0)});
  settings chosen;
  chosen.mode = GetParam();
  chosen.collect_timeout = 2s;
  std::size_t mapped = 0;
  std::size_t open = 0;
  for (int round = 0; round < 25 * stress; ++round) {
    ASSERT_EQ(upgrade(fixtures::counter_2_0_0, chosen).result, phase::done);
    ASSERT_EQ(rollback(chosen).result, phase::done);
    if (round == 2) {
      mapped = mapped_plugins();
      open = open_files();
    }
  }
  EXPECT_LE(mapped_plugins(), mapped);
  EXPECT_LE(open_files(), open);
  stop_adding();
  EXPECT_EQ(failed_calls_, 0);
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
