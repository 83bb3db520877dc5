// Real images: what belongs to a server outlives the one that it began in, which is unmapped.
#include "tests/fixtures/watcher/watcher.hpp"
#include "tests/server/fixture.hpp"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <fixture_paths.hpp>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const server_type> load_type(const char* path) {
  void* const handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  EXPECT_NE(handle, nullptr) << dlerror();
  const std::shared_ptr<void> lease{handle, [](void* open) { dlclose(open); }};
  const auto* const table = reinterpret_cast<molt_plugin_function>(dlsym(handle, MOLT_PLUGIN_SYMBOL))();
  return server_type::make(table->server_types[0], table->version, lease);
}

[[maybe_unused]] bool is_mapped(const char* path) {
  void* const handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (handle != nullptr) dlclose(handle);
  return handle != nullptr;
}

class release_of final : public release {
 public:
  explicit release_of(std::shared_ptr<const server_type> type) : type_{std::move(type)} {}
  // The states are equal.
  void adopt(resting_server& each) const noexcept override { each.become(*type_, each.state()); }
  [[nodiscard]] const server_type* find_type(std::string_view) const noexcept override { return type_.get(); }

 private:
  std::shared_ptr<const server_type> type_;
};

TEST(images, what_belongs_to_a_server_outlives_the_one_that_it_began_in) {
  manual_clock time;
  options given;
  given.clock = &time;
  runtime on{given};
  auto old_type = load_type(molt::fixtures::watcher_1_0_0);
  on.switch_to(std::make_shared<release_of>(old_type));
  const auto a = *on.start("watcher.server", "a", {});
  const auto b = *on.start("watcher.server", "b", {});
  EXPECT_TRUE(call(on, a, watcher::watch{molt::ref{b.bits}}).reply);
  EXPECT_TRUE(call(on, a, watcher::enter{"group"}).reply);
  EXPECT_TRUE(call(on, a, watcher::beat{100'000'000}).reply);
  std::thread caller{[&] { EXPECT_EQ(call(on, a, watcher::wait{}, 60s).reply, "answered in 2"); }};
  wait_until([&] { return on.stats().deferred_pending == 1; });
  std::atomic<int> open{0};
  EXPECT_TRUE(call(on, a, watcher::load{reinterpret_cast<std::uint64_t>(&open)}).reply);
  ASSERT_TRUE(on.suspend(a, 20s));

  on.switch_to(std::make_shared<release_of>(load_type(molt::fixtures::watcher_2_0_0)));
  EXPECT_EQ(on.sweep({}), 2U);
  const auto busy = on.retire(*old_type, 2ms);
  ASSERT_FALSE(busy);
  EXPECT_THAT(busy.error().text(), HasSubstr("offloaded work for the message loaded"));
  // The work's message, made in the old image, now waits, as does the timer's.
  open = 1;
  wait_until([&] { return on.stats().offloaded_pending == 0; });
  const auto retired = on.retire(*old_type, 20s);
  ASSERT_TRUE(retired) << retired.error().text();
  old_type.reset();
#if !defined(__SANITIZE_THREAD__)  // which keeps images
  EXPECT_FALSE(is_mapped(molt::fixtures::watcher_1_0_0));
#endif

  ASSERT_TRUE(on.resume(a));
  wait_until([&] { return call(on, a, watcher::read{}).reply.size() == 1; });
  time.advance(103'000'000);
  wait_until([&] { return call(on, a, watcher::read{}).reply.size() == 2; });
  ASSERT_TRUE(on.stop(b, "enough"));
  wait_until([&] { return call(on, a, watcher::read{}).reply.size() == 4; });
  EXPECT_THAT(call(on, a, watcher::read{}).reply,
              ElementsAre("loaded in 1, taken in 2", "tick in 2", "down b: enough in 2", "exit b: enough in 2"));
  EXPECT_EQ(on.members("group").size(), 1U);
  EXPECT_EQ(call(on, a, watcher::answer{}).reply, 1);
  caller.join();
}

}  // namespace
}  // namespace molt::servers::testing
