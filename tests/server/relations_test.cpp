// Monitors, links and groups.
#include "tests/server/fixture.hpp"

#include <gmock/gmock.h>

#include <algorithm>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

struct seen {
  std::vector<molt::down> downs;
  std::vector<molt::exit_signal> signals;
  std::int64_t shouts = 0;
};
struct watch {
  using reply = molt::monitor;
  molt::ref other;
};
struct unwatch {
  using reply = bool;
  molt::monitor what;
};
struct tie {
  using reply = std::int64_t;  // 0, or the reason of the error
  molt::ref other;
};
struct untie {
  using reply = bool;
  molt::ref other;
};
struct downs_seen {
  using reply = std::vector<molt::down>;
};
struct signals_seen {
  using reply = std::vector<molt::exit_signal>;
};
struct enter {
  using reply = bool;
  std::string group;
};
struct quit {
  using reply = bool;
  std::string group;
};
struct list {
  using reply = std::vector<molt::ref>;
  std::string group;
};
struct shout_to {
  using reply = std::int64_t;
  std::string group;
};
struct shout {
  std::int64_t loud = 1;
};
struct shouts_heard {
  using reply = std::int64_t;
};
struct crash {
  std::string why;
};
struct sleep_at {
  using reply = bool;
  std::uint64_t arrived = 0;
  std::uint64_t open = 0;
};

std::atomic<int>& counter(std::uint64_t address) { return *reinterpret_cast<std::atomic<int>*>(address); }
std::uint64_t address(std::atomic<int>& of) { return reinterpret_cast<std::uint64_t>(&of); }

struct common : molt::server<seen> {
  seen init(molt::context& ctx, const molt::arguments& given) {
    if (given.find("watch")) static_cast<void>(ctx.monitor(ctx.lookup(given.get("watch"))));
    if (given.find("link")) static_cast<void>(ctx.link(ctx.lookup(given.get("link"))));
    if (given.find("join")) static_cast<void>(ctx.join(given.get("join")));
    if (given.find("fail")) throw std::runtime_error{"init failed"};
    return {};
  }
  molt::monitor handle_call(molt::context& ctx, const watch& m) { return ctx.monitor(m.other); }
  bool handle_call(molt::context& ctx, const unwatch& m) { return ctx.demonitor(m.what); }
  std::int64_t handle_call(molt::context& ctx, const tie& m) {
    const auto linked = ctx.link(m.other);
    return linked ? 0 : static_cast<std::int64_t>(linked.error().why());
  }
  bool handle_call(molt::context& ctx, const untie& m) { return static_cast<bool>(ctx.unlink(m.other)); }
  std::vector<molt::down> handle_call(molt::context&, const downs_seen&) { return self().downs; }
  std::vector<molt::exit_signal> handle_call(molt::context&, const signals_seen&) { return self().signals; }
  bool handle_call(molt::context& ctx, const enter& m) { return static_cast<bool>(ctx.join(m.group)); }
  bool handle_call(molt::context& ctx, const quit& m) { return static_cast<bool>(ctx.leave(m.group)); }
  std::vector<molt::ref> handle_call(molt::context& ctx, const list& m) { return ctx.members(m.group); }
  std::int64_t handle_call(molt::context& ctx, const shout_to& m) {
    return static_cast<std::int64_t>(ctx.cast_to_group(m.group, shout{2}));
  }
  std::int64_t handle_call(molt::context&, const shouts_heard&) { return self().shouts; }
  void handle_cast(molt::context&, const shout& m) { self().shouts += m.loud; }
  void handle_cast(molt::context&, const crash& m) { throw std::runtime_error{m.why}; }
  bool handle_call(molt::context&, const sleep_at& m) {
    counter(m.arrived).store(1);
    wait_until([&] { return counter(m.open).load() != 0; });
    return true;
  }
  void handle_info(molt::context&, const molt::down& m) { self().downs.push_back(m); }
  void handle_info(molt::context&, const molt::exit_signal& m) { self().signals.push_back(m); }
};

