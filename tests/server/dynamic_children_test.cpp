// Dynamic supervisors: a million children made after one model.
#include "tests/server/supervised.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::HasSubstr;
using worker::add;

// Starts children from a handler: with the supervisor's name as text.
namespace parent {
struct state {};
struct start {
  using reply = molt::ref;
  std::string supervisor;
  std::string name;
  std::string value;
};
struct why_not {
  using reply = std::string;
  std::string supervisor;
};
struct server : molt::server<state> {
  using messages = molt::messages<start, why_not>;
  molt::ref handle_call(molt::context& ctx, const start& m) {
    const auto started = ctx.start_child(m.supervisor, {{"value", m.value}}, m.name);
    return started ? *started : molt::ref{};
  }
  std::string handle_call(molt::context& ctx, const why_not& m) {
    const auto started = ctx.start_child(m.supervisor);
    return started ? "started" : started.error().text();
  }
};
}  // namespace parent

supervisor_spec with_pool(supervisor_spec pool) {
  return tree(strategy::one_for_one, {child("a"), below("pool", std::move(pool))});
}

TEST(dynamic_children, get_the_models_arguments_replaced_and_followed_by_their_own) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(with_pool(pool_of(restart::permanent, {{"value", "3"}, {"more", "x"}}))));
  const auto plain = run.keeper.start_child("pool", "", {});
  const auto own = run.keeper.start_child("pool", "own", {{"value", "9"}});
  ASSERT_TRUE(plain && own);
  EXPECT_EQ(call(run.on, *plain, add{0}).reply, 3);
  EXPECT_EQ(call(run.on, *own, add{0}).reply, 9);
  EXPECT_EQ(run.on.lookup("own").bits, own->bits);
  EXPECT_EQ(call(run.on, run.crash_and_wait("own"), add{0}).reply, 9);
}

TEST(dynamic_children, are_restarted_by_kind) {
  for (const auto kind : {restart::permanent, restart::transient, restart::temporary}) {
    supervised run;
    ASSERT_TRUE(run.keeper.start(with_pool(pool_of(kind, {}, 100))));
    const auto failing = run.keeper.start_child("pool", "failing", {});
    const auto leaving = run.keeper.start_child("pool", "leaving", {});
    ASSERT_TRUE(failing && leaving);
    run.crash("failing");
    ASSERT_TRUE(run.on.stop(*leaving, "done"));
    if (kind != restart::temporary) run.wait_for_other("failing", *failing);
    if (kind == restart::permanent) run.wait_for_other("leaving", *leaving);
    const std::size_t left = kind == restart::permanent ? 2 : kind == restart::transient ? 1 : 0;
    wait_until([&] { return run.keeper.count_children("pool")->active == left; });
    EXPECT_EQ(run.on.size(), 1 + left);
  }
}

TEST(dynamic_children, are_terminated_one_by_one_and_stopped_with_their_supervisor) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(with_pool(pool_of())));
  const auto one = run.keeper.start_child("pool", "", {});
  const auto two = run.keeper.start_child("pool", "", {});
  ASSERT_TRUE(one && two);
  ASSERT_TRUE(run.keeper.terminate_child("pool", *one));
  EXPECT_EQ(run.keeper.terminate_child("pool", *one).error().why(), reason::not_found);
  EXPECT_EQ(run.keeper.terminate_child("root", *two).error().why(), reason::refused);
  EXPECT_EQ(run.keeper.count_children("pool")->active, 1U);
  ASSERT_TRUE(run.keeper.terminate_child("root", "pool"));
  EXPECT_EQ(run.on.size(), 1U);
  EXPECT_EQ(run.keeper.start_child("pool", "", {}).error().why(), reason::stopping);
  ASSERT_TRUE(run.keeper.restart_child("root", "pool"));
  EXPECT_TRUE(run.keeper.start_child("pool", "", {}));
}

TEST(dynamic_children, are_bounded) {
  supervised run;
  auto pool = pool_of(restart::temporary);
  pool.children_max = 2;
  ASSERT_TRUE(run.keeper.start(with_pool(pool)));
  const auto first = run.keeper.start_child("pool", "", {});
  ASSERT_TRUE(first && run.keeper.start_child("pool", "", {}));
  EXPECT_EQ(run.keeper.start_child("pool", "", {}).error().why(), reason::out_of_bounds);
  ASSERT_TRUE(run.keeper.terminate_child("pool", *first));
  EXPECT_TRUE(run.keeper.start_child("pool", "", {}));
}

