// What becomes of a plugin's image when its release is left: with real plugins, one of which leaves something behind.
#include "node/image_retirement.hpp"

#include "node/box.hpp"
#include "node/node_api.hpp"
#include "node/symbolizer.hpp"

#include <node_plugin_paths.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace molt::node {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using upgrade::phase;

constexpr const char* short_tripwire = "tripwire_ms = 20\n";
constexpr const char* a_function = R"({"kind":0})";
constexpr const char* long_tripwire = "tripwire_ms = 60000\n";

class retirement_test : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "molt-images-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    box_.reset();
    std::filesystem::remove_all(folder_);
  }

  /// As often as wanted: each time a folder of its own. `minor` 1: with a plugin more, of which there are no servers.
  std::filesystem::path release(int generation, const std::string& upgrade = short_tripwire, int minor = 0) {
    const std::string version = std::to_string(generation) + ".0.0";
    const std::string id = std::to_string(generation) + "." + std::to_string(minor) + ".0";
    const auto folder = folder_ / std::to_string(made_++) / ("leaver-" + id);
    std::filesystem::create_directories(folder);
    std::filesystem::copy_file(generation == 1 ? fixtures::leaver_1_0_0 : fixtures::leaver_2_0_0, folder / "leaver.so");
    std::ofstream toml{folder / "release.toml"};
    toml << "[release]\nname = \"leaver\"\nversion = \"" << id << "\"\n[[plugin]]\nname = \"leaver\"\nversion = \""
         << version << "\"\nfile = \"leaver.so\"\n";
    if (minor == 1) {
      std::filesystem::copy_file(fixtures::line_1_0_0, folder / "line.so");
      toml << "[[plugin]]\nname = \"line\"\nversion = \"1.0.0\"\nfile = \"line.so\"\n";
    }
    for (const char* const name : {"anna", "bert", "cleo"})
      toml << "[[server]]\nname = \"" << name << "\"\ntype = \"leaver.server\"\n";
    toml << "[upgrade]\n" << upgrade;
    return folder;
  }

  void start(const std::string& upgrade = short_tripwire) {
    box_options options;
    options.crash_folder = folder_ / "crashes";
    options.log = [this](int level, std::string_view text) {
      const std::lock_guard lock{mutex_};
      if (level >= MOLT_LOG_WARNING) warnings_.emplace_back(text);
    };
    auto made = box::start(release(1, upgrade), std::move(options));
    ASSERT_TRUE(made) << made.error().text();
    box_ = std::move(*made);
  }
  void go_to(const std::filesystem::path& folder) {
    const auto done = box_->upgrade(folder, {});
    ASSERT_TRUE(done) << done.error().text();
    ASSERT_EQ(done->result, phase::done) << testing::PrintToString(done->problems);
  }
  void go_to(int generation, const std::string& upgrade = short_tripwire) { go_to(release(generation, upgrade)); }
  loader::unload_report commit() {
    const auto gone = box_->commit(5s);
    EXPECT_TRUE(gone) << gone.error().text();
    if (!gone) return {};
    EXPECT_EQ(gone->size(), 1U);
    return gone->empty() ? loader::unload_report{} : gone->front();
  }
  std::string ask(const std::string& message, const std::string& payload = "{}", const std::string& server = "anna") {
    const auto got = box_->call({server, message, payload});
    return got ? *got : got.error().text();
  }
  image_status image(const std::string& plugin) const {
    for (const auto& each : box_->images())
      if (each.plugin == plugin) return each;
    ADD_FAILURE() << plugin << " is not listed";
    return {};
  }
  [[nodiscard]] bool becomes(const std::string& plugin, image_state wanted) const {
    for (const auto end = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < end;) {
      if (image(plugin).state == wanted) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }
  template <class Condition>
  [[nodiscard]] static bool eventually(const Condition& condition) {
    for (const auto end = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < end;) {
      if (condition()) return true;
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }
  static std::uintptr_t begin_of(const std::string& plugin) {
    for (const auto& each : loader::images())
      if (each.plugin == plugin) return each.range.begin();
    return 0;
  }
  static bool is_mapped(const std::string& build_id) {
    const auto all = loader::images();
    return std::any_of(all.begin(), all.end(), [&](const auto& each) { return each.build_id == build_id; });
  }

  std::filesystem::path folder_;
  std::unique_ptr<box> box_;
  std::mutex mutex_;
  std::vector<std::string> warnings_;
  int made_ = 0;
};

std::string at_address(const std::atomic<int>& word) {
  return R"({"open":)" + std::to_string(reinterpret_cast<std::uint64_t>(&word)) + "}";
}

TEST_F(retirement_test, tells_what_needs_each_image) {
  start();
  auto first = image("leaver 1.0.0");
  EXPECT_EQ(first.state, image_state::current);
  EXPECT_EQ(first.uses.servers, 3U);
  EXPECT_EQ(first.releases, 1U);
  EXPECT_GT(first.size, 4096U);
  std::atomic<int> open{0};
  EXPECT_EQ(ask("remind"), "true");
  EXPECT_EQ(ask("offload", at_address(open)), "true");
  std::thread owed{[&] { EXPECT_EQ(ask("owe"), "2") << "who answers is of the next version"; }};
  std::thread handled{[&] { EXPECT_EQ(ask("busy", at_address(open), "bert"), "true"); }};
  EXPECT_TRUE(eventually([&] {
    const auto uses = image("leaver 1.0.0").uses;
    return uses.deferred == 1 && uses.running == 1;
  }));
  const auto cleo = box_->runtime().lookup("cleo");
  EXPECT_TRUE(box_->runtime().suspend(cleo, 5s));
  EXPECT_EQ(ask("later", R"({"times":1})", "cleo"), "null");
  EXPECT_EQ(ask("later", R"({"times":2})", "cleo"), "null");
  first = image("leaver 1.0.0");
  EXPECT_EQ(first.uses.messages, 2U);
  EXPECT_EQ(first.uses.timers, 1U);
  EXPECT_EQ(first.uses.offloaded, 1U);
  const auto told = answer(*box_, {"GET", "/v1/images", {}, {}});
  EXPECT_EQ(told.status, 200U);
  EXPECT_THAT(told.body, HasSubstr(R"("leases":{"releases":1,"servers":3,"running":1,"messages":2,"timers":1,)"
                                   R"("deferred":1,"offloaded":1})"));
  EXPECT_TRUE(box_->runtime().resume(cleo));
  open = 1;
  handled.join();

  go_to(2);
  first = image("leaver 1.0.0");
  EXPECT_EQ(first.state, image_state::draining);
  EXPECT_EQ(first.uses.servers, 0U);
  EXPECT_EQ(first.uses.timers, 1U) << "of its message";
  EXPECT_EQ(first.why, "rollback to leaver-1.0.0 needs it");
  EXPECT_EQ(image("leaver 2.0.0").uses.servers, 3U);
  EXPECT_EQ(ask("settle"), "2");
  owed.join();
  commit();
  EXPECT_TRUE(image("leaver 1.0.0").uses.none());
  EXPECT_EQ(image("leaver 2.0.0").uses.timers, 1U) << "it has been rewritten";
}

TEST_F(retirement_test, keeps_images_for_a_sanitizer) {
  if (loader::unmaps_images()) GTEST_SKIP() << "this build unmaps them";
  start();
  for (int round = 0; round < 100; ++round) {
    ASSERT_NO_FATAL_FAILURE(go_to(round % 2 == 0 ? 2 : 1));
    const auto report = commit();
    EXPECT_FALSE(report.unmapped || report.retiring);
    EXPECT_THAT(report.why, HasSubstr("sanitizer"));
    EXPECT_EQ(ask("leave", a_function), round % 2 == 0 ? "2" : "1");
    EXPECT_EQ(ask("forget"), round % 2 == 0 ? "2" : "1");
  }
  EXPECT_EQ(loader::images().size(), 2U) << "each version once, however often it came and went";
}

/// Processes that look for holders for this one.
std::vector<pid_t> copies() {
  std::vector<pid_t> all;
  for (const auto& each : std::filesystem::directory_iterator{"/proc"}) {
    std::ifstream stat{each.path() / "stat"};
    pid_t pid = 0;
    pid_t parent = 0;
    std::string name;
    std::string state;
    if (stat >> pid >> name >> state >> parent && name == "(molt-evidence)" && parent == ::getpid() && state != "Z")
      all.push_back(pid);
  }
  return all;
}

class unmapping_test : public retirement_test {
 protected:
  void SetUp() override {
    if (!loader::unmaps_images()) GTEST_SKIP() << "a sanitizer keeps images";
    retirement_test::SetUp();
  }
};

TEST_F(unmapping_test, unmaps_what_nobody_holds_and_keeps_a_copy_for_old_stacks) {
  start();
  std::uint64_t offset = 0;
  std::thread{[&] { offset = std::stoull(ask("where", R"({"which":0})")) - begin_of("leaver 1.0.0"); }}.join();
  ASSERT_NO_FATAL_FAILURE(go_to(2));
  const auto report = commit();
  EXPECT_TRUE(report.retiring);
  EXPECT_FALSE(report.unmapped);
  ASSERT_TRUE(box_->settle_images(30s));
  EXPECT_EQ(image("leaver 1.0.0").state, image_state::gone) << image("leaver 1.0.0").why;
  EXPECT_FALSE(is_mapped(report.build_id));
  // A stack that was noted before has names still.
  symbolizer symbols{{{0x1000, 0x100000, 0, report.build_id, "/memfd:leaver.so (deleted)"}},
                     {folder_ / "crashes/images"}};
  EXPECT_EQ(symbols.place(0x1000 + offset, false).symbol, "leaver::linger(std::atomic<int>*)");
  const auto looked = box_->looked_for_holders();
  EXPECT_EQ(looked.images, 1U);
  EXPECT_GT(looked.scanned_bytes, 0U);
  EXPECT_EQ(ask("leave", a_function), "2");
  EXPECT_EQ(ask("forget"), "2");
  EXPECT_EQ(box_->status().images_kept, 0U);
}

TEST_F(unmapping_test, keeps_what_is_held_names_each_holder_and_lets_go_when_they_have) {
  start();
  EXPECT_EQ(ask("leave", a_function, "anna"), "1");
  EXPECT_EQ(ask("leave", R"({"kind":1})", "bert"), "1");
  EXPECT_EQ(ask("leave", R"({"kind":2})", "cleo"), "1");
  std::atomic<int> open{0};
  std::thread guest{reinterpret_cast<void (*)(std::atomic<int>*)>(std::stoull(ask("where", R"({"which":0})"))), &open};
  timer_t timer{};
  {
    auto event = std::make_unique<sigevent>();
    event->sigev_notify = SIGEV_THREAD;
    event->sigev_notify_function = reinterpret_cast<void (*)(sigval)>(std::stoull(ask("where", R"({"which":1})")));
    ASSERT_EQ(timer_create(CLOCK_MONOTONIC, event.get(), &timer), 0);
    *event = {};
  }
  ASSERT_NO_FATAL_FAILURE(go_to(2));
  EXPECT_TRUE(commit().retiring);
  ASSERT_TRUE(box_->settle_images(30s));
  const auto kept = image("leaver 1.0.0");
  EXPECT_EQ(kept.state, image_state::kept);
  EXPECT_THAT(kept.why, HasSubstr("words of memory point into it"));
  const auto names = [&](const char* holder, const char* pointee) {
    EXPECT_THAT(kept.holders, Contains(testing::AllOf(HasSubstr(holder), HasSubstr(pointee))));
  };
  names("the server anna, 1 pointer from its state", "leaver::generation()");
  names("the server bert, 2 pointers from its state", "vtable for std::_Sp_counted_deleter");
  names("the server cleo, 2 pointers from its state", "typeinfo for leaver::own_error");
  names("the stack of ", "leaver::linger");
  names("of heap", "leaver::ring");
  EXPECT_EQ(box_->status().images_kept, 1U);
  {
    const std::lock_guard lock{mutex_};
    EXPECT_THAT(warnings_, ElementsAre(HasSubstr("leaver 1.0.0 stays mapped")));
  }
  for (const char* const server : {"anna", "bert", "cleo"}) {
    EXPECT_EQ(ask("use", "{}", server), "1") << "by code of the old version, still there";
    EXPECT_EQ(ask("forget", "{}", server), "2");
  }
  open = 1;
  guest.join();
  timer_delete(timer);
  // The next image that is looked at takes this one along.
  ASSERT_NO_FATAL_FAILURE(go_to(release(2, short_tripwire, 1)));
  EXPECT_TRUE(box_->commit(5s));
  ASSERT_NO_FATAL_FAILURE(go_to(2));
  EXPECT_EQ(commit().plugin, "line 1.0.0");
  EXPECT_TRUE(becomes("leaver 1.0.0", image_state::gone)) << testing::PrintToString(image("leaver 1.0.0").holders);
  EXPECT_FALSE(is_mapped(kept.build_id));
}

TEST_F(unmapping_test, survives_a_pointer_that_no_look_can_see_and_tells_who_used_it) {
  start(long_tripwire);
  EXPECT_EQ(ask("hide"), "1");
  ASSERT_NO_FATAL_FAILURE(go_to(2, long_tripwire));
  EXPECT_TRUE(commit().retiring);
  ASSERT_TRUE(becomes("leaver 1.0.0", image_state::tripwire)) << image("leaver 1.0.0").why;
  EXPECT_EQ(ask("use_hidden"), "1") << "the call went through";
  ASSERT_TRUE(becomes("leaver 1.0.0", image_state::kept));
  const auto kept = image("leaver 1.0.0");
  EXPECT_THAT(kept.why, HasSubstr("by the server anna"));
  EXPECT_THAT(kept.why, HasSubstr("leaver::generation()"));
  EXPECT_EQ(ask("use_hidden"), "1");
}

TEST_F(unmapping_test, gives_an_image_back_that_a_rollback_needs_while_it_is_unreadable) {
  start(long_tripwire);
  const auto first = box_->status().current.folder;
  ASSERT_NO_FATAL_FAILURE(go_to(2, long_tripwire));
  const auto report = commit();
  EXPECT_TRUE(report.retiring);
  ASSERT_TRUE(becomes("leaver 1.0.0", image_state::tripwire)) << image("leaver 1.0.0").why;
  const auto back = box_->rollback({}, first);
  ASSERT_TRUE(back) << back.error().text();
  ASSERT_EQ(back->result, phase::done) << testing::PrintToString(back->problems);
  EXPECT_EQ(image("leaver 1.0.0").state, image_state::current);
  EXPECT_EQ(image("leaver 1.0.0").build_id, report.build_id);
  EXPECT_EQ(ask("leave", a_function), "1");
  EXPECT_EQ(ask("use"), "1");
  EXPECT_EQ(ask("forget"), "1");
}

TEST_F(unmapping_test, begins_again_with_an_image_that_was_loaded_for_an_upgrade_that_is_refused) {
  start(long_tripwire);
  ASSERT_NO_FATAL_FAILURE(go_to(2, "tripwire_ms = 500\n"));
  EXPECT_TRUE(commit().retiring);
  ASSERT_TRUE(becomes("leaver 1.0.0", image_state::tripwire)) << image("leaver 1.0.0").why;
  const auto before = box_->looked_for_holders().looks;
  const auto folder = release(1);
  std::ofstream{folder / "release.toml", std::ios::app} << "[[server]]\nname = \"dora\"\ntype = \"leaver.none\"\n";
  const auto refused = box_->upgrade(folder, {});
  EXPECT_FALSE(refused && refused->result == phase::done);
  ASSERT_TRUE(box_->settle_images(30s));
  EXPECT_GT(box_->looked_for_holders().looks, before) << "it was not unmapped without another look";
  EXPECT_EQ(image("leaver 1.0.0").state, image_state::gone) << image("leaver 1.0.0").why;
}

TEST_F(unmapping_test, leaves_images_readable_when_the_node_stops) {
  start(long_tripwire);
  std::uint64_t inverted_code = 0;  // no pointer, and what led to it was on another stack
  std::thread{[&] { inverted_code = ~std::stoull(ask("where", R"({"which":0})")); }}.join();
  ASSERT_NO_FATAL_FAILURE(go_to(2, long_tripwire));
  const auto report = commit();
  ASSERT_TRUE(becomes("leaver 1.0.0", image_state::tripwire)) << image("leaver 1.0.0").why;
  box_.reset();
  const auto all = loader::images();
  EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const auto& each) {
    return each.build_id == report.build_id && !each.unreadable && !each.resident_because.empty();
  }));
  std::atomic<int> open{1};
  reinterpret_cast<void (*)(std::atomic<int>*)>(~inverted_code)(&open);
}

