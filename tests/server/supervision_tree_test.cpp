// Strategies, supervisors below each other, and children at run time.
#include "tests/server/supervised.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using worker::add;

std::vector<molt_ref> refs(supervised& run, std::initializer_list<const char*> names) {
  std::vector<molt_ref> all;
  for (const char* const name : names) all.push_back(run.on.lookup(name));
  return all;
}

TEST(supervision, one_for_one_restarts_only_the_one_that_failed) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a"), child("b"), child("c")})));
  const auto before = refs(run, {"a", "c"});
  run.crash_and_wait("b");
  EXPECT_EQ(run.on.lookup("a").bits, before[0].bits);
  EXPECT_EQ(run.on.lookup("c").bits, before[1].bits);
  EXPECT_EQ(run.info("b").restarts, 1U);
}

TEST(supervision, one_for_all_stops_the_others_in_reverse_and_restarts_all) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_all, {child("a"), child("b"), child("c")})));
  const auto before = refs(run, {"a", "b", "c"});
  run.crash("b");
  run.wait_for_other("c", before[2]);
  EXPECT_THAT(run.ended(), ElementsAre("b", "c", "a"));
  EXPECT_NE(run.on.lookup("a").bits, before[0].bits);
  EXPECT_EQ(run.on.size(), 3U);
}

TEST(supervision, rest_for_one_restarts_those_that_started_later) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(strategy::rest_for_one, {child("a"), child("b"), child("c"), child("d")})));
  const auto before = refs(run, {"a", "b", "c", "d"});
  run.crash("b");
  run.wait_for_other("d", before[3]);
  EXPECT_THAT(run.ended(), ElementsAre("b", "d", "c"));
  EXPECT_EQ(run.on.lookup("a").bits, before[0].bits);
  EXPECT_NE(run.on.lookup("c").bits, before[2].bits);
}

TEST(supervision, one_for_all_forgets_temporary_children_and_starts_transient_ones_that_were_done) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_all, {child("a"), child("t", restart::transient), child("x", restart::temporary)})));
  ASSERT_TRUE(run.on.stop(run.on.lookup("t"), "done"));
  wait_until([&] { return !run.info("t").running; });
  run.crash("a");
  run.wait_for_other("t", {});
  EXPECT_EQ(run.info("x").name, "");
  EXPECT_EQ(run.on.size(), 2U);
}

TEST(supervision, a_supervisor_that_gives_up_is_a_failed_child_of_the_one_above) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(
      strategy::one_for_one, {child("a"), below("inner", tree(strategy::one_for_one, {child("b"), child("c")}, 1))})));
  const auto a = run.on.lookup("a");
  run.crash_and_wait("b");
  const auto c = run.on.lookup("c");
  run.crash("b");  // once too often: inner gives up and is started anew, with c
  run.wait_for_other("c", c);
  EXPECT_EQ(run.on.lookup("a").bits, a.bits);
  EXPECT_EQ(run.info("inner").restarts, 1U);
  EXPECT_EQ(run.reason_given(), "");
  run.crash_and_wait("b");  // with a count of its own from zero
}

TEST(supervision, giving_up_escalates_to_the_root) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(tree(
      strategy::one_for_one,
      {child("a"),
       below("outer", tree(strategy::one_for_one, {below("inner", tree(strategy::one_for_one, {child("b")}, 0))}, 0))},
      0)));
  run.crash("b");
  wait_until([&] { return !run.reason_given().empty(); });
  EXPECT_THAT(run.reason_given(), HasSubstr("the last for outer: the supervisor outer has given up"));
  EXPECT_THAT(run.reason_given(), HasSubstr("the last for b: crash"));
  EXPECT_EQ(run.on.size(), 0U);
}

TEST(supervision, a_temporary_supervisor_that_gives_up_is_gone) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one,
           {child("a"), below("inner", tree(strategy::one_for_one, {child("b")}, 0), restart::temporary)})));
  run.crash("b");
  wait_until([&] { return run.keeper.children().size() == 1; });
  EXPECT_EQ(run.on.size(), 1U);
  EXPECT_FALSE(run.keeper.which_children("inner"));
}

