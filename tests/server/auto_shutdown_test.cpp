// Children that are not to run, and supervisors that shut down by themselves. Named after supervisor_SUITE's ideas.
#include "tests/server/supervised.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- init throws molt::ignored

child_spec ignored_child(std::string name, restart when = restart::permanent) {
  return child(std::move(name), when, {{"ignore", "yes"}});
}

/// Ignored as long as `worker::ignores` says so.
child_spec fickle_child(std::string name, restart when = restart::permanent) {
  return child(std::move(name), when, {{"ignore", "if_told"}});
}

struct ignore : ::testing::Test {
  ignore() { worker::ignores = false; }
  supervised run;
};

TEST_F(ignore, sup_start_ignore_child) {
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a"), ignored_child("b"), child("c")})));
  EXPECT_EQ(run.on.size(), 2U);
  EXPECT_EQ(run.info("b").name, "b") << "its place is kept";
  EXPECT_FALSE(run.info("b").running);
  EXPECT_EQ(run.keeper.count_children("")->active, 2U);
  const auto again = run.keeper.restart_child("", "b");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bits, 0U);
  EXPECT_TRUE(run.keeper.delete_child("", "b"));
  EXPECT_THAT(run.ended(), ElementsAre()) << "nothing that was there has ended";
  EXPECT_EQ(run.on.stats().failed, 0U);
}

TEST_F(ignore, sup_start_ignore_temporary_child) {
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {ignored_child("t", restart::temporary), child("c")})));
  EXPECT_EQ(run.keeper.children().size(), 1U);
  EXPECT_EQ(run.on.size(), 1U);
}

TEST_F(ignore, sup_start_ignore_temporary_child_start_child) {
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a")})));
  const auto temporary = run.keeper.start_child("", ignored_child("t", restart::temporary));
  ASSERT_TRUE(temporary);
  EXPECT_EQ(temporary->bits, 0U);
  worker::ignores = true;
  const auto permanent = run.keeper.start_child("", fickle_child("p"));
  ASSERT_TRUE(permanent);
  EXPECT_EQ(permanent->bits, 0U);
  EXPECT_EQ(run.keeper.children().size(), 2U);
  worker::ignores = false;
  EXPECT_NE(run.keeper.restart_child("", "p")->bits, 0U);
}

TEST_F(ignore, sup_start_ignore_temporary_child_start_child_simple) {
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {below("pool", pool_of(restart::temporary, {{"ignore", "if_told"}})), child("a")})));
  worker::ignores = true;
  const auto started = run.keeper.start_child("pool", "kid", {});
  ASSERT_TRUE(started);
  EXPECT_EQ(started->bits, 0U);
  EXPECT_EQ(run.keeper.count_children("pool")->active, 0U);
  EXPECT_EQ(run.on.lookup("kid").bits, 0U) << "the name is free";
  worker::ignores = false;
  EXPECT_NE(run.keeper.start_child("pool", "kid", {})->bits, 0U);
}

TEST_F(ignore, simple_one_for_one_restart_ignore) {
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {below("pool", pool_of(restart::permanent, {{"ignore", "if_told"}}))})));
  ASSERT_TRUE(run.keeper.start_child("pool", "kid", {}));
  worker::ignores = true;
  const int ignored_before = worker::times_ignored;
  run.crash("kid");
  wait_until([&] { return worker::times_ignored == ignored_before + 1 && run.on.size() == 0; });
  const auto other = run.keeper.start_child("pool", "other", {});
  ASSERT_TRUE(other) << "the supervisor goes on";
  worker::ignores = false;
  EXPECT_NE(run.keeper.start_child("pool", "other", {})->bits, 0U);
  EXPECT_EQ(run.keeper.count_children("pool")->active, 1U);
}

TEST_F(ignore, one_that_is_started_again_with_others) {
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_all, {child("a"), fickle_child("b"), child("c")})));
  const auto c = run.on.lookup("c");
  worker::ignores = true;
  run.crash("a");
  run.wait_for_other("c", c);
  EXPECT_FALSE(run.info("b").running);
}

TEST_F(ignore, added_by_an_update) {
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("a")})));
  ASSERT_TRUE(run.keeper.update(tree(
      strategy::one_for_one, {child("a"), ignored_child("b"), ignored_child("t", restart::temporary), child("c")})));
  EXPECT_EQ(run.on.size(), 2U);
  EXPECT_EQ(run.keeper.children().size(), 3U);
}

// ---- Significant children

child_spec significant(child_spec made) {
  made.significant = true;
  return made;
}

