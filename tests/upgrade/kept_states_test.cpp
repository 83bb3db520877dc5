// Rollbacks whose hooks are the faulty part: back to what was kept when each server migrated.
#include "upgrade/kept_states.hpp"
#include "tests/upgrade/running_box.hpp"

#include <gmock/gmock.h>

#include <cstdint>
#include <string>
#include <vector>

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(kept_times, are_accepted_as_they_are_shown) {
  const second time{1'769'860'800s};
  EXPECT_EQ(loss_since(time), "since=2026-01-31T12:00:00Z");
  const std::vector<std::string> names{"tags", loss_since(time + 5s), loss_since(time)};
  const auto accepted = accepted_since(names);
  ASSERT_TRUE(accepted);
  EXPECT_EQ(*accepted, time) << "the earlier one covers the later one";
  EXPECT_EQ(*accepted_since(std::vector<std::string>{"tags"}), std::nullopt);
  for (const char* wrong : {"since=", "since=yesterday", "since=2026-02-31T12:00:00Z", "since=2026-01-31T12:00:00",
                            "since=2026-01-31T12:00:00Z ", "since= 026-01-31T12:00:00Z"}) {
    const auto refused = accepted_since(std::vector<std::string>{wrong});
    ASSERT_FALSE(refused) << wrong;
    EXPECT_THAT(refused.error().text(), HasSubstr("names no time"));
  }
}

/// Counters 0 to 9. Those of 2.0.1 cannot go back when their value is -13.
class kept : public running_box, public testing::WithParamInterface<mode> {
 protected:
  void SetUp() override {
    start(fixtures::counter_1_0_0);
    all_ = counters(10);
    old_.emplace(speaking(fixtures::counter_1_0_0));
  }
  [[nodiscard]] static settings keeping() {
    settings made;
    made.mode = GetParam();
    made.keep_states = true;
    made.collect_timeout = 0ns;
    return made;
  }
  [[nodiscard]] settings going_back(bool accepting) const {
    settings made = keeping();
    made.keep_states = false;
    made.from_kept = true;
    if (accepting) made.accept_loss = {loss_since(switcher_->kept()->summary().since)};
    return made;
  }
  void upgrade_and_write() {
    const auto done = upgrade(fixtures::counter_2_0_1_throwing, keeping());
    ASSERT_EQ(done.result, phase::done) << told(done);
    for (std::size_t n = 0; n < all_.size(); ++n) old_->add(all_[n], 1000);
    old_->add(all_[3], -1016);  // -13
    old_->add(all_[7], -1020);
  }
  /// Everything runs on the new release, with its writes.
  void expect_nothing_changed() {
    EXPECT_EQ(switcher_->current().id, "counter-2.0.1");
    for (std::size_t n = 0; n < all_.size(); ++n) {
      EXPECT_EQ(old_->version(all_[n]), "2.0.1");
      EXPECT_EQ(old_->get(all_[n]), n == 3 || n == 7 ? -13 : 1000 + static_cast<std::int64_t>(n));
    }
  }

  std::vector<molt_ref> all_;
  std::optional<client> old_;
};

INSTANTIATE_TEST_SUITE_P(each_mode, kept, testing::Values(mode::lazy, mode::atomic),
                         [](const auto& each) { return std::string{to_string(each.param)}; });

TEST_P(kept, states_are_gone_back_to_where_the_hooks_fail_once_the_loss_is_accepted) {
  upgrade_and_write();
  const auto summary = switcher_->kept()->summary();
  EXPECT_EQ(summary.servers, 10U);
  EXPECT_GT(summary.bytes, 0U);

  auto plainly = keeping();
  const auto failed = rollback(plainly);
  EXPECT_EQ(failed.result, phase::rolled_back) << told(failed);
  EXPECT_THAT(failed.problems, Contains(HasSubstr("what 10 servers were when they migrated is kept")));
  expect_nothing_changed();

  const auto refused = rollback(going_back(false));
  EXPECT_EQ(refused.result, phase::refused) << told(refused);
  EXPECT_THAT(
      refused.problems,
      ElementsAre(AllOf(HasSubstr("2 servers of counter.server cannot go back by their hooks"),
                        HasSubstr("kept since " + to_text(summary.since)), HasSubstr("would be lost: counter ")),
                  HasSubstr("--accept-loss " + loss_since(summary.since))));
  expect_nothing_changed();

  auto too_late = going_back(false);
  too_late.accept_loss = {loss_since(summary.since + 1h)};
  EXPECT_EQ(rollback(too_late).result, phase::refused) << "less was accepted than would be lost";
  expect_nothing_changed();

  for (const auto before : {second{}, summary.since - 1s}) {
    auto unread = going_back(false);
    unread.accept_loss = {loss_since(before)};
    const auto said = rollback(unread);
    EXPECT_EQ(said.result, phase::refused) << "nobody has named that time";
    EXPECT_THAT(said.problems, ElementsAre(AllOf(HasSubstr(loss_since(before) + " is before anything was kept"),
                                                 HasSubstr("molt rollback --from-kept says"))));
    expect_nothing_changed();
  }

  const auto done = rollback(going_back(true));
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.mode, mode::atomic);
  EXPECT_EQ(done.servers_restored, 2U);
  ASSERT_EQ(done.restored.size(), 2U);
  EXPECT_EQ(done.restored[0].failed.error, "cannot convert back -13");
  EXPECT_GE(done.restored[0].since, summary.since);
  EXPECT_GE(done.restored[0].lost, 0s);
  for (std::size_t n = 0; n < all_.size(); ++n) {
    EXPECT_EQ(old_->version(all_[n]), "1.0.0");
    EXPECT_EQ(old_->get(all_[n]), static_cast<std::int64_t>(n) + (n == 3 || n == 7 ? 0 : 1000)) << n;
  }
  EXPECT_EQ(switcher_->kept(), nullptr) << "used up";
}

