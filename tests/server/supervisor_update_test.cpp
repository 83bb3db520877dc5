// The tree of another release, and back.
#include "tests/server/supervised.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using worker::add;

TEST(supervisor_update, starts_added_children_and_stops_removed_ones) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a"), child("b")}}));
  const auto kept = run.on.lookup("b");
  ASSERT_TRUE(run.keeper.update({5, 60s, {child("b"), child("c")}}));
  EXPECT_EQ(run.on.lookup("a").bits, 0U);
  EXPECT_EQ(run.on.lookup("b").bits, kept.bits);
  EXPECT_NE(run.on.lookup("c").bits, 0U);
  run.crash_and_wait("b");
}

TEST(supervisor_update, removed_children_handle_what_waits_for_them) {
  supervised run;
  latch gate;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a"), child("b")}}));
  const auto a = run.on.lookup("a");
  const auto b = run.on.lookup("b");
  ASSERT_EQ(call(run.on, a, worker::set_peer{molt::ref{b.bits}}).status, MOLT_OK);
  ASSERT_EQ(cast(run.on, a, worker::hold_cast{bits(gate)}), MOLT_OK);
  gate.wait_for(1);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(cast(run.on, a, worker::tell_peer{1}), MOLT_OK);
  std::thread updating{[&] { EXPECT_TRUE(run.keeper.update({3, 60s, {child("b")}})); }};
  gate.open = true;
  updating.join();
  EXPECT_EQ(run.on.lookup("a").bits, 0U);
  wait_until([&] { return call(run.on, b, add{0}).reply == 100; });
}

TEST(supervisor_update, what_is_removed_runs_until_the_second_step_and_stops_in_reverse) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a"), child("b"), child("c")}}));
  ASSERT_TRUE(run.keeper.begin_update({3, 60s, {child("d")}}));
  EXPECT_EQ(run.on.size(), 4U);
  EXPECT_EQ(run.keeper.children().size(), 1U);
  EXPECT_EQ(run.keeper.begin_update({3, 60s, {}}).error().why(), reason::busy);
  ASSERT_TRUE(run.keeper.finish_update());
  EXPECT_THAT(run.ended(), ElementsAre("c", "b", "a"));
  EXPECT_EQ(run.on.size(), 1U);
}

TEST(supervisor_update, undo_leaves_everything_as_it_was) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(
      strategy::rest_for_one, {child("a"), below("inner", tree(strategy::one_for_all, {child("b"), child("c")}))})));
  const auto specs_before = run.keeper.children();
  call(run.on, run.on.lookup("a"), add{7});
  ASSERT_TRUE(run.keeper.begin_update(tree(strategy::one_for_one, {child("c"), child("new")})));
  ASSERT_TRUE(run.keeper.undo_update());
  EXPECT_EQ(run.on.lookup("new").bits, 0U);
  EXPECT_EQ(call(run.on, run.on.lookup("a"), add{0}).reply, 7);
  const auto now = run.keeper.children();
  ASSERT_EQ(now.size(), specs_before.size());
  for (std::size_t i = 0; i < now.size(); ++i) {
    EXPECT_EQ(now[i].name, specs_before[i].name);
    EXPECT_EQ(now[i].ref.bits, specs_before[i].ref.bits);
    EXPECT_EQ(now[i].supervisor, specs_before[i].supervisor);
    EXPECT_EQ(now[i].strategy, specs_before[i].strategy);
  }
  const auto c = run.on.lookup("c");
  run.crash("b");
  run.wait_for_other("c", c);  // one_for_all again
}

TEST(supervisor_update, undo_starts_what_failed_while_it_was_leaving) {
  supervised run;
  ASSERT_TRUE(
      run.keeper.start(tree(strategy::one_for_one, {child("p"), child("t", restart::temporary), child("kept")})));
  ASSERT_TRUE(run.keeper.begin_update(tree(strategy::one_for_one, {child("kept")})));
  run.crash("p");
  run.crash("t");
  EXPECT_EQ(run.on.lookup("p").bits, 0U);
  ASSERT_TRUE(run.keeper.start_child("", child("barrier")));  // the supervisor has attended to both by now, or will
  ASSERT_TRUE(run.keeper.undo_update());
  run.wait_for_other("p", {});
  EXPECT_EQ(run.on.lookup("t").bits, 0U);
}

