// Timers: once and again and again, many of them, over upgrades.
#include "server/thread_record.hpp"
#include "server/timer_wheel.hpp"
#include "tests/server/fixture.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::int64_t ms = 1'000'000;

struct heard {
  std::vector<std::int64_t> at_ms;  // since the test began
  std::vector<std::string> texts;
};
struct tick {
  std::int64_t n = 0;
};
struct text_tick {
  std::unique_ptr<std::string> text;  // moves only
};
struct every {
  using reply = molt::timer;
  std::int64_t period_ns = 0;
};
struct every_text {
  using reply = molt::timer;
  std::int64_t period_ns = 0;
  std::string text;
};
struct start_many {
  using reply = std::vector<molt::timer>;
  std::int64_t count = 0;
  std::int64_t first_ns = 0;
  std::int64_t apart_ns = 0;
};
struct cancel {
  using reply = bool;
  molt::timer which;
};
struct cancel_all {
  using reply = std::int64_t;
  std::vector<molt::timer> all;
};
struct read {
  using reply = std::vector<std::int64_t>;
};
struct read_texts {
  using reply = std::vector<std::string>;
};
constexpr std::int64_t began_ns = 1'000'000'000;

struct server : molt::server<heard> {
  using messages = molt::messages<tick, text_tick, every, every_text, start_many, cancel, cancel_all, read, read_texts>;
  molt::timer handle_call(molt::context& ctx, const every& m) {
    return ctx.send_every(std::chrono::nanoseconds{m.period_ns}, tick{1});
  }
  molt::timer handle_call(molt::context& ctx, const every_text& m) {
    return ctx.send_every(std::chrono::nanoseconds{m.period_ns}, text_tick{std::make_unique<std::string>(m.text)});
  }
  std::vector<molt::timer> handle_call(molt::context& ctx, const start_many& m) {
    std::vector<molt::timer> all;
    all.reserve(static_cast<std::size_t>(m.count));
    for (std::int64_t i = 0; i < m.count; ++i)
      all.push_back(ctx.send_after(std::chrono::nanoseconds{m.first_ns + i * m.apart_ns}, tick{i}));
    return all;
  }
  bool handle_call(molt::context& ctx, const cancel& m) { return ctx.cancel(m.which); }
  std::int64_t handle_call(molt::context& ctx, const cancel_all& m) {
    return std::count_if(m.all.begin(), m.all.end(), [&](molt::timer each) { return ctx.cancel(each); });
  }
  std::vector<std::int64_t> handle_call(molt::context&, const read&) { return self().at_ms; }
  std::vector<std::string> handle_call(molt::context&, const read_texts&) { return self().texts; }
  void handle_info(molt::context& ctx, const tick&) {
    self().at_ms.push_back((ctx.now().time_since_epoch().count() - began_ns) / ms);
  }
  void handle_info(molt::context&, const text_tick& m) { self().texts.push_back(*m.text); }
};

class timers_of_servers : public ::testing::Test {
 protected:
  timers_of_servers() : time{began_ns} {
    options given;
    given.clock = &time;
    given.pool_threads = 2;
    on = std::make_unique<runtime>(given);
    auto current = std::make_shared<test_release>();
    current->add<"t", server>();
    on->switch_to(current);
    ref = start();
  }
  [[nodiscard]] molt_ref start() const { return *on->start("t.server", "", {}); }
  std::vector<std::int64_t> wait_for(std::size_t count) {
    wait_until([&] { return call(*on, ref, read{}).reply.size() >= count; });
    return call(*on, ref, read{}).reply;
  }
  manual_clock time;
  std::unique_ptr<runtime> on;
  molt_ref ref{};
};

TEST_F(timers_of_servers, a_periodic_timer_keeps_its_beat) {
  ASSERT_TRUE(call(*on, ref, every{100 * ms}).reply);
  for (std::size_t n = 1; n <= 50; ++n) {
    time.advance(100 * ms + (n == 1 ? 3 * ms : 0));  // looked at 3 ms late each time
    wait_for(n);
  }
  const auto times = wait_for(50);
  for (std::size_t n = 1; n <= 50; ++n) EXPECT_EQ(times[n - 1], static_cast<std::int64_t>(n) * 100 + 3);
  EXPECT_EQ(on->stats().timers_pending, 1U);
}