namespace plain {  // dies with those that it is linked to
struct server : common {
  using messages = molt::messages<watch, unwatch, tie, untie, downs_seen, enter, quit, list, shout_to, shout,
                                  shouts_heard, crash, sleep_at, molt::down>;
};
}  // namespace plain
namespace trapping {
struct server : common {
  using messages =
      molt::messages<watch, unwatch, tie, untie, downs_seen, signals_seen, crash, molt::down, molt::exit_signal>;
};
}  // namespace trapping

class relations_of_servers : public ::testing::Test {
 protected:
  relations_of_servers() { begin({}); }
  void begin(options given) {
    on = std::make_unique<runtime>(given);
    current = std::make_shared<test_release>();
    current->add<"plain", plain::server>();
    current->add<"trapping", trapping::server>();
    on->on_exit(std::ref(ended));
    on->switch_to(current);
  }
  molt_ref start(std::string name = {}, const arguments& given = {}, std::string_view type = "plain.server") {
    const auto started = on->start(type, name, given);
    EXPECT_TRUE(started) << started.error().text();
    return started ? *started : molt_ref{};
  }
  static molt::ref ref(molt_ref of) { return molt::ref{of.bits}; }
  void fail(molt_ref which, const std::string& why) { EXPECT_EQ(cast(*on, which, crash{why}), MOLT_OK); }
  void wait_for_ends(std::size_t count) {
    wait_until([&] { return ended.all().size() >= count; });
  }
  std::vector<molt::down> downs(molt_ref of) { return call(*on, of, downs_seen{}).reply; }

  exits ended;
  std::shared_ptr<test_release> current;
  std::unique_ptr<runtime> on;
};

// ---- Monitors

TEST_F(relations_of_servers, a_monitor_tells_why_its_target_ended) {
  const auto watcher = start("watcher");
  const auto stopped = start("stopped");
  const auto failed = start("failed");
  const auto first = call(*on, watcher, watch{ref(stopped)}).reply;
  const auto second = call(*on, watcher, watch{ref(failed)}).reply;
  EXPECT_TRUE(first);
  EXPECT_FALSE(first == second);
  ASSERT_TRUE(on->stop(stopped, "enough"));
  fail(failed, "broken");
  wait_until([&] { return downs(watcher).size() == 2; });
  const auto got = downs(watcher);
  EXPECT_EQ(got[0].ref, ref(stopped));
  EXPECT_EQ(got[0].name, "stopped");
  EXPECT_EQ(got[0].why, "enough");
  EXPECT_FALSE(got[0].failed);
  EXPECT_EQ(got[0].monitor, first);
  EXPECT_EQ(got[1].name, "failed");
  EXPECT_EQ(got[1].why, "broken");
  EXPECT_TRUE(got[1].failed);
  EXPECT_EQ(on->stats().relations, 0U);
}

TEST_F(relations_of_servers, monitoring_what_has_ended_tells_at_once) {
  const auto watcher = start();
  const auto gone = start();
  ASSERT_TRUE(on->stop(gone, "enough"));
  const auto which = call(*on, watcher, watch{ref(gone)}).reply;
  const auto got = downs(watcher);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].monitor, which);
  EXPECT_EQ(got[0].ref, ref(gone));
  EXPECT_THAT(got[0].why, HasSubstr("no such server"));
  call(*on, watcher, watch{molt::ref{}});
  EXPECT_EQ(downs(watcher).size(), 2U);
  EXPECT_FALSE(call(*on, watcher, watch{ref(watcher)}).reply) << "nobody sees its own end";
}