supervisor_spec shutting(auto_shutdown when, supervisor_spec made) {
  made.auto_shutdown = when;
  return made;
}

constexpr auto any = auto_shutdown::any_significant;
constexpr auto all = auto_shutdown::all_significant;

struct auto_shutdown_of : ::testing::Test {
  /// A supervisor with these children below the root, with a bystander on each side.
  [[nodiscard]] static supervisor_spec with_sub(auto_shutdown when, std::vector<child_spec> children,
                                                restart again = restart::transient) {
    return tree(
        strategy::one_for_one,
        {child("before"), below("sub", shutting(when, tree(strategy::one_for_one, std::move(children), 100)), again),
         child("behind")});
  }
  void end(std::string_view name) { ASSERT_TRUE(run.on.stop(run.on.lookup(name), "normal")); }
  /// After what was posted before has been attended to.
  [[nodiscard]] bool sub_runs() {
    const auto before = run.on.lookup("before");
    run.crash("before");
    run.wait_for_other("before", before);
    return run.info("sub").running;
  }
  void expect_shut_down() {
    wait_until([&] { return !run.info("sub").running && run.on.size() == 2; });
    EXPECT_EQ(run.reason_given(), "") << "the root goes on";
    EXPECT_TRUE(run.info("before").running && run.info("behind").running);
  }
  supervised run;
};

TEST_F(auto_shutdown_of, nonsignificant_temporary) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {child("a", restart::temporary), child("b", restart::temporary)})));
  end("a");
  run.crash("b");
  EXPECT_TRUE(sub_runs());
}

TEST_F(auto_shutdown_of, nonsignificant_transient) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {child("a", restart::transient)})));
  run.crash_and_wait("a");
  end("a");
  EXPECT_TRUE(sub_runs());
}

TEST_F(auto_shutdown_of, significant_temporary) {
  for (const bool fails : {false, true}) {
    supervised fresh;
    ASSERT_TRUE(fresh.keeper.start(with_sub(any, {significant(child("a", restart::temporary)), child("b")})));
    if (fails)
      fresh.crash("a");
    else
      ASSERT_TRUE(fresh.on.stop(fresh.on.lookup("a"), "normal"));
    wait_until([&] { return !fresh.info("sub").running && fresh.on.size() == 2; });
  }
  ASSERT_TRUE(run.keeper.start(with_sub(
      all, {significant(child("a", restart::temporary)), significant(child("b", restart::temporary)), child("c")})));
  end("a");
  EXPECT_TRUE(sub_runs()) << "one of them still runs";
  run.crash("b");
  expect_shut_down();
}

TEST_F(auto_shutdown_of, significant_transient) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {significant(child("a", restart::transient)), child("b")})));
  run.crash_and_wait("a");
  EXPECT_TRUE(sub_runs()) << "it was started again";
  end("a");
  expect_shut_down();
  ASSERT_TRUE(run.keeper.restart_child("", "sub"));
  EXPECT_EQ(run.on.size(), 4U);
}

TEST_F(auto_shutdown_of, significant_simple) {
  auto pool = pool_of(restart::temporary);
  pool.model.significant = true;
  for (const auto when : {any, all}) {
    supervised fresh;
    ASSERT_TRUE(fresh.keeper.start(
        tree(strategy::one_for_one, {below("pool", shutting(when, pool), restart::transient), child("before")})));
    for (const char* const name : {"one", "two", "three"}) ASSERT_TRUE(fresh.keeper.start_child("pool", name, {}));
    ASSERT_TRUE(fresh.keeper.terminate_child("pool", fresh.on.lookup("three")));
    ASSERT_TRUE(fresh.on.stop(fresh.on.lookup("one"), "normal"));
    if (when == all) {
      fresh.crash_and_wait("before");
      EXPECT_TRUE(fresh.info("pool").running);
      fresh.crash("two");
    }
    wait_until([&] { return !fresh.info("pool").running && fresh.on.size() == 1; });
    EXPECT_EQ(fresh.keeper.start_child("pool", "four", {}).error().why(), reason::stopping);
  }
}

// Ended by their supervisor, for another child's sake or because somebody asked: that is not by themselves.
TEST_F(auto_shutdown_of, significant_bystander) {
  auto sub = shutting(any, tree(strategy::one_for_all, {child("a"), significant(child("t", restart::temporary)),
                                                        significant(child("u", restart::transient))}));
  ASSERT_TRUE(run.keeper.start(tree(strategy::one_for_one, {child("before"), below("sub", sub)})));
  run.crash_and_wait("a");
  wait_until([&] { return run.info("u").running; });
  EXPECT_TRUE(sub_runs());
  ASSERT_TRUE(run.keeper.terminate_child("sub", "u"));
  EXPECT_TRUE(sub_runs());
}