TEST_F(timers_of_servers, what_a_periodic_timer_missed_is_not_made_up_for) {
  ASSERT_TRUE(call(*on, ref, every{100 * ms}).reply);
  time.advance(1050 * ms);
  EXPECT_THAT(wait_for(1), ElementsAre(1050));
  time.advance(40 * ms);
  time.advance(20 * ms);
  EXPECT_THAT(wait_for(2), ElementsAre(1050, 1110));
}

TEST_F(timers_of_servers, a_periodic_timer_is_cancelled) {
  const auto timer = call(*on, ref, every{100 * ms}).reply;
  time.advance(101 * ms + 2 * ms);
  wait_for(1);
  EXPECT_TRUE(call(*on, ref, cancel{timer}).reply);
  EXPECT_FALSE(call(*on, ref, cancel{timer}).reply);
  EXPECT_EQ(on->stats().timers_pending, 0U);
  time.advance(1000 * ms);
  EXPECT_EQ(call(*on, ref, read{}).reply.size(), 1U);
}

TEST_F(timers_of_servers, a_periodic_timer_ends_with_its_server) {
  ASSERT_TRUE(call(*on, ref, every{100 * ms}).reply);
  ASSERT_TRUE(on->stop(ref, "enough"));
  time.advance(103 * ms);
  wait_until([&] { return on->stats().timers_pending == 0; });
}

TEST_F(timers_of_servers, a_periodic_message_may_be_one_that_only_moves) {
  ASSERT_TRUE(call(*on, ref, every_text{10 * ms, "again"}).reply);
  for (std::size_t n = 1; n <= 3; ++n) {
    time.advance(13 * ms);
    wait_until([&] { return call(*on, ref, read_texts{}).reply.size() >= n; });
  }
  EXPECT_THAT(call(*on, ref, read_texts{}).reply, ElementsAre("again", "again", "again"));
}

TEST_F(timers_of_servers, a_shorter_period_than_the_wheels_ticks_is_lengthened) {
  ASSERT_TRUE(call(*on, ref, every{1}).reply);
  time.advance(4 * ms);
  EXPECT_EQ(wait_for(1).size(), 1U);
}

TEST_F(timers_of_servers, a_million_are_pending) {
  constexpr std::int64_t count = 1'000'000;
  auto all = call(*on, ref, start_many{count, 10'000 * ms, 100}, 120s).reply;
  ASSERT_EQ(all.size(), static_cast<std::size_t>(count));
  EXPECT_EQ(on->stats().timers_pending, static_cast<std::size_t>(count));
  EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](molt::timer each) { return static_cast<bool>(each); }));
  // Another one meanwhile.
  call(*on, ref, start_many{1, 10 * ms, 0});
  time.advance(13 * ms);
  EXPECT_THAT(wait_for(1), ElementsAre(13));
  std::mt19937_64 random{seed()};
  std::shuffle(all.begin(), all.end(), random);
  EXPECT_EQ(call(*on, ref, cancel_all{{all.begin() + 10, all.end()}}, 120s).reply, count - 10);
  EXPECT_EQ(on->stats().timers_pending, 10U);
  time.advance(11'000 * ms);
  EXPECT_EQ(wait_for(11).size(), 11U);
  EXPECT_EQ(call(*on, ref, cancel_all{all}, 120s).reply, 0);
}

TEST_F(timers_of_servers, a_million_come_due) {
  constexpr std::int64_t count = 1'000'000;
  call(*on, ref, start_many{count, 0, 1000}, 120s);
  // In steps that the mailbox has room for.
  for (std::int64_t passed = 5 * ms; on->stats().timers_pending != 0; passed += 5 * ms) {
    time.advance(5 * ms);
    const auto certainly_out = std::min(count, (passed - 2 * (1 << timer_wheel::tick_shift)) / 1000);
    wait_until([&] { return on->stats().timers_pending <= static_cast<std::size_t>(count - certainly_out); });
    wait_until([&] { return on->servers()[0].queued < 1000; });
  }
  wait_until([&] { return on->servers()[0].queued == 0; });
  EXPECT_EQ(wait_for(count).size(), static_cast<std::size_t>(count));
}

