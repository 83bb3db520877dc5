#include "upgrade/transaction.hpp"

#include "tests/upgrade/running_box.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <random>
#include <thread>

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

class transaction : public running_box, public testing::WithParamInterface<mode> {
 protected:
  [[nodiscard]] static settings chosen() {
    settings made;
    made.mode = GetParam();
    return made;
  }
};

INSTANTIATE_TEST_SUITE_P(each_mode, transaction, testing::Values(mode::lazy, mode::atomic),
                         [](const auto& each) { return std::string{to_string(each.param)}; });

TEST_P(transaction, moves_every_server_with_its_state) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(100);
  const auto old_client = speaking(fixtures::counter_1_0_0);
  for (const auto each : all) old_client.add(each, 1000);
  const auto done = upgrade(fixtures::counter_2_0_0, chosen());
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.from, "counter-1.0.0");
  EXPECT_EQ(done.to, "counter-2.0.0");
  EXPECT_EQ(done.servers_migrated, 100U);
  EXPECT_EQ(done.way(), way::in_place);
  ASSERT_EQ(done.types.size(), 1U);
  EXPECT_EQ(done.types[0].servers, 100U);
  EXPECT_GT(done.largest_migration.count(), 0);
  EXPECT_EQ(switcher_->current().id, "counter-2.0.0");
  const auto new_client = speaking(fixtures::counter_2_0_0);
  for (std::size_t n = 0; n < all.size(); ++n) {
    EXPECT_EQ(old_client.version(all[n]), "2.0.0");
    EXPECT_EQ(new_client.get(all[n]), 1000 + static_cast<std::int64_t>(n));
  }
}

TEST_P(transaction, goes_back_when_self_check_refuses_a_new_state) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(20);
  auto with = chosen();
  with.arguments = {{"label", "broken"}};
  const auto done = upgrade(fixtures::counter_2_0_0, with);
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  ASSERT_FALSE(done.failures.empty());
  EXPECT_EQ(done.failures[0].hook, "self_check");
  EXPECT_EQ(done.failures[0].error, "the label is broken");
  const auto old_client = speaking(fixtures::counter_1_0_0);
  for (std::size_t n = 0; n < all.size(); ++n) {
    EXPECT_EQ(old_client.version(all[n]), "1.0.0");
    EXPECT_EQ(old_client.get(all[n]), static_cast<std::int64_t>(n));
  }
}

TEST(rehearsal_board, is_read_without_believing_it) {
  std::mt19937_64 random{20261121};
  const auto board = std::make_unique<rehearsal_board>();
  for (int round = 0; round < 20; ++round) {
    auto* const words = reinterpret_cast<std::uint64_t*>(board.get());
    for (std::size_t n = 0; n < sizeof(rehearsal_board) / 8; ++n) words[n] = random();
    if (round % 2 == 0) board->stage = static_cast<std::uint32_t>(rehearsal_stage::finished);
    const auto found = read_board(*board);
    EXPECT_EQ(found.damaged, found.stage == rehearsal_stage::finished);
    EXPECT_LE(found.types.size(), rehearsal_types_max);
    EXPECT_LE(found.failures.size(), rehearsal_failures_max);
    EXPECT_LE(found.notes.size(), rehearsal_notes_max);
    for (const auto& type : found.types) EXPECT_LE(type.p99, type.largest);
  }
}

TEST(duration_counts, gives_quantiles_that_are_at_most_an_eighth_too_high) {
  duration_counts counts{};
  EXPECT_EQ(counts.quantile(0.5).count(), 0);
  for (int n = 1; n <= 1000; ++n) counts.add(std::chrono::microseconds{n});
  for (const double share : {0.1, 0.5, 0.99}) {
    EXPECT_GE(static_cast<double>(counts.quantile(share).count()), share * 1e6);
    EXPECT_LE(static_cast<double>(counts.quantile(share).count()), share * 1.13e6);
  }
}

TEST_P(transaction, touches_no_state_where_only_code_changed) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(3);
  const auto done = upgrade(fixtures::counter_1_1_0, chosen());
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.way(), way::keep);
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).version(all[1]), "1.1.0");
  EXPECT_EQ(speaking(fixtures::counter_1_1_0).get(all[2]), 2);
}

