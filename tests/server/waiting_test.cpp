// Deferred replies, timers, and calls that would wait for themselves.
#include "tests/server/cell_servers.hpp"

#include "server/thread_record.hpp"
#include "server/timers.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using worker::add;

// ---- Deferred replies

struct waiting {
  std::vector<molt::reply_to<std::string>> tokens;
};
struct wait {
  using reply = std::string;
};
struct answer {
  std::string text;
};
struct answer_twice {
  using reply = std::string;
  std::string text;
};
struct waiting_now {
  using reply = std::int64_t;
};
struct wait_then_throw {
  using reply = std::string;
};

struct board : molt::server<waiting> {
  using messages = molt::messages<wait, answer, answer_twice, waiting_now, wait_then_throw>;
  void handle_call(molt::context&, const wait&, molt::reply_to<std::string> token) { self().tokens.push_back(token); }
  void handle_cast(molt::context& ctx, const answer& m) {
    for (const auto token : self().tokens) static_cast<void>(ctx.reply(token, m.text));
    self().tokens.clear();
  }
  std::string handle_call(molt::context& ctx, const answer_twice& m) {
    if (self().tokens.empty()) return "nobody";
    const auto token = self().tokens[0];
    const auto first = ctx.reply(token, m.text);
    const auto second = ctx.reply(token, m.text);
    return std::string{first ? "ok" : "late"} + (second ? " ok" : " late");
  }
  std::int64_t handle_call(molt::context&, const waiting_now&) {
    return static_cast<std::int64_t>(self().tokens.size());
  }
  void handle_call(molt::context&, const wait_then_throw&, molt::reply_to<std::string> token) {
    self().tokens.push_back(token);
    throw std::runtime_error{"thought better of it"};
  }
};

struct board_runtime {
  explicit board_runtime(options given = {}) : on{std::move(given)} {
    auto made = std::make_shared<test_release>();
    made->add<"t", board>();
    on.switch_to(made);
    ref = *on.start("t.board", "board", {});
  }
  void wait_for_waiting(std::int64_t count) {
    wait_until([&] { return call(on, ref, waiting_now{}).reply == count; });
  }
  runtime on;
  molt_ref ref{};
};

TEST(deferred, is_answered_by_a_later_message) {
  board_runtime run;
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) callers.emplace_back([&] { EXPECT_EQ(call(run.on, run.ref, wait{}).reply, "now"); });
  run.wait_for_waiting(3);
  EXPECT_EQ(run.on.stats().deferred_pending, 3U);
  cast(run.on, run.ref, answer{"now"});
  for (auto& each : callers) each.join();
  EXPECT_EQ(run.on.stats().deferred_pending, 0U);
}

TEST(deferred, late_and_double_replies_are_harmless) {
  board_runtime run;
  EXPECT_EQ(call(run.on, run.ref, wait{}, 2ms).status, MOLT_TIMEOUT);
  EXPECT_EQ(run.on.stats().deferred_pending, 0U);
  EXPECT_EQ(call(run.on, run.ref, answer_twice{"late"}).reply, "late late");
  cast(run.on, run.ref, answer{});
  std::thread caller{[&] { EXPECT_EQ(call(run.on, run.ref, wait{}).reply, "once"); }};
  run.wait_for_waiting(1);
  EXPECT_EQ(call(run.on, run.ref, answer_twice{"once"}).reply, "ok late");
  caller.join();
}

TEST(deferred, callers_learn_that_the_server_ended) {
  board_runtime run;
  std::thread first{[&] { EXPECT_EQ(call(run.on, run.ref, wait{}).status, MOLT_NO_SUCH_SERVER); }};
  run.wait_for_waiting(1);
  ASSERT_TRUE(run.on.stop(run.ref, "closing time"));
  first.join();
}

TEST(deferred, a_handler_that_throws_answers_its_caller_and_the_others) {
  board_runtime run;
  std::thread first{[&] { EXPECT_EQ(call(run.on, run.ref, wait{}).status, MOLT_SERVER_FAILED); }};
  run.wait_for_waiting(1);
  const auto failed = call(run.on, run.ref, wait_then_throw{});
  EXPECT_EQ(failed.status, MOLT_SERVER_FAILED);
  EXPECT_THAT(failed.text, HasSubstr("thought better"));
  first.join();
}

