// What servers do beside answering: refuse to start, continue, stop themselves, hear of new settings, show themselves.
// Named after gen_server_SUITE's ideas where it has them.
#include "tests/server/fixture.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A server that writes down what it handles, in order.
struct diary {
  std::vector<std::string> lines;
  std::string secret = "hunter2";
};
struct line {
  std::string text;
};
struct go_on {
  std::string text;
  int times = 0;
};
struct read {
  using reply = std::vector<std::string>;
};
struct write_and_go_on {
  using reply = std::string;
  int times = 1;
};
struct last_words {
  using reply = std::string;
};
struct end_by_cast {};
struct wait_here {
  using reply = bool;
  std::uint64_t arrived = 0;
  std::uint64_t open = 0;
};

std::atomic<int>& counter(std::uint64_t address) { return *reinterpret_cast<std::atomic<int>*>(address); }
std::uint64_t address(std::atomic<int>& of) { return reinterpret_cast<std::uint64_t>(&of); }

struct terminations {
  std::mutex mutex;
  std::vector<std::string> all;
  void add(std::string why) {
    std::lock_guard lock{mutex};
    all.push_back(std::move(why));
  }
  std::vector<std::string> take() {
    std::lock_guard lock{mutex};
    return std::exchange(all, {});
  }
} terminated;

struct server : molt::server<diary> {
  using messages = molt::messages<line, go_on, read, write_and_go_on, last_words, end_by_cast, wait_here>;

  diary init(molt::context& ctx, const molt::arguments& given) {
    if (const auto why = given.find("refuse")) throw molt::refused{std::string{*why}};
    if (const auto why = given.find("stop")) ctx.stop_self(*why);
    if (given.find("continue")) static_cast<void>(ctx.continue_with(go_on{"after init"}));
    return {{"init"}};
  }
  void handle_cast(molt::context&, const line& m) { self().lines.push_back(m.text); }
  void handle_continue(molt::context& ctx, const go_on& m) {
    self().lines.push_back(m.text);
    if (m.times > 0) static_cast<void>(ctx.continue_with(go_on{m.text + "'", m.times - 1}));
  }
  std::vector<std::string> handle_call(molt::context&, const read&) { return self().lines; }
  std::string handle_call(molt::context& ctx, const write_and_go_on& m) {
    self().lines.emplace_back("call");
    static_cast<void>(ctx.cast(ctx.self(), line{"cast to itself"}));
    static_cast<void>(ctx.continue_with(go_on{"first", m.times - 1}));
    static_cast<void>(ctx.continue_with(go_on{"second"}));
    return "answered";
  }
  std::string handle_call(molt::context& ctx, const last_words&) {
    ctx.stop_self("said it all");
    self().lines.emplace_back("after the end");
    return "goodbye";
  }
  void handle_cast(molt::context& ctx, const end_by_cast&) {
    ctx.stop_self("was asked to");
    self().lines.emplace_back("after the end");
  }
  bool handle_call(molt::context&, const wait_here& m) {
    counter(m.arrived).store(1);
    wait_until([&] { return counter(m.open).load() != 0; });
    return true;
  }
  void config_change(molt::context& ctx, const molt::arguments& now) {
    if (now.find("fail")) throw std::runtime_error{"cannot use that"};
    self().lines.push_back("config " + std::string{now.get("size", "?")});
    static_cast<void>(ctx.continue_with(go_on{"after config"}));
  }
  void terminate(molt::context&, std::string_view why) { terminated.add(std::string{why}); }
  static diary format_status(const diary& now) { return {now.lines, "***"}; }
};

namespace talking {
struct connection : molt::connection<diary> {
  using messages = molt::messages<go_on>;
  diary init(molt::context& ctx, const molt::arguments&) {
    static_cast<void>(ctx.continue_with(go_on{"welcome"}));
    return {};
  }
  void handle_continue(molt::context& ctx, const go_on& m) { static_cast<void>(ctx.write(m.text + "\n")); }
  std::size_t handle_data(molt::context& ctx, std::string_view data) {
    static_cast<void>(ctx.write(data));
    if (data == "quit") ctx.stop_self("the client went");
    if (data == "more") static_cast<void>(ctx.continue_with(go_on{", and more"}));
    return data.size();
  }
  void terminate(molt::context&, std::string_view why) { terminated.add(std::string{why}); }
};
}  // namespace talking

struct output final : connection_output {
  std::string written;
  int write(const char* data, std::size_t size) noexcept override {
    written.append(data, size);
    return MOLT_OK;
  }
  void close() noexcept override {}
  [[nodiscard]] std::size_t pending() const noexcept override { return 0; }
};

struct plain_state {
  std::int64_t n = 4;
};
struct get {
  using reply = std::int64_t;
};
namespace plain {
struct server : molt::server<plain_state> {
  std::int64_t handle_call(molt::context&, const get&) { return self().n; }
};
}  // namespace plain