TEST(dynamic_children, are_started_by_handlers) {
  supervised run;
  auto made = std::make_shared<test_release>();
  made->add<"worker", worker::server>();
  made->add<"parent", parent::server>();
  run.on.switch_to(made);
  auto spec = with_pool(pool_of());
  spec.children.push_back(child("parent"));
  spec.children.back().type = "parent.server";
  ASSERT_TRUE(run.keeper.start(spec));
  const auto parent = run.on.lookup("parent");
  const auto started = call(run.on, parent, parent::start{"pool", "kid", "4"});
  ASSERT_NE(started.reply.bits, 0U);
  EXPECT_EQ(run.on.lookup("kid").bits, started.reply.bits);
  EXPECT_EQ(call(run.on, {started.reply.bits}, add{0}).reply, 4);
  EXPECT_EQ(run.keeper.supervisor_of({started.reply.bits}), "root/pool");
  EXPECT_THAT(call(run.on, parent, parent::why_not{"pond"}).reply, HasSubstr("no supervisor is named pond"));
  EXPECT_THAT(call(run.on, parent, parent::why_not{"root"}).reply, HasSubstr("is not dynamic"));
  ASSERT_TRUE(run.keeper.terminate_child("", "pool"));
  EXPECT_THAT(call(run.on, parent, parent::why_not{"pool"}).reply, HasSubstr("does not run"));
}

TEST(dynamic_children, too_many_failures_restart_the_supervisor_without_children) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(with_pool(pool_of(restart::permanent, {}, 1))));
  ASSERT_TRUE(run.keeper.start_child("pool", "one", {}));
  ASSERT_TRUE(run.keeper.start_child("pool", "two", {}));
  run.crash_and_wait("one");
  run.crash("one");
  wait_until([&] { return run.info("pool").restarts == 1 && run.info("pool").running; });
  EXPECT_EQ(run.on.size(), 1U);
  EXPECT_TRUE(run.keeper.start_child("pool", "one", {}));
}

TEST(dynamic_children, that_end_in_their_own_start_are_not_forgotten) {
  supervised run;
  ASSERT_TRUE(run.keeper.start(with_pool(pool_of(restart::permanent, {}, 100'000))));
  std::vector<std::thread> all;
  std::atomic<bool> going{true};
  std::thread killer{[&] {  // ends children by any reference that looks like one, as soon as it exists
    while (going)
      for (std::uint32_t slot = 1; slot < 8; ++slot)
        for (std::uint64_t generation = 1; generation < 200; ++generation)
          run.on.request_stop({(generation << 32U) | slot}, "killed");
  }};
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(run.keeper.start_child("pool", "", {}));
  going = false;
  killer.join();
  wait_until([&] { return run.on.size() >= 5 && run.keeper.count_children("pool")->active == 4; });
}

TEST(dynamic_children, a_million) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  const std::size_t count = 10'000;
#else
  const std::size_t count = 1'000'000;
#endif
  const auto begun = std::chrono::steady_clock::now();
  const auto passed = [&] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun).count();
  };
  supervised run;
  ASSERT_TRUE(run.keeper.start(with_pool(pool_of(restart::permanent, {}, 1'000'000))));
  molt_ref last{};
  for (std::size_t i = 0; i < count; ++i) {
    const auto started = run.keeper.start_child("pool", "", {});
    ASSERT_TRUE(started) << started.error().text();
    last = *started;
  }
  std::printf("%zu children started after %lld ms\n", count, static_cast<long long>(passed()));
  EXPECT_EQ(run.keeper.count_children("pool")->active, count);
  for (std::uint64_t i = 0; i < 1000; ++i) {  // the last ones' slots, whoever is in them by now
    call(run.on, {last.bits - i}, worker::fail{"crash"});
  }
  wait_until([&] { return run.keeper.count_children("pool")->active == count; });
  std::printf("1000 restarted after %lld ms\n", static_cast<long long>(passed()));
  ASSERT_TRUE(run.keeper.terminate_child("", "pool"));
  EXPECT_EQ(run.on.size(), 1U);
  std::printf("all stopped after %lld ms\n", static_cast<long long>(passed()));
}

}  // namespace
}  // namespace molt::servers::testing