TEST(deferred, is_bounded) {
  options given;
  given.deferred_max = 1;
  board_runtime run{given};
  std::thread first{[&] { EXPECT_EQ(call(run.on, run.ref, wait{}).reply, "x"); }};
  run.wait_for_waiting(1);
  EXPECT_EQ(call(run.on, run.ref, wait{}).status, MOLT_OVERLOADED);
  cast(run.on, run.ref, answer{"x"});
  first.join();
}

TEST(deferred, answers_race_with_deadlines) {
  board_runtime run;
  const auto base = seed();
  std::atomic<bool> done{false};
  std::thread answerer{[&] {
    while (!done) cast(run.on, run.ref, answer{"a string that does not fit into the small buffer"});
  }};
  std::vector<std::thread> callers;
  for (unsigned t = 0; t < 3; ++t)
    callers.emplace_back([&, t] {
      std::mt19937_64 random{base + t};
      for (int i = 0; i < 300 * stress_scale; ++i) {
        const auto got = call(run.on, run.ref, wait{}, std::chrono::nanoseconds{1 + random() % 200'000});
        ASSERT_TRUE(got.status == MOLT_OK || got.status == MOLT_TIMEOUT || got.status == MOLT_OVERLOADED) << got.status;
      }
    });
  for (auto& each : callers) each.join();
  done = true;
  answerer.join();
  wait_until([&] { return run.on.servers()[0].queued == 0; });
  EXPECT_EQ(run.on.stats().deferred_pending, 0U);
}

// ---- Timers

struct timed_runtime {
  timed_runtime() : run{with(time)}, ref{run.start("a")} {}
  static options with(manual_clock& time) {
    options given;
    given.clock = &time;
    return given;
  }
  std::vector<std::int64_t> log() { return call(run.on, ref, worker::read_log{}).reply; }
  void wait_for(std::size_t count) {
    wait_until([&] { return log().size() >= count; });
  }
  manual_clock time;
  worker_runtime run;
  molt_ref ref;
};

constexpr std::int64_t ms = 1'000'000;

TEST(timers, fire_in_order_and_not_before_their_time) {
  timed_runtime timed;
  for (const std::int64_t delay : {300, 5, 70'000, 20}) call(timed.run.on, timed.ref, worker::after{delay * ms, delay});
  timed.time.advance(4 * ms);
  std::this_thread::sleep_for(2ms);
  EXPECT_TRUE(timed.log().empty());
  timed.time.advance(3 * ms);
  timed.wait_for(1);
  timed.time.advance(400 * ms);
  timed.wait_for(3);
  timed.time.advance(70'000 * ms);
  timed.wait_for(4);
  EXPECT_THAT(timed.log(), ElementsAre(5, 20, 300, 70'000));
}

TEST(timers, can_be_cancelled_once) {
  timed_runtime timed;
  const auto id = call(timed.run.on, timed.ref, worker::after{10 * ms, 1}).reply;
  EXPECT_EQ(timed.run.on.stats().timers_pending, 1U);
  EXPECT_TRUE(call(timed.run.on, timed.ref, worker::cancel{id}).reply);
  EXPECT_FALSE(call(timed.run.on, timed.ref, worker::cancel{id}).reply);
  EXPECT_FALSE(call(timed.run.on, timed.ref, worker::cancel{12345}).reply);
  EXPECT_EQ(timed.run.on.stats().timers_pending, 0U);
}

TEST(timers, are_bounded) {
  manual_clock time;
  options given;
  given.clock = &time;
  given.timers_max = 2;
  worker_runtime run{given};
  const auto ref = run.start();
  EXPECT_NE(call(run.on, ref, worker::after{ms, 1}).reply, 0U);
  EXPECT_NE(call(run.on, ref, worker::after{ms, 2}).reply, 0U);
  EXPECT_EQ(call(run.on, ref, worker::after{ms, 3}).reply, 0U);
}

TEST(timers, of_a_server_that_has_ended_are_dropped) {
  timed_runtime timed;
  call(timed.run.on, timed.ref, worker::after{10 * ms, 1});
  ASSERT_TRUE(timed.run.on.stop(timed.ref, "test"));
  timed.time.advance(100 * ms);
  wait_until([&] { return timed.run.on.stats().timers_pending == 0; });
}

TEST(timers, fire_on_the_machines_clock) {
  worker_runtime run;
  const auto ref = run.start();
  call(run.on, ref, worker::after{2 * ms, 7});
  wait_until([&] { return call(run.on, ref, worker::read_log{}).reply.size() == 1; });
}

// Against a model: a sorted list of due times.
TEST(timers, agree_with_a_sorted_list) {
  std::mt19937_64 random{seed()};
  manual_clock time;
  std::mutex mutex;
  std::vector<std::int64_t> fired;
  static constexpr molt_schema no_payload{0, "", "", 1, 1, 0, 0, nullptr, nullptr, [](void*) {}, [](void*, void*) {}};
  static constexpr molt_message message{"m", 1, &no_payload, nullptr};
  timers wheel{time, 1U << 20U,
               [&](molt_ref to, envelope* made) {
                 destroy_cast(this_thread(), made);
                 std::lock_guard lock{mutex};
                 fired.push_back(static_cast<std::int64_t>(to.bits));
               },
               [](molt_ref, envelope&) -> envelope* { return nullptr; }};
  wheel.start();
  std::map<std::uint64_t, std::int64_t> pending;  // id, due
  std::size_t expected = 0;
  for (int step = 0; step < 400; ++step) {
    for (int i = 0; i < 20; ++i) {
      const int magnitude = static_cast<int>(random() % 45);
      const auto delay = static_cast<std::int64_t>(random() % (std::uint64_t{1} << magnitude));
      const auto due = time.monotonic_ns() + delay;
      char payload = 0;
      const auto id = wheel.add(molt_ref{static_cast<std::uint64_t>(due)}, delay, 0,
                                make_cast(this_thread(), message, 1, &payload));
      ASSERT_NE(id, 0U);
      pending[id] = due;
    }
    for (int i = 0; i < 5 && !pending.empty(); ++i) {
      auto victim = std::next(pending.begin(), static_cast<std::ptrdiff_t>(random() % pending.size()));
      if (envelope* const cancelled = wheel.cancel(victim->first)) {
        destroy_cast(this_thread(), cancelled);
        pending.erase(victim);
      }
    }
    const auto before = time.monotonic_ns();
    time.advance(static_cast<std::int64_t>(random() % (std::uint64_t{1} << (random() % 40))));
    // Two ticks of slack: certainly due, and certainly not.
    const auto now = time.monotonic_ns();
    std::size_t certain = 0;
    for (const auto& [id, due] : pending) certain += due + 2 * (1 << 20) <= now;
    wait_until([&] {
      std::lock_guard lock{mutex};
      return fired.size() >= expected + certain;
    });
    std::lock_guard lock{mutex};
    for (std::size_t i = expected; i < fired.size(); ++i) {
      ASSERT_LE(fired[i], now) << "fired early at " << now << " after " << before;
    }
    for (std::size_t i = expected; i < fired.size(); ++i) {
      const auto found =
          std::find_if(pending.begin(), pending.end(), [&](const auto& each) { return each.second == fired[i]; });
      ASSERT_NE(found, pending.end());
      pending.erase(found);
    }
    expected = fired.size();
  }
  wheel.stop();
  wheel.for_each([](molt_ref, envelope*& made) { destroy_cast(this_thread(), std::exchange(made, nullptr)); });
}

TEST(timers, a_million_may_be_pending) {
  timed_runtime timed;
  const int many = stress_scale == 1 ? 100'000 : 1'000'000;
  for (int i = 0; i < many; ++i)
    ASSERT_NE(call(timed.run.on, timed.ref, worker::after{(1 + i % 100'000) * ms, 0}).reply, 0U);
  EXPECT_EQ(timed.run.on.stats().timers_pending, static_cast<std::size_t>(many));
}

// ---- Helping

struct chained {
  std::int64_t handled = 0;
};
struct again {};
struct handled {
  using reply = std::int64_t;
};
struct occupy {};

std::atomic<bool> chain_goes_on{false};
std::atomic<bool> occupied{false};
std::atomic<bool> occupies{false};

/// Follows each message by another of its kind, before all others: what waits there is never handled.
struct chain : molt::server<chained> {
  using messages = molt::messages<again, handled, occupy>;
  void handle_cast(molt::context& ctx, const again&) {
    ++self().handled;
    if (chain_goes_on) static_cast<void>(ctx.continue_with(again{}));
  }
  std::int64_t handle_call(molt::context&, const handled&) { return self().handled; }
  void handle_cast(molt::context&, const occupy&) {
    for (occupied = true; occupies;) std::this_thread::yield();
  }
};

TEST(helping, ends_with_the_deadline_however_many_messages_stand_before_the_call) {
  options given;
  given.pool_threads = 1;
  runtime on{given};
  auto made = std::make_shared<test_release>();
  made->add<"t", chain>();
  on.switch_to(made);
  const auto busy = *on.start("t.chain", "busy", {});
  const auto endless = *on.start("t.chain", "endless", {});
  chain_goes_on = occupies = true;
  occupied = false;
  cast(on, busy, occupy{});  // the pool has no thread left: who calls runs what waits
  wait_until([] { return occupied.load(); });
  cast(on, endless, again{});
  EXPECT_EQ(call(on, endless, handled{}, 20ms).status, MOLT_TIMEOUT) << "and not never";
  chain_goes_on = occupies = false;
  EXPECT_GT(call(on, endless, handled{}, 60s).reply, 1) << "it has helped";
}

// ---- Deadlocks

void connect(worker_runtime& run, molt_ref from, molt_ref to) {
  call(run.on, from, worker::set_peer{molt::ref{to.bits}});
}

TEST(deadlock, a_server_that_calls_itself_is_told) {
  worker_runtime run;
  const auto a = run.start("alone");
  const auto got = call(run.on, a, worker::ask_result{1});
  EXPECT_THAT(got.reply, HasSubstr("alone -> alone"));
}

TEST(deadlock, a_cycle_on_one_thread_names_its_servers) {
  worker_runtime run;
  const auto a = run.start("a");
  const auto b = run.start("b");
  const auto c = run.start("c");
  connect(run, a, b);
  connect(run, b, c);
  connect(run, c, a);
  EXPECT_THAT(call(run.on, a, worker::ask_result{3}).reply, HasSubstr("a -> b -> c -> a"));
}

// Each server is entered by a thread of its own, and only then do they call each other.
void cross(int count) {
  worker_runtime run;
  std::vector<molt_ref> ring;
  for (int i = 0; i < count; ++i) ring.push_back(run.start(std::string(1, static_cast<char>('a' + i))));
  for (int i = 0; i < count; ++i) connect(run, ring[i], ring[(i + 1) % count]);
  latch all_in;
  std::atomic<int> deadlocks{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < count; ++i)
    callers.emplace_back([&, i] {
      const auto got = call(run.on, ring[i], worker::ask_peer{1, bits(all_in)}, 60s);
      ASSERT_EQ(got.status, MOLT_OK) << got.text;
      if (got.reply == -static_cast<std::int64_t>(reason::would_deadlock))
        ++deadlocks;
      else
        EXPECT_EQ(got.reply, 1);
    });
  all_in.wait_for(count);
  all_in.open = true;
  for (auto& each : callers) each.join();
  EXPECT_GE(deadlocks, 1);
  EXPECT_LT(deadlocks, count);
}

TEST(deadlock, two_threads_that_cross_are_told_at_once) { cross(2); }
TEST(deadlock, three_threads_in_a_circle_are_told_at_once) { cross(3); }
TEST(deadlock, five_threads_in_a_circle_are_told_at_once) { cross(5); }

}  // namespace
}  // namespace molt::servers::testing