class callbacks : public ::testing::Test {
 protected:
  callbacks() {
    auto current = std::make_shared<test_release>();
    type = current->add<"diary", server>();
    plain_type = current->add<"plain", plain::server>();
    current->add<"talking", talking::connection>();
    on.on_exit(std::ref(ended));
    on.switch_to(current);
    terminated.take();
  }
  molt_ref start(const arguments& given = {}, std::string name = {}) {
    const auto started = on.start("diary.server", name, given);
    EXPECT_TRUE(started) << started.error().text();
    return started ? *started : molt_ref{};
  }
  exits ended;
  std::shared_ptr<const server_type> type;
  std::shared_ptr<const server_type> plain_type;
  runtime on;
};

// ---- init

TEST_F(callbacks, init_may_refuse_to_start) {
  const auto refused = on.start("diary.server", "a", {{"refuse", "nothing to do today"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("nothing to do today"));
  EXPECT_EQ(on.lookup("a").bits, 0U);
  EXPECT_EQ(on.size(), 0U);
  EXPECT_TRUE(ended.all().empty());
  EXPECT_TRUE(terminated.take().empty());
  EXPECT_EQ(call(on, start({}, "a"), read{}).status, MOLT_OK);
}

TEST_F(callbacks, stopping_itself_in_init_refuses_the_start) {
  const auto refused = on.start("diary.server", "a", {{"stop", "changed its mind"}, {"continue", ""}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::refused);
  EXPECT_THAT(refused.error().text(), HasSubstr("changed its mind"));
  EXPECT_EQ(on.size(), 0U);
  EXPECT_TRUE(terminated.take().empty());
  EXPECT_EQ(on.stats().started, on.stats().ended + 1) << "the attempt is counted, the end of a server is not";
}

// ---- handle_continue

TEST_F(callbacks, continue_after_init_comes_before_the_first_message) {
  for (int i = 0; i < 200 * stress_scale; ++i) {
    const auto ref = start({{"continue", ""}});
    EXPECT_THAT(call(on, ref, read{}).reply, ElementsAre("init", "after init"));
    ASSERT_TRUE(on.stop(ref, "done"));
  }
}

TEST_F(callbacks, continue_comes_before_what_waits) {
  const auto ref = start();
  EXPECT_EQ(call(on, ref, write_and_go_on{3}).reply, "answered");
  cast(on, ref, line{"later"});
  EXPECT_THAT(call(on, ref, read{}).reply,
              ElementsAre("init", "call", "first", "first'", "first''", "second", "cast to itself", "later"));
}

TEST_F(callbacks, continue_comes_before_the_calls_of_other_threads) {
  std::atomic<bool> done{false};
  const auto ref = start();
  std::vector<std::thread> others;
  for (int t = 0; t < 2; ++t)
    others.emplace_back([&] {
      while (!done) cast(on, ref, line{"x"}), call(on, ref, get{});
    });
  for (int i = 0; i < 100 * stress_scale; ++i) EXPECT_EQ(call(on, ref, write_and_go_on{1}).reply, "answered");
  done = true;
  for (auto& each : others) each.join();
  const auto lines = call(on, ref, read{}).reply;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i] != "call") continue;
    ASSERT_LT(i + 2, lines.size());
    ASSERT_EQ(lines[i + 1], "first");
    ASSERT_EQ(lines[i + 2], "second");
  }
}

TEST_F(callbacks, continue_goes_through_a_suspension) {
  const auto ref = start();
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  std::thread busy{[&] { call(on, ref, wait_here{address(arrived), address(open)}); }};
  wait_until([&] { return arrived.load() != 0; });
  std::thread caller{[&] { EXPECT_EQ(call(on, ref, write_and_go_on{1}).reply, "answered"); }};
  wait_until([&] { return on.servers()[0].queued == 1; });
  open = 1;
  busy.join();
  caller.join();
  const auto suspended = on.suspend(ref, 20s);
  ASSERT_TRUE(suspended) << suspended.error().text();
  ASSERT_TRUE(on.resume(ref));
  EXPECT_THAT(call(on, ref, read{}).reply, ElementsAre("init", "call", "first", "second", "cast to itself"));
}

TEST_F(callbacks, continue_comes_before_a_connections_data) {
  for (int i = 0; i < 50 * stress_scale; ++i) {
    output to;
    const auto ref = *on.start_connection("talking.connection", to, {});
    std::size_t consumed = 0;
    molt_text text{};
    EXPECT_EQ(on.deliver(ref, "more", 4, consumed, &text), MOLT_OK);
    EXPECT_EQ(on.deliver(ref, "quit", 4, consumed, &text), MOLT_OK);
    EXPECT_EQ(on.deliver(ref, "late", 4, consumed, &text), MOLT_NO_SUCH_SERVER);
    EXPECT_EQ(to.written, "welcome\nmore, and more\nquit");
    EXPECT_THAT(terminated.take(), ElementsAre("the client went"));
  }
}