TEST_P(transaction, composes_hooks_over_two_versions) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(3);
  const auto done = upgrade(fixtures::counter_3_0_0, chosen());
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.types.at(0).steps.size(), 2U);
  EXPECT_EQ(speaking(fixtures::counter_3_0_0).get(all[2]), 2);
}

TEST_P(transaction, archives_states_that_reach_code) {
  start(fixtures::shared_1_0_0);
  const auto log = server("shared.server", "log");
  const auto old_client = speaking(fixtures::shared_1_0_0);
  EXPECT_EQ(old_client.call<std::uint64_t>(log, "append", std::string{"a line that is shared"}).second, 1U);
  auto done = upgrade(fixtures::shared_1_1_0, chosen());
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.way(), way::archive);
  EXPECT_EQ(old_client.call<std::string>(log, "last", client::nothing{}).second, "a line that is shared");
  auto one_way = chosen();
  one_way.one_way = true;
  done = upgrade(fixtures::shared_2_0_0, one_way);
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(old_client.call<std::string>(log, "last", client::nothing{}).second, "a line that is shared");
  EXPECT_EQ(old_client.call<std::int64_t>(log, "limit", client::nothing{}).second, 100);
}

TEST_P(transaction, keeps_what_happened_since_when_rolled_back) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(10);
  ASSERT_EQ(upgrade(fixtures::counter_2_0_0, chosen()).result, phase::done);
  const auto new_client = speaking(fixtures::counter_2_0_0);
  new_client.add(all[4], 500);
  auto leaving = chosen();
  leaving.collect_timeout =
      0ns;  // once its image is retired, nobody is left to send its messages, and they are unknown
  const auto done = rollback(leaving);
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.going, direction::down);
  EXPECT_EQ(done.servers_migrated, 10U);
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
  EXPECT_TRUE(switcher_->parents().empty());
  const auto old_client = speaking(fixtures::counter_1_0_0);
  EXPECT_EQ(old_client.version(all[4]), "1.0.0");
  EXPECT_EQ(old_client.get(all[4]), 504);
  EXPECT_EQ(new_client.add(all[4], 1), 505) << "a sender of the version that was left is understood by a message hook";
  EXPECT_EQ(switcher_->rollback({}).error().why(), reason::not_found);
}

TEST_P(transaction, goes_up_twice_and_down_twice) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(5);
  ASSERT_EQ(upgrade(fixtures::counter_1_1_0, chosen()).result, phase::done);
  ASSERT_EQ(upgrade(fixtures::counter_2_0_0, chosen()).result, phase::done);
  ASSERT_EQ(rollback(chosen()).to, "counter-1.1.0");
  ASSERT_EQ(rollback(chosen()).to, "counter-1.0.0");
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).get(all[3]), 3);
}

TEST_P(transaction, leaves_every_server_as_it_was_when_a_hook_throws) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(50);  // the 13th has the value at which the hook throws
  const auto before = archive_of(runtime_, all[13]);
  const auto done = upgrade(fixtures::counter_2_0_1_throwing, chosen());
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  ASSERT_FALSE(done.failures.empty());
  EXPECT_EQ(done.failures[0].server, "counter 13");
  EXPECT_EQ(done.failures[0].error, "cannot convert 13");
  EXPECT_EQ(done.way(), migration::way::in_place) << "the way that was tried";
  EXPECT_THAT(done.failures[0].hook, HasSubstr("counter::v1::state to counter::state"));
  EXPECT_EQ(archive_of(runtime_, all[13]), before);
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
  const auto old_client = speaking(fixtures::counter_1_0_0);
  for (std::size_t n = 0; n < all.size(); ++n) {
    EXPECT_EQ(old_client.version(all[n]), "1.0.0");
    EXPECT_EQ(old_client.get(all[n]), static_cast<std::int64_t>(n));
  }
}

TEST_P(transaction, restores_a_state_that_its_hook_consumed_before_it_failed) {
  start(ledger_1);
  const auto books = server("ledger.server", "books", {{"title", "a title that is too long to be short"}});
  const auto before = archive_of(runtime_, books);
  for (const char* how : {"begin", "middle", "memory"}) {
    auto failing = chosen();
    failing.arguments = {{"fail", how}};
    const auto done = upgrade(ledger_2, failing);
    EXPECT_EQ(done.result, phase::rolled_back) << how << told(done);
    EXPECT_EQ(archive_of(runtime_, books), before) << how;
    EXPECT_EQ(speaking(ledger_1).sum(books), 5050);
  }
  EXPECT_EQ(upgrade(ledger_2, chosen()).result, phase::done) << "and then it goes well";
}

