#include "server/expected_names.hpp"
#include "tests/server/cell_servers.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <future>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using worker::add;
using worker::note;

TEST(runtime, answers_a_call_to_an_idle_server) {
  worker_runtime run;
  const auto ref = run.start("a", {{"value", "40"}});
  EXPECT_EQ(call(run.on, ref, add{2}).reply, 42);
  EXPECT_EQ(call(run.on, run.on.lookup("a"), add{1}).reply, 43);
}

TEST(runtime, passes_strings_and_vectors) {
  worker_runtime run;
  const auto ref = run.start();
  const std::string text(100'000, 'x');
  EXPECT_EQ(call(run.on, ref, worker::echo_text{text}).reply, text);
}

TEST(runtime, handles_a_callers_casts_before_its_call) {
  worker_runtime run;
  const auto ref = run.start();
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 5; ++i) EXPECT_EQ(cast(run.on, ref, note{round * 5 + i}), MOLT_OK);
    const auto log = call(run.on, ref, worker::read_log{}).reply;
    ASSERT_EQ(log.size(), static_cast<std::size_t>(round + 1) * 5);
    EXPECT_EQ(log.back(), round * 5 + 4);
  }
}

TEST(runtime, refuses_what_the_release_does_not_have) {
  worker_runtime run;
  EXPECT_EQ(run.on.start("nobody.server", "", {}).error().why(), reason::not_found);
  run.start("a");
  EXPECT_EQ(run.on.start("worker.server", "a", {}).error().why(), reason::already_exists);
  const auto failed = run.on.start("worker.server", "b", {{"fail", "no disk"}});
  EXPECT_EQ(failed.error().why(), reason::hook_failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("no disk"));
  EXPECT_EQ(run.on.lookup("b").bits, 0U);
  EXPECT_EQ(run.on.size(), 1U);
}

TEST(runtime, has_no_server_before_it_has_a_release) {
  runtime on;
  EXPECT_EQ(on.start("worker.server", "", {}).error().why(), reason::refused);
}

#if defined(__SANITIZE_ADDRESS__)
TEST(runtime, shows_a_leak_detector_what_it_holds) {
  worker_runtime run;
  for (int i = 0; i < 100; ++i) run.start();
  EXPECT_EQ(__lsan_do_recoverable_leak_check(), 0);
}
#endif

TEST(runtime, keeps_stale_references_harmless) {
  worker_runtime run;
  const auto first = run.start("a");
  ASSERT_TRUE(run.on.stop(first, "test"));
  EXPECT_EQ(call(run.on, first, add{}).status, MOLT_NO_SUCH_SERVER);
  EXPECT_EQ(cast(run.on, first, note{}), MOLT_NO_SUCH_SERVER);
  EXPECT_EQ(run.on.stop(first, "again").error().why(), reason::no_such_server);
  const auto second = run.start("a");
  EXPECT_NE(first.bits, second.bits);
  EXPECT_EQ(call(run.on, first, add{}).status, MOLT_NO_SUCH_SERVER);
  EXPECT_EQ(call(run.on, second, add{}).reply, 1);
  EXPECT_EQ(call(run.on, molt_ref{}, add{}).status, MOLT_NO_SUCH_SERVER);
  EXPECT_EQ(call(run.on, molt_ref{~0ULL}, add{}).status, MOLT_NO_SUCH_SERVER);
}

TEST(runtime, refuses_servers_beyond_its_bound) {
  options given;
  given.servers_max = 3;
  worker_runtime run{given};
  for (int i = 0; i < 3; ++i) run.start();
  EXPECT_EQ(run.on.start("worker.server", "", {}).error().why(), reason::out_of_bounds);
}

TEST(runtime, fails_only_the_server_whose_handler_throws) {
  worker_runtime run;
  const auto other = run.start("other");
  const auto ref = run.start("a");
  const auto failed = call(run.on, ref, worker::fail{{"broken"}});
  EXPECT_EQ(failed.status, MOLT_SERVER_FAILED);
  EXPECT_THAT(failed.text, HasSubstr("broken"));
  EXPECT_EQ(call(run.on, ref, add{}).status, MOLT_NO_SUCH_SERVER);
  EXPECT_EQ(call(run.on, other, add{}).reply, 1);
  const auto events = run.ended.all();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].name, "a");
  EXPECT_TRUE(events[0].failed);
  EXPECT_THAT(events[0].why, HasSubstr("broken"));
  EXPECT_EQ(run.on.stats().failed, 1U);
}