// Their servers have the same references, and have handled as much.
TEST_F(callbacks, continuations_of_an_earlier_runtime_are_not_mistaken_for_this_ones) {
  for (int i = 0; i < 20; ++i) {
    auto current = std::make_shared<test_release>();
    current->add<"diary", server>();
    runtime another;
    another.switch_to(current);
    const auto ref = *another.start("diary.server", "", {});
    EXPECT_EQ(call(another, ref, write_and_go_on{1}).reply, "answered");
    EXPECT_THAT(call(another, ref, read{}).reply, ElementsAre("init", "call", "first", "second", "cast to itself"));
  }
}

// ---- stop

TEST_F(callbacks, stop_self_gives_the_reply_and_ends_with_its_reason) {
  const auto ref = start({}, "a");
  EXPECT_EQ(call(on, ref, last_words{}).reply, "goodbye");
  EXPECT_EQ(call(on, ref, read{}).status, MOLT_NO_SUCH_SERVER);
  EXPECT_THAT(terminated.take(), ElementsAre("said it all"));
  ASSERT_EQ(ended.all().size(), 1U);
  EXPECT_FALSE(ended.all()[0].failed);
  EXPECT_EQ(ended.all()[0].why, "said it all");
}

TEST_F(callbacks, stop_self_handles_nothing_that_waits) {
  const auto ref = start();
  ASSERT_TRUE(on.suspend(ref, 20s));
  cast(on, ref, end_by_cast{});
  cast(on, ref, line{"too late"});
  std::thread caller{[&] { EXPECT_EQ(call(on, ref, read{}).status, MOLT_NO_SUCH_SERVER); }};
  wait_until([&] { return on.servers()[0].queued == 3; });
  ASSERT_TRUE(on.resume(ref));
  caller.join();
  wait_until([&] { return ended.all().size() == 1; });
  EXPECT_THAT(terminated.take(), ElementsAre("was asked to"));
}

TEST_F(callbacks, stop_self_answers_no_other_thread_in_between) {
  for (int i = 0; i < 100 * stress_scale; ++i) {
    const auto ref = start();
    const bool by_cast = i % 2 == 0;
    std::thread other{[&] {
      // Whatever is answered before the end shows no sign of it.
      for (;;) {
        const auto answer = call(on, ref, read{});
        if (answer.status == MOLT_NO_SUCH_SERVER) return;
        ASSERT_EQ(answer.status, MOLT_OK);
        ASSERT_THAT(answer.reply, ElementsAre("init"));
      }
    }};
    if (by_cast)
      cast(on, ref, end_by_cast{});
    else
      EXPECT_EQ(call(on, ref, last_words{}).reply, "goodbye");
    other.join();
  }
}

// ---- config_change

TEST_F(callbacks, config_change_is_told_the_new_arguments) {
  const auto ref = start();
  ASSERT_TRUE(on.change_config(ref, {{"size", "9"}}));
  EXPECT_THAT(call(on, ref, read{}).reply, ElementsAre("init", "config 9", "after config"));
  const auto plain = *on.start("plain.server", "", {});
  EXPECT_TRUE(on.change_config(plain, {{"size", "9"}})) << "a server need not care";
  EXPECT_EQ(call(on, plain, get{}).reply, 4);
}

TEST_F(callbacks, config_change_that_throws_fails_its_server) {
  const auto ref = start({}, "a");
  const auto failed = on.change_config(ref, {{"fail", ""}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().why(), reason::hook_failed);
  EXPECT_THAT(failed.error().text(), HasSubstr("cannot use that"));
  ASSERT_EQ(ended.all().size(), 1U);
  EXPECT_TRUE(ended.all()[0].failed);
  EXPECT_EQ(on.change_config(ref, {}).error().why(), reason::no_such_server);
}

TEST_F(callbacks, config_change_waits_for_the_running_handler) {
  const auto ref = start();
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  std::thread busy{[&] { call(on, ref, wait_here{address(arrived), address(open)}); }};
  wait_until([&] { return arrived.load() != 0; });
  EXPECT_EQ(on.change_config(ref, {}, 2ms).error().why(), reason::timeout);
  std::thread changer{[&] { EXPECT_TRUE(on.change_config(ref, {{"size", "1"}}, 20s)); }};
  std::this_thread::sleep_for(2ms);
  open = 1;
  busy.join();
  changer.join();
  ASSERT_TRUE(on.suspend(ref, 20s));
  EXPECT_EQ(on.change_config(ref, {}).error().why(), reason::busy);
  ASSERT_TRUE(on.resume(ref));
}

// ---- format_status

TEST_F(callbacks, format_status_hides_what_must_not_be_shown) {
  const diary now{{"a line"}, "hunter2"};
  std::string shown;
  molt_text text{};
  const auto look = [&](const void* state) { shown = static_cast<const diary*>(state)->secret; };
  EXPECT_EQ(type->show(&now, look, &text), MOLT_OK);
  EXPECT_EQ(shown, "***");
  const plain_state other{7};
  std::int64_t n = 0;
  EXPECT_EQ(plain_type->show(
                &other, [&](const void* state) { n = static_cast<const plain_state*>(state)->n; }, &text),
            MOLT_OK);
  EXPECT_EQ(n, 7);
}

}  // namespace
}  // namespace molt::servers::testing