TEST_P(transaction, undoes_a_hook_over_its_deadline) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(1);
  auto hasty = chosen();
  hasty.hook_timeout = 20ms;
  const auto done = upgrade(fixtures::counter_2_0_3_slow, hasty);
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_TRUE(done.failures.at(0).timed_out);
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).version(all[0]), "1.0.0");
}

TEST_P(transaction, names_a_hook_that_is_over_its_time_until_it_ends) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(1);
  const std::filesystem::path file = testing::TempDir() + "molt_hook_may_end." + std::to_string(::getpid());
  std::atomic<int> named{0};
  std::atomic<int> ended{0};
  auto hasty = chosen();
  hasty.hook_timeout = 20ms;
  hasty.arguments = {{"misbehave", "wait for"}, {"file", file.native()}};
  hasty.hook_is_late = [&](const late_hook& late, bool over) {
    EXPECT_EQ(late.server, "counter 0");
    ++(over ? ended : named);
  };
  auto change = std::async(std::launch::async, [&] { return upgrade(fixtures::counter_2_0_4_misbehaving, hasty); });
  while (named < 2) std::this_thread::sleep_for(1ms);
  const auto late = switcher_->late_hooks();
  EXPECT_EQ(ended, 0);
  std::ofstream{file} << "now";
  const auto done = change.get();
  std::filesystem::remove(file);
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(late[0].type, "counter.server");
  EXPECT_GT(late[0].running, late[0].limit);
  EXPECT_THAT(
      to_text(late[0]),
      HasSubstr("counter 0 (counter.server): counter::v1::state to counter::state (hook of 2.0.4, with context), "
                "1.0.0 to 2.0.4, has run for "));
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_TRUE(done.failures.at(0).timed_out);
  EXPECT_EQ(ended, 1);
  EXPECT_THAT(switcher_->late_hooks(), IsEmpty());
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).get(all[0]), 0);
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).version(all[0]), "1.0.0");
}

TEST_P(transaction, refuses_an_uncovered_change_and_changes_nothing) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(1);
  const auto done = upgrade(fixtures::counter_2_0_2_no_edge, chosen());
  ASSERT_EQ(done.result, phase::refused);
  EXPECT_THAT(done.problems, Contains(HasSubstr("counter.server.state: added changes: u64")));
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).version(all[0]), "1.0.0");
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
}

TEST_P(transaction, loses_only_what_was_accepted) {
  start(ledger_1);
  const auto books = server("ledger.server", "books", {{"title", "books"}});
  ASSERT_EQ(upgrade(ledger_2, chosen()).result, phase::done);
  const auto refused = rollback(chosen());
  ASSERT_EQ(refused.result, phase::refused);
  EXPECT_THAT(refused.problems, ElementsAre(HasSubstr("--accept-loss tags")));
  EXPECT_EQ(speaking(ledger_1).title(books), "books 2.0.0");
  auto accepting = chosen();
  accepting.accept_loss = {"tags"};
  ASSERT_EQ(rollback(accepting).result, phase::done);
  EXPECT_EQ(speaking(ledger_1).title(books), "books 1.0.0");
}

TEST_P(transaction, refuses_when_it_is_told_to_before_the_switch) {
  start(fixtures::counter_1_0_0);
  auto told_not_to = chosen();
  told_not_to.before_switch = [](const plan&) -> result<void> { return error{reason::refused, "not today"}; };
  EXPECT_EQ(upgrade(fixtures::counter_2_0_0, told_not_to).result, phase::refused);
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
}

