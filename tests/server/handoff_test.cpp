// The server that a worker runs next: what a handler casts to an idle server (thread_record.hpp, handoff).
#include "tests/server/cell_servers.hpp"

namespace molt::servers::testing {
namespace {

namespace relay {

struct state {
  std::vector<std::int64_t> seen;
  molt::ref peer;
};
struct note {
  std::int64_t value = 0;
};
struct meet {
  using reply = std::int64_t;
  molt::ref peer;
};
struct seen_so_far {
  using reply = std::vector<std::int64_t>;
};
/// A cast, so that a worker handles it: tells the peer two things, asks it what it has seen, and passes that on.
struct tell_and_ask {
  std::uint64_t answer = 0;  // std::vector<std::int64_t>*, then done
  std::uint64_t done = 0;    // std::atomic<bool>*
};
struct tell_and_stop {
  std::uint64_t done = 0;
};
struct tell_and_fail {};
/// Casts itself on until nothing is left.
struct spread {
  std::int64_t left = 0;
  std::uint64_t targets = 0;  // std::vector<molt_ref>*
  std::uint64_t handled = 0;  // std::atomic<std::int64_t>*
  std::uint64_t random = 0;
};

struct server : molt::server<state> {
  using messages = molt::messages<note, meet, seen_so_far, tell_and_ask, tell_and_stop, tell_and_fail, spread>;
  void handle_cast(molt::context&, const note& m) { self().seen.push_back(m.value); }
  std::int64_t handle_call(molt::context&, const meet& m) {
    self().peer = m.peer;
    return 0;
  }
  std::vector<std::int64_t> handle_call(molt::context&, const seen_so_far&) { return self().seen; }
  void handle_cast(molt::context& ctx, const tell_and_ask& m) {
    for (std::int64_t i = 1; i <= 3; ++i) static_cast<void>(ctx.cast(self().peer, note{i}));
    if (auto answer = ctx.call(self().peer, seen_so_far{}))
      *reinterpret_cast<std::vector<std::int64_t>*>(m.answer) = std::move(*answer);
    reinterpret_cast<std::atomic<bool>*>(m.done)->store(true);
  }
  void handle_cast(molt::context& ctx, const tell_and_stop& m) {
    static_cast<void>(ctx.cast(self().peer, note{1}));
    static_cast<void>(ctx.stop(self().peer, "no longer needed"));
    reinterpret_cast<std::atomic<bool>*>(m.done)->store(true);
  }
  void handle_cast(molt::context& ctx, const tell_and_fail&) {
    static_cast<void>(ctx.cast(self().peer, note{7}));
    throw std::runtime_error{"on purpose"};
  }
  void handle_cast(molt::context& ctx, const spread& m) {
    reinterpret_cast<std::atomic<std::int64_t>*>(m.handled)->fetch_add(1);
    if (m.left == 0) return;
    const auto& targets = *reinterpret_cast<const std::vector<molt_ref>*>(m.targets);
    spread next = m;
    --next.left;
    for (int copies = 0; copies < 2; ++copies) {
      next.random = next.random * 6364136223846793005U + 1442695040888963407U;
      const auto to = targets[(next.random >> 33U) % targets.size()];
      while (!ctx.cast(molt::ref{to.bits}, next)) std::this_thread::yield();
    }
  }
};

}  // namespace relay

std::unique_ptr<runtime> with_relays(unsigned threads) {
  options given;
  given.pool_threads = threads;
  auto made = std::make_unique<runtime>(given);
  auto next = std::make_shared<test_release>();
  next->add<"relay", relay::server>();
  made->switch_to(next);
  return made;
}

std::uint64_t bits_of(void* at) { return reinterpret_cast<std::uint64_t>(at); }

TEST(handoff, a_handlers_casts_are_handled_before_its_call_to_the_same_server) {
  const auto on = with_relays(2);
  const auto one = *on->start("relay.server", "", {});
  const auto other = *on->start("relay.server", "", {});
  call(*on, one, relay::meet{molt::ref{other.bits}});
  std::vector<std::int64_t> answer;
  std::atomic<bool> done{false};
  cast(*on, one, relay::tell_and_ask{bits_of(&answer), bits_of(&done)});
  wait_until([&] { return done.load(); });
  EXPECT_EQ(answer, (std::vector<std::int64_t>{1, 2, 3}));
}

TEST(handoff, a_server_may_be_stopped_by_the_handler_that_has_cast_to_it) {
  const auto on = with_relays(1);
  const auto one = *on->start("relay.server", "", {});
  const auto other = *on->start("relay.server", "", {});
  call(*on, one, relay::meet{molt::ref{other.bits}});
  std::atomic<bool> done{false};
  cast(*on, one, relay::tell_and_stop{bits_of(&done)});
  wait_until([&] { return done.load() && on->size() == 1; });
  EXPECT_EQ(call(*on, other, relay::seen_so_far{}).status, MOLT_NO_SUCH_SERVER);
}

TEST(handoff, what_a_failing_handler_has_cast_is_handled) {
  const auto on = with_relays(1);
  const auto one = *on->start("relay.server", "", {});
  const auto other = *on->start("relay.server", "", {});
  call(*on, one, relay::meet{molt::ref{other.bits}});
  cast(*on, one, relay::tell_and_fail{});
  wait_until([&] { return call(*on, other, relay::seen_so_far{}).reply == std::vector<std::int64_t>{7}; });
  EXPECT_EQ(on->size(), 1U);
}

// Handlers cast to servers that others call, suspend and cast to, on workers that now and then sleep: nothing may be
// lost, whichever way it went.
TEST(handoff, no_message_is_lost_however_it_travels) {
  std::mt19937_64 random{seed()};
  for (const unsigned threads : {1U, 2U, 4U}) {
    const auto on = with_relays(threads);
    std::vector<molt_ref> all;
    for (int i = 0; i < 7; ++i) all.push_back(*on->start("relay.server", "", {}));
    std::atomic<std::int64_t> handled{0};
    std::atomic<bool> over{false};
    std::thread caller{[&] {
      while (!over.load()) EXPECT_EQ(call(*on, all[0], relay::seen_so_far{}).status, MOLT_OK);
    }};
    std::thread suspender{[&] {
      while (!over.load()) {
        if (on->suspend(all[1], 1s)) {
          std::this_thread::sleep_for(50us);
          EXPECT_TRUE(on->resume(all[1]));
        }
        if (const auto resting = on->rest(1s)) std::this_thread::sleep_for(50us);
      }
    }};
    std::int64_t expected = 0;
    for (int tree = 0; tree < 10 * stress_scale; ++tree) {
      const std::int64_t depth = 1 + static_cast<std::int64_t>(random() % 9);
      expected += (std::int64_t{2} << depth) - 1;
      relay::spread first{depth, bits_of(&all), bits_of(&handled), random()};
      ASSERT_EQ(cast(*on, all[random() % all.size()], first), MOLT_OK);
      if (tree % 16 == 0) wait_until([&] { return handled.load() == expected; });  // workers go to sleep
    }
    wait_until([&] { return handled.load() == expected; });
    over = true;
    caller.join();
    suspender.join();
    EXPECT_EQ(handled.load(), expected);
  }
}

}  // namespace
}  // namespace molt::servers::testing
