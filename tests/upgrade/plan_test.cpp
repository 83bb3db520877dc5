#include "upgrade/plan.hpp"

#include "loader/inspection.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fixture_paths.hpp>

namespace molt::upgrade {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<plugin_description> described(const char* file) {
  const auto seen = loader::inspect(file);
  EXPECT_TRUE(seen) << (seen ? "" : seen.error().text());
  return {seen->plugin};
}

plan between(const char* from, const char* to, plan_options options = {}) {
  const auto running = described(from);
  const auto next = described(to);
  return make_plan(running, next, options);
}

std::vector<std::string> covers(const type_plan& type) {
  std::vector<std::string> all;
  for (const auto& message : type.messages) all.push_back(message.name + ": " + std::string{to_string(message.cover)});
  return all;
}

TEST(plan, keeps_where_only_code_changed) {
  const auto made = between(fixtures::counter_1_0_0, fixtures::counter_1_1_0);
  EXPECT_FALSE(made.refused()) << to_text(made);
  EXPECT_EQ(made.costliest(), way::keep);
  EXPECT_THAT(covers(made.types.at(0)), Each(HasSubstr("same_key")));
}

TEST(plan, changes_nothing_of_the_same_plugin) {
  const auto made = between(fixtures::counter_1_0_0, fixtures::counter_1_0_0);
  EXPECT_EQ(made.types.at(0).change, type_change::unchanged);
}

TEST(plan, goes_in_place_by_a_hook_and_by_message_hooks) {
  const auto made = between(fixtures::counter_1_0_0, fixtures::counter_2_0_0);
  ASSERT_FALSE(made.refused()) << to_text(made);
  const auto& type = made.types.at(0);
  EXPECT_EQ(type.way, way::in_place);
  EXPECT_EQ(type.from_version, "1.0.0");
  EXPECT_EQ(type.to_version, "2.0.0");
  EXPECT_THAT(type.changes,
              ElementsAre("counter.server.state: added changes: u64", "counter.server.state: added label: string",
                          "counter.server.add: added who: string"));
  EXPECT_THAT(type.steps, ElementsAre("counter::v1::state to counter::state (hook of 2.0.0, with context)"));
  EXPECT_TRUE(type.archive_to_undo) << "the hook takes its input by rvalue and may throw";
  EXPECT_THAT(covers(type),
              ElementsAre("add: edge", "get: same_key", "version: same_key", "reset: same_key", "fail: same_key"));
  ASSERT_EQ(made.back.size(), 1U);
  EXPECT_THAT(made.back[0].steps, ElementsAre("counter::state to counter::v1::state (hook of 2.0.0, with context)"));
  EXPECT_THAT(covers(made.back[0]), Contains("changes: unhandled"));
  EXPECT_THAT(made.notes, Contains(HasSubstr("counter.server.changes: 1.0.0 does not know it")));
}

TEST(plan, composes_hooks_over_two_versions) {
  const auto made = between(fixtures::counter_1_0_0, fixtures::counter_3_0_0);
  ASSERT_FALSE(made.refused()) << to_text(made);
  EXPECT_THAT(made.types.at(0).steps, ElementsAre("counter::v1::state to counter::v2::state (hook of 3.0.0)",
                                                  "counter::v2::state to counter::state (hook of 3.0.0)"));
  EXPECT_THAT(made.back.at(0).steps, ElementsAre("counter::state to counter::v2::state (hook of 3.0.0)",
                                                 "counter::v2::state to counter::v1::state (hook of 3.0.0)"));
}

TEST(plan, refuses_an_uncovered_state_and_an_uncovered_message_by_name) {
  const auto made = between(fixtures::counter_1_0_0, fixtures::counter_2_0_2_no_edge);
  ASSERT_TRUE(made.refused());
  EXPECT_THAT(
      made.problems,
      Contains(AllOf(HasSubstr("counter.server.state: added changes: u64"),
                     HasSubstr("counter.server.state: added label: string"),
                     HasSubstr("no hook leads up from 1.0.0 to 2.0.2"),
                     HasSubstr("write static counter::state code_change(v1::state&&) in counter.server 2.0.2"))));
  EXPECT_THAT(made.problems,
              Contains(AllOf(HasSubstr("counter.server.add: added who: string"), HasSubstr("message_change("))));
  EXPECT_THAT(made.problems, Contains(AllOf(HasSubstr("no hook leads down from 2.0.2 to 1.0.0"),
                                            HasSubstr("write static v1::state code_change_down(counter::state&&)"),
                                            HasSubstr("one_way"))));
}

TEST(plan, asks_for_no_way_back_from_a_one_way_release) {
  plan_options options;
  options.one_way = true;
  const auto made = between(fixtures::counter_1_0_0, fixtures::counter_2_0_2_no_edge, options);
  EXPECT_THAT(made.problems, Each(Not(HasSubstr("leads down"))));
  EXPECT_THAT(made.back, IsEmpty());
  EXPECT_THAT(made.notes, Contains(HasSubstr("one_way")));
}

TEST(plan, refuses_a_message_that_the_next_version_does_not_handle) {
  const auto made = between(fixtures::counter_2_0_0, fixtures::counter_3_0_0);
  EXPECT_THAT(made.problems, ElementsAre(HasSubstr("counter.server.changes: 3.0.0 does not handle it")));
}

TEST(plan, refuses_a_lossy_way_down_unless_the_loss_is_accepted) {
  plan_options options;
  options.going = direction::down;
  const auto lossy = between(fixtures::counter_3_0_0, fixtures::counter_2_0_0, options);
  EXPECT_THAT(lossy.problems,
              ElementsAre(AllOf(HasSubstr("counter.server"), HasSubstr("all notes but the first are deleted"),
                                HasSubstr("--accept-loss notes"))));
  options.accept_loss = {"notes"};
  const auto accepted = between(fixtures::counter_3_0_0, fixtures::counter_2_0_0, options);
  EXPECT_FALSE(accepted.refused()) << to_text(accepted);
  EXPECT_THAT(accepted.types.at(0).losses,
              ElementsAre(migration::path_loss{"notes", "all notes but the first are deleted"}));
}

TEST(plan, refuses_to_accept_a_loss_that_no_hook_has_and_names_those_there_are) {
  plan_options options;
  options.going = direction::down;
  options.accept_loss = {"notes", "nonsense"};
  EXPECT_THAT(between(fixtures::counter_3_0_0, fixtures::counter_2_0_0, options).problems,
              ElementsAre("no hook of the two releases loses nonsense: accepted can be notes"));
  options.accept_loss = {"nonsense"};
  EXPECT_THAT(between(fixtures::counter_2_0_0, fixtures::counter_1_0_0, options).problems,
              ElementsAre("no hook of the two releases loses nonsense: none loses anything"));
}

TEST(plan, archives_a_state_that_reaches_code) {
  const auto same = between(fixtures::shared_1_0_0, fixtures::shared_1_1_0);
  EXPECT_FALSE(same.refused()) << to_text(same);
  EXPECT_EQ(same.costliest(), way::archive);
  plan_options options;
  options.one_way = true;
  const auto newer = between(fixtures::shared_1_0_0, fixtures::shared_2_0_0, options);
  ASSERT_FALSE(newer.refused()) << to_text(newer);
  EXPECT_THAT(newer.types.at(0).steps, ElementsAre("shared::state by archive (version 1 to 2)"));
  EXPECT_TRUE(between(fixtures::shared_1_0_0, fixtures::shared_2_0_0).refused())
      << "an older class cannot read a newer archive";
}

TEST(plan, refuses_a_type_that_is_gone_only_while_it_is_in_use) {
  const auto running = described(fixtures::counter_1_0_0);
  const auto other = described(fixtures::shared_1_0_0);
  plan_options options;
  EXPECT_FALSE(make_plan(running, other, options).refused());
  options.types_in_use = {"counter.server"};
  const auto made = make_plan(running, other, options);
  EXPECT_THAT(made.problems, ElementsAre(HasSubstr("counter.server is gone from the next release but still in use")));
  EXPECT_EQ(made.find("counter.server")->change, type_change::removed);
  EXPECT_EQ(made.find("shared.server")->change, type_change::added);
}

TEST(plan, says_that_a_hook_between_equal_structures_never_runs) {
  auto running = described(fixtures::counter_2_0_0);
  auto next = running;
  next[0].version = "2.0.9";
  next[0].state_edges[0].to = next[0].state_edges[0].from;
  EXPECT_THAT(make_plan(running, next, {}).notes, Contains(HasSubstr("never runs")));
}

TEST(plan, tells_toolchains_apart) {
  const auto running = described(fixtures::counter_1_0_0);
  auto next = running;
  next[0].version = "1.2.0";
  next[0].toolchain = "aarch64 itanium libc++";
  for (auto& schema : next[0].schemas) ++schema.fingerprint;
  EXPECT_THAT(make_plan(running, next, {}).problems, Contains(HasSubstr("aarch64")));
}

TEST(plan, tells_its_story) {
  const auto text = to_text(between(fixtures::counter_1_0_0, fixtures::counter_2_0_0));
  EXPECT_THAT(text, HasSubstr("counter.server: 1.0.0 to 2.0.0, in_place"));
  EXPECT_THAT(text, HasSubstr("    counter.server.state: added label: string\n"));
  EXPECT_THAT(text, HasSubstr("and back:"));
  EXPECT_THAT(text, HasSubstr("    counter.server.state: removed label: string\n"));
}

}  // namespace
}  // namespace molt::upgrade