TEST_P(transaction, lets_the_old_image_go_at_commit) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(20);
  ASSERT_EQ(upgrade(fixtures::counter_2_0_0, chosen()).result, phase::done);
  const auto gone = switcher_->commit(5s);
  ASSERT_TRUE(gone) << gone.error().text();
  ASSERT_EQ(gone->size(), 1U);
  EXPECT_EQ((*gone)[0].plugin, "counter 1.0.0");
  EXPECT_EQ((*gone)[0].unmapped, unloads) << (*gone)[0].why;
  EXPECT_EQ(switcher_->rollback({}).error().why(), reason::not_found);
  EXPECT_EQ(speaking(fixtures::counter_2_0_0).get(all[7]), 7);
}

TEST_P(transaction, goes_back_after_a_commit_to_a_parent_loaded_anew) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(20);
  ASSERT_EQ(upgrade(fixtures::counter_2_0_0, chosen()).result, phase::done);
  EXPECT_EQ(switcher_->rollback_to(load(fixtures::counter_1_0_0), chosen()).error().why(), reason::invalid_argument)
      << "the parent is in memory";
  ASSERT_TRUE(switcher_->commit(5s));
  speaking(fixtures::counter_2_0_0).add(all[7], 100);
  auto told_not_to = chosen();
  told_not_to.before_switch = [](const plan&) -> result<void> { return error{reason::refused, "not today"}; };
  const auto refused = switcher_->rollback_to(load(fixtures::counter_1_0_0), told_not_to);
  ASSERT_TRUE(refused) << refused.error().text();
  EXPECT_EQ(refused->result, phase::refused);
  EXPECT_TRUE(switcher_->parents().empty());
  const auto done = switcher_->rollback_to(load(fixtures::counter_1_0_0), chosen());
  ASSERT_TRUE(done) << done.error().text();
  ASSERT_EQ(done->result, phase::done) << told(*done);
  EXPECT_EQ(done->going, direction::down);
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
  EXPECT_TRUE(switcher_->parents().empty());
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).get(all[7]), 107);
}

// ---- lazy alone

TEST_F(running_box, names_the_servers_that_cannot_go_back_without_loss) {
  start(ledger_1);
  std::vector<molt_ref> all;
  for (const char* title : {"one", "two", "three"}) all.push_back(server("ledger.server", title, {{"title", title}}));
  settings failing;
  failing.arguments = {{"fail", "middle"}, {"at", "two"}};
  failing.sweep_rate_max = 0;
  // One moves for sure: it is called between the switch and the failure only if the sweep takes it first, so take the
  // first.
  const auto done = upgrade(ledger_2, failing);
  const auto speaks = speaking(ledger_1);
  EXPECT_EQ(speaks.sum(all[1]), 5050);
  EXPECT_EQ(speaks.title(all[1]), "two 1.0.0") << "it failed, keeps its state, and answers";
  if (done.result == phase::needs_attention) {
    EXPECT_THAT(done.problems, Contains(HasSubstr("would lose tags, which was not accepted")));
    settings accepting;
    accepting.accept_loss = {"tags"};
    ASSERT_EQ(rollback(accepting).result, phase::done);
  } else {
    EXPECT_EQ(done.result, phase::rolled_back) << "nothing had moved yet";
  }
  for (const auto each : all) {
    EXPECT_THAT(speaks.title(each), HasSubstr("1.0.0"));
    EXPECT_EQ(speaks.sum(each), 5050);
  }
}

TEST_F(running_box, quarantines_the_server_that_failed_and_keeps_its_messages) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(20);
  settings quarantining;
  quarantining.on_failure = failure_policy::quarantine;
  const auto done = upgrade(fixtures::counter_2_0_1_throwing, quarantining);
  ASSERT_EQ(done.result, phase::needs_attention) << told(done);
  EXPECT_THAT(done.problems, Contains(HasSubstr("counter 13 stays suspended")));
  EXPECT_EQ(done.servers_migrated, 19U);
  const auto speaks = speaking(fixtures::counter_1_0_0);
  EXPECT_EQ(speaks.version(all[12]), "2.0.1");
  EXPECT_EQ(speaks.cast(all[13], "reset", client::nothing{}), MOLT_OK);
  ASSERT_EQ(rollback().result, phase::done);
  EXPECT_EQ(speaks.get(all[13]), 0) << "the message waited";
  EXPECT_EQ(speaks.version(all[13]), "1.0.0");
}