TEST_F(relations_of_servers, demonitor_forgets_and_may_come_late) {
  const auto watcher = start();
  const auto other = start();
  const auto target = start();
  const auto which = call(*on, watcher, watch{ref(target)}).reply;
  EXPECT_FALSE(call(*on, other, unwatch{which}).reply) << "it is another's";
  EXPECT_TRUE(call(*on, watcher, unwatch{which}).reply);
  EXPECT_FALSE(call(*on, watcher, unwatch{which}).reply);
  ASSERT_TRUE(on->stop(target, "enough"));
  EXPECT_THAT(downs(watcher), IsEmpty());
  EXPECT_FALSE(call(*on, watcher, unwatch{molt::monitor{}}).reply);
}

TEST_F(relations_of_servers, a_watcher_that_ended_leaves_nothing_behind) {
  const auto target = start();
  for (int i = 0; i < 10; ++i) {
    const auto watcher = start();
    for (int j = 0; j < 3; ++j) call(*on, watcher, watch{ref(target)});
    EXPECT_EQ(on->stats().relations, 3U);
    ASSERT_TRUE(on->stop(watcher, "enough"));
    EXPECT_EQ(on->stats().relations, 0U);
  }
  EXPECT_FALSE(on->start("plain.server", "", {{"watch", "x"}, {"fail", ""}}));
  EXPECT_EQ(on->stats().relations, 0U);
  EXPECT_TRUE(on->stop(target, "enough"));
}

TEST_F(relations_of_servers, down_comes_even_if_the_mailbox_is_full) {
  options given;
  given.mailbox_max = 1;
  begin(given);
  const auto watcher = start();
  const auto target = start();
  call(*on, watcher, watch{ref(target)});
  ASSERT_TRUE(on->suspend(watcher, 20s));
  EXPECT_EQ(cast(*on, watcher, shout{}), MOLT_OK);
  EXPECT_EQ(cast(*on, watcher, shout{}), MOLT_OVERLOADED);
  ASSERT_TRUE(on->stop(target, "enough"));
  ASSERT_TRUE(on->resume(watcher));
  wait_until([&] { return downs(watcher).size() == 1; });
}

TEST_F(relations_of_servers, are_bounded) {
  options given;
  given.relations_max = 2;
  begin(given);
  const auto a = start("a");
  const auto b = start("b");
  EXPECT_TRUE(call(*on, a, watch{ref(b)}).reply);
  EXPECT_EQ(call(*on, a, tie{ref(b)}).reply, 0);
  EXPECT_FALSE(call(*on, a, watch{ref(b)}).reply);
  EXPECT_FALSE(call(*on, a, enter{"group"}).reply);
  EXPECT_EQ(call(*on, b, tie{ref(start())}).reply, static_cast<std::int64_t>(reason::overloaded));
  EXPECT_EQ(call(*on, a, tie{ref(b)}).reply, 0) << "there is this one already";
}

TEST_F(relations_of_servers, survive_a_switch) {
  const auto watcher = start("watcher");
  const auto target = start("target", {{"join", "group"}});
  call(*on, watcher, watch{ref(target)});
  auto next = std::make_shared<test_release>(
      [this](resting_server& each) { each.become(*current->find_type(each.type().name()), each.state()); });
  next->add<"plain", plain::server>("2.0.0");
  on->switch_to(next);
  EXPECT_EQ(on->sweep({}), 2U);
  EXPECT_EQ(on->members("group").size(), 1U);
  ASSERT_TRUE(on->stop(target, "enough"));
  EXPECT_EQ(downs(watcher).size(), 1U);
  EXPECT_THAT(on->members("group"), IsEmpty());
}

// ---- Links

TEST_F(relations_of_servers, a_server_fails_with_one_it_is_linked_to) {
  const auto a = start("a");
  const auto b = start("b");
  start("bystander");
  EXPECT_EQ(call(*on, a, tie{ref(b)}).reply, 0);
  fail(b, "broken");
  wait_for_ends(2);
  const auto events = ended.all();
  ASSERT_EQ(events.size(), 2U);
  for (const auto& each : events) {
    EXPECT_TRUE(each.failed) << each.name;
    EXPECT_EQ(each.why, "broken");
  }
  EXPECT_EQ(on->stats().relations, 0U);
  EXPECT_EQ(on->size(), 1U);
}