TEST(supervisor_update, a_child_under_another_supervisor_keeps_running) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {child("a"), below("inner", tree(strategy::one_for_one, {child("b")}))})));
  const auto a = run.on.lookup("a");
  const auto b = run.on.lookup("b");
  ASSERT_TRUE(run.keeper.update(tree(
      strategy::one_for_one, {child("b"), below("other", tree(strategy::one_for_one, {child("a"), child("c")}, 0))})));
  EXPECT_EQ(run.on.lookup("a").bits, a.bits);
  EXPECT_EQ(run.on.lookup("b").bits, b.bits);
  EXPECT_EQ(run.keeper.supervisor_of(a), "root/other");
  EXPECT_EQ(run.info("inner").name, "");
  const auto c = run.on.lookup("c");
  run.crash("a");  // the new supervisor's intensity: none
  run.wait_for_other("c", c);
  EXPECT_EQ(run.info("other").restarts, 1U);
}

// OTP's test changes strategy and shutdown of a live supervisor.
TEST(supervisor_update, upgrade_supervisor) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a"), child("b")})));
  auto next = tree(strategy::one_for_all, {child("a"), child("b")}, 1);
  next.children[0].shutdown = 10ms;
  ASSERT_TRUE(run.keeper.update(next));
  const auto b = run.on.lookup("b");
  run.crash("a");
  run.wait_for_other("b", b);
  run.crash("a");
  wait_until([&] { return !run.reason_given().empty(); });
  EXPECT_THAT(run.reason_given(), HasSubstr("more than 1 restarts"));
}

// In OTP a bad child spec fails the upgrade after the point of no return, and the node goes down.
TEST(supervisor_update, upgrade_supervisor_fail) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a"), child("b")})));
  const auto a = run.on.lookup("a");
  EXPECT_EQ(run.keeper.update(tree(strategy::one_for_one, {child("a"), child("a")})).error().why(),
            reason::invalid_argument);
  const auto failed = run.keeper.update(
      tree(strategy::one_for_all,
           {child("a"), child("fine"), child("bad", restart::permanent, {{"fail", "no"}}), child("never")}));
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("starting bad"));
  EXPECT_EQ(run.on.lookup("a").bits, a.bits);
  EXPECT_NE(run.on.lookup("b").bits, 0U);
  EXPECT_EQ(run.on.lookup("fine").bits, 0U);
  EXPECT_EQ(run.on.size(), 2U);
  run.crash_and_wait("b");
  EXPECT_EQ(run.on.lookup("a").bits, a.bits);
  EXPECT_TRUE(run.keeper.update(tree(strategy::one_for_one, {child("a")})));
}

TEST(supervisor_update, a_child_of_another_type_is_started_anew) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a")}}));
  auto other = child("a");
  other.type = "other.server";
  ASSERT_TRUE(run.keeper.begin_update({3, 60s, {other}}));
  EXPECT_EQ(run.info("a").type, "other.server");
  ASSERT_TRUE(run.keeper.undo_update());
  EXPECT_EQ(run.info("a").type, "worker.server");
  EXPECT_TRUE(run.info("a").running);
  EXPECT_EQ(run.on.size(), 1U);
}

TEST(supervisor_update, does_not_start_what_was_done_or_terminated) {
  supervised run;
  const auto spec = tree(strategy::one_for_one, {child("t", restart::temporary), child("x"), child("kept")});
  ASSERT_TRUE(run.keeper.start(spec));
  ASSERT_TRUE(run.on.stop(run.on.lookup("t"), "done"));
  wait_until([&] { return run.info("t").name.empty(); });
  ASSERT_TRUE(run.keeper.terminate_child("", "x"));
  ASSERT_TRUE(run.keeper.update(spec));
  EXPECT_EQ(run.on.size(), 1U);
  EXPECT_FALSE(run.info("x").running);
}

