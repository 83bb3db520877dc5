// Server classes as the C boundary sees them: handlers, hooks, and what is thrown.
#include "tests/plugin/fake_host.hpp"

#include <gtest/gtest.h>
#include <molt/plugin.hpp>

namespace {

using molt::tests::fake_host;

namespace v1 {
struct state {
  std::int64_t value = 0;
};
struct add {
  using reply = std::int64_t;
  std::int64_t by = 1;
};
struct total {
  std::int64_t sum = 0;
};
}  // namespace v1
namespace v2 {
struct state {
  std::int64_t value = 0;
  std::int64_t changes = 0;
};
}  // namespace v2

struct state {
  std::int64_t value = 0;
  std::vector<std::string> seen;
  molt::reply_to<std::string> waiting;
  molt::named friend_of_mine{"friend"};
};
struct add {
  using reply = std::int64_t;
  std::int64_t by = 1;
  std::string who;
};
struct take {
  using reply = std::string;
  std::string text;
};
struct wait {
  using reply = std::string;
};
struct flush {
  using reply = void;
};
struct ask {
  using reply = std::int64_t;
};
struct boom {
  using reply = int;
  int kind = 0;
};
struct reset {};
struct tick {};

struct server : molt::server<state> {
  using messages = molt::messages<add, take, wait, flush, ask, boom, reset, tick>;
  using history = molt::history<v1::state, v2::state>;
  using reply_history = molt::history<v1::total, std::int32_t>;

  state init(molt::context& ctx, const molt::arguments& given) {
    if (given.find("fail")) throw std::invalid_argument{"told to fail"};
    ctx.log(molt::log_level::info, "made");
    state made;
    made.value = given.number<std::int64_t>("start", 5);
    return made;
  }
  std::int64_t handle_call(molt::context&, const add& message) { return self().value += message.by; }
  std::string handle_call(molt::context&, take&& message) {
    self().seen.push_back(std::move(message.text));
    return self().seen.back();
  }
  void handle_call(molt::context&, wait, molt::reply_to<std::string> token) { self().waiting = token; }
  void handle_call(molt::context&, const flush&) { self().seen.clear(); }
  std::int64_t handle_call(molt::context& ctx, const ask&) {
    auto answer = self().friend_of_mine.call(ctx, v1::add{2}, std::chrono::seconds{1});
    return answer ? *answer : -1 - static_cast<int>(answer.error().why() == molt::reason::no_such_server);
  }
  int handle_call(molt::context&, const boom& message) {
    if (message.kind == 1) throw std::runtime_error{std::string(5000, 'x')};
    if (message.kind == 2) throw 7;
    throw molt::bad_archive{"mine"};
  }
  void handle_cast(molt::context& ctx, const reset&) {
    self().value = 0;
    static_cast<void>(ctx.reply(self().waiting, "late"));
  }
  void handle_info(molt::context& ctx, const tick&) {
    ctx.send_after(std::chrono::milliseconds{3}, tick{});
    static_cast<void>(ctx.start("x.y", "name", {{"k", "v"}}));
    static_cast<void>(ctx.stop(ctx.self(), "enough"));
  }
  void terminate(molt::context& ctx, std::string_view why) { ctx.log(molt::log_level::warning, why); }
  void self_check() const {
    if (self().value < 0) throw std::logic_error{"negative"};
  }

  static v2::state code_change(const v1::state& old) { return {old.value, 0}; }
  static state code_change(v2::state&& old, const molt::change& change) {
    if (old.value == 13) throw std::runtime_error{"unlucky"};
    state now;
    now.value = old.value;
    now.seen.emplace_back(change.from_version());
    return now;
  }
  static v2::state code_change_down(state&& now) noexcept { return {now.value, 1}; }
  static constexpr molt::loss code_change_down_loss(const state*) { return {"seen", "what was seen is forgotten"}; }
  static add message_change(v1::add&& old) { return {old.by, "nobody"}; }
  static v1::add message_change_down(const add& now) { return {now.by}; }
  static std::int64_t reply_change(v1::total&& old) { return old.sum; }
  static std::string reply_change(const std::int32_t& old, const molt::change& change, molt::answer_to<take>) {
    if (old == 13) throw std::runtime_error{"unlucky"};
    return std::to_string(old).append(" of ").append(change.from_version());
  }
  static v1::total reply_change_down(std::int64_t now) noexcept { return {now}; }
};

struct session {
  int commands = 0;
};
struct connection : molt::connection<session> {
  std::size_t handle_data(molt::context& ctx, std::string_view data) {
    ++self().commands;
    static_cast<void>(ctx.write(data));
    if (data == "quit") ctx.close();
    return data.size() + 100;
  }
};

struct only {
  using reply = int;
};
struct small_state {
  int n = 3;
};
struct smallest : molt::server<small_state> {
  int handle_call(molt::context&, const only&) const noexcept { return 1; }
  static small_state code_change(v1::state&& old) { return {static_cast<int>(old.value)}; }
  static v1::total reply_change_down(int now) { return {now}; }
};

const molt_server_type& type = molt::server_type_of<server, "test">();

const molt_handler& handler(std::string_view name) {
  for (std::uint32_t i = 0; i < type.handler_count; ++i)
    if (name == type.handlers[i].message->name) return type.handlers[i];
  std::abort();
}

class a_server : public testing::Test {
 protected:
  fake_host host;
  state now;
  molt_text error{};