TEST_P(kept, states_that_were_damaged_leave_everything_on_the_new_release) {
  upgrade_and_write();
  const auto archive = switcher_->kept()->archive_of(all_[7]);
  ASSERT_FALSE(archive.empty());
  const_cast<char&>(archive.back()) ^= 1;  // as a wild write would
  const auto done = rollback(going_back(true));
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.failures, Contains(testing::Field(&server_failure::error, HasSubstr("has been written over"))));
  EXPECT_EQ(done.servers_restored, 0U);
  expect_nothing_changed();
}

TEST_P(kept, nothing_of_a_server_that_began_later_so_all_stay_when_its_hook_fails) {
  upgrade_and_write();
  const auto late = server("counter.server", "late", {{"start", "-13"}});
  const auto done = rollback(going_back(true));
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.failures, Contains(testing::Field(&server_failure::error, HasSubstr("nothing was kept of it"))));
  expect_nothing_changed();
  ASSERT_TRUE(runtime_.stop(late, "it stands in the way"));
  EXPECT_EQ(rollback(going_back(true)).result, phase::done);
}

TEST_P(kept, states_have_a_bound_and_a_server_beyond_it_stays_as_it_is) {
  auto bounded = keeping();
  bounded.keep_bytes_max = 20;  // of two or so
  const auto done = upgrade(fixtures::counter_2_0_1_throwing, bounded);
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  ASSERT_FALSE(done.failures.empty());
  EXPECT_EQ(done.failures[0].hook, "keeping its state");
  EXPECT_THAT(done.failures[0].error, HasSubstr("keep_states_mb"));
  for (std::size_t n = 0; n < all_.size(); ++n) {
    EXPECT_EQ(old_->version(all_[n]), "1.0.0");
    EXPECT_EQ(old_->get(all_[n]), static_cast<std::int64_t>(n));
  }
  EXPECT_EQ(switcher_->kept(), nullptr);
}

TEST_P(kept, states_are_let_go_of_at_commit) {
  upgrade_and_write();
  ASSERT_TRUE(switcher_->commit(10s));
  EXPECT_EQ(switcher_->kept(), nullptr);
  auto back = switcher_->rollback_to(load(fixtures::counter_1_0_0), [] {
    settings made;
    made.from_kept = true;
    return made;
  }());
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(back->result, phase::refused);
  EXPECT_THAT(back->problems, Contains(HasSubstr("nothing was kept to go back to")));
  expect_nothing_changed();
}

TEST_P(kept, states_are_not_for_going_up) {
  auto wrong = keeping();
  wrong.from_kept = true;
  const auto done = upgrade(fixtures::counter_2_0_1_throwing, wrong);
  EXPECT_EQ(done.result, phase::refused);
  EXPECT_THAT(done.problems, Contains(HasSubstr("only a rollback")));
}

/// A counter whose value is 13 cannot go up to 2.0.1, and one whose value is -13 cannot go back.
class hooks_that_fail_both_ways : public running_box {
 protected:
  void SetUp() override {
    start(fixtures::counter_1_0_0);
    all_ = counters(10);
    stuck_ = server("counter.server", "stuck", {{"start", "-13"}});
    stays_ = server("counter.server", "stays", {{"start", "13"}});
    old_.emplace(speaking(fixtures::counter_1_0_0));
    keeping_.keep_states = true;
    keeping_.collect_timeout = 0ns;
  }
  void expect_all_but_one_on_the_new_release(std::int64_t added) {
    EXPECT_EQ(switcher_->current().id, "counter-2.0.1");
    for (std::size_t n = 0; n < all_.size(); ++n) {
      EXPECT_EQ(old_->version(all_[n]), "2.0.1");
      EXPECT_EQ(old_->get(all_[n]), added + static_cast<std::int64_t>(n));
    }
    EXPECT_EQ(old_->version(stuck_) + old_->version(stays_), "2.0.11.0.0");
    EXPECT_EQ(old_->get(stuck_), -13);
    EXPECT_EQ(old_->get(stays_), 13);
  }