TEST(runtime, fails_a_server_whose_cast_throws) {
  worker_runtime run;
  const auto ref = run.start("a");
  EXPECT_EQ(cast(run.on, ref, worker::fail_later{"late"}), MOLT_OK);
  wait_until([&] { return run.ended.all().size() == 1; });
  EXPECT_EQ(call(run.on, ref, add{}).status, MOLT_NO_SUCH_SERVER);
}

TEST(runtime, stops_a_server_after_the_message_that_asked_for_it) {
  worker_runtime run;
  const auto ref = run.start("a");
  EXPECT_EQ(call(run.on, ref, worker::stop_self{}).reply, 1);
  EXPECT_EQ(call(run.on, ref, add{}).status, MOLT_NO_SUCH_SERVER);
  ASSERT_EQ(run.ended.all().size(), 1U);
  EXPECT_FALSE(run.ended.all()[0].failed);
  EXPECT_EQ(run.ended.all()[0].why, "asked to");
}

TEST(runtime, lets_servers_start_servers) {
  worker_runtime run;
  const auto ref = run.start("a");
  const auto child = call(run.on, ref, worker::spawn{"child"}).reply;
  EXPECT_EQ(run.on.lookup("child").bits, child.bits);
  EXPECT_EQ(call(run.on, molt_ref{child.bits}, add{5}).reply, 5);
}

TEST(runtime, answers_unknown_messages_with_an_error) {
  struct stranger {
    using reply = std::int64_t;
    std::int64_t x = 0;
  };
  worker_runtime run;
  const auto ref = run.start("a");
  const auto answer = call(run.on, ref, stranger{});
  EXPECT_EQ(answer.status, MOLT_UNKNOWN_MESSAGE);
  EXPECT_THAT(answer.text, HasSubstr("stranger"));
  EXPECT_EQ(call(run.on, ref, add{}).reply, 1);
}

TEST(runtime, times_out_on_a_busy_server_and_withdraws_the_message) {
  worker_runtime run;
  const auto ref = run.start("a");
  latch gate;
  std::thread busy{[&] { call(run.on, ref, worker::hold{bits(gate)}); }};
  gate.wait_for(1);
  EXPECT_EQ(call(run.on, ref, add{100}, 5ms).status, MOLT_TIMEOUT);
  gate.open = true;
  busy.join();
  EXPECT_EQ(call(run.on, ref, add{1}).reply, 1);
}

TEST(runtime, drops_the_reply_that_comes_after_the_deadline) {
  options given;
  given.pool_threads = 1;
  worker_runtime run{given};
  const auto ref = run.start("a");
  latch first;
  latch second;
  EXPECT_EQ(cast(run.on, ref, worker::hold_cast{bits(first)}), MOLT_OK);
  first.wait_for(1);
  // Waits behind the cast, is begun by the pool, and outlives its caller's patience.
  std::thread caller{[&] { EXPECT_EQ(call(run.on, ref, worker::hold{bits(second)}, 50ms).status, MOLT_TIMEOUT); }};
  std::this_thread::sleep_for(10ms);
  first.open = true;
  caller.join();
  second.open = true;
  EXPECT_EQ(call(run.on, ref, add{1}).reply, 1);
}