TEST(supervision, starts_depth_first_and_stops_in_reverse) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one,
           {child("a"), below("inner", tree(strategy::one_for_one, {child("b"), child("c")})), child("d")})));
  ASSERT_TRUE(run.keeper.stop("over"));
  EXPECT_THAT(run.ended(), ElementsAre("d", "c", "b", "a"));
}

TEST(supervision, a_child_that_does_not_start_below_stops_everything_that_did) {
  supervised run;
  const auto failed = run.keeper.start(
      tree(strategy::one_for_one,
           {child("a"), below("inner", tree(strategy::one_for_one,
                                            {child("b"), child("c", restart::permanent, {{"fail", "no port"}})}))}));
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("starting c"));
  EXPECT_EQ(run.on.size(), 0U);
  EXPECT_THAT(run.ended(), ElementsAre("b", "a"));
}

TEST(supervision, refuses_trees_that_cannot_be) {
  supervised run;
  const auto why = [&](supervisor_spec spec) { return run.keeper.start(std::move(spec)).error().why(); };
  const auto one = [](child_spec spec) { return tree(strategy::one_for_one, {std::move(spec)}); };
  EXPECT_EQ(why(tree(strategy::one_for_one, {child("a"), below("b", one(child("a")))})), reason::invalid_argument);
  EXPECT_EQ(why(one(below("root", one(child("a"))))), reason::invalid_argument);
  EXPECT_EQ(why(one(below("pool", tree(strategy::dynamic, {})))), reason::invalid_argument);
  auto both = pool_of();
  both.children.push_back(child("a"));
  EXPECT_EQ(why(one(below("pool", both))), reason::invalid_argument);
  auto deep = one(child("a"));
  for (std::size_t i = 0; i < supervisors_depth_max; ++i) deep = one(below("s" + std::to_string(i), deep));
  EXPECT_EQ(why(deep), reason::out_of_bounds);
}

TEST(supervision, a_shutdown_that_takes_too_long_leaves_its_name_to_the_next) {
  supervised run;
  latch gate;
  auto slow = child("slow");
  slow.shutdown = 10ms;
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_all, {child("a"), slow})));
  const auto before = run.on.lookup("slow");
  ASSERT_EQ(cast(run.on, before, worker::hold_cast{bits(gate)}), MOLT_OK);
  gate.wait_for(1);
  run.crash("a");
  const auto after = run.wait_for_other("slow", before);
  EXPECT_EQ(call(run.on, after, add{1}).reply, 1);
  gate.open = true;
  wait_until([&] { return run.on.size() == 2; });
  EXPECT_EQ(run.on.lookup("slow").bits, after.bits);
}

TEST(supervision, brutal_does_not_wait_and_infinity_does) {
  for (const auto shutdown : {shutdown_brutal, shutdown_infinity}) {
    supervised run;
    latch gate;
    auto slow = child("slow");
    slow.shutdown = shutdown;
    ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {slow})));
    ASSERT_EQ(cast(run.on, run.on.lookup("slow"), worker::hold_cast{bits(gate)}), MOLT_OK);
    gate.wait_for(1);
    std::atomic<bool> stopped{false};
    std::thread stopping{[&] {
      EXPECT_TRUE(run.keeper.stop("over"));
      stopped = true;
    }};
    if (shutdown == shutdown_brutal) {
      stopping.join();
      EXPECT_EQ(run.on.lookup("slow").bits, 0U);
      gate.open = true;
    } else {
      EXPECT_FALSE(stopped.load());
      gate.open = true;
      stopping.join();
    }
    wait_until([&] { return run.on.size() == 0; });
  }
}

