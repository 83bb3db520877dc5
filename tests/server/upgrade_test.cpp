// The switch, the sweep, rest and retire: what upgrade/ builds on.
#include "tests/server/cell_servers.hpp"

#include <gmock/gmock.h>

#include <malloc.h>

#include <algorithm>
#include <array>

namespace molt::servers::testing {
namespace {

using ::testing::HasSubstr;

// Three versions of a server whose code says which it is; the state says which version it was made for.
struct versioned {
  std::int64_t made_for = 0;
  std::int64_t handled = 0;
};
struct which {
  using reply = std::int64_t;
};  // the code's version, or -1 if the state is another's
struct poke {};

template <int Version>
struct body : molt::server<versioned> {
  using messages = molt::messages<which, poke>;
  versioned init(molt::context&, const molt::arguments&) { return {Version, 0}; }
  std::int64_t handle_call(molt::context&, const which&) {
    ++self().handled;
    return self().made_for == Version ? Version : -1;
  }
  void handle_cast(molt::context&, const poke&) { ++self().handled; }
};
namespace v1 {
struct server : body<1> {};
}  // namespace v1
namespace v2 {
struct server : body<2> {};
}  // namespace v2
namespace v3 {
struct server : body<3> {};
}  // namespace v3

template <class Server>
std::shared_ptr<test_release> make_release(std::int64_t number, std::atomic<int>* adopted = nullptr) {
  auto made = std::make_shared<test_release>();
  auto type = made->template add<"t", Server>(std::to_string(number) + ".0.0");
  auto with_hook = std::make_shared<test_release>([=](resting_server& resting) {
    auto* const old = static_cast<versioned*>(resting.state());
    auto* const made_anew = new (allocate_state(*type->abi().state)) versioned{*old};
    made_anew->made_for = number;
    const molt_schema& schema = *resting.type().abi().state;
    resting.become(*type, made_anew);
    schema.destroy(old);
    free_state(old, schema);
    if (adopted != nullptr) ++*adopted;
  });
  with_hook->template add<"t", Server>(std::to_string(number) + ".0.0");
  // The same type object that the hook hands out must be found by name: start and adopt give equal types.
  return with_hook;
}

TEST(switching, moves_a_server_at_its_next_message) {
  runtime on;
  std::atomic<int> adopted{0};
  on.switch_to(make_release<v1::server>(1));
  const auto ref = *on.start("t.server", "a", {});
  EXPECT_EQ(call(on, ref, which{}).reply, 1);
  on.switch_to(make_release<v2::server>(2, &adopted));
  EXPECT_EQ(adopted, 0);
  EXPECT_EQ(call(on, ref, which{}).reply, 2);
  EXPECT_EQ(call(on, ref, which{}).reply, 2);
  EXPECT_EQ(adopted, 1);
  EXPECT_EQ(on.servers()[0].version, "2.0.0");
}

TEST(switching, does_not_offer_servers_started_after_it) {
  runtime on;
  std::atomic<int> adopted{0};
  on.switch_to(make_release<v1::server>(1, &adopted));
  call(on, *on.start("t.server", "a", {}), which{});
  EXPECT_EQ(adopted, 0);
  EXPECT_EQ(on.sweep({}), 0U);
}

TEST(switching, sweep_offers_idle_and_suspended_servers_once) {
  runtime on;
  std::atomic<int> adopted{0};
  on.switch_to(make_release<v1::server>(1));
  std::vector<molt_ref> refs;
  for (int i = 0; i < 1000; ++i) refs.push_back(*on.start("t.server", "", {}));
  ASSERT_TRUE(on.suspend(refs[3], 1s));
  on.switch_to(make_release<v2::server>(2, &adopted));
  call(on, refs[0], which{});
  EXPECT_EQ(on.sweep({}), 999U);
  EXPECT_EQ(adopted, 1000);
  EXPECT_EQ(on.sweep({}), 0U);
  ASSERT_TRUE(on.resume(refs[3]));
  EXPECT_EQ(call(on, refs[3], which{}).reply, 2);
}

TEST(switching, sweep_waits_for_busy_servers_and_stops_when_told) {
  worker_runtime run;
  const auto ref = run.start("a");
  latch gate;
  std::thread busy{[&] { call(run.on, ref, worker::hold{bits(gate)}); }};
  gate.wait_for(1);
  auto next = std::make_shared<test_release>([](resting_server&) {});
  run.on.switch_to(next);
  int asked = 0;
  EXPECT_EQ(run.on.sweep([&] { return ++asked < 5; }), 0U);
  gate.open = true;
  EXPECT_LE(run.on.sweep({}), 1U);
  busy.join();
}

TEST(switching, lets_an_old_release_go_after_the_sweep) {
  runtime on;
  std::weak_ptr<test_release> old;
  {
    auto first = make_release<v1::server>(1);
    old = first;
    on.switch_to(first);
  }
  ASSERT_TRUE(on.start("t.server", "a", {}));
  on.switch_to(make_release<v2::server>(2));
  EXPECT_FALSE(old.expired());
  on.sweep({});
  EXPECT_TRUE(old.expired());
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)  // whose malloc does not say what it has given out
TEST(switching, a_thousand_times_takes_no_memory) {
  runtime on;
  const std::array<std::shared_ptr<test_release>, 2> releases{make_release<v1::server>(1), make_release<v2::server>(2)};
  on.switch_to(releases[0]);
  const auto ref = *on.start("t.server", "a", {});
  const auto go_on = [&](int times) {
    for (int i = 1; i <= times; ++i) {
      on.switch_to(releases[static_cast<std::size_t>(i % 2)]);
      if (i % 3 != 0) {
        EXPECT_EQ(on.sweep({}), 1U) << i;
      }
      EXPECT_EQ(call(on, ref, which{}).reply, i % 2 + 1) << i;
    }
    return ::mallinfo2().uordblks;
  };
  auto before = go_on(100);
  std::size_t grown = 0;
  // What a thread keeps once it has begun comes at some time, and but once.
  for (int batch = 0; batch == 0 || (grown > 1024 && batch < 3); ++batch) {
    const auto after = go_on(1000);
    grown = after - std::min(before, after);
    before = after;
  }
  EXPECT_LE(grown, 1024U) << "one byte each time";
}
#endif

// A new switch's entry may get the memory of a freed one, and a server is told by the entry whether it is behind.
TEST(switching, offers_servers_that_no_sweep_has_offered_while_types_were_retired) {
  const auto never_used = make_release<v3::server>(3);
  const auto& type = *never_used->find_type("t.server");
  for (int times = 1; times < 5; ++times) {
    runtime on;
    on.switch_to(make_release<v1::server>(1));
    const auto ref = *on.start("t.server", "a", {});
    for (int i = 0; i < times; ++i) {
      on.switch_to(make_release<v1::server>(1));
      ASSERT_TRUE(on.retire(type, 1s));
    }
    std::atomic<int> adopted{0};
    on.switch_to(make_release<v2::server>(2, &adopted));
    EXPECT_EQ(call(on, ref, which{}).reply, 2) << times;
    EXPECT_EQ(adopted, 1) << times;
  }
}

// A server may be busy all the time, with messages begun after the switch.
TEST(switching, lets_an_old_release_go_while_handlers_of_the_next_one_run) {
  worker_runtime run;
  const auto ref = run.start("a");
  std::weak_ptr<test_release> old;
  {
    auto between = std::make_shared<test_release>([](resting_server&) {});
    old = between;
    run.on.switch_to(between);
  }
  run.on.switch_to(std::make_shared<test_release>([](resting_server&) {}));
  latch gate;
  std::thread busy;
  int asked = 0;
  run.on.sweep([&] {
    if (++asked == 3) {  // the server has been offered, and what was under way before has ended
      busy = std::thread{[&] { call(run.on, ref, worker::hold{bits(gate)}); }};
      gate.wait_for(1);
    }
    return true;
  });
  EXPECT_GE(asked, 3);
  EXPECT_TRUE(old.expired());
  gate.open = true;
  busy.join();
}

// The property that makes the switch a switch: a call that begins after switch_to has returned is not answered by old
// code.
TEST(switching, no_message_is_begun_by_old_code_after_the_store) {
  runtime on;
  on.switch_to(make_release<v1::server>(1));
  constexpr int servers = 8;
  std::vector<molt_ref> refs;
  for (int i = 0; i < servers; ++i) refs.push_back(*on.start("t.server", "", {}));
  std::atomic<std::int64_t> at_least{1};
  std::atomic<bool> done{false};
  const auto base = seed();
  std::vector<std::thread> callers;
  for (unsigned t = 0; t < 3; ++t)
    callers.emplace_back([&, t] {
      std::mt19937_64 random{base + t};
      while (!done) {
        const auto floor = at_least.load();
        const auto ref = refs[random() % servers];
        if (random() % 4 == 0) cast(on, ref, poke{});
        const auto answer = call(on, ref, which{});
        ASSERT_EQ(answer.status, MOLT_OK) << answer.text;
        ASSERT_GE(answer.reply, floor);
      }
    });
  for (int round = 0; round < 50 * stress_scale; ++round) {
    // 1 is behind; 2 and 3 would be indistinguishable by order if they took turns, so what must hold is checked one
    // step up.
    on.switch_to(make_release<v2::server>(2));
    at_least = 2;
    std::this_thread::sleep_for(50us);
    if (round % 8 == 0) on.sweep({});
  }
  on.switch_to(make_release<v3::server>(3));
  at_least = 3;
  std::this_thread::sleep_for(5ms);
  done = true;
  for (auto& each : callers) each.join();
}

// ---- Rest

TEST(rest, nothing_begins_while_it_lasts_and_everything_after) {
  worker_runtime run;
  const auto ref = run.start("a");
  auto guard = run.on.rest(20s);
  ASSERT_TRUE(guard) << guard.error().text();
  EXPECT_EQ(run.on.rest(1ms).error().why(), reason::busy);
  std::atomic<bool> answered{false};
  std::thread caller{[&] {
    EXPECT_EQ(call(run.on, ref, worker::add{1}).reply, 1);
    answered = true;
  }};
  EXPECT_EQ(cast(run.on, ref, worker::note{1}), MOLT_OK);
  EXPECT_EQ(call(run.on, ref, worker::add{1}, 5ms).status, MOLT_TIMEOUT);
  EXPECT_FALSE(answered);
  int visited = 0;
  run.on.for_each(*guard, 0, 1, [&](resting_server& each) {
    ++visited;
    EXPECT_EQ(each.name(), "a");
    EXPECT_EQ(each.ref().bits, ref.bits);
    EXPECT_TRUE(static_cast<worker::state*>(each.state())->log.empty());
  });
  EXPECT_EQ(visited, 1);
  { auto ended = std::move(*guard); }
  caller.join();
  EXPECT_EQ(call(run.on, ref, worker::read_log{}).reply.size(), 1U);
}

TEST(rest, times_out_when_a_handler_does_not_return_and_reopens) {
  worker_runtime run;
  const auto ref = run.start("a");
  const auto other = run.start("b");
  latch gate;
  std::thread busy{[&] { call(run.on, ref, worker::hold{bits(gate)}); }};
  gate.wait_for(1);
  EXPECT_EQ(run.on.rest(5ms).error().why(), reason::timeout);
  EXPECT_EQ(call(run.on, other, worker::add{1}).reply, 1);
  gate.open = true;
  busy.join();
}

TEST(rest, lets_handlers_that_have_begun_call_on) {
  worker_runtime run;
  const auto a = run.start("a");
  const auto b = run.start("b");
  call(run.on, a, worker::set_peer{molt::ref{b.bits}});
  latch in_a;
  latch in_b;
  std::thread caller{[&] { EXPECT_EQ(call(run.on, a, worker::ask_peer{1, bits(in_a)}).reply, 1); }};
  in_a.wait_for(1);
  // b is busy, so that a's call, made while the gate is closing, waits for it.
  std::thread holder{[&] { call(run.on, b, worker::hold{bits(in_b)}); }};
  in_b.wait_for(1);
  std::thread rester{[&] {
    const auto guard = run.on.rest(20s);
    EXPECT_TRUE(guard) << guard.error().text();
  }};
  std::this_thread::sleep_for(2ms);
  in_a.open = true;
  std::this_thread::sleep_for(2ms);
  in_b.open = true;
  rester.join();
  caller.join();
  holder.join();
}

TEST(rest, does_not_wait_for_callers_whose_message_has_not_begun) {
  worker_runtime run;
  const auto ref = run.start("a");
  ASSERT_TRUE(run.on.suspend(ref, 1s));
  std::thread caller{[&] { EXPECT_EQ(call(run.on, ref, worker::add{1}).reply, 1); }};
  wait_until([&] { return run.on.servers()[0].queued == 1; });
  ASSERT_TRUE(run.on.rest(20s));
  ASSERT_TRUE(run.on.resume(ref));
  caller.join();
}

TEST(rest, comes_and_goes_under_load) {
  options given;
  given.pool_threads = 2;
  worker_runtime run{given};
  constexpr int servers = 4;
  std::vector<molt_ref> refs;
  for (int i = 0; i < servers; ++i) refs.push_back(run.start());
  for (int i = 0; i < servers; ++i) call(run.on, refs[i], worker::set_peer{molt::ref{refs[(i + 1) % servers].bits}});
  std::atomic<bool> done{false};
  std::atomic<int> at_rest{0};
  const auto base = seed();
  std::vector<std::thread> load;
  for (unsigned t = 0; t < 3; ++t)
    load.emplace_back([&, t] {
      std::mt19937_64 random{base + t};
      while (!done) {
        const auto ref = refs[random() % servers];
        if (random() % 3 == 0)
          cast(run.on, ref, worker::tell_peer{3});
        else
          call(run.on, ref, worker::add{1});
      }
    });
  for (int i = 0; i < 20 * stress_scale; ++i) {
    auto guard = run.on.rest(20s);
    ASSERT_TRUE(guard) << guard.error().text();
    std::int64_t first = 0;
    std::int64_t second = 0;
    run.on.for_each(*guard, 0, 1,
                    [&](resting_server& each) { first += static_cast<worker::state*>(each.state())->value; });
    for (unsigned part = 0; part < 3; ++part)
      run.on.for_each(*guard, part, 3,
                      [&](resting_server& each) { second += static_cast<worker::state*>(each.state())->value; });
    ASSERT_EQ(first, second);
    ++at_rest;
  }
  done = true;
  for (auto& each : load) each.join();
  EXPECT_EQ(at_rest, 20 * stress_scale);
}

// ---- Message edges and retire

namespace older {
struct greet {
  using reply = std::string;
  std::string name;
};
struct tick {
  std::int64_t n = 0;
};
}  // namespace older
namespace newer {
struct greet {
  using reply = std::string;
  std::string name;
  std::int64_t times = 1;
};
struct tick {
  std::int64_t n = 0;
  std::int64_t unit = 1;
};
}  // namespace newer
struct total {
  std::int64_t value = 0;
};
struct read_total {
  using reply = std::int64_t;
};
struct start_timer {
  using reply = bool;
  std::int64_t delay_ns = 0;
  bool periodic = false;
};

namespace old_version {
struct server : molt::server<total> {
  using messages = molt::messages<older::greet, older::tick, read_total, start_timer>;
  std::string handle_call(molt::context&, const older::greet& m) { return "hello " + m.name; }
  std::int64_t handle_call(molt::context&, const read_total&) { return self().value; }
  bool handle_call(molt::context& ctx, const start_timer& m) {
    const std::chrono::nanoseconds delay{m.delay_ns};
    return static_cast<bool>(m.periodic ? ctx.send_every(delay, older::tick{5})
                                        : ctx.send_after(delay, older::tick{5}));
  }
  void handle_cast(molt::context&, const older::tick& m) { self().value += m.n; }
};
}  // namespace old_version
namespace new_version {
struct server : molt::server<total> {
  using messages = molt::messages<newer::greet, newer::tick, read_total>;
  using message_history = molt::history<older::greet, older::tick>;
  std::string handle_call(molt::context&, const newer::greet& m) {
    return "hi " + m.name + " x" + std::to_string(m.times);
  }
  std::int64_t handle_call(molt::context&, const read_total&) { return self().value; }
  void handle_cast(molt::context&, const newer::tick& m) { self().value += m.n * m.unit; }
  static newer::greet message_change(const older::greet& m) { return {m.name, 7}; }
  static newer::tick message_change(const older::tick& m) { return {m.n, 1000}; }
};
}  // namespace new_version

// Both versions are in this program; what counts as the old one's image is the message that only it has.
image_range range_of(const molt_message& only) {
  const auto begin = reinterpret_cast<std::uintptr_t>(&only);
  return {begin, begin + sizeof(molt_message)};
}

struct two_versions {
  two_versions() {
    before = std::make_shared<test_release>();
    old_type = before->add<"t", old_version::server>("1", range_of(message_of<older::tick>()));
    new_type = server_type::make(molt::server_type_of<new_version::server, "t">(), "2", nullptr, image_range{1, 2});
    after = std::make_shared<test_release>([this](resting_server& each) { each.become(*new_type, each.state()); });
  }
  std::shared_ptr<test_release> before;
  std::shared_ptr<test_release> after;
  std::shared_ptr<const server_type> old_type;
  std::shared_ptr<const server_type> new_type;
  manual_clock time;
};

TEST(message_edges, convert_what_an_older_version_sends) {
  two_versions versions;
  runtime on;
  on.switch_to(versions.before);
  const auto ref = *on.start("t.server", "a", {});
  EXPECT_EQ(call(on, ref, older::greet{"you"}).reply, "hello you");
  on.switch_to(versions.after);
  EXPECT_EQ(call(on, ref, older::greet{"you"}).reply, "hi you x7");
  cast(on, ref, older::tick{2});
  EXPECT_EQ(call(on, ref, read_total{}).reply, 2000);
}

TEST(retire, is_refused_while_a_server_has_the_type_and_names_it) {
  two_versions versions;
  runtime on;
  on.switch_to(versions.before);
  ASSERT_TRUE(on.start("t.server", "the last", {}));
  const auto busy = on.retire(*versions.old_type, 2ms);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().why(), reason::busy);
  EXPECT_THAT(busy.error().text(), HasSubstr("the last"));
  on.switch_to(versions.after);
  on.sweep({});
  EXPECT_TRUE(on.retire(*versions.old_type, 20s));
}

TEST(retire, rewrites_timers_and_waiting_casts_to_the_new_version) {
  two_versions versions;
  options given;
  given.clock = &versions.time;
  runtime on{given};
  on.switch_to(versions.before);
  const auto ref = *on.start("t.server", "a", {});
  EXPECT_TRUE(call(on, ref, start_timer{1'000'000'000}).reply);
  ASSERT_TRUE(on.suspend(ref, 20s));
  cast(on, ref, older::tick{1});
  on.switch_to(versions.after);
  on.sweep({});
  const auto retired = on.retire(*versions.old_type, 20s);
  EXPECT_TRUE(retired) << retired.error().text();
  ASSERT_TRUE(on.resume(ref));
  EXPECT_EQ(call(on, ref, read_total{}).reply, 1000);
  versions.time.advance(2'000'000'000);
  wait_until([&] { return call(on, ref, read_total{}).reply == 6000; });
}

TEST(retire, rewrites_periodic_timers_which_go_on) {
  two_versions versions;
  options given;
  given.clock = &versions.time;
  runtime on{given};
  on.switch_to(versions.before);
  const auto ref = *on.start("t.server", "a", {});
  EXPECT_TRUE(call(on, ref, start_timer{1'000'000'000, true}).reply);
  versions.time.advance(1'003'000'000);
  wait_until([&] { return call(on, ref, read_total{}).reply == 5; });
  on.switch_to(versions.after);
  on.sweep({});
  const auto retired = on.retire(*versions.old_type, 20s);
  ASSERT_TRUE(retired) << retired.error().text();
  for (std::int64_t n = 1; n <= 3; ++n) {
    versions.time.advance(1'000'000'000);
    wait_until([&] { return call(on, ref, read_total{}).reply == 5 + 5000 * n; });
  }
  EXPECT_EQ(on.stats().timers_pending, 1U);
}

TEST(retire, lets_the_type_and_its_lease_go) {
  struct nothing {};
  auto lease = std::make_shared<nothing>();
  const std::weak_ptr<nothing> watched = lease;
  auto old_type = server_type::make(molt::server_type_of<old_version::server, "t">(), "1", lease, image_range{3, 4});
  lease.reset();
  struct holding final : release {
    explicit holding(std::shared_ptr<const server_type> has) : type{std::move(has)} {}
    void adopt(resting_server&) const noexcept override {}
    const server_type* find_type(std::string_view) const noexcept override { return type.get(); }
    std::shared_ptr<const server_type> type;
  };
  two_versions versions;
  runtime on;
  on.switch_to(std::make_shared<holding>(old_type));
  ASSERT_TRUE(on.start("t.server", "a", {}));
  on.switch_to(versions.after);
  on.sweep({});
  const auto* const raw = old_type.get();
  ASSERT_TRUE(on.retire(*raw, 20s));
  EXPECT_FALSE(watched.expired());
  old_type.reset();
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace molt::servers::testing