TEST_F(relations_of_servers, a_link_ignores_an_end_that_is_no_failure) {
  const auto a = start("a");
  const auto b = start("b");
  call(*on, a, tie{ref(b)});
  ASSERT_TRUE(on->stop(b, "enough"));
  EXPECT_EQ(call(*on, a, shouts_heard{}).status, MOLT_OK);
  EXPECT_EQ(on->stats().relations, 0U);
}

TEST_F(relations_of_servers, exit_signals_are_for_those_who_handle_them) {
  const auto a = start("a", {}, "trapping.server");
  const auto b = start("b");
  const auto c = start("c");
  call(*on, a, tie{ref(b)});
  call(*on, c, tie{ref(a)});
  fail(b, "broken");
  wait_for_ends(1);
  ASSERT_TRUE(on->stop(c, "enough"));
  wait_until([&] { return call(*on, a, signals_seen{}).reply.size() == 2; });
  const auto got = call(*on, a, signals_seen{}).reply;
  EXPECT_EQ(got[0].ref, ref(b));
  EXPECT_EQ(got[0].name, "b");
  EXPECT_EQ(got[0].why, "broken");
  EXPECT_TRUE(got[0].failed);
  EXPECT_EQ(got[1].name, "c");
  EXPECT_FALSE(got[1].failed);
}

TEST_F(relations_of_servers, unlink_and_linking_twice) {
  const auto a = start("a");
  const auto b = start("b");
  EXPECT_EQ(call(*on, a, tie{ref(b)}).reply, 0);
  EXPECT_EQ(call(*on, b, tie{ref(a)}).reply, 0);
  EXPECT_EQ(on->stats().relations, 1U);
  EXPECT_TRUE(call(*on, b, untie{ref(a)}).reply);
  EXPECT_FALSE(call(*on, a, untie{ref(b)}).reply);
  fail(b, "broken");
  wait_for_ends(1);
  EXPECT_EQ(call(*on, a, shouts_heard{}).status, MOLT_OK);
  EXPECT_EQ(call(*on, a, tie{ref(b)}).reply, static_cast<std::int64_t>(reason::no_such_server));
  EXPECT_EQ(call(*on, a, tie{ref(a)}).reply, static_cast<std::int64_t>(reason::refused));
}

TEST_F(relations_of_servers, a_link_made_in_an_init_that_fails_tells_the_other) {
  start("a");
  EXPECT_FALSE(on->start("plain.server", "", {{"link", "a"}, {"fail", ""}}));
  wait_for_ends(1);
  EXPECT_EQ(ended.all()[0].name, "a");
  EXPECT_THAT(ended.all()[0].why, HasSubstr("init failed"));
}

TEST_F(relations_of_servers, a_long_chain_of_links_ends_without_a_deep_stack) {
  constexpr int count = 20'000;
  std::vector<molt_ref> chain;
  for (int i = 0; i < count; ++i) chain.push_back(start());
  for (int i = 1; i < count; ++i) call(*on, chain[i], tie{ref(chain[i - 1])});
  fail(chain[0], "broken");
  wait_until([&] { return on->size() == 0; });
  EXPECT_EQ(on->stats().failed, static_cast<std::uint64_t>(count));
}

TEST_F(relations_of_servers, a_busy_server_fails_after_its_message) {
  const auto a = start("a");
  const auto b = start("b");
  call(*on, a, tie{ref(b)});
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  std::thread busy{[&] { EXPECT_TRUE(call(*on, a, sleep_at{address(arrived), address(open)}).reply); }};
  wait_until([&] { return arrived.load() != 0; });
  fail(b, "broken");
  wait_for_ends(1);
  EXPECT_EQ(on->size(), 1U);
  open = 1;
  busy.join();
  wait_for_ends(2);
}

// ---- Groups