TEST_F(running_box, rolls_back_when_cancelled) {
  start(fixtures::counter_1_0_0);
  const auto all = counters(2000);
  settings cancelling;
  cancelling.cancelled = [] { return true; };
  const auto done = upgrade(fixtures::counter_2_0_0, cancelling);
  if (done.result != phase::done) {
    EXPECT_EQ(done.result, phase::rolled_back) << told(done);
    EXPECT_EQ(speaking(fixtures::counter_1_0_0).version(all[1999]), "1.0.0");
  }
  EXPECT_EQ(speaking(fixtures::counter_1_0_0).get(all[1999]), 1999);
}

TEST_F(running_box, does_one_thing_at_a_time) {
  start(fixtures::counter_1_0_0);
  counters(1);
  settings chosen;
  reason second = reason::internal;
  chosen.before_switch = [&](const plan&) -> result<void> {
    std::thread{[&] { second = switcher_->upgrade(load(fixtures::counter_1_1_0), {}).error().why(); }}.join();
    return ok();
  };
  EXPECT_EQ(upgrade(fixtures::counter_2_0_0, chosen).result, phase::done);
  EXPECT_EQ(second, reason::busy);
}

TEST_F(running_box, needs_a_first_release) {
  switcher_.emplace(runtime_);
  EXPECT_EQ(switcher_->upgrade(load(fixtures::counter_1_0_0), {}).error().why(), reason::invalid_argument);
  EXPECT_EQ(switcher_->plan_upgrade(load(fixtures::counter_1_0_0), {}).error().why(), reason::invalid_argument);
}

TEST_F(running_box, refuses_to_drop_a_type_with_living_servers) {
  start(fixtures::counter_1_0_0);
  counters(1);
  EXPECT_THAT(upgrade(fixtures::shared_1_0_0).problems, ElementsAre(HasSubstr("counter.server is gone")));
}

TEST_P(transaction, lets_go_of_a_failed_release_by_itself) {
  start(fixtures::counter_1_0_0);
  counters(20);
  auto patient = chosen();
  patient.collect_timeout = 30s;
  ASSERT_EQ(upgrade(fixtures::counter_2_0_1_throwing, patient).result, phase::rolled_back);
  const auto mapped = loader::images();
  EXPECT_TRUE(std::none_of(mapped.begin(), mapped.end(), [](const auto& image) {
    return image.plugin == "counter 2.0.1" && (unloads || image.resident_because.empty());
  }));
}

// ---- atomic alone

TEST_F(running_box, gives_up_when_the_servers_do_not_come_to_rest) {
  start(ledger_1);
  const auto busy = server("ledger.server", "busy");
  const auto speaks = speaking(ledger_1);
  std::thread sleeper{[&] { speaks.call<std::uint64_t>(busy, "nap", std::int64_t{600}); }};
  std::this_thread::sleep_for(100ms);
  settings hasty;
  hasty.mode = mode::atomic;
  hasty.switch_timeout = 50ms;
  const auto done = upgrade(ledger_2, hasty);
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.problems, ElementsAre(HasSubstr("did not come to rest")));
  sleeper.join();
  EXPECT_EQ(speaks.title(busy), " 1.0.0");
}

/// Ledgers that say in which version's code they answer, and how they were.
class ledgers : public running_box {
 protected:
  void SetUp() override {
    start(ledger_1);
    for (int n = 0; n < 20; ++n)
      all_.push_back(server("ledger.server", "l" + std::to_string(n), {{"title", std::to_string(n)}}));
    for (const auto each : all_) before_.push_back(archive_of(runtime_, each));
  }
  void expect_as_before(const std::string& after) {
    const auto speaks = speaking(ledger_1);
    for (std::size_t n = 0; n < all_.size(); ++n) {
      EXPECT_EQ(archive_of(runtime_, all_[n]), before_[n]) << "server " << n << after;
      EXPECT_EQ(speaks.title(all_[n]), std::to_string(n) + " 1.0.0") << after;
    }
    EXPECT_EQ(switcher_->current().id, "ledger-1.0.0") << after;
  }
  static settings atomic(servers::arguments arguments) {
    settings made;
    made.mode = mode::atomic;
    made.atomic_threads = 3;
    made.arguments = std::move(arguments);
    return made;
  }

  std::vector<molt_ref> all_;
  std::vector<std::string> before_;
};

