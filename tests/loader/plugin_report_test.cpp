#include "loader/plugin_report.hpp"

#include "hand_made.hpp"
#include "loader/note.hpp"
#include "plugin/abi.h"
#include "plugins/note_writer.hpp"

#include <gmock/gmock.h>

namespace molt::loader {
namespace {

using ::testing::ElementsAre;
using testing::hand_made;
using ::testing::HasSubstr;

plugin_description plugin(const std::string& name) { return inspect(hand_made(name))->plugin; }

TEST(plugin_report, tells_what_a_plugin_is) {
  const std::string text = describe(*inspect(hand_made("hand_counter_2")));
  EXPECT_THAT(text, HasSubstr("plugin     counter 2.0.0\n"));
  EXPECT_THAT(text, HasSubstr("  state counter::state: struct{value: i64, hits: i64}\n"));
  EXPECT_THAT(text, HasSubstr("  call add: struct{by: i64} -> i64\n"));
  EXPECT_THAT(text, HasSubstr("  state up counter::v1::state -> counter::state\n"));
  EXPECT_THAT(text, HasSubstr("  state down counter::state -> counter::v1::state; loses hits: the number of hits\n"));
  EXPECT_THAT(text, HasSubstr("can be replaced while running"));
}

TEST(plugin_report, tells_findings_with_what_to_do) {
  const std::string text = describe(*inspect(hand_made("hand_no_build_id")));
  EXPECT_THAT(text, HasSubstr("build id   none"));
  EXPECT_THAT(text, HasSubstr("refused: has no build ID (missing_build_id)\n         link with"));
  EXPECT_THAT(text, HasSubstr("cannot be loaded"));
}

TEST(plugin_report, compares_two_versions_and_shows_the_hooks_between) {
  const auto found = compare(plugin("hand_counter_1"), plugin("hand_counter_2"));
  ASSERT_EQ(found.changes.size(), 1U);
  EXPECT_EQ(found.changes[0].what, "counter.server state");
  EXPECT_THAT(found.changes[0].lines, ElementsAre("counter.server.state: added hits: i64"));
  EXPECT_THAT(found.changes[0].up.steps, ElementsAre("counter::v1::state -> counter::state"));
  EXPECT_THAT(found.changes[0].down.losses, ElementsAre("hits"));
  EXPECT_TRUE(found.covered());
  const std::string text = describe(found);
  EXPECT_THAT(text, HasSubstr("counter 1.0.0 -> counter 2.0.0\n"));
  EXPECT_THAT(text, HasSubstr("    up: counter::v1::state -> counter::state (pure)\n"));
  EXPECT_THAT(text, HasSubstr("    down: counter::state -> counter::v1::state (pure); loses hits\n"));
}

TEST(plugin_report, says_what_the_hooks_use_beside_the_state) {
  const auto older = plugin("hand_counter_1");
  auto newer = plugin("hand_counter_2");
  auto& up = newer.state_edges.at(0);
  ASSERT_EQ(up.flags & MOLT_EDGE_DOWN, 0U);
  up.flags |= MOLT_EDGE_CONTEXT;
  EXPECT_THAT(describe(compare(older, newer)), HasSubstr("up: counter::v1::state -> counter::state (with context)\n"));
  up.flags |= MOLT_EDGE_OTHERS;
  newer.schemas[up.to].text = "struct(64,8){live:evolving_map<steady_map<u64,i64>,unordered_map<u64,i32>>@0}";
  const auto found = compare(older, newer);
  ASSERT_EQ(found.changes.size(), 1U);
  ASSERT_EQ(found.changes[0].up.hooks.size(), 1U);
  EXPECT_EQ(found.changes[0].up.hooks[0].kind, "others");
  EXPECT_TRUE(found.changes[0].up.hooks[0].evolves);
  EXPECT_EQ(found.changes[0].down.hooks[0].kind, "pure");
  const std::string text = describe(found);
  EXPECT_THAT(text, HasSubstr("up: counter::v1::state -> counter::state (with other servers, evolving)\n"));
  EXPECT_THAT(text, HasSubstr("down: counter::state -> counter::v1::state (pure, evolving); loses hits\n"));
}

TEST(plugin_report, shows_a_change_that_no_hook_covers) {
  auto newer = plugin("hand_counter_2");
  newer.state_edges.pop_back();
  const auto found = compare(plugin("hand_counter_1"), newer);
  EXPECT_FALSE(found.covered());
  EXPECT_THAT(describe(found), HasSubstr("down: no hook leads there: write static v1::state "
                                         "code_change_down(counter::state&&) in counter.server 2.0.0\n"));
}

TEST(plugin_report, finds_no_difference_where_there_is_none) {
  const auto found = compare(plugin("hand_counter_1"), plugin("hand_counter_1"));
  EXPECT_TRUE(found.empty());
  EXPECT_THAT(describe(found), HasSubstr("no difference"));
}

TEST(plugin_report, names_added_and_removed_messages_and_types) {
  const auto older = plugin("hand_counter_1");
  auto newer = older;
  newer.messages[0].name = "increase";
  newer.server_types.push_back(newer.server_types[0]);
  newer.server_types[1].name = "counter.other";
  const auto found = compare(older, newer);
  EXPECT_THAT(found.added_types, ElementsAre("counter.other"));
  EXPECT_THAT(found.added_messages, ElementsAre("counter.server increase"));
  EXPECT_THAT(found.removed_messages, ElementsAre("counter.server add"));
  const auto back = compare(newer, older);
  EXPECT_THAT(back.removed_types, ElementsAre("counter.other"));
}

TEST(plugin_report, tells_a_call_that_became_a_cast) {
  const auto older = plugin("hand_counter_1");
  auto newer = older;
  newer.messages[0].reply = no_schema;
  const auto found = compare(older, newer);
  ASSERT_EQ(found.changes.size(), 1U);
  EXPECT_THAT(found.changes[0].lines, ElementsAre("counter.server.add: was a call, is a cast"));
  EXPECT_FALSE(found.covered());
}

TEST(plugin_report, tells_a_state_that_changed_though_the_version_did_not) {
  auto newer = plugin("hand_counter_2");
  newer.version = "1.0.0";
  const auto found = compare(plugin("hand_counter_1"), newer);
  EXPECT_THAT(found.unversioned,
              ElementsAre("the state of counter.server changed but the version is still 1.0.0: raise it"));
  EXPECT_FALSE(found.covered());
  EXPECT_THAT(describe(found), HasSubstr("  the state of counter.server changed but the version is still 1.0.0"));
}

TEST(plugin_report, counts_a_state_that_reads_its_older_archives_as_covered_upwards) {
  const auto older = plugin("hand_counter_1");
  auto newer = plugin("hand_counter_2");
  newer.state_edges.clear();
  newer.schemas[3].flags |= MOLT_SCHEMA_READS_OLDER;
  newer.schemas[3].version = 1;
  const auto found = compare(older, newer);
  EXPECT_TRUE(found.changes[0].up.covered);
  EXPECT_FALSE(found.changes[0].down.covered);
}

}  // namespace
}  // namespace molt::loader