TEST_F(relations_of_servers, groups_have_members_until_they_leave_or_end) {
  const auto a = start("a");
  const auto b = start("b");
  const auto c = start("c");
  for (const auto each : {a, b, c}) EXPECT_TRUE(call(*on, each, enter{"readers"}).reply);
  EXPECT_TRUE(call(*on, a, enter{"readers"}).reply);
  EXPECT_THAT(call(*on, b, list{"readers"}).reply, UnorderedElementsAre(ref(a), ref(b), ref(c)));
  EXPECT_EQ(call(*on, a, shout_to{"readers"}).reply, 3);
  for (const auto each : {a, b, c}) wait_until([&] { return call(*on, each, shouts_heard{}).reply == 2; });
  EXPECT_TRUE(call(*on, b, quit{"readers"}).reply);
  EXPECT_FALSE(call(*on, b, quit{"readers"}).reply);
  EXPECT_FALSE(call(*on, b, quit{"writers"}).reply);
  fail(c, "broken");
  wait_for_ends(1);
  EXPECT_THAT(call(*on, b, list{"readers"}).reply, ElementsAre(ref(a)));
  EXPECT_EQ(on->members("readers").size(), 1U);
  EXPECT_THAT(call(*on, b, list{"writers"}).reply, IsEmpty());
  EXPECT_FALSE(call(*on, b, enter{std::string(256, 'x')}).reply);
  ASSERT_TRUE(on->stop(a, "enough"));
  EXPECT_EQ(on->stats().relations, 0U);
}

TEST_F(relations_of_servers, groups_may_be_large) {
  std::vector<molt_ref> all;
  for (int i = 0; i < 2000; ++i) all.push_back(start("", {{"join", "everybody"}}));
  EXPECT_EQ(call(*on, all[7], list{"everybody"}).reply.size(), all.size());
  EXPECT_EQ(call(*on, all[7], shout_to{"everybody"}).reply, 2000);
  for (const auto each : all) wait_until([&] { return call(*on, each, shouts_heard{}).reply == 2; });
  for (std::size_t i = 0; i < all.size(); i += 2) ASSERT_TRUE(on->stop(all[i], "enough"));
  EXPECT_EQ(on->members("everybody").size(), 1000U);
}

// Whatever ends when: every monitor is either cancelled or fires once, and nothing is left behind.
TEST_F(relations_of_servers, no_monitor_is_lost_however_ends_and_monitors_race) {
  const auto base = seed();
  constexpr unsigned threads = 3;
  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> cancelled{0};
  std::vector<molt_ref> watchers;
  for (unsigned i = 0; i < threads; ++i) watchers.push_back(start());
  std::array<std::atomic<std::uint64_t>, 4> targets;
  for (auto& each : targets) each = start().bits;
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&, t] {
      std::mt19937_64 random{base + t};
      for (int i = 0; i < 300 * stress_scale; ++i) {
        auto& target = targets[random() % targets.size()];
        switch (random() % 6) {
          case 0: {
            const molt_ref old{target.exchange(start().bits)};
            if (random() % 2 == 0)
              static_cast<void>(on->stop(old, "enough", 20s));
            else
              cast(*on, old, crash{"broken"});
            break;
          }
          case 1: {
            const auto which = call(*on, watchers[t], watch{molt::ref{target}}).reply;
            if (which) ++made;
            if (call(*on, watchers[t], unwatch{which}).reply) ++cancelled;
            break;
          }
          default:
            if (call(*on, watchers[t], watch{molt::ref{target}}).reply) ++made;
        }
      }
    });
  for (auto& each : all) each.join();
  for (auto& each : targets) static_cast<void>(on->stop(molt_ref{each}, "enough", 20s));
  const auto seen_by_all = [&] {
    std::uint64_t sum = 0;
    for (const auto each : watchers) sum += downs(each).size();
    return sum;
  };
  wait_until([&] { return seen_by_all() + cancelled >= made; });
  EXPECT_EQ(seen_by_all() + cancelled, made);
  EXPECT_EQ(on->stats().relations, 0U);
}

}  // namespace
}  // namespace molt::servers::testing
