// What a listener is told of a server whose function has thrown, and what is known of those running on a thread.
#include "server/failure.hpp"

#include "tests/server/fixture.hpp"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace failing {

struct state {
  std::int64_t value = 7;
};
struct fail {
  using reply = std::int64_t;
};
struct fail_later {};
struct hold {};
struct pass_on {
  using reply = std::int64_t;
};
struct look {
  using reply = std::int64_t;
};

std::atomic<bool> holding{false};
std::atomic<bool> may_go{false};

struct server : molt::server<state> {
  using messages = molt::messages<fail, fail_later, hold, pass_on, look>;

  state init(molt::context&, const molt::arguments& given) {
    if (given.find("fail")) throw std::logic_error{"no such start"};
    return {};
  }
  std::int64_t handle_call(molt::context&, const fail&) { throw std::out_of_range{"too far"}; }
  void handle_cast(molt::context&, const fail_later&) { throw std::out_of_range{"later"}; }
  void handle_cast(molt::context&, const hold&) {
    holding = true;
    while (!may_go) std::this_thread::yield();
  }
  std::int64_t handle_call(molt::context& ctx, const pass_on&) {
    return ctx.call(ctx.lookup("victim"), fail{}) ? 1 : 0;
  }
  std::int64_t handle_call(molt::context&, const look&) {
    std::string seen;
    molt::servers::visit_running(
        [](const molt::servers::running_server& each, void* to) { *static_cast<std::string*>(to) += *each.name + " "; },
        &seen, 8);
    return seen == "victim " ? 1 : 0;
  }
};

}  // namespace failing

namespace molt::servers::testing {
namespace {

struct told_failure {
  std::string name, why, in, exception;
  std::int64_t value = -1;
  std::uint64_t handled = 0;
  std::size_t queued = 0;
  std::size_t frames = 0;
  std::vector<std::string> waiting, callers;
  bool recorded = false;
  std::vector<std::string> last{};
};

class failure : public ::testing::Test {
 protected:
  failure() {
    auto first = std::make_shared<test_release>();
    first->add<"failing", failing::server>();
    box.on_failure([this](const server_failure& given) {
      told_failure made{std::string{given.name}, std::string{given.why}, given.in,           given.exception, -1,
                        given.handled,           given.queued,           given.stack.size(), given.waiting,   {}};
      if (given.state != nullptr) made.value = static_cast<const failing::state*>(given.state)->value;
      made.recorded = given.recorded;
      for (const auto& each : given.last) made.last.push_back(each.message);
      shared = given.type->shared_from_this();
      for (const auto& each : given.callers) made.callers.push_back(each.name);
      told.push_back(std::move(made));
      ++count;
    });
    box.switch_to(first);
    victim = *box.start("failing.server", "victim", {});
  }

  std::shared_ptr<const server_type> shared;
  std::vector<told_failure> told;  // by one thread at a time, here
  std::atomic<int> count{0};
  runtime box;
  molt_ref victim{};
};

TEST_F(failure, tells_message_exception_state_and_stack_of_a_handler_that_threw) {
  ASSERT_EQ(call(box, victim, failing::look{}).reply, 1);
  EXPECT_EQ(call(box, victim, failing::fail{}).status, MOLT_SERVER_FAILED);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].name, "victim");
  EXPECT_EQ(told[0].why, "too far");
  EXPECT_EQ(told[0].in, "fail");
  EXPECT_EQ(told[0].exception, typeid(std::out_of_range).name());
  EXPECT_EQ(told[0].value, 7);
  EXPECT_EQ(told[0].handled, 1U);
  EXPECT_GT(told[0].frames, 1U);
  EXPECT_TRUE(told[0].callers.empty());
  EXPECT_FALSE(told[0].recorded);
}

TEST_F(failure, names_the_servers_whose_calls_led_there) {
  const auto outer = *box.start("failing.server", "outer", {});
  EXPECT_EQ(call(box, outer, failing::pass_on{}).reply, 0);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].name, "victim");
  EXPECT_EQ(told[0].callers, std::vector<std::string>{"outer"});
}

TEST_F(failure, counts_and_names_what_waits) {
  failing::holding = failing::may_go = false;
  ASSERT_EQ(cast(box, victim, failing::hold{}), MOLT_OK);
  wait_until([] { return failing::holding.load(); });
  ASSERT_EQ(cast(box, victim, failing::fail_later{}), MOLT_OK);
  ASSERT_EQ(cast(box, victim, failing::hold{}), MOLT_OK);
  ASSERT_EQ(cast(box, victim, failing::fail_later{}), MOLT_OK);
  failing::may_go = true;
  wait_until([&] { return count == 1; });
  EXPECT_EQ(told[0].in, "fail_later");
  EXPECT_EQ(told[0].queued, 2U);
  EXPECT_EQ(told[0].waiting, (std::vector<std::string>{"hold", "fail_later"}));
  EXPECT_EQ(told[0].handled, 1U);
}

TEST_F(failure, tells_what_a_recorded_server_has_handled_before) {
  ASSERT_TRUE(box.record(victim, {2, 0}));
  for (int i = 0; i < 3; ++i) ASSERT_EQ(call(box, victim, failing::look{}).reply, 1);
  EXPECT_EQ(call(box, victim, failing::fail{}).status, MOLT_SERVER_FAILED);
  ASSERT_EQ(told.size(), 1U);
  EXPECT_TRUE(told[0].recorded);
  EXPECT_EQ(told[0].in, "fail");
  EXPECT_EQ(told[0].last, (std::vector<std::string>{"look", "look"}));
  EXPECT_EQ(shared->name(), "failing.server") << "also of a recorded server the type can be kept";
}

TEST_F(failure, tells_of_an_init_that_threw_without_a_state) {
  EXPECT_FALSE(box.start("failing.server", "another", {{"fail", "1"}}));
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].in, "init()");
  EXPECT_EQ(told[0].why, "no such start");
  EXPECT_EQ(told[0].value, -1);
}

}  // namespace
}  // namespace molt::servers::testing
