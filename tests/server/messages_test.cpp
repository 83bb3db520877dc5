// What messages may be, in which order they are handled, and what becomes of replies; over upgrades too.
#include "tests/server/fixture.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;

struct collected {
  std::vector<std::int64_t> all;
  std::unique_ptr<std::string> kept;
  molt::ref peer;
  std::vector<molt::reply_to<std::string>> waiting;
  std::vector<molt::reply_to<molt::done>> finishing;
};
struct give {  // moves only
  using reply = std::unique_ptr<std::string>;
  std::unique_ptr<std::string> what;
};
struct keep {
  std::unique_ptr<std::string> what;
};
struct forget {
  using reply = void;
};
struct point {
  double x = 0;
  double y = 0;
};
struct is_empty {
  using reply = bool;
};
struct where {
  using reply = std::optional<point>;
};
struct who {
  using reply = molt::ref;
};
struct table {
  using reply = std::map<std::string, std::vector<point>>;
};
struct number {
  std::int64_t n = 0;
};
struct numbers {
  using reply = std::vector<std::int64_t>;
};
struct send_on {
  std::int64_t from = 0;
  std::int64_t count = 0;
};
struct set_peer {
  using reply = void;
  molt::ref peer;
};
struct ask_peer {
  using reply = std::int64_t;  // the reason of the error
  std::int64_t timeout_ns = 0;
};
struct finish {  // answered later, with nothing
  using reply = void;
};
struct wait {
  using reply = std::string;
};
struct release_all {
  using reply = std::int64_t;
  std::string text;
};

template <int Version>
struct body : molt::server<collected> {
  using messages = molt::messages<give, keep, forget, is_empty, where, who, table, number, numbers, send_on, set_peer,
                                  ask_peer, finish, wait, release_all>;
  std::unique_ptr<std::string> handle_call(molt::context&, give&& m) { return std::move(m.what); }
  void handle_cast(molt::context&, keep&& m) { self().kept = std::move(m.what); }
  void handle_call(molt::context&, const forget&) { self().kept.reset(); }
  bool handle_call(molt::context&, const is_empty&) { return self().kept == nullptr; }
  std::optional<point> handle_call(molt::context&, const where&) { return point{1, 2}; }
  molt::ref handle_call(molt::context& ctx, const who&) { return ctx.self(); }
  std::map<std::string, std::vector<point>> handle_call(molt::context&, const table&) {
    return {{"origin", {{0, 0}}}, {"none", {}}};
  }
  void handle_cast(molt::context&, const number& m) { self().all.push_back(m.n); }
  std::vector<std::int64_t> handle_call(molt::context&, const numbers&) { return self().all; }
  void handle_cast(molt::context& ctx, const send_on& m) {
    for (std::int64_t i = 0; i < m.count; ++i) static_cast<void>(ctx.cast(self().peer, number{m.from + i}));
  }
  void handle_call(molt::context&, const set_peer& m) { self().peer = m.peer; }
  std::int64_t handle_call(molt::context& ctx, const ask_peer& m) {
    const auto answer = ctx.call(self().peer, wait{}, std::chrono::nanoseconds{m.timeout_ns});
    return answer ? -1 : static_cast<std::int64_t>(answer.error().why());
  }
  void handle_call(molt::context&, const finish&, molt::reply_to<molt::done> token) {
    self().finishing.push_back(token);
  }
  void handle_call(molt::context&, const wait&, molt::reply_to<std::string> token) { self().waiting.push_back(token); }
  std::int64_t handle_call(molt::context& ctx, const release_all& m) {
    std::int64_t answered = 0;
    for (const auto token : std::exchange(self().finishing, {}))
      answered += static_cast<std::int64_t>(static_cast<bool>(ctx.reply(token)));
    for (const auto token : std::exchange(self().waiting, {}))
      answered += static_cast<std::int64_t>(
          static_cast<bool>(ctx.reply(token, m.text + " from version " + std::to_string(Version))));
    return answered;
  }
};
namespace v1 {
struct server : body<1> {};
}  // namespace v1
namespace v2 {
struct server : body<2> {};
}  // namespace v2

class messages_of_servers : public ::testing::Test {
 protected:
  messages_of_servers() {
    auto current = std::make_shared<test_release>();
    current->add<"t", v1::server>();
    on.switch_to(current);
    ref = start();
  }
  molt_ref start() { return *on.start("t.server", "", {}); }
  runtime on;
  molt_ref ref{};
};

TEST_F(messages_of_servers, may_be_of_types_that_only_move) {
  EXPECT_EQ(*call(on, ref, give{std::make_unique<std::string>("a pearl")}).reply, "a pearl");
  cast(on, ref, keep{std::make_unique<std::string>("another")});
  EXPECT_FALSE(call(on, ref, is_empty{}).reply);
  // To a server that is held, so that message and reply are queued.
  ASSERT_TRUE(on.suspend(ref, 20s));
  std::thread caller{
      [&] { EXPECT_EQ(*call(on, ref, give{std::make_unique<std::string>("a pearl")}).reply, "a pearl"); }};
  wait_until([&] { return on.servers()[0].queued == 1; });
  ASSERT_TRUE(on.resume(ref));
  caller.join();
}