TEST(supervision, children_are_started_terminated_restarted_and_deleted_at_run_time) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {child("a"), below("inner", tree(strategy::one_for_one, {child("b")}))})));
  auto& keeper = run.keeper;
  ASSERT_TRUE(keeper.start_child("inner", child("c")));
  EXPECT_EQ(run.info("c").supervisor, "root/inner");
  EXPECT_EQ(keeper.start_child("inner", child("a")).error().why(), reason::already_exists);
  EXPECT_EQ(keeper.start_child("nowhere", child("d")).error().why(), reason::not_found);
  EXPECT_EQ(keeper.start_child("", child("d", restart::permanent, {{"fail", "no"}})).error().why(),
            reason::hook_failed);
  EXPECT_EQ(run.info("d").name, "");
  run.crash_and_wait("c");

  EXPECT_EQ(keeper.delete_child("inner", "c").error().why(), reason::busy);
  EXPECT_EQ(keeper.restart_child("inner", "c").error().why(), reason::already_exists);
  ASSERT_TRUE(keeper.terminate_child("inner", "c"));
  EXPECT_EQ(run.on.lookup("c").bits, 0U);
  EXPECT_FALSE(run.info("c").running);
  ASSERT_TRUE(keeper.restart_child("inner", "c"));
  EXPECT_NE(run.on.lookup("c").bits, 0U);
  ASSERT_TRUE(keeper.terminate_child("inner", "c"));
  ASSERT_TRUE(keeper.delete_child("inner", "c"));
  EXPECT_EQ(keeper.restart_child("inner", "c").error().why(), reason::not_found);

  ASSERT_TRUE(keeper.terminate_child("root", "inner"));
  EXPECT_EQ(run.on.lookup("b").bits, 0U);
  EXPECT_EQ(keeper.start_child("inner", child("d")).error().why(), reason::stopping);
  EXPECT_EQ(keeper.restart_child("inner", "b").error().why(), reason::stopping);
  ASSERT_TRUE(keeper.restart_child("root", "inner"));
  EXPECT_NE(run.on.lookup("b").bits, 0U);
  ASSERT_TRUE(keeper.start_child("", child("t", restart::temporary)));
  ASSERT_TRUE(keeper.terminate_child("", "t"));
  EXPECT_EQ(run.info("t").name, "");
}

TEST(supervision, counts_and_lists_children) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::rest_for_one, {child("a"), child("b"), below("inner", pool_of(restart::temporary))})));
  ASSERT_TRUE(run.keeper.terminate_child("", "b"));
  const auto one = run.keeper.start_child("inner", "one", {});
  const auto two = run.keeper.start_child("inner", "", {});
  ASSERT_TRUE(one && two);
  const auto root = run.keeper.count_children("");
  ASSERT_TRUE(root);
  EXPECT_EQ(root->specs, 3U);
  EXPECT_EQ(root->active, 2U);
  EXPECT_EQ(root->supervisors, 1U);
  EXPECT_EQ(root->workers, 2U);
  const auto inner = run.keeper.count_children("inner");
  ASSERT_TRUE(inner);
  EXPECT_EQ(inner->specs, 1U);
  EXPECT_EQ(inner->active, 2U);
  std::vector<std::string> names;
  for (const auto& each : *run.keeper.which_children("inner")) {
    EXPECT_EQ(each.supervisor, "root/inner");
    EXPECT_EQ(each.type, "worker.server");
    names.push_back(each.name);
  }
  EXPECT_THAT(names, UnorderedElementsAre("one", ""));
  EXPECT_EQ(run.keeper.supervisor_of(*two), "root/inner");
  EXPECT_EQ(run.keeper.supervisor_of(run.on.lookup("a")), "root");
  EXPECT_EQ(run.keeper.supervisor_of({77}), "");
  EXPECT_EQ(run.info("inner").children, 2U);
  EXPECT_EQ(run.info("inner").strategy, strategy::dynamic);
}

TEST(supervision, supervisor_which_children_timeout) {
  // In OTP a supervisor that is busy starting a child answers nobody: which_children times out, and so does the
  // upgrade.
  supervised run;
  latch gate;
  auto slow = child("slow");
  slow.shutdown = 60s;
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a"), slow})));
  ASSERT_EQ(cast(run.on, run.on.lookup("slow"), worker::hold_cast{bits(gate)}), MOLT_OK);
  gate.wait_for(1);
  std::thread stopping{[&] { EXPECT_TRUE(run.keeper.terminate_child("", "slow")); }};
  wait_until([&] { return !run.info("slow").running; });  // it is being waited for
  EXPECT_EQ(run.keeper.which_children("")->size(), 2U);
  EXPECT_EQ(run.keeper.count_children("")->active, 1U);
  EXPECT_NE(run.on.lookup("slow").bits, 0U);
  gate.open = true;
  stopping.join();
}

}  // namespace
}  // namespace molt::servers::testing
