// Many threads at once, with printed seeds.
#include "tests/server/cell_servers.hpp"

#include <set>

namespace molt::servers::testing {
namespace {

using worker::add;
using worker::note;

constexpr unsigned threads = 4;

void run_threads(unsigned count, const std::function<void(unsigned, std::mt19937_64&)>& body) {
  const auto base = seed();
  std::vector<std::thread> all;
  std::atomic<unsigned> ready{0};  // all begin together, otherwise the first has finished before the last begins
  for (unsigned i = 0; i < count; ++i)
    all.emplace_back([&, i] {
      ++ready;
      while (ready.load() < count) std::this_thread::yield();
      std::mt19937_64 random{base + i};
      body(i, random);
    });
  for (auto& each : all) each.join();
}

TEST(stress, one_server_handles_one_message_at_a_time) {
  worker_runtime run;
  const auto ref = run.start("a");
  const int calls = 10000 * stress_scale;
  run_threads(threads, [&](unsigned, std::mt19937_64&) {
    for (int i = 0; i < calls; ++i) ASSERT_EQ(call(run.on, ref, add{1}).status, MOLT_OK);
  });
  EXPECT_EQ(call(run.on, ref, add{0}).reply, std::int64_t{calls} * threads);
}

TEST(stress, casts_and_calls_keep_each_senders_order) {
  worker_runtime run;
  const auto ref = run.start("a");
  const int messages = 2000 * stress_scale;
  run_threads(threads, [&](unsigned id, std::mt19937_64& random) {
    for (int i = 0; i < messages; ++i) {
      while (cast(run.on, ref, note{static_cast<std::int64_t>(id) * 1'000'000 + i}) == MOLT_OVERLOADED)
        std::this_thread::yield();
      if (random() % 8 == 0) {
        ASSERT_EQ(call(run.on, ref, add{1}).status, MOLT_OK);
      }
    }
  });
  const auto log = call(run.on, ref, worker::read_log{}).reply;
  ASSERT_EQ(log.size(), static_cast<std::size_t>(messages) * threads);
  std::vector<std::int64_t> next(threads, 0);
  for (const auto entry : log) {
    auto& wanted = next[static_cast<std::size_t>(entry / 1'000'000)];
    ASSERT_EQ(entry % 1'000'000, wanted);
    ++wanted;
  }
}

TEST(stress, no_cast_is_lost_however_senders_receivers_and_callers_meet) {
  options given;
  given.pool_threads = 2;
  worker_runtime run{given};
  const auto ref = run.start("a");
  for (int round = 0; round < 300 * stress_scale; ++round) {
    // A caller that runs directly while another thread casts: the narrow place of the attendance rule.
    std::thread caster{[&] { ASSERT_EQ(cast(run.on, ref, note{round}), MOLT_OK); }};
    for (int i = 0; i < 20; ++i) call(run.on, ref, add{1});
    caster.join();
    wait_until([&] { return run.on.servers()[0].queued == 0; });
  }
  EXPECT_EQ(call(run.on, ref, worker::read_log{}).reply.size(), static_cast<std::size_t>(300 * stress_scale));
}

TEST(stress, servers_call_each_other_in_one_direction_without_deadlock) {
  options given;
  given.pool_threads = 1;
  worker_runtime run{given};
  // a chain: each asks the next; any thread may enter anywhere.
  constexpr int length = 6;
  std::vector<molt_ref> chain;
  for (int i = 0; i < length; ++i) chain.push_back(run.start("s" + std::to_string(i)));
  for (int i = 0; i + 1 < length; ++i) call(run.on, chain[i], worker::set_peer{molt::ref{chain[i + 1].bits}});
  run_threads(threads, [&](unsigned, std::mt19937_64& random) {
    for (int i = 0; i < 1000 * stress_scale; ++i) {
      const auto at = static_cast<int>(random() % length);
      const auto answer = call(run.on, chain[at], worker::ask_peer{length - 1 - at, 0});
      ASSERT_EQ(answer.status, MOLT_OK) << answer.text;
      ASSERT_EQ(answer.reply, length - 1 - at);
    }
  });
}

TEST(stress, crossing_calls_are_answered_or_reported_as_deadlocks) {
  options given;
  given.pool_threads = 2;
  worker_runtime run{given};
  constexpr int ring = 3;
  std::vector<molt_ref> servers;
  for (int i = 0; i < ring; ++i) servers.push_back(run.start("s" + std::to_string(i)));
  for (int i = 0; i < ring; ++i) call(run.on, servers[i], worker::set_peer{molt::ref{servers[(i + 1) % ring].bits}});
  std::atomic<int> answered{0};
  std::atomic<int> deadlocks{0};
  run_threads(threads, [&](unsigned, std::mt19937_64& random) {
    for (int i = 0; i < 4000 * stress_scale; ++i) {
      const auto answer = call(run.on, servers[random() % ring], worker::ask_result{static_cast<int>(random() % ring)});
      ASSERT_EQ(answer.status, MOLT_OK) << answer.text;
      if (answer.reply == "reached") {
        ++answered;
      } else {
        ASSERT_NE(answer.reply.find("would wait for itself"), std::string::npos) << answer.reply;
        ++deadlocks;
      }
    }
  });
  std::printf("answered %d, reported %d\n", answered.load(), deadlocks.load());
  EXPECT_GT(answered.load(), 0);
}

TEST(stress, references_stay_harmless_while_servers_come_and_go) {
  options given;
  given.servers_max = 8;
  worker_runtime run{given};
  std::array<std::atomic<std::uint64_t>, 8> refs{};
  std::atomic<bool> done{false};
  std::thread churn{[&] {
    std::mt19937_64 random{1};
    for (int i = 0; i < 2000 * stress_scale; ++i) {
      auto& slot = refs[random() % refs.size()];
      if (const auto old = slot.load(); old != 0) {
        ASSERT_TRUE(run.on.stop(molt_ref{old}, "churn"));
        slot = 0;
      } else if (const auto started = run.on.start("worker.server", "", {{"value", "1000"}})) {
        slot = started->bits;
      }
    }
    done = true;
  }};
  run_threads(threads - 1, [&](unsigned, std::mt19937_64& random) {
    while (!done) {
      const molt_ref ref{refs[random() % refs.size()].load()};
      if (random() % 2 == 0) {
        const auto answer = call(run.on, ref, add{1});
        if (answer.status == MOLT_OK) {
          ASSERT_GT(answer.reply, 1000);  // one of ours, fully started
        } else {
          ASSERT_EQ(answer.status, MOLT_NO_SUCH_SERVER) << answer.text;
        }
      } else {
        const auto status = cast(run.on, ref, note{1});
        ASSERT_TRUE(status == MOLT_OK || status == MOLT_NO_SUCH_SERVER) << status;
      }
    }
  });
  churn.join();
}

TEST(stress, suspension_and_calls_and_casts_do_not_lose_each_other) {
  worker_runtime run;
  const auto ref = run.start("a");
  std::atomic<bool> done{false};
  std::thread suspender{[&] {
    for (int i = 0; i < 200 * stress_scale; ++i) {
      ASSERT_TRUE(run.on.suspend(ref, 20s));
      ASSERT_TRUE(run.on.resume(ref));
    }
    done = true;
  }};
  std::atomic<std::int64_t> casts{0};
  std::atomic<std::int64_t> calls{0};
  run_threads(threads - 1, [&](unsigned, std::mt19937_64& random) {
    while (!done) {
      if (random() % 2 == 0) {
        ASSERT_EQ(call(run.on, ref, add{1}).status, MOLT_OK);
        ++calls;
      } else if (cast(run.on, ref, note{0}) == MOLT_OK) {
        ++casts;
      }
    }
  });
  suspender.join();
  EXPECT_EQ(call(run.on, ref, add{0}).reply, calls.load());
  EXPECT_EQ(call(run.on, ref, worker::read_log{}).reply.size(), static_cast<std::size_t>(casts.load()));
}

TEST(stress, withdrawn_calls_have_no_effect_and_answered_ones_exactly_one) {
  worker_runtime run;
  const auto ref = run.start("a");
  std::atomic<std::int64_t> answered{0};
  std::atomic<std::int64_t> timed_out{0};
  run_threads(threads, [&](unsigned, std::mt19937_64& random) {
    for (int i = 0; i < 2000 * stress_scale; ++i) {
      const auto answer = call(run.on, ref, add{1}, std::chrono::nanoseconds{1 + random() % 20'000});
      if (answer.status == MOLT_OK)
        ++answered;
      else if (answer.status == MOLT_TIMEOUT)
        ++timed_out;
      else
        FAIL() << answer.status;
    }
  });
  const auto total = call(run.on, ref, add{0}).reply;
  EXPECT_GE(total, answered.load());
  EXPECT_LE(total, answered.load() + timed_out.load());
}

TEST(stress, failing_servers_answer_every_caller) {
  worker_runtime run;
  std::atomic<std::uint64_t> current{run.start("a").bits};
  std::atomic<bool> done{false};
  std::atomic<int> failures{0};
  run_threads(threads, [&](unsigned id, std::mt19937_64& random) {
    for (int i = 0; i < 1000 * stress_scale; ++i) {
      const molt_ref ref{current.load()};
      if (id == 0 && i % 10 == 0) {
        const auto answer = call(run.on, ref, worker::fail{"on purpose"});
        ASSERT_TRUE(answer.status == MOLT_SERVER_FAILED || answer.status == MOLT_NO_SUCH_SERVER) << answer.status;
        ++failures;
        current = run.start().bits;
        continue;
      }
      const auto answer = call(run.on, ref, add{static_cast<std::int64_t>(random() % 2)});
      ASSERT_TRUE(answer.status == MOLT_OK || answer.status == MOLT_SERVER_FAILED ||
                  answer.status == MOLT_NO_SUCH_SERVER)
          << answer.status;
    }
  });
  EXPECT_EQ(run.ended.all().size(), static_cast<std::size_t>(failures.load()));
}

TEST(stress, casts_travel_around_a_ring_of_servers_on_the_pool) {
  options given;
  given.pool_threads = 3;
  worker_runtime run{given};
  constexpr int ring = 5;
  const int hops = 2000 * stress_scale;
  std::vector<molt_ref> servers;
  for (int i = 0; i < ring; ++i) servers.push_back(run.start());
  for (int i = 0; i < ring; ++i) call(run.on, servers[i], worker::set_peer{molt::ref{servers[(i + 1) % ring].bits}});
  for (int i = 0; i < 3; ++i) cast(run.on, servers[i], worker::tell_peer{hops - 1});
  wait_until([&] {
    std::int64_t total = 0;
    for (const auto& each : servers) total += call(run.on, each, add{0}).reply;
    return total == std::int64_t{hops} * 3;
  });
}

TEST(fairness, a_flood_of_casts_does_not_starve_others) {
  options given;
  given.pool_threads = 1;
  worker_runtime run{given};
  const auto flooded = run.start("flooded");
  const auto quiet = run.start("quiet");
  std::atomic<bool> done{false};
  std::thread flood{[&] {
    while (!done)
      if (cast(run.on, flooded, note{0}) == MOLT_OVERLOADED) std::this_thread::yield();
  }};
  for (int i = 0; i < 20; ++i) {
    cast(run.on, quiet, note{i});
    wait_until([&] {
      for (const auto& each : run.on.servers())
        if (each.name == "quiet") return each.queued == 0;
      return false;
    });
  }
  EXPECT_EQ(call(run.on, quiet, worker::read_log{}).reply.size(), 20U);
  done = true;
  flood.join();
}

TEST(fairness, two_servers_that_cast_to_each_other_for_ever_do_not_starve_a_third) {
  options given;
  given.pool_threads = 1;
  worker_runtime run{given};
  const auto a = run.start("a");
  const auto b = run.start("b");
  const auto third = run.start("third");
  call(run.on, a, worker::set_peer{molt::ref{b.bits}});
  call(run.on, b, worker::set_peer{molt::ref{a.bits}});
  cast(run.on, a, worker::tell_peer{INT64_MAX});
  for (int i = 0; i < 20; ++i) cast(run.on, third, note{i});
  wait_until([&] {
    for (const auto& each : run.on.servers())
      if (each.name == "third") return each.queued == 0;
    return false;
  });
  EXPECT_TRUE(run.on.stop(a, "enough"));
}

TEST(pool, calls_are_answered_with_all_pool_threads_waiting_in_calls) {
  options given;
  given.pool_threads = 1;
  worker_runtime run{given};
  const auto a = run.start("a");
  const auto b = run.start("b");
  call(run.on, a, worker::set_peer{molt::ref{b.bits}});
  latch gate;
  std::thread holder{[&] { call(run.on, b, worker::hold{bits(gate)}); }};
  gate.wait_for(1);
  // Busy: so this waits in a's mailbox, and the pool's only thread then waits for b.
  latch first;
  cast(run.on, a, worker::hold_cast{bits(first)});
  first.wait_for(1);
  std::thread asker{[&] { EXPECT_EQ(call(run.on, a, worker::ask_peer{1, 0}).reply, 1); }};
  std::this_thread::sleep_for(5ms);
  first.open = true;
  std::this_thread::sleep_for(5ms);
  gate.open = true;
  holder.join();
  asker.join();
}

TEST(pool, a_cast_made_by_a_long_handler_does_not_wait_for_its_end) {
  options given;
  given.pool_threads = 2;
  worker_runtime run{given};
  const auto a = run.start("a");
  const auto b = run.start("b");
  call(run.on, a, worker::set_peer{molt::ref{b.bits}});
  // One turn of a: casts to b, then stays in a handler.
  latch begun;
  latch gate;
  cast(run.on, a, worker::hold_cast{bits(begun)});
  begun.wait_for(1);
  cast(run.on, a, worker::tell_peer{1});
  cast(run.on, a, worker::hold_cast{bits(gate)});
  begun.open = true;
  gate.wait_for(1);
  wait_until([&] { return call(run.on, b, add{0}).reply == 1; });
  gate.open = true;
}

TEST(nesting, deeper_calls_than_the_bound_go_through_the_pool) {
  options given;
  given.nesting_max = 4;
  given.pool_threads = 1;
  worker_runtime run{given};
  constexpr int length = 40;
  std::vector<molt_ref> chain;
  for (int i = 0; i < length; ++i) chain.push_back(run.start());
  for (int i = 0; i + 1 < length; ++i) call(run.on, chain[i], worker::set_peer{molt::ref{chain[i + 1].bits}});
  EXPECT_EQ(call(run.on, chain[0], worker::ask_peer{length - 1, 0}).reply, length - 1);
}

}  // namespace
}  // namespace molt::servers::testing
