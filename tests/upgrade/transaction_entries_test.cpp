// Upgrades of servers with evolving containers: while clients call, up and down, in the middle, with entries that
// cannot be converted.
#include "state_migration/archive_difference.hpp"
#include "tests/upgrade/running_box.hpp"
#include "upgrade/rehearsal.hpp"
#include "upgrade/transaction.hpp"

#include <atomic>
#include <cstdio>
#include <random>
#include <thread>

namespace molt::upgrade {
namespace {

constexpr std::uint64_t entries = 20'000;

class hoards : public running_box {
 protected:
  void start_hoard(const char* version, std::optional<std::uint64_t> bad = {}) {
    start(version);
    servers::arguments given{{"entries", std::to_string(entries)}};
    if (bad) given.emplace_back("bad", std::to_string(*bad));
    hoard_ = server("hoard.server", "hoard", given);
    speaks_.emplace(speaking(hoard_1));
  }
  std::pair<int, std::int64_t> touch(std::uint64_t id) { return speaks_->call<std::int64_t>(hoard_, "touch", id); }
  std::int64_t sum() {
    const auto [status, total] = speaks_->call<std::int64_t>(hoard_, "sum", client::nothing{});
    EXPECT_EQ(status, MOLT_OK) << servers::runtime::call_failure();
    return total;
  }
  std::uint64_t left() { return speaks_->call<std::uint64_t>(hoard_, "left", client::nothing{}).second; }

  /// Touches random entries from two threads while `work` runs.
  template <class Work>
  void under_load(Work work) {
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::atomic<bool> stop{false};
    std::vector<std::thread> callers;
    for (unsigned n = 0; n < 2; ++n)
      callers.emplace_back([&, n] {
        std::mt19937 random{seed + n};
        while (!stop.load(std::memory_order_relaxed)) {
          if (touch(random() % (entries + 100)).first == MOLT_OK)
            ++touched_;
          else
            ++failed_;
        }
      });
    work();
    stop = true;
    for (auto& caller : callers) caller.join();
  }