TEST_F(unmapping_test, keeps_an_image_whose_destructors_crash_in_the_copy) {
  start();
  ASSERT_NO_FATAL_FAILURE(go_to(2));
  ::setenv("MOLT_TEST_LEAVER_CLOSES", "fault", 1);
  EXPECT_TRUE(commit().retiring);
  ASSERT_TRUE(box_->settle_images(30s));
  ::unsetenv("MOLT_TEST_LEAVER_CLOSES");
  EXPECT_EQ(image("leaver 1.0.0").state, image_state::kept);
  EXPECT_THAT(image("leaver 1.0.0").why, HasSubstr("died by SIGSEGV while it closed this image: its destructors"));
  EXPECT_EQ(ask("leave", a_function), "2");
  EXPECT_EQ(ask("forget"), "2");
}

TEST_F(unmapping_test, kills_a_copy_that_hangs_when_the_node_stops) {
  start();
  ASSERT_NO_FATAL_FAILURE(go_to(2));
  ::setenv("MOLT_TEST_LEAVER_CLOSES", "wait", 1);
  EXPECT_TRUE(commit().retiring);
  EXPECT_TRUE(eventually([] { return !copies().empty(); }));
  EXPECT_EQ(ask("leave", a_function), "2") << "nobody waits for it";
  EXPECT_EQ(ask("forget"), "2");
  ::unsetenv("MOLT_TEST_LEAVER_CLOSES");  // the copy has looked already
  box_.reset();
  EXPECT_THAT(copies(), testing::IsEmpty());
}