TEST(runtime, answers_overloaded_when_the_mailbox_is_full) {
  options given;
  given.mailbox_max = 10;
  worker_runtime run{given};
  const auto ref = run.start("a");
  latch gate;
  std::thread busy{[&] { call(run.on, ref, worker::hold{bits(gate)}); }};
  gate.wait_for(1);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(cast(run.on, ref, note{i}), MOLT_OK);
  EXPECT_EQ(cast(run.on, ref, note{10}), MOLT_OVERLOADED);
  EXPECT_EQ(call(run.on, ref, add{}).status, MOLT_OVERLOADED);
  EXPECT_EQ(run.on.servers()[0].queued, 10U);
  EXPECT_EQ(run.on.servers()[0].status, "running");
  gate.open = true;
  busy.join();
  wait_until([&] { return run.on.servers()[0].queued == 0; });
  EXPECT_THAT(call(run.on, ref, worker::read_log{}).reply, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST(runtime, suspends_and_resumes) {
  worker_runtime run;
  const auto ref = run.start("a");
  ASSERT_TRUE(run.on.suspend(ref, 1s));
  EXPECT_EQ(run.on.suspend(ref, 1s).error().why(), reason::busy);
  EXPECT_EQ(run.on.servers()[0].status, "suspended");
  EXPECT_EQ(cast(run.on, ref, note{1}), MOLT_OK);
  EXPECT_EQ(call(run.on, ref, add{}, 5ms).status, MOLT_TIMEOUT);
  ASSERT_TRUE(run.on.resume(ref));
  EXPECT_EQ(run.on.resume(ref).error().why(), reason::refused);
  EXPECT_THAT(call(run.on, ref, worker::read_log{}).reply, ElementsAre(1));
  EXPECT_EQ(call(run.on, ref, add{}).reply, 1);
}

TEST(runtime, suspends_only_between_messages) {
  worker_runtime run;
  const auto ref = run.start("a");
  latch gate;
  std::thread busy{[&] { call(run.on, ref, worker::hold{bits(gate)}); }};
  gate.wait_for(1);
  EXPECT_EQ(run.on.suspend(ref, 5ms).error().why(), reason::timeout);
  std::thread suspender{[&] { EXPECT_TRUE(run.on.suspend(ref, std::chrono::nanoseconds::max())); }};
  std::this_thread::sleep_for(5ms);
  gate.open = true;
  busy.join();
  suspender.join();
  EXPECT_EQ(run.on.servers()[0].status, "suspended");
  EXPECT_TRUE(run.on.stop(ref, "while suspended"));
}

TEST(runtime, stops_everything_when_it_goes_newest_first) {
  exits ended;
  {
    runtime on;
    const auto current = std::make_shared<test_release>();
    current->add<"worker", worker::server>();
    on.on_exit(std::ref(ended));
    on.switch_to(current);
    for (const auto* name : {"a", "b", "c"}) ASSERT_TRUE(on.start("worker.server", name, {}));
    cast(on, on.lookup("b"), note{1});
  }
  const auto events = ended.all();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].name, "c");
  EXPECT_EQ(events[2].name, "a");
}

TEST(expected_names, are_waited_for_by_others_until_they_are_there_or_not_expected_or_the_time_is_over) {
  std::atomic<bool> there{false};
  const auto look = [&] { return there ? molt_ref{7} : molt_ref{}; };
  const auto looked_up_beside = [&](expected_names& names) {
    return std::async(std::launch::async, [&] { return names.await("a", look).bits; });
  };
  expected_names patient{std::chrono::hours{1}};
  patient.expect({"a"});
  EXPECT_TRUE(patient.any());
  EXPECT_EQ(patient.await("a", look).bits, 0U) << "who expects it is to start it";
  EXPECT_EQ(std::async(std::launch::async, [&] { return patient.await("b", look).bits; }).get(), 0U);
  auto found = looked_up_beside(patient);
  there = true;
  patient.named();
  EXPECT_EQ(found.get(), 7U);
  there = false;
  auto in_vain = looked_up_beside(patient);
  patient.forget();
  EXPECT_EQ(in_vain.get(), 0U);
  EXPECT_FALSE(patient.any());

  expected_names hasty{std::chrono::milliseconds{1}};
  hasty.expect({"a"});
  EXPECT_EQ(looked_up_beside(hasty).get(), 0U);
}

TEST(runtime, shows_what_its_servers_do) {
  worker_runtime run;
  const auto ref = run.start("a");
  call(run.on, ref, add{});
  const auto all = run.on.servers();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].ref.bits, ref.bits);
  EXPECT_EQ(all[0].name, "a");
  EXPECT_EQ(all[0].type, "worker.server");
  EXPECT_EQ(all[0].version, "1.0.0");
  EXPECT_EQ(all[0].status, "idle");
  EXPECT_EQ(all[0].handled, 1U);
  EXPECT_NE(run.on.find_handler(ref, "add"), nullptr);
  EXPECT_EQ(run.on.find_handler(ref, "subtract"), nullptr);
  EXPECT_EQ(run.on.type_of(ref), run.type);
}

}  // namespace
}  // namespace molt::servers::testing