  std::vector<molt_ref> all_;
  molt_ref stuck_{};
  molt_ref stays_{};
  settings keeping_;
  std::optional<client> old_;
};

TEST_F(hooks_that_fail_both_ways, leave_what_was_kept_to_go_back_to_once_the_loss_is_accepted) {
  const auto failed = upgrade(fixtures::counter_2_0_1_throwing, keeping_);
  EXPECT_EQ(failed.result, phase::needs_attention) << told(failed);
  EXPECT_GT(failed.at_rest, 0ns);
  EXPECT_THAT(failed.failures, Contains(testing::Field(&server_failure::error, "cannot convert 13")));
  EXPECT_THAT(failed.problems, Contains(HasSubstr("stuck could not go back to counter-1.0.0, so none did: cannot "
                                                  "convert back -13")));
  EXPECT_THAT(failed.problems, Contains(HasSubstr("what 11 servers were when they migrated is kept")));
  expect_all_but_one_on_the_new_release(0);
  for (const auto each : all_) old_->add(each, 1000);

  auto plainly = keeping_;
  plainly.keep_states = false;
  const auto again = rollback(plainly);
  EXPECT_EQ(again.result, phase::needs_attention) << told(again);
  EXPECT_THAT(again.problems, Contains(HasSubstr("what 11 servers were when they migrated is kept")));
  expect_all_but_one_on_the_new_release(1000);

  auto back = plainly;
  back.from_kept = true;
  const auto since = switcher_->kept()->summary().since;
  const auto refused = rollback(back);
  EXPECT_EQ(refused.result, phase::refused) << told(refused);
  EXPECT_THAT(refused.problems, ElementsAre(AllOf(HasSubstr("1 servers of counter.server cannot go back"),
                                                  HasSubstr("would be lost: stuck: ")),
                                            HasSubstr("--accept-loss since=")));
  expect_all_but_one_on_the_new_release(1000);

  back.accept_loss = {loss_since(since)};
  const auto done = rollback(back);
  ASSERT_EQ(done.result, phase::done) << told(done);
  ASSERT_EQ(done.restored.size(), 1U);
  EXPECT_EQ(done.restored[0].failed.server, "stuck");
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
  EXPECT_EQ(switcher_->kept(), nullptr) << "used up";
  for (std::size_t n = 0; n < all_.size(); ++n) EXPECT_EQ(old_->get(all_[n]), 1000 + static_cast<std::int64_t>(n));
  EXPECT_EQ(old_->get(stuck_), -13);
  EXPECT_EQ(old_->get(stays_), 13);
  for (const auto each : {all_[0], stuck_, stays_}) EXPECT_EQ(old_->version(each), "1.0.0");
}

TEST_F(hooks_that_fail_both_ways, leave_the_rest_on_the_older_release_where_nothing_is_kept) {
  const auto failed = upgrade(fixtures::counter_2_0_1_throwing);
  EXPECT_EQ(failed.result, phase::needs_attention) << told(failed);
  EXPECT_EQ(switcher_->current().id, "counter-1.0.0");
  EXPECT_EQ(old_->version(all_[0]) + old_->version(stuck_) + old_->version(stays_), "1.0.02.0.11.0.0");
  EXPECT_EQ(old_->get(stuck_), -13);
}

class one_way_ledgers : public running_box {};

TEST_F(one_way_ledgers, go_back_to_what_was_kept_though_no_hook_leads_there) {
  start(ledger_1);
  const auto books = server("ledger.server", "books", {{"title", "books"}});
  const auto before = archive_of(runtime_, books);
  settings keeping;
  keeping.keep_states = true;
  keeping.one_way = true;
  ASSERT_EQ(upgrade(ledger_2_one_way, keeping).result, phase::done);
  const auto speaks = speaking(ledger_1);
  EXPECT_EQ(speaks.call<std::uint64_t>(books, "append", std::int64_t{7}).second, 101U);

  EXPECT_EQ(rollback().result, phase::refused);
  settings back;
  back.from_kept = true;
  auto planned = switcher_->plan_rollback(back);
  ASSERT_TRUE(planned);
  const auto since = loss_since(switcher_->kept()->summary().since);
  EXPECT_THAT(planned->problems, ElementsAre(HasSubstr("accept it with --accept-loss " + since)));
  ASSERT_NE(planned->find("ledger.server"), nullptr);
  EXPECT_THAT(planned->find("ledger.server")->losses,
              ElementsAre(migration::path_loss{since, "what 1 servers did since"}));
  back.accept_loss = {since};
  planned = switcher_->plan_rollback(back);
  ASSERT_TRUE(planned);
  EXPECT_THAT(planned->problems, IsEmpty());
  const auto done = rollback(back);
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(done.servers_restored, 1U);
  EXPECT_EQ(archive_of(runtime_, books), before);
  EXPECT_EQ(speaks.title(books), "books 1.0.0");
}

}  // namespace
}  // namespace molt::upgrade