/// From here on no process can be copied, as if there were too many; threads can be made.
void forbid_copies() {
  const sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_VM, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog all{std::size(program), const_cast<sock_filter*>(program)};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all), 0);
}

TEST_F(unmapping_test, waits_with_an_image_when_no_copy_can_be_made) {
  const auto in_such_a_process = [this] {
    forbid_copies();
    start();
    go_to(2);
    EXPECT_TRUE(commit().retiring);
    EXPECT_TRUE(eventually([this] { return image("leaver 1.0.0").why.starts_with("not looked at yet"); }));
    EXPECT_EQ(image("leaver 1.0.0").state, image_state::draining);
    EXPECT_THAT(image("leaver 1.0.0").why, HasSubstr("the process cannot be copied: Resource temporarily unavailable"));
    EXPECT_EQ(ask("leave", a_function), "2");
    box_.reset();
    std::_Exit(HasFailure() ? 1 : 0);
  };
  EXPECT_EXIT(in_such_a_process(), testing::ExitedWithCode(0), "");
}

TEST_F(unmapping_test, is_never_in_the_way_of_upgrades_that_come_fast) {
  start();
  for (int round = 0; round < 10; ++round) {
    ASSERT_NO_FATAL_FAILURE(go_to(round % 2 == 0 ? 2 : 1));
    (void)commit();
    // In the middle of a look at it the image is wanted again.
    if (round > 7) {
      EXPECT_TRUE(eventually([] { return !copies().empty(); }));
    }
    EXPECT_EQ(ask("leave", a_function), round % 2 == 0 ? "2" : "1");
    EXPECT_EQ(ask("forget"), round % 2 == 0 ? "2" : "1");
  }
  ASSERT_TRUE(box_->settle_images(60s));
  EXPECT_EQ(image("leaver 2.0.0").state, image_state::gone) << image("leaver 2.0.0").why;
  EXPECT_EQ(loader::images().size(), 1U);
}