  template <class M>
  int send(const char* name, M message, void* reply = nullptr) {
    return handler(name).handle(host.abi(), &now, &message, reply, &error);
  }
  [[nodiscard]] std::string text() const { return {error.data, error.size}; }
};

TEST_F(a_server, is_described_by_its_type) {
  EXPECT_STREQ(type.name, "test.server");
  EXPECT_EQ(type.kind, static_cast<std::uint32_t>(MOLT_KIND_SERVER));
  EXPECT_EQ(type.handler_count, 8U);
  EXPECT_EQ(type.state, &molt::schema_of<state>());
  EXPECT_EQ(type.handle_data, nullptr);
  EXPECT_EQ(handler("wait").flags, static_cast<std::uint32_t>(MOLT_HANDLER_DEFERS));
  EXPECT_EQ(handler("add").flags, 0U);
}

TEST_F(a_server, answers_calls) {
  std::int64_t sum = 0;
  EXPECT_EQ(send("add", add{4, ""}, &sum), MOLT_OK);
  EXPECT_EQ(sum, 4);
  alignas(std::string) char reply[sizeof(std::string)];
  EXPECT_EQ(send("take", take{std::string(100, 'y')}, reply), MOLT_OK);
  EXPECT_EQ(reinterpret_cast<std::string*>(reply)->size(), 100U);
  molt::schema_of<std::string>().destroy(reply);
  char done = 0;
  EXPECT_EQ(send("flush", flush{}, &done), MOLT_OK);
  EXPECT_TRUE(now.seen.empty());
}

TEST_F(a_server, defers_a_reply_and_gives_it_later) {
  EXPECT_EQ(send("wait", wait{}), MOLT_OK);
  EXPECT_EQ(now.waiting.token, 42U);
  EXPECT_EQ(send("reset", reset{}), MOLT_OK);
  EXPECT_EQ(host.log, std::vector<std::string>{"reply 42 string"});
}

TEST_F(a_server, asks_its_host) {
  EXPECT_EQ(send("tick", tick{}), MOLT_OK);
  EXPECT_EQ(host.log, (std::vector<std::string>{"send_after 3000000 tick 9", "start x.y name k=v", "stop 9 enough"}));
}

TEST_F(a_server, looks_a_named_server_up_again_when_it_is_gone) {
  host.make_reply = [](void* reply) { ::new (reply) std::int64_t{8}; };
  std::int64_t answer = 0;
  EXPECT_EQ(send("ask", ask{}, &answer), MOLT_OK);
  EXPECT_EQ(answer, 8);
  host.alive = 4;
  EXPECT_EQ(send("ask", ask{}, &answer), MOLT_OK);
  EXPECT_EQ(host.log, (std::vector<std::string>{"lookup friend", "call add 3 1000000000", "call add 3 1000000000",
                                                "lookup friend", "call add 4 1000000000"}));
  EXPECT_EQ(now.friend_of_mine.cached.bits, 4U);
  host.call_status = MOLT_TIMEOUT;
  EXPECT_EQ(send("ask", ask{}, &answer), MOLT_OK);
  EXPECT_EQ(answer, -1);
}

TEST_F(a_server, lets_nothing_through_that_is_thrown) {
  int reply = 0;
  EXPECT_EQ(send("boom", boom{1}, &reply), MOLT_THREW);
  EXPECT_EQ(error.size, MOLT_TEXT_CAPACITY - 1) << "longer text is cut";
  EXPECT_EQ(send("boom", boom{2}, &reply), MOLT_THREW);
  EXPECT_EQ(text(), "something was thrown that is not a std::exception");
  EXPECT_EQ(send("boom", boom{3}, &reply), MOLT_THREW) << "not mistaken for a bad archive";
  EXPECT_EQ(text(), "mine");
  EXPECT_EQ(handler("boom").handle(host.abi(), &now, std::make_unique<boom>(boom{1}).get(), &reply, nullptr),
            MOLT_THREW);
}

TEST_F(a_server, init_terminate_and_self_check_are_thunks_too) {
  const molt_argument items[] = {{"start", "11"}};
  const molt_arguments given{items, 1};
  alignas(state) char storage[sizeof(state)];
  ASSERT_EQ(type.init(host.abi(), &given, storage, &error), MOLT_OK);
  EXPECT_EQ(reinterpret_cast<state*>(storage)->value, 11);
  EXPECT_EQ(type.self_check(storage, &error), MOLT_OK);
  reinterpret_cast<state*>(storage)->value = -1;
  EXPECT_EQ(type.self_check(storage, &error), MOLT_THREW);
  EXPECT_EQ(text(), "negative");
  EXPECT_EQ(type.terminate(host.abi(), storage, "the end", &error), MOLT_OK);
  EXPECT_EQ(host.log, (std::vector<std::string>{"log 1 made", "log 2 the end"}));
  type.state->destroy(storage);
  const molt_argument bad[] = {{"start", "eleven"}};
  const molt_arguments wrong{bad, 1};
  EXPECT_EQ(type.init(host.abi(), &wrong, storage, &error), MOLT_THREW);
  EXPECT_EQ(text(), "argument start = \"eleven\" is not such a number");
}

const molt_edge* find_edge(const molt_edge* edges, std::uint32_t count, const molt_schema& from) {
  for (std::uint32_t i = 0; i < count; ++i)
    if (edges[i].from == &from) return &edges[i];
  return nullptr;
}

TEST_F(a_server, has_its_hooks_as_edges) {
  ASSERT_EQ(type.state_edge_count, 3U);
  const molt_edge* one = find_edge(type.state_edges, 3, molt::schema_of<v1::state>());
  const molt_edge* two = find_edge(type.state_edges, 3, molt::schema_of<v2::state>());
  const molt_edge* down = find_edge(type.state_edges, 3, molt::schema_of<state>());
  ASSERT_TRUE(one && two && down);
  EXPECT_EQ(one->to, &molt::schema_of<v2::state>());
  EXPECT_EQ(one->flags, 0U);
  EXPECT_EQ(two->to, &molt::schema_of<state>());
  EXPECT_EQ(two->flags, static_cast<std::uint32_t>(MOLT_EDGE_CONSUMES | MOLT_EDGE_CONTEXT));
  EXPECT_EQ(down->flags, static_cast<std::uint32_t>(MOLT_EDGE_DOWN | MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT));
  EXPECT_STREQ(down->loss, "seen");
  EXPECT_STREQ(down->loss_text, "what was seen is forgotten");
  EXPECT_EQ(one->loss, nullptr);

  ASSERT_EQ(type.message_edge_count, 2U);
  const molt_edge* message_down = find_edge(type.message_edges, 2, molt::schema_of<add>());
  ASSERT_NE(message_down, nullptr);
  EXPECT_EQ(message_down->flags, static_cast<std::uint32_t>(MOLT_EDGE_DOWN));
  EXPECT_STREQ(message_down->message, "add");
  EXPECT_EQ(one->message, nullptr);
}

TEST_F(a_server, has_one_reply_edge_for_each_type_that_a_reply_hook_takes_and_none_for_what_converts_to_it) {
  ASSERT_EQ(type.reply_edge_count, 3U);
  const molt_edge* total = find_edge(type.reply_edges, 3, molt::schema_of<v1::total>());
  const molt_edge* number = find_edge(type.reply_edges, 3, molt::schema_of<std::int32_t>());
  const molt_edge* down = find_edge(type.reply_edges, 3, molt::schema_of<std::int64_t>());
  ASSERT_TRUE(total && number && down) << "the int that boom answers is no int64_t";
  EXPECT_EQ(total->to, &molt::schema_of<std::int64_t>());
  EXPECT_EQ(total->flags, static_cast<std::uint32_t>(MOLT_EDGE_CONSUMES));
  EXPECT_STREQ(total->message, "");
  EXPECT_EQ(number->to, &molt::schema_of<std::string>());
  EXPECT_EQ(number->flags, static_cast<std::uint32_t>(MOLT_EDGE_CONTEXT));
  EXPECT_STREQ(number->message, "take");
  EXPECT_EQ(down->to, &molt::schema_of<v1::total>());
  EXPECT_EQ(down->flags, static_cast<std::uint32_t>(MOLT_EDGE_DOWN | MOLT_EDGE_NOEXCEPT));

  const molt_change change{"1.0", "2.0", {nullptr, 0}, nullptr, nullptr};
  std::int32_t old = 7;
  alignas(std::string) char storage[sizeof(std::string)];
  ASSERT_EQ(number->apply(&old, storage, &change, &error), MOLT_OK);
  EXPECT_EQ(*reinterpret_cast<std::string*>(storage), "7 of 1.0");
  number->to->destroy(storage);
  old = 13;
  EXPECT_EQ(number->apply(&old, storage, &change, &error), MOLT_THREW);
  EXPECT_EQ(text(), "unlucky");
}

TEST(a_token, stays_that_of_its_call_when_its_reply_changes) {
  const molt::reply_to<v1::total> old{77};
  EXPECT_EQ(old.as<std::int64_t>().token, 77U);
}

TEST_F(a_server, runs_a_hook_with_what_it_is_told) {
  const molt_edge* two = find_edge(type.state_edges, 3, molt::schema_of<v2::state>());
  const molt_change change{"1.0", "2.0", {nullptr, 0}, nullptr, nullptr};
  v2::state old{21, 4};
  alignas(state) char storage[sizeof(state)];
  ASSERT_EQ(two->apply(&old, storage, &change, &error), MOLT_OK);
  EXPECT_EQ(reinterpret_cast<state*>(storage)->seen, std::vector<std::string>{"1.0"});
  type.state->destroy(storage);
  old.value = 13;
  EXPECT_EQ(two->apply(&old, storage, &change, &error), MOLT_THREW);
  EXPECT_EQ(text(), "unlucky");
}

TEST(a_connection, consumes_at_most_what_it_got) {
  const molt_server_type& type_of = molt::server_type_of<connection, "test">();
  EXPECT_EQ(type_of.kind, static_cast<std::uint32_t>(MOLT_KIND_CONNECTION));
  EXPECT_EQ(type_of.handler_count, 0U);
  fake_host host;
  session now;
  molt_text error{};
  std::size_t consumed = 0;
  EXPECT_EQ(type_of.handle_data(host.abi(), &now, "quit", 4, &consumed, &error), MOLT_OK);
  EXPECT_EQ(consumed, 4U);
  EXPECT_EQ(host.output, "quit");
  EXPECT_EQ(host.log, std::vector<std::string>{"close"});
}

TEST(a_small_server, needs_no_list_of_messages_and_no_history) {
  const molt_server_type& small = molt::server_type_of<smallest, "test">();
  ASSERT_EQ(small.handler_count, 1U);
  EXPECT_STREQ(small.handlers[0].message->name, "only");
  ASSERT_EQ(small.state_edge_count, 1U);
  EXPECT_EQ(small.state_edges[0].from, &molt::schema_of<v1::state>());
  ASSERT_EQ(small.reply_edge_count, 1U);
  EXPECT_EQ(small.reply_edges[0].to, &molt::schema_of<v1::total>());
  EXPECT_EQ(small.terminate, nullptr);
  EXPECT_EQ(small.self_check, nullptr);
  fake_host host;
  small_state made{};
  const molt_arguments none{nullptr, 0};
  EXPECT_EQ(small.init(host.abi(), &none, &made, nullptr), MOLT_OK);
  EXPECT_EQ(made.n, 3);
}

TEST(a_status, becomes_an_error_with_its_reason) {
  const molt_text why{3, "why"};
  const molt::error error = molt::detail::status_error(MOLT_SERVER_FAILED, "add", &why);
  EXPECT_EQ(error.why(), molt::reason::server_failed);
  EXPECT_EQ(error.message(), "add: the server failed: why");
  EXPECT_EQ(molt::detail::status_error(999, "add", nullptr).why(), molt::reason::internal);
}

}  // namespace
