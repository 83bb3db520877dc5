#include "server/supervisor.hpp"

#include "tests/server/supervised.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using worker::add;

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