TEST_F(unmapping_test, keeps_images_when_the_manifest_says_so) {
  start();
  ASSERT_NO_FATAL_FAILURE(go_to(2, "keep_images = true\n"));
  const auto report = commit();
  EXPECT_FALSE(report.retiring || report.unmapped);
  EXPECT_EQ(report.why, "keep_images is set");
  EXPECT_TRUE(is_mapped(report.build_id));
}

TEST_F(unmapping_test, waits_until_a_debugger_has_gone) {
  start();
  int tell[2];
  int told[2];
  ASSERT_EQ(::pipe(tell), 0);
  ASSERT_EQ(::pipe(told), 0);
  const pid_t parent = ::getpid();
  const pid_t debugger = ::fork();
  if (debugger == 0) {
    char go = 0;
    if (::read(tell[0], &go, 1) != 1) ::_exit(1);
    const bool attached = ::ptrace(PTRACE_SEIZE, parent, nullptr, nullptr) == 0;
    if (::write(told[1], attached ? "y" : "n", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  ::prctl(PR_SET_PTRACER, debugger);
  char answer = 'g';
  ASSERT_EQ(::write(tell[1], &answer, 1), 1);
  ASSERT_EQ(::read(told[0], &answer, 1), 1);
  if (answer == 'y') {
    ASSERT_NO_FATAL_FAILURE(go_to(2));
    EXPECT_TRUE(commit().retiring);
    std::this_thread::sleep_for(600ms);
    EXPECT_EQ(image("leaver 1.0.0").state, image_state::draining);
    EXPECT_THAT(image("leaver 1.0.0").why, HasSubstr("debugger"));
  }
  ::kill(debugger, SIGKILL);
  ::waitpid(debugger, nullptr, 0);
  for (const int end : {tell[0], tell[1], told[0], told[1]}) ::close(end);
  if (answer != 'y') GTEST_SKIP() << "this process may not be debugged";
  ASSERT_TRUE(box_->settle_images(30s));
  EXPECT_EQ(image("leaver 1.0.0").state, image_state::gone) << image("leaver 1.0.0").why;
}

}  // namespace
}  // namespace molt::node