  molt_ref hoard_{};
  std::optional<client> speaks_;
  std::atomic<std::int64_t> touched_{0};
  std::atomic<int> failed_{0};
};

TEST_F(hoards, are_rehearsed_to_the_last_entry) {
  for (const bool broken : {false, true}) {
    start_hoard(hoard_1, broken ? std::optional<std::uint64_t>{7} : std::nullopt);
    const auto before = archive_of(runtime_, hoard_);
    const auto board = std::make_unique<rehearsal_board>();
    {
      // In this process: it changes the servers, and puts them back.
      auto rest = runtime_.rest(std::chrono::seconds{10});
      ASSERT_TRUE(rest);
      rehearse(runtime_, *rest, load(hoard_2), switcher_->task_for_rehearsal({}, {}), *board);
    }
    const auto found = read_board(*board);
    EXPECT_EQ(found.stage, rehearsal_stage::finished);
    EXPECT_FALSE(found.damaged);
    EXPECT_EQ(found.visited, 1U);
    if (broken) {
      ASSERT_EQ(found.failures.size(), 1U);
      EXPECT_EQ(found.failures[0].server, "hoard");
      EXPECT_EQ(found.failures[0].error, "an entry could not be converted: the entry is bad");
      break;
    }
    EXPECT_TRUE(found.failures.empty()) << found.failures[0].hook << ": " << found.failures[0].error;
    EXPECT_TRUE(found.notes.empty()) << found.notes[0];
    const auto same = migration::compare_archives(*load(hoard_1).plugins[0]->types()[0]->abi().state, before,
                                                  archive_of(runtime_, hoard_));
    EXPECT_EQ(same.found, migration::likeness::same) << same.text;
    ASSERT_TRUE(runtime_.stop(hoard_, "next round"));
  }
}

TEST_F(hoards, are_converted_while_clients_call_and_back) {
  start_hoard(hoard_1);
  under_load([&] {
    for (const auto how : {mode::lazy, mode::atomic}) {
      settings chosen;
      chosen.mode = how;
      const auto up = upgrade(hoard_2, chosen);
      ASSERT_EQ(up.result, phase::done) << told(up);
      EXPECT_EQ(up.entries_left, 0U);
      EXPECT_EQ(left(), 0U);
      const auto down = rollback(chosen);
      ASSERT_EQ(down.result, phase::done) << told(down);
      EXPECT_GE(left(), entries) << "in the old version's map";
    }
  });
  EXPECT_EQ(sum(), touched_);
  EXPECT_EQ(failed_, 0);
}

TEST_F(hoards, go_back_from_the_middle_with_what_was_written_since) {
  start_hoard(hoard_1);
  under_load([&] {
    settings chosen;
    chosen.cancelled = [&] {
      const auto now = switcher_->entries_left();
      return now > 0 && now < entries / 2;
    };
    const auto up = upgrade(hoard_2, chosen);
    EXPECT_EQ(up.result, phase::rolled_back) << told(up);
  });
  EXPECT_EQ(sum(), touched_);
  EXPECT_EQ(failed_, 0);
  EXPECT_EQ(upgrade(hoard_2).result, phase::done) << "and up again";
  EXPECT_EQ(sum(), touched_);
}

TEST_F(hoards, with_an_entry_that_cannot_be_converted_stay_on_the_old_version) {
  start_hoard(hoard_1, 7777);
  under_load([&] {
    const auto up = upgrade(hoard_2);
    ASSERT_EQ(up.result, phase::rolled_back) << told(up);
    ASSERT_EQ(up.failures.size(), 1U);
    EXPECT_TRUE(up.failures[0].entry);
    EXPECT_EQ(up.failures[0].error, "an entry could not be converted: the entry is bad");
  });
  const auto before = touch(7777).second;
  EXPECT_EQ(touch(7777).second, before + 1) << "the bad entry is whole";
  EXPECT_EQ(sum(), touched_ + 2);
}

TEST_F(hoards, with_a_bad_entry_answer_for_all_others_when_that_is_the_policy) {
  start_hoard(hoard_1, 7777);
  settings chosen;
  chosen.on_failure = failure_policy::quarantine;
  const auto up = upgrade(hoard_2, chosen);
  ASSERT_EQ(up.result, phase::needs_attention) << told(up);
  ASSERT_EQ(up.problems.size(), 1U);
  EXPECT_EQ(up.problems[0],
            "hoard answers on hoard-2.0.0, but an entry of its state could not be converted: an entry could not be "
            "converted: the entry is bad");
  EXPECT_GT(up.entries_left, 0U);
  for (int n = 0; n < 3; ++n) {
    const auto [status, hits] = touch(7777);
    EXPECT_EQ(status, MOLT_SERVER_FAILED);
    EXPECT_EQ(servers::runtime::call_failure(), "an entry could not be converted: the entry is bad");
    EXPECT_EQ(touch(5).second, n + 1) << "the server lives, with its state";
  }
  const std::uint64_t bad = 7777;
  EXPECT_EQ(speaks_->cast(hoard_, "touch", bad), MOLT_OK) << "also from a mailbox";
  EXPECT_EQ(touch(5).second, 4);
  ASSERT_EQ(rollback().result, phase::done);
  EXPECT_EQ(touch(7777).second, 1);
}

TEST_F(hoards, go_through_two_releases_and_back) {
  start_hoard(hoard_1);
  under_load([&] {
    for (const auto* next : {hoard_2, hoard_3}) {
      const auto up = upgrade(next);
      ASSERT_EQ(up.result, phase::done) << told(up);
      EXPECT_EQ(left(), 0U);
    }
    for (int n = 0; n < 2; ++n) {
      const auto down = rollback();
      ASSERT_EQ(down.result, phase::done) << told(down);
    }
  });
  EXPECT_EQ(sum(), touched_);
  EXPECT_EQ(failed_, 0);
}

TEST_F(hoards, that_are_suspended_are_converted_too_and_stay_so) {
  start_hoard(hoard_1);
  ASSERT_TRUE(runtime_.suspend(hoard_, std::chrono::seconds{5}));
  ASSERT_EQ(upgrade(hoard_2).result, phase::done);
  ASSERT_TRUE(runtime_.resume(hoard_));
  EXPECT_EQ(left(), 0U);
}

}  // namespace
}  // namespace molt::upgrade