TEST_F(auto_shutdown_of, significant_escalation) {
  auto inner = below("inner", shutting(any, tree(strategy::one_for_one, {significant(child("a", restart::transient))})),
                     restart::transient);
  ASSERT_TRUE(run.keeper.start(with_sub(any, {significant(inner), child("b")})));
  end("a");
  expect_shut_down();
  EXPECT_FALSE(run.info("inner").running);
}

TEST_F(auto_shutdown_of, a_permanent_supervisor_is_one_restart_of_it) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {significant(child("a", restart::transient))}, restart::permanent)));
  const auto before = run.on.lookup("a");
  end("a");
  run.wait_for_other("a", before);
  EXPECT_EQ(run.info("sub").restarts, 1U);
}

TEST_F(auto_shutdown_of, a_temporary_supervisor_leaves_nothing) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {significant(child("a", restart::transient))}, restart::temporary)));
  end("a");
  wait_until([&] { return run.keeper.children().size() == 2; });
}

TEST_F(auto_shutdown_of, the_root_is_told) {
  ASSERT_TRUE(run.keeper.start(
      shutting(all, tree(strategy::one_for_one, {significant(child("a", restart::transient)), child("b")}))));
  end("a");
  wait_until([&] { return !run.reason_given().empty(); });
  EXPECT_THAT(run.reason_given(), HasSubstr("root has shut down: its significant child a has ended"));
  EXPECT_EQ(run.on.size(), 0U);
}

TEST_F(auto_shutdown_of, what_cannot_be_significant_is_refused) {
  EXPECT_EQ(run.keeper.start(with_sub(any, {significant(child("a"))})).error().why(), reason::invalid_argument);
  EXPECT_EQ(
      run.keeper.start(with_sub(auto_shutdown::never, {significant(child("a", restart::transient))})).error().why(),
      reason::invalid_argument);
  auto pool = pool_of(restart::permanent);
  pool.model.significant = true;
  EXPECT_EQ(run.keeper.start(shutting(any, pool)).error().why(), reason::invalid_argument);
  ASSERT_TRUE(run.keeper.start(with_sub(any, {})));
  EXPECT_EQ(run.keeper.start_child("", significant(child("x", restart::transient))).error().why(),
            reason::invalid_argument);
  EXPECT_TRUE(run.keeper.start_child("sub", significant(child("x", restart::transient))));
  end("x");
  expect_shut_down();
}

// ---- Changed by an upgrade: in force with the switch

TEST_F(auto_shutdown_of, significant_upgrade_never_any) {
  ASSERT_TRUE(run.keeper.start(with_sub(auto_shutdown::never, {child("a", restart::transient), child("b")})));
  ASSERT_TRUE(run.keeper.begin_update(with_sub(any, {significant(child("a", restart::transient)), child("b")})));
  end("a");
  expect_shut_down();
  ASSERT_TRUE(run.keeper.finish_update());
}

TEST_F(auto_shutdown_of, significant_upgrade_any_never) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {significant(child("a", restart::transient)), child("b")})));
  ASSERT_TRUE(run.keeper.update(with_sub(auto_shutdown::never, {child("a", restart::transient), child("b")})));
  end("a");
  EXPECT_TRUE(sub_runs());
}

TEST_F(auto_shutdown_of, significant_upgrade_any_all) {
  const auto with = [](auto_shutdown when) {
    return with_sub(when, {significant(child("a", restart::transient)), significant(child("b", restart::transient))});
  };
  ASSERT_TRUE(run.keeper.start(with(any)));
  ASSERT_TRUE(run.keeper.begin_update(with(all)));
  end("a");
  EXPECT_TRUE(sub_runs());
  ASSERT_TRUE(run.keeper.undo_update());
  end("b");
  expect_shut_down();
}

TEST_F(auto_shutdown_of, significant_upgrade_child) {
  ASSERT_TRUE(run.keeper.start(with_sub(any, {significant(child("a", restart::transient)), child("b")})));
  ASSERT_TRUE(
      run.keeper.update(with_sub(any, {child("a", restart::transient), significant(child("b", restart::transient))})));
  end("a");
  EXPECT_TRUE(sub_runs());
  end("b");
  expect_shut_down();
}

}  // namespace
}  // namespace molt::servers::testing