// Threads that start and cancel against the thread that delivers: each timer is either cancelled or delivered.
TEST(timers_under_load, are_cancelled_or_delivered_once) {
  const auto base = seed();
  options given;
  given.pool_threads = 2;
  runtime on{given};
  auto current = std::make_shared<test_release>();
  current->add<"t", server>();
  on.switch_to(current);
  constexpr int threads = 3;
  std::atomic<std::int64_t> expected{0};
  std::vector<molt_ref> refs;
  for (int t = 0; t < threads; ++t) refs.push_back(*on.start("t.server", "", {}));
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      std::mt19937_64 random{base + static_cast<unsigned>(t)};
      for (int i = 0; i < 20 * stress_scale; ++i) {
        const auto started = call(on, refs[static_cast<std::size_t>(t)],
                                  start_many{50, static_cast<std::int64_t>(random() % (5 * ms)), 50'000});
        if (random() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds{random() % 3000});
        const auto other = refs[random() % refs.size()];
        expected += 50 - call(on, other, cancel_all{started.reply}).reply;
      }
    });
  for (auto& each : all) each.join();
  const auto delivered = [&] {
    std::int64_t sum = 0;
    for (const auto each : refs) sum += static_cast<std::int64_t>(call(on, each, read{}).reply.size());
    return sum;
  };
  wait_until([&] { return delivered() >= expected; });
  EXPECT_EQ(delivered(), expected);
  EXPECT_EQ(on.stats().timers_pending, 0U);
}

// ---- The wheel against a model

TEST(a_timer_wheel, agrees_with_a_sorted_list) {
  const auto base = seed();
  std::mt19937_64 random{base};
  thread_record& me = this_thread();
  std::int64_t now = 5'000'000'000;
  timer_wheel wheel{now};
  struct pending {
    std::uint64_t due_ns;
    std::uint64_t period_ns;
    timer_wheel::handle handle;
  };
  std::map<std::uint64_t, pending> model;  // by the receiver's bits, which name the timer
  std::uint64_t next_name = 1;
  const auto make = [&] {
    tick message;
    return make_cast(me, message_of<tick>(), 0, &message);
  };
  const auto copy = [&](molt_ref, envelope&) { return make(); };
  for (int round = 0; round < 2000 * stress_scale; ++round) {
    const auto delay = random() % (std::uint64_t{1} << (10 + random() % 45));
    const auto period = random() % 8 == 0 ? (random() % 50 + 2) * ms * 4 : 0;
    const auto name = next_name++;
    const auto due_ns = static_cast<std::uint64_t>(now) + (period != 0 ? period : delay);
    model[name] = {due_ns, period, wheel.add({name}, due_ns, period, make())};
    if (random() % 3 == 0) {
      const auto chosen = std::next(model.begin(), static_cast<std::ptrdiff_t>(random() % model.size()));
      envelope* const cancelled = wheel.cancel(chosen->second.handle);
      ASSERT_NE(cancelled, nullptr);
      destroy_cast(me, cancelled);
      ASSERT_EQ(wheel.cancel(chosen->second.handle), nullptr);
      model.erase(chosen);
    }
    now += static_cast<std::int64_t>(random() % (std::uint64_t{1} << (10 + random() % 30)));
    timer_wheel::due_list due;
    while (!wheel.turn_to(now, due.size() + 7, copy, due)) {
    }
    std::vector<std::uint64_t> fired;
    for (const auto& [to, message] : due) {
      fired.push_back(to.bits);
      destroy_cast(me, message);
    }
    std::sort(fired.begin(), fired.end());
    std::vector<std::uint64_t> wanted;
    const auto now_tick = static_cast<std::uint64_t>(now) >> timer_wheel::tick_shift;
    for (auto each = model.begin(); each != model.end();) {
      if (timer_wheel::due_tick(each->second.due_ns) > now_tick) {
        ++each;
        continue;
      }
      wanted.push_back(each->first);
      if (each->second.period_ns == 0) {
        each = model.erase(each);
      } else {
        while (each->second.due_ns <= static_cast<std::uint64_t>(now)) each->second.due_ns += each->second.period_ns;
        ++each;
      }
    }
    ASSERT_EQ(fired, wanted) << "round " << round;
    ASSERT_EQ(wheel.size(), model.size());
  }
  wheel.visit([&](molt_ref, envelope*& message) { destroy_cast(me, std::exchange(message, nullptr)); });
  EXPECT_EQ(wheel.size(), 0U);
}

}  // namespace
}  // namespace molt::servers::testing