TEST_F(ledgers, go_back_when_the_deadline_passes_in_a_long_hook_of_any_of_them) {
  for (const int k : {0, 7, 19}) {
    auto hasty = atomic({{"fail", "slow"}, {"at", std::to_string(k)}, {"ms", "450"}});
    hasty.switch_timeout = 400ms;
    const auto done = upgrade(ledger_2, hasty);
    ASSERT_EQ(done.result, phase::rolled_back) << told(done);
    EXPECT_THAT(done.problems, ElementsAre(AllOf(HasSubstr("switch_timeout_ms = 400 passed when "),
                                                 HasSubstr(" of 20 servers had migrated"), HasSubstr("Raise it"))));
    EXPECT_THAT(done.failures, IsEmpty()) << "no hook failed";
    EXPECT_EQ(done.servers_migrated, 0U);
    EXPECT_GE(done.at_rest, 450ms);
    EXPECT_LT(done.reverting, done.at_rest);
    expect_as_before(", deadline in " + std::to_string(k));
  }
  EXPECT_EQ(upgrade(ledger_2, atomic({})).result, phase::done) << "and then it goes well";
}

TEST_F(ledgers, go_back_when_many_short_hooks_use_up_the_deadline) {
  auto hasty = atomic({{"fail", "slow"}, {"ms", "50"}});
  hasty.atomic_threads = 1;
  hasty.switch_timeout = 500ms;  // of a second
  const auto done = upgrade(ledger_2, hasty);
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.problems, ElementsAre(HasSubstr("of 20 servers had migrated")));
  expect_as_before("");
}

TEST_F(ledgers, go_back_when_the_upgrade_is_cancelled_at_rest) {
  auto cancelling = atomic({});
  std::atomic<int> asked{0};
  cancelling.cancelled = [&] { return ++asked > 5; };
  const auto done = upgrade(ledger_2, cancelling);
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.problems, ElementsAre(HasSubstr("cancelled")));
  expect_as_before("");
}

TEST_F(running_box, reverts_the_right_servers_among_others_that_have_ended) {
  start(ledger_1);
  std::vector<molt_ref> all;
  for (int n = 0; n < 3000; ++n) all.push_back(server("ledger.server", "", {{"title", std::to_string(n)}}));
  for (std::size_t n = 0; n < all.size(); n += 3) EXPECT_TRUE(runtime_.stop(all[n], "not needed"));
  settings failing;
  failing.mode = mode::atomic;
  failing.arguments = {{"fail", "middle"}, {"at", "2999"}};
  failing.atomic_threads = 2;
  const auto done = upgrade(ledger_2, failing);
  ASSERT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_EQ(done.servers_migrated, 0U);
  const auto speaks = speaking(ledger_1);
  for (std::size_t n = 1; n < all.size(); n += n % 3 == 1 ? 1 : 2) {
    ASSERT_EQ(speaks.title(all[n]), std::to_string(n) + " 1.0.0");
    ASSERT_EQ(speaks.sum(all[n]), 5050);
  }
}

TEST_F(running_box, moves_all_or_none_wherever_the_failure_is) {
  start(ledger_1);
  std::vector<molt_ref> all;
  for (int n = 0; n < 20; ++n)
    all.push_back(server("ledger.server", "l" + std::to_string(n), {{"title", std::to_string(n)}}));
  const auto speaks = speaking(ledger_1);
  std::vector<std::string> before;
  for (const auto each : all) before.push_back(archive_of(runtime_, each));
  for (int k = 0; k < 20; k += 3) {
    settings failing;
    failing.mode = mode::atomic;
    failing.atomic_threads = 3;
    failing.arguments = {{"fail", "middle"}, {"at", std::to_string(k)}};
    const auto done = upgrade(ledger_2, failing);
    ASSERT_EQ(done.result, phase::rolled_back) << told(done);
    EXPECT_THAT(done.failures, Contains(Field(&server_failure::server, "l" + std::to_string(k))));
    for (std::size_t n = 0; n < all.size(); ++n) {
      EXPECT_EQ(archive_of(runtime_, all[n]), before[n]) << "server " << n << ", failure in " << k;
      EXPECT_EQ(speaks.title(all[n]), std::to_string(n) + " 1.0.0");
    }
  }
}

}  // namespace
}  // namespace molt::upgrade
