// Work that blocks, on threads of its own.
#include "tests/server/fixture.hpp"

#include <gmock/gmock.h>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct results {
  std::vector<std::string> all;
};
struct loaded {
  std::string path;
  std::string contents;
};
struct load {
  using reply = std::int64_t;  // 0, or the reason of the error
  std::string path;
};
struct load_elsewhere {
  using reply = std::int64_t;
  std::string path;
  std::uint64_t arrived = 0;
  std::uint64_t open = 0;
};
struct read {
  using reply = std::vector<std::string>;
};

std::atomic<int>& counter(std::uint64_t address) { return *reinterpret_cast<std::atomic<int>*>(address); }
std::uint64_t address(std::atomic<int>& of) { return reinterpret_cast<std::uint64_t>(&of); }

template <bool Handles>
struct body : molt::server<results> {
  std::int64_t handle_call(molt::context& ctx, const load& m) {
    const auto begun = ctx.offload(
        [](loaded& result) {
          if (result.path == "missing") throw std::runtime_error{"no such file"};
          result.contents = "contents of " + result.path;
        },
        loaded{m.path, {}});
    return begun ? 0 : static_cast<std::int64_t>(begun.error().why());
  }
  std::int64_t handle_call(molt::context& ctx, load_elsewhere&& m) {
    const auto begun = ctx.offload([held = std::make_unique<load_elsewhere>(std::move(m))] {
      counter(held->arrived).fetch_add(1);
      wait_until([&] { return counter(held->open).load() != 0; });
      return loaded{held->path, "late"};
    });
    return begun ? 0 : static_cast<std::int64_t>(begun.error().why());
  }
  std::vector<std::string> handle_call(molt::context&, const read&) { return self().all; }
  void handle_info(molt::context&, const loaded& m) { self().all.push_back(m.path + ": " + m.contents); }
  void handle_info(molt::context&, const molt::offload_failed& m) {
    self().all.push_back(m.message + " failed: " + m.why);
  }
};
namespace handling {
struct server : body<true> {
  using messages = molt::messages<load, load_elsewhere, read, loaded, molt::offload_failed>;
};
}  // namespace handling
namespace ignoring {
struct server : body<false> {
  using messages = molt::messages<load, load_elsewhere, read, loaded>;
};
}  // namespace ignoring

struct loading_runtime {
  explicit loading_runtime(options given = {}) : on{std::move(given)} {
    auto current = std::make_shared<test_release>();
    type = current->add<"handling", handling::server>();
    current->add<"ignoring", ignoring::server>();
    on.switch_to(current);
  }
  molt_ref start(std::string_view of = "handling.server") { return *on.start(of, "", {}); }
  std::vector<std::string> wait_for(molt_ref ref, std::size_t count) {
    wait_until([&] { return call(on, ref, read{}).reply.size() >= count; });
    return call(on, ref, read{}).reply;
  }
  std::shared_ptr<const server_type> type;
  runtime on;
};

TEST(offload, sends_what_the_work_makes) {
  loading_runtime run;
  const auto ref = run.start();
  EXPECT_EQ(call(run.on, ref, load{"a"}).reply, 0);
  EXPECT_THAT(run.wait_for(ref, 1), ElementsAre("a: contents of a"));
  wait_until([&] { return run.on.stats().offloaded_pending == 0; });
}

TEST(offload, leaves_its_server_free_to_answer) {
  loading_runtime run;
  const auto ref = run.start();
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  EXPECT_EQ(call(run.on, ref, load_elsewhere{"b", address(arrived), address(open)}).reply, 0);
  wait_until([&] { return arrived.load() == 1; });
  EXPECT_EQ(call(run.on, ref, load{"a"}).reply, 0);
  EXPECT_THAT(run.wait_for(ref, 1), ElementsAre("a: contents of a"));
  {
    const auto guard = run.on.rest(20s);
    EXPECT_TRUE(guard) << "work is no handler";
  }
  open = 1;
  EXPECT_THAT(run.wait_for(ref, 2), ElementsAre("a: contents of a", "b: late"));
}

TEST(offload, tells_a_server_what_its_work_threw) {
  std::mutex mutex;
  std::string logged;
  options given;
  given.log = [&](int, std::string_view, std::string_view text) {
    std::lock_guard lock{mutex};
    logged += text;
  };
  loading_runtime run{given};
  const auto ref = run.start();
  call(run.on, ref, load{"missing"});
  EXPECT_THAT(run.wait_for(ref, 1), ElementsAre("loaded failed: no such file"));
  const auto other = run.start("ignoring.server");
  call(run.on, other, load{"missing"});
  wait_until([&] {
    std::lock_guard lock{mutex};
    return logged.find("no such file") != std::string::npos;
  });
  EXPECT_EQ(call(run.on, other, load{"a"}).reply, 0);
  EXPECT_THAT(run.wait_for(other, 1), ElementsAre("a: contents of a"));
}

TEST(offload, is_overloaded_beyond_its_bound) {
  options given;
  given.offload_threads = 2;
  given.offload_max = 3;
  loading_runtime run{given};
  const auto ref = run.start();
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  const load_elsewhere blocking{"b", address(arrived), address(open)};
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(call(run.on, ref, blocking).reply, 0);
    wait_until([&] { return arrived.load() == i; });
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(call(run.on, ref, blocking).reply, 0);
  EXPECT_EQ(call(run.on, ref, blocking).reply, static_cast<std::int64_t>(reason::overloaded));
  EXPECT_EQ(run.on.stats().offloaded_pending, 5U);
  open = 1;
  run.wait_for(ref, 5);
  EXPECT_EQ(call(run.on, ref, blocking).reply, 0);
  run.wait_for(ref, 6);
}

TEST(offload, outlives_its_server) {
  loading_runtime run;
  const auto ref = run.start();
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  call(run.on, ref, load_elsewhere{"b", address(arrived), address(open)});
  wait_until([&] { return arrived.load() == 1; });
  ASSERT_TRUE(run.on.stop(ref, "enough"));
  open = 1;
  wait_until([&] { return run.on.stats().offloaded_pending == 0; });
}

TEST(offload, ends_with_its_runtime) {
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  std::thread opener;
  {
    options given;
    given.offload_threads = 1;
    loading_runtime run{given};
    const auto ref = run.start();
    for (int i = 0; i < 3; ++i) call(run.on, ref, load_elsewhere{"b", address(arrived), address(open)});
    wait_until([&] { return arrived.load() == 1; });
    opener = std::thread{[&] {
      std::this_thread::sleep_for(5ms);
      open = 1;
    }};
  }
  opener.join();
  EXPECT_GE(arrived, 1) << "the others were dropped, or ran";
}

TEST(offload, holds_up_the_retirement_of_its_image) {
  loading_runtime run;
  const auto ref = run.start();
  std::atomic<int> arrived{0};
  std::atomic<int> open{0};
  call(run.on, ref, load_elsewhere{"b", address(arrived), address(open)});
  wait_until([&] { return arrived.load() == 1; });
  ASSERT_TRUE(run.on.stop(ref, "enough"));
  const auto busy = run.on.retire(*run.type, 2ms);
  ASSERT_FALSE(busy);
  EXPECT_THAT(busy.error().text(), HasSubstr("loaded"));
  open = 1;
  EXPECT_TRUE(run.on.retire(*run.type, 20s));
}

}  // namespace
}  // namespace molt::servers::testing
