#include "server/supervisor.hpp"

#include "tests/server/cell_servers.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using worker::add;

struct supervised {
  supervised()
      : keeper{on, [this](std::string_view why) {
                 std::lock_guard lock{mutex};
                 gave_up = why;
               }} {
    auto made = std::make_shared<test_release>();
    made->add<"worker", worker::server>();
    on.on_exit([this](const exit_event& event) {
      keeper.child_ended(event);
      std::lock_guard lock{mutex};
      order.push_back(event.name);
    });
    on.switch_to(made);
  }
  ~supervised() { static_cast<void>(keeper.stop("test over")); }
  std::string reason_given() {
    std::lock_guard lock{mutex};
    return gave_up;
  }
  std::vector<std::string> ended() {
    std::lock_guard lock{mutex};
    return order;
  }
  void crash(std::string name) { call(on, on.lookup(name), worker::fail{"crash"}); }
  molt_ref wait_for_other(std::string_view name, molt_ref before) {
    wait_until([&] { return on.lookup(name).bits != 0 && on.lookup(name).bits != before.bits; });
    return on.lookup(name);
  }
  // keeper before on: its thread uses the runtime.
  std::mutex mutex;
  std::string gave_up;
  std::vector<std::string> order;
  runtime on;
  supervisor keeper;
};

child_spec child(std::string name, restart when = restart::permanent, arguments given = {}) {
  return {std::move(name), "worker.server", std::move(given), when, 5s};
}

TEST(supervisor, starts_in_order_and_stops_in_reverse) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({1, 5s, {child("a"), child("b"), child("c")}}));
  EXPECT_EQ(run.on.size(), 3U);
  ASSERT_TRUE(run.keeper.stop("done"));
  EXPECT_THAT(run.ended(), ElementsAre("c", "b", "a"));
}

TEST(supervisor, stops_what_it_started_when_one_does_not_start) {
  supervised run;
  const auto failed = run.keeper.start({1, 5s, {child("a"), child("b", restart::permanent, {{"fail", "no port"}})}});
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("no port"));
  EXPECT_EQ(run.on.size(), 0U);
}

TEST(supervisor, restarts_a_permanent_child_under_its_name) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a", restart::permanent, {{"value", "7"}}), child("b")}}));
  const auto before = run.on.lookup("a");
  run.crash("a");
  const auto after = run.wait_for_other("a", before);
  EXPECT_EQ(call(run.on, after, add{0}).reply, 7);
  EXPECT_TRUE(run.on.stop(after, "normal"));
  run.wait_for_other("a", after);
  wait_until([&] { return run.keeper.children()[0].restarts == 2; });
}

TEST(supervisor, restarts_a_transient_child_only_after_a_failure_and_a_temporary_one_never) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({10, 60s, {child("t", restart::transient), child("x", restart::temporary)}}));
  const auto before = run.on.lookup("t");
  run.crash("t");
  const auto after = run.wait_for_other("t", before);
  run.crash("x");
  wait_until([&] { return run.keeper.children().size() == 1; });
  ASSERT_TRUE(run.on.stop(after, "normal"));
  wait_until([&] { return run.keeper.children()[0].ref.bits == 0; });
  EXPECT_EQ(run.on.size(), 0U);
}

TEST(supervisor, gives_up_after_too_many_restarts_and_stops_all_children) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({2, 60s, {child("a"), child("b")}}));
  for (int i = 0; i < 2; ++i) {
    const auto before = run.on.lookup("a");
    run.crash("a");
    run.wait_for_other("a", before);
  }
  EXPECT_EQ(run.reason_given(), "");
  run.crash("a");
  wait_until([&] { return !run.reason_given().empty(); });
  EXPECT_THAT(run.reason_given(), HasSubstr("2 restarts"));
  EXPECT_EQ(run.on.size(), 0U);
}

TEST(supervisor, update_starts_added_children_and_stops_removed_ones) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a"), child("b")}}));
  const auto kept = run.on.lookup("b");
  ASSERT_TRUE(run.keeper.update({5, 60s, {child("b"), child("c")}}));
  EXPECT_EQ(run.on.lookup("a").bits, 0U);
  EXPECT_EQ(run.on.lookup("b").bits, kept.bits);
  EXPECT_NE(run.on.lookup("c").bits, 0U);
  run.crash("b");
  run.wait_for_other("b", kept);
}

TEST(supervisor, update_says_which_child_did_not_start_and_keeps_the_rest) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({3, 60s, {child("a")}}));
  const auto failed =
      run.keeper.update({3, 60s, {child("a"), child("bad", restart::permanent, {{"fail", "no"}}), child("c")}});
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("bad"));
  EXPECT_NE(run.on.lookup("a").bits, 0U);
  EXPECT_NE(run.on.lookup("c").bits, 0U);
}

TEST(supervisor, refuses_children_without_a_name_or_with_the_same) {
  supervised run;
  EXPECT_EQ(run.keeper.start({1, 5s, {child("")}}).error().why(), reason::invalid_argument);
  EXPECT_EQ(run.keeper.start({1, 5s, {child("a"), child("a")}}).error().why(), reason::invalid_argument);
}

TEST(supervisor, survives_children_that_crash_from_many_threads) {
  supervised run;
  ASSERT_TRUE(run.keeper.start({1'000'000, 60s, {child("a"), child("b"), child("c")}}));
  const auto base = seed();
  std::vector<std::thread> all;
  for (unsigned t = 0; t < 3; ++t)
    all.emplace_back([&, t] {
      std::mt19937_64 random{base + t};
      for (int i = 0; i < 100 * stress_scale; ++i) {
        const auto ref = run.on.lookup(std::string(1, static_cast<char>('a' + random() % 3)));
        if (random() % 4 == 0)
          call(run.on, ref, worker::fail{"crash"});
        else
          call(run.on, ref, add{1});
      }
    });
  for (auto& each : all) each.join();
  wait_until([&] { return run.on.size() == 3; });
}

}  // namespace
}  // namespace molt::servers::testing