TEST_F(messages_of_servers, have_replies_of_any_declared_type) {
  alignas(molt::done) char done[sizeof(molt::done)];
  forget message;
  EXPECT_EQ(on.call(ref, message_of<forget>(), &message, done), MOLT_OK);
  EXPECT_TRUE(call(on, ref, is_empty{}).reply);
  EXPECT_EQ(call(on, ref, where{}).reply->y, 2);
  EXPECT_EQ(call(on, ref, who{}).reply.bits, ref.bits);
  EXPECT_EQ(call(on, ref, table{}).reply.at("origin").size(), 1U);
}

TEST_F(messages_of_servers, may_be_answered_later_with_nothing) {
  std::thread caller{[&] {
    alignas(molt::done) char done[sizeof(molt::done)];
    finish message;
    EXPECT_EQ(on.call(ref, message_of<finish>(), &message, done, 60s), MOLT_OK);
  }};
  wait_until([&] { return on.stats().deferred_pending == 1; });
  EXPECT_EQ(call(on, ref, release_all{}).reply, 1);
  caller.join();
}

TEST_F(messages_of_servers, keep_their_order_between_two_servers) {
  const auto receiver = start();
  const auto sender = start();
  alignas(molt::done) char done[sizeof(molt::done)];
  set_peer message{molt::ref{receiver.bits}};
  ASSERT_EQ(on.call(sender, message_of<set_peer>(), &message, done), MOLT_OK);
  std::atomic<bool> over{false};
  // Others take turns at running the receiver meanwhile.
  std::thread other{[&] {
    while (!over) call(on, receiver, is_empty{});
  }};
  constexpr std::int64_t batches = 10 * stress_scale;
  constexpr std::int64_t each = 50;
  for (std::int64_t i = 0; i < batches; ++i) cast(on, sender, send_on{i * each, each});
  wait_until([&] { return call(on, receiver, numbers{}).reply.size() == batches * each; });
  over = true;
  other.join();
  const auto all = call(on, receiver, numbers{}).reply;
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end()));
}

TEST_F(messages_of_servers, have_deadlines_of_their_own) {
  const auto asked = start();
  alignas(molt::done) char done[sizeof(molt::done)];
  set_peer message{molt::ref{asked.bits}};
  ASSERT_EQ(on.call(ref, message_of<set_peer>(), &message, done), MOLT_OK);
  EXPECT_EQ(call(on, ref, ask_peer{2'000'000}).reply, static_cast<std::int64_t>(reason::timeout));
  std::thread patient{[&] { EXPECT_EQ(call(on, asked, wait{}, 60s).reply, "answer from version 1"); }};
  wait_until([&] { return on.stats().deferred_pending == 1; });  // so that it is not in the way of the next one
  EXPECT_EQ(call(on, ref, ask_peer{1'000'000}).reply, static_cast<std::int64_t>(reason::timeout));
  wait_until([&] { return on.stats().deferred_pending == 1; });
  EXPECT_EQ(call(on, asked, release_all{"answer"}).reply, 1) << "those given up on are not answered any more";
  patient.join();
  EXPECT_EQ(on.stats().late_replies, 2U);
}

TEST_F(messages_of_servers, are_answered_by_tokens_that_went_through_an_upgrade) {
  constexpr int callers = 3;
  std::vector<std::thread> waiting;
  for (int i = 0; i < callers; ++i)
    waiting.emplace_back([&] { EXPECT_EQ(call(on, ref, wait{}, 60s).reply, "answer from version 2"); });
  wait_until([&] { return on.stats().deferred_pending == callers; });
  const auto new_type = server_type::make(molt::server_type_of<v2::server, "t">(), "2", nullptr, image_range{1, 2});
  on.switch_to(std::make_shared<test_release>([new_type](resting_server& each) {
    // As a migration would: the state, tokens too, goes through its archive.
    const molt_schema& schema = *each.type().abi().state;
    struct bytes : molt_sink {
      std::string all = std::string(4096, '\0');
      bytes() : molt_sink{nullptr, nullptr, [](molt_sink*, std::size_t) -> int { return MOLT_OUT_OF_BOUNDS; }} {
        cursor = all.data();
        end = all.data() + all.size();
      }
    } to;
    molt_text text{};
    ASSERT_EQ(schema.save(each.state(), &to, &text), MOLT_OK);
    molt_source from{to.all.data(), to.cursor};
    void* const made = allocate_state(*new_type->abi().state);
    ASSERT_EQ(new_type->abi().state->load(made, &from, &text), MOLT_OK);
    void* const old = each.state();
    each.become(*new_type, made);
    schema.destroy(old);
    free_state(old, schema);
  }));
  EXPECT_EQ(call(on, ref, release_all{"answer"}).reply, callers);
  for (auto& each : waiting) each.join();
  EXPECT_EQ(on.stats().deferred_pending, 0U);
}

}  // namespace
}  // namespace molt::servers::testing
