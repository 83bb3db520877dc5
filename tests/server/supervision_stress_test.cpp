// Children that fail on many threads while they are stopped, started, moved and updated; with printed seeds.
#include "tests/server/supervised.hpp"

#include <set>

namespace molt::servers::testing {
namespace {

using worker::add;

/// A tree of the servers a to h in some order, some of them below supervisors, and pools.
supervisor_spec random_tree(std::mt19937_64& random) {
  const auto some_strategy = [&] { return static_cast<strategy>(random() % 3); };
  const auto some_kind = [&] { return random() % 4 == 0 ? restart::transient : restart::permanent; };
  std::vector<supervisor_spec> inner(3, tree(strategy::one_for_one, {}, 1'000'000));
  auto root = tree(some_strategy(), {}, 1'000'000);
  for (auto& each : inner) each.strategy = some_strategy();
  for (char name = 'a'; name <= 'h'; ++name) {
    if (random() % 4 == 0) continue;
    const auto where = random() % 4;
    auto made = child(std::string(1, name), some_kind());
    made.shutdown = random() % 8 == 0 ? shutdown_brutal : std::chrono::milliseconds{5000};
    (where == 3 ? root : inner[where]).children.push_back(std::move(made));
  }
  for (std::size_t i = 0; i < inner.size(); ++i)
    if (random() % 3 != 0) root.children.push_back(below("s" + std::to_string(i), inner[i]));
  for (const char* const name : {"p", "q"})
    if (random() % 3 != 0) root.children.push_back(below(name, pool_of(some_kind(), {}, 1'000'000)));
  return root;
}

void collect(const supervisor_spec& spec, std::set<std::string>& names) {
  for (const auto& each : spec.children) {
    if (each.supervisor != nullptr)
      collect(*each.supervisor, names);
    else
      names.insert(each.name);
  }
}

TEST(supervision_stress, children_fail_while_the_tree_changes) {
  const auto base = seed();
  supervised run;
  std::mt19937_64 random{base};
  ASSERT_TRUE(run.keeper.start(random_tree(random)));
  std::atomic<bool> going{true};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < 3; ++t)
    all.emplace_back([&, t] {
      std::mt19937_64 mine{base + 1 + t};
      while (going) {
        const auto ref = run.on.lookup(std::string(1, static_cast<char>('a' + mine() % 8)));
        switch (mine() % 8) {
          case 0:
            call(run.on, ref, worker::fail{"crash"});
            break;
          case 1:
            cast(run.on, ref, worker::fail_later{"crash later"});
            break;
          case 2:
            run.on.request_stop(ref, "asked");
            break;
          case 3: {
            const auto made = run.keeper.start_child(mine() % 2 == 0 ? "p" : "q", "", {});
            if (made && mine() % 2 == 0) call(run.on, *made, worker::fail{"crash"});
            break;
          }
          case 4:
            static_cast<void>(run.keeper.terminate_child(mine() % 2 == 0 ? "s0" : "",
                                                         std::string(1, static_cast<char>('a' + mine() % 8))));
            break;
          case 5:
            static_cast<void>(run.keeper.children());
            static_cast<void>(run.keeper.which_children("p"));
            static_cast<void>(run.keeper.supervisor_of(ref));
            break;
          default:
            call(run.on, ref, add{1});
        }
      }
    });
  supervisor_spec now;
  for (int i = 0; i < 15 * stress_scale; ++i) {
    auto next = random_tree(random);
    ASSERT_TRUE(run.keeper.begin_update(next)) << "step " << i;
    if (random() % 3 == 0) {
      ASSERT_TRUE(run.keeper.undo_update()) << "step " << i;
    } else {
      ASSERT_TRUE(run.keeper.finish_update()) << "step " << i;
      now = next;
    }
  }
  going = false;
  for (auto& each : all) each.join();
  EXPECT_EQ(run.reason_given(), "");
  // What runs is what the tree says.
  std::set<std::string> names;
  collect(now, names);
  std::size_t counted = 0;
  wait_until([&] {
    counted = 0;
    for (const auto& each : run.keeper.children())
      counted += each.is_supervisor ? (each.strategy == strategy::dynamic ? each.children : 0) : (each.running ? 1 : 0);
    return counted == run.on.size();
  });
  for (const auto& each : run.keeper.children()) {
    if (each.is_supervisor) continue;
    EXPECT_TRUE(names.contains(each.name)) << each.name;
    EXPECT_EQ(run.on.lookup(each.name).bits, each.ref.bits) << each.name;
  }
  ASSERT_TRUE(run.keeper.stop("over"));
  EXPECT_EQ(run.on.size(), 0U);
}

TEST(supervision_stress, children_are_started_on_many_threads_while_their_supervisor_stops_and_starts) {
  const auto base = seed();
  supervised run;
  ASSERT_TRUE(run.keeper.start(
      tree(strategy::one_for_one, {below("pool", pool_of(restart::transient, {}, 1'000'000))}, 1'000'000)));
  std::atomic<bool> going{true};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < 3; ++t)
    all.emplace_back([&, t] {
      std::mt19937_64 mine{base + t};
      while (going) {
        const auto made = run.keeper.start_child("pool", "", {{"value", "1"}});
        if (!made) continue;
        const auto what = mine() % 4;
        if (what == 0) call(run.on, *made, worker::fail{"crash"});
        if (what == 1) static_cast<void>(run.on.stop(*made, "done"));
        if (what == 2) static_cast<void>(run.keeper.terminate_child("pool", *made));
      }
    });
  for (int i = 0; i < 20 * stress_scale; ++i) {
    std::this_thread::sleep_for(1ms);
    ASSERT_TRUE(run.keeper.terminate_child("", "pool"));
    ASSERT_EQ(run.keeper.count_children("pool")->active, 0U);
    ASSERT_TRUE(run.keeper.restart_child("", "pool"));
  }
  going = false;
  for (auto& each : all) each.join();
  wait_until([&] { return run.keeper.count_children("pool")->active == run.on.size(); });
  ASSERT_TRUE(run.keeper.stop("over"));
  EXPECT_EQ(run.on.size(), 0U);
}

}  // namespace
}  // namespace molt::servers::testing