TEST(supervisor_update, keeps_children_added_at_run_time_while_their_supervisor_stays) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {child("a"), below("inner", tree(strategy::one_for_one, {child("b")}))})));
  ASSERT_TRUE(run.keeper.start_child("", child("x")));
  ASSERT_TRUE(run.keeper.start_child("inner", child("y")));
  ASSERT_TRUE(run.keeper.update(tree(strategy::one_for_one, {child("a")})));
  EXPECT_NE(run.on.lookup("x").bits, 0U);
  EXPECT_EQ(run.on.lookup("y").bits, 0U);
  run.crash_and_wait("x");
}

TEST(supervisor_update, says_whose_arguments_changed) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a", restart::permanent, {{"value", "1"}}), child("b")}}));
  const auto a = run.on.lookup("a");
  ASSERT_TRUE(run.keeper.begin_update({3, 60s, {child("a", restart::permanent, {{"value", "2"}}), child("b")}}));
  std::vector<changed_arguments> changed;
  ASSERT_TRUE(run.keeper.finish_update(&changed));
  ASSERT_EQ(changed.size(), 1U);
  EXPECT_EQ(changed[0].name, "a");
  EXPECT_EQ(changed[0].ref.bits, a.bits);
  EXPECT_EQ(changed[0].now, (arguments{{"value", "2"}}));
  EXPECT_EQ(call(run.on, run.crash_and_wait("a"), add{0}).reply, 2);
}

TEST(supervisor_update, a_dynamic_supervisor_whose_children_are_of_another_type_is_another) {
  supervised run;
  const auto before = tree(strategy::one_for_one, {below("pool", pool_of())});
  auto next = pool_of();
  next.model.type = "other.server";
  ASSERT_TRUE(run.keeper.start(before));
  const auto old = run.keeper.start_child("pool", "", {});
  ASSERT_TRUE(old);
  ASSERT_TRUE(run.keeper.begin_update(tree(strategy::one_for_one, {below("pool", next)})));
  ASSERT_TRUE(run.keeper.start_child("pool", "", {}));
  ASSERT_TRUE(run.keeper.undo_update());
  EXPECT_EQ(run.on.size(), 1U);
  EXPECT_EQ(run.keeper.supervisor_of(*old), "root/pool");
  ASSERT_TRUE(run.keeper.update(tree(strategy::one_for_one, {below("pool", next)})));
  EXPECT_EQ(run.on.size(), 0U);
  EXPECT_TRUE(run.keeper.start_child("pool", "", {}));
}

TEST(supervisor_update, dynamic_supervisors_come_go_and_keep_their_children) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {below("stays", pool_of(restart::permanent)), below("goes", pool_of())})));
  const auto kept = run.keeper.start_child("stays", "kept", {{"value", "5"}});
  const auto gone = run.keeper.start_child("goes", "gone", {});
  ASSERT_TRUE(kept && gone);
  const auto next = tree(strategy::one_for_one, {below("comes", pool_of()), below("stays", pool_of())});
  ASSERT_TRUE(run.keeper.begin_update(next));
  EXPECT_EQ(run.keeper.start_child("goes", "", {}).error().why(), reason::not_found);
  EXPECT_TRUE(run.keeper.start_child("comes", "", {}));
  ASSERT_TRUE(run.keeper.undo_update());
  EXPECT_EQ(run.on.lookup("gone").bits, gone->bits);
  EXPECT_TRUE(run.keeper.start_child("goes", "", {}));
  EXPECT_EQ(run.on.size(), 3U);
  ASSERT_TRUE(run.keeper.update(next));
  EXPECT_EQ(run.on.size(), 1U);
  EXPECT_EQ(run.on.lookup("kept").bits, kept->bits);
  EXPECT_EQ(call(run.on, run.crash_and_wait("kept"), add{0}).reply, 5);
}

}  // namespace
}  // namespace molt::servers::testing
