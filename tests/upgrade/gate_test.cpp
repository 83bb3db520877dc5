#include "upgrade/gate.hpp"

#include "loader/inspection.hpp"
#include "plugin/abi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fixture_paths.hpp>

namespace molt::upgrade {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

plugin_description described(const char* file) {
  const auto seen = loader::inspect(file);
  EXPECT_TRUE(seen) << (seen ? "" : seen.error().text());
  return seen->plugin;
}

TEST(gate, lets_through_what_hooks_cover_both_ways) {
  const auto verdict = check_replacement(described(fixtures::counter_1_0_0), described(fixtures::counter_2_0_0), false);
  EXPECT_THAT(verdict.problems, IsEmpty());
  EXPECT_TRUE(verdict.difference.covered());
}

TEST(gate, says_what_to_write_where_a_hook_is_missing) {
  const auto older = described(fixtures::counter_1_0_0);
  const auto newer = described(fixtures::counter_2_0_2_no_edge);
  const auto verdict = check_replacement(older, newer, false);
  EXPECT_THAT(verdict.problems, Contains(HasSubstr("no hook leads down from 2.0.2 to 1.0.0")));
  EXPECT_THAT(loader::describe(verdict.difference),
              AllOf(HasSubstr("up: no hook leads there: write static counter::state code_change(v1::state&&) in "
                              "counter.server 2.0.2"),
                    HasSubstr("down: no hook leads there: write static v1::state code_change_down(counter::state&&)")));
}

TEST(gate, asks_for_no_way_back_from_a_one_way_release) {
  const auto older = described(fixtures::counter_1_0_0);
  auto newer = described(fixtures::counter_2_0_0);
  std::erase_if(newer.state_edges, [](const auto& edge) { return (edge.flags & MOLT_EDGE_DOWN) != 0; });
  EXPECT_FALSE(check_replacement(older, newer, false).passed());
  EXPECT_TRUE(check_replacement(older, newer, true).passed());
}

TEST(gate, leaves_losses_to_the_operator) {
  EXPECT_TRUE(
      check_replacement(described(fixtures::counter_1_0_0), described(fixtures::counter_3_0_0), false).passed());
}

TEST(gate, refuses_a_changed_state_and_message_under_the_old_version) {
  const auto older = described(fixtures::counter_1_0_0);
  auto newer = described(fixtures::counter_2_0_0);
  newer.version = older.version;
  const auto verdict = check_replacement(older, newer, false);
  EXPECT_THAT(verdict.problems,
              ElementsAre("the state of counter.server changed but the version is still 1.0.0: raise it",
                          "the message add of counter.server changed but the version is still 1.0.0: raise it"));
  EXPECT_EQ(verdict.difference.unversioned, verdict.problems);
}

TEST(gate, lets_a_rebuilt_plugin_through_that_changed_nothing_but_code) {
  const auto older = described(fixtures::counter_1_0_0);
  auto newer = described(fixtures::counter_1_1_0);
  newer.version = older.version;
  EXPECT_TRUE(check_replacement(older, newer, false).passed());
}

TEST(gate, refuses_another_plugin) {
  const auto older = described(fixtures::shared_1_0_0);
  const auto verdict = check_replacement(older, described(fixtures::counter_2_0_0), false);
  EXPECT_THAT(verdict.problems,
              ElementsAre("counter 2.0.0 is another plugin than shared 1.0.0: a plugin is replaced by "
                          "a version of itself"));
}

TEST(gate, notes_a_server_type_that_is_gone) {
  auto older = described(fixtures::counter_1_0_0);
  older.server_types.push_back(older.server_types[0]);
  older.server_types[1].name = "counter.bygone";
  const auto verdict = check_replacement(older, described(fixtures::counter_1_1_0), false);
  EXPECT_TRUE(verdict.passed());
  EXPECT_THAT(verdict.notes, Contains("counter.bygone is gone: its servers must end before an upgrade"));
}

}  // namespace
}  // namespace molt::upgrade
