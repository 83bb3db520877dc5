#include "node/rehearsal.hpp"

#include "node/crash_signal.hpp"
#include "plugin/storage.hpp"
#include "upgrade/transaction.hpp"

#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fixture_paths.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace molt::node {
namespace {

using namespace std::chrono_literals;
using testing::AnyOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

upgrade::release_content load(const char* file) {
  const std::vector<loader::plugin_file> files{file};
  auto loaded = upgrade::load_release("", files);
  EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error().text());
  if (!loaded) return {};
  loaded->id = "counter-" + loaded->plugins.at(0)->description().version;
  return std::move(*loaded);
}

/// Processes that this one has made and not collected.
std::vector<pid_t> children() {
  std::vector<pid_t> all;
  DIR* const threads = ::opendir("/proc/self/task");
  while (const dirent* const thread = ::readdir(threads)) {
    std::ifstream list{std::string{"/proc/self/task/"} + thread->d_name + "/children"};
    for (pid_t pid = 0; list >> pid;) all.push_back(pid);
  }
  ::closedir(threads);
  return all;
}

bool eventually(const std::function<bool()>& holds) {
  for (const auto end = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(2ms);
  }
  return holds();
}

/// Counters of 1.0.0, and a client that goes on adding to one of them whatever the copy does.
class rehearsals : public testing::Test {
 protected:
  void SetUp() override {
    switcher_.start(load(fixtures::counter_1_0_0));
    for (int n = 0; n < 20; ++n) {
      const auto started =
          runtime_.start("counter.server", "counter " + std::to_string(n), {{"start", std::to_string(n)}});
      ASSERT_TRUE(started);
      counters_.push_back(*started);
    }
    user_ = std::thread{[this] { use(); }};
    ASSERT_TRUE(eventually([this] { return called_ > 0; }));
  }

  void TearDown() override {
    ::unsetenv("MOLT_TEST_CONSTRUCTOR");
    stop_ = true;
    user_.join();
    EXPECT_EQ(failed_, 0) << "a call to the live server failed, or was answered wrongly";
    if (!IsSkipped()) {
      EXPECT_GT(called_, 0);
    }
    EXPECT_EQ(version(), "1.0.0") << "the live servers have not been touched";
    EXPECT_THAT(children(), IsEmpty());
  }

  /// Whether live servers have answered while something was under way.
  [[nodiscard]] std::uint64_t answered() const { return called_.load(); }

  rehearsal_request request(const char* file, servers::arguments arguments = {}) {
    next_ = file;
    upgrade::settings settings;
    settings.arguments = std::move(arguments);
    rehearsal_request made;
    upgrade::plan planned;
    made.task = switcher_.task_for_rehearsal(settings, planned);
    made.to = "counter-2";
    made.load = [file]() -> result<upgrade::release_content> {
      const std::vector<loader::plugin_file> files{file};
      return upgrade::load_release("counter-2", files);
    };
    made.limits.time = 100s;
    made.image_folders = {std::filesystem::path{file}.parent_path()};
    return made;
  }
  rehearsal_report run(const rehearsal_request& wanted) {
    const auto before = answered();
    auto done = rehearse(runtime_, wanted);
    EXPECT_TRUE(done) << (done ? "" : done.error().text());
    EXPECT_TRUE(eventually([&] { return answered() > before; })) << "nobody was answered any more";
    return done ? std::move(*done) : rehearsal_report{};
  }
  rehearsal_report misbehaving(const std::string& how, const std::string& at = "13",
                               std::chrono::milliseconds time = 100s) {
    auto wanted = request(fixtures::counter_2_0_4_misbehaving, {{"misbehave", how}, {"at", at}});
    wanted.limits.time = time;
    wanted.limits.memory = std::size_t{64} << 20U;
    return run(wanted);
  }

  std::string version() {
    alignas(std::string) unsigned char reply[sizeof(std::string)];
    char nothing = 0;
    if (runtime_.call(counters_[1], message("version"), &nothing, reply, 30s) != MOLT_OK) return "no answer";
    auto* const made = std::launder(reinterpret_cast<std::string*>(reply));
    std::string text = *made;
    message("version").reply->destroy(reply);
    return text;
  }

  std::int64_t add(std::size_t n, std::int64_t by) {
    std::int64_t reply = 0;
    EXPECT_EQ(runtime_.call(counters_[n], message("add"), &by, &reply, 30s), MOLT_OK);
    return reply;
  }
  void ask_version(std::size_t n) {
    alignas(std::string) unsigned char reply[sizeof(std::string)];
    char nothing = 0;
    ASSERT_EQ(runtime_.call(counters_[n], message("version"), &nothing, reply, 30s), MOLT_OK);
    message("version").reply->destroy(reply);
  }

  servers::runtime runtime_{[] {
    servers::options made;
    made.pool_threads = 2;
    return made;
  }()};
  upgrade::switcher switcher_{runtime_};
  std::vector<molt_ref> counters_;
  const char* next_ = nullptr;

 private:
  [[nodiscard]] const molt_message& message(const char* name) {
    return *switcher_.current().plugins[0]->types()[0]->find(std::string_view{name})->message;
  }
  void use() {
    constexpr std::int64_t each = 100;  // never the value at which a hook is told to misbehave
    const auto& add = message("add");
    for (std::int64_t expected = each; !stop_; expected += each) {
      std::int64_t by = each;
      std::int64_t reply = 0;
      if (runtime_.call(counters_[0], add, &by, &reply, 30s) != MOLT_OK || reply != expected) ++failed_;
      ++called_;
      std::this_thread::sleep_for(50us);  // the copies are niced, and the machine may be small
    }
  }

  std::thread user_;
  std::atomic<bool> stop_{false};
  std::atomic<int> failed_{0};
  std::atomic<std::uint64_t> called_{0};
};

std::string told(const rehearsal_report& report) {
  std::string text = report.how + ";";
  for (const auto& problem : report.problems) text += " " + problem + ";";
  for (const auto& frame : report.stack) text += "\n" + frame;
  return text + "\n" + report.output;
}

TEST_F(rehearsals, tell_what_an_upgrade_would_take_and_leave_everything_as_it_is) {
  const auto images = loader::images().size();
  const auto report = run(request(fixtures::counter_2_0_0));
  EXPECT_TRUE(report.passed) << told(report);
  EXPECT_EQ(report.ended, rehearsal_end::finished);
  EXPECT_EQ(report.findings.visited, 20U);
  ASSERT_EQ(report.findings.types.size(), 1U);
  const auto& type = report.findings.types[0];
  EXPECT_EQ(type.type, "counter.server");
  EXPECT_EQ(type.way, migration::way::in_place);
  EXPECT_EQ(type.servers, 20U);
  EXPECT_EQ(type.failed, 0U);
  EXPECT_GT(type.median.count(), 0);
  EXPECT_LE(type.median, type.p99);
  EXPECT_LE(type.p99, type.largest);
  EXPECT_GT(report.copied_bytes, 0U);
  EXPECT_EQ(loader::images().size(), images) << "the next release was loaded in the copy alone";
}

TEST_F(rehearsals, refuse_mode_atomic_where_it_would_rest_beyond_its_deadline) {
  auto wanted = request(fixtures::counter_2_0_0);
  const auto lazy = run(wanted);
  EXPECT_TRUE(lazy.passed) << told(lazy);
  EXPECT_EQ(lazy.predicted_rest, lazy.findings.total + lazy.findings.undo + lazy.findings.largest) << "on one thread";
  wanted.mode = upgrade::mode::atomic;
  wanted.switch_timeout = 1ns;
  const auto refused = run(wanted);
  EXPECT_FALSE(refused.passed);
  EXPECT_EQ(refused.ended, rehearsal_end::finished);
  EXPECT_THAT(refused.problems,
              ElementsAre(AllOf(HasSubstr("mode atomic would keep everything at rest for about "),
                                HasSubstr("switch_timeout_ms is "), HasSubstr("raise it under [upgrade]"))));
  wanted.switch_timeout = 1h;
  wanted.atomic_threads = 4;
  const auto allowed = run(wanted);
  EXPECT_TRUE(allowed.passed) << told(allowed);
  EXPECT_LT(allowed.predicted_rest, allowed.findings.total + allowed.findings.undo + allowed.findings.largest);
}

/// What the counters have handled: what the live ones answered, the copies answer again, one version as the other.
class replays : public rehearsals {
 protected:
  void record(std::size_t n, std::size_t payload_bytes) {
    ASSERT_TRUE(runtime_.record(counters_[n], {16, payload_bytes}));
  }
  rehearsal_request replaying_request(const char* file, replaying how, servers::arguments arguments = {}) {
    auto made = request(file, std::move(arguments));
    made.replay = how;
    for (const auto server : counters_)
      if (auto messages = runtime_.last_messages(server)) made.task.recorded.emplace(server.bits, std::move(*messages));
    return made;
  }
};

TEST_F(replays, answer_as_before_where_the_next_version_does) {
  record(2, 4096);
  record(3, 4096);
  record(4, 0);
  for (const std::int64_t by : {5, 7, -2}) {
    add(2, by);
    add(3, by);
  }
  add(4, 1);
  const auto report = run(replaying_request(fixtures::counter_2_0_0, replaying::strict));
  EXPECT_TRUE(report.passed) << told(report);
  const auto& replay = report.findings.replay;
  EXPECT_EQ(replay.servers, 2U);
  EXPECT_EQ(replay.messages, 6U) << "through the message hook";
  EXPECT_EQ(replay.skipped, 1U) << "without its payload";
  EXPECT_EQ(replay.differed, 0U);
  EXPECT_EQ(add(2, 0), 12) << "the live server has not handled them twice";
}

TEST_F(replays, show_replies_that_the_next_version_would_change) {
  record(2, 4096);
  add(2, 5);
  ask_version(2);
  auto wanted = replaying_request(fixtures::counter_2_0_0, replaying::report);
  auto report = run(wanted);
  EXPECT_TRUE(report.passed) << told(report);
  ASSERT_EQ(report.findings.replay.differences.size(), 1U);
  const auto& found = report.findings.replay.differences[0];
  EXPECT_EQ(found.server, "counter 2");
  EXPECT_EQ(found.message, "version");
  EXPECT_THAT(found.text, HasSubstr("\"1.0.0\" became \"2.0.0\""));
  wanted.replay = replaying::strict;
  report = run(wanted);
  EXPECT_FALSE(report.passed);
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("in the replay: counter 2, version: ")));
}

TEST_F(replays, that_have_nothing_to_replay_do_not_pass_where_they_must) {
  EXPECT_TRUE(run(replaying_request(fixtures::counter_2_0_0, replaying::report)).passed);
  const auto report = run(replaying_request(fixtures::counter_2_0_0, replaying::strict));
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("there was nothing to replay")));
}

TEST_F(replays, of_messages_that_fail_end_where_their_server_would) {
  record(2, 4096);
  add(2, 5);
  auto wanted = replaying_request(fixtures::counter_2_0_0, replaying::strict);
  auto& messages = wanted.task.recorded.at(counters_[2].bits);
  auto damaged = messages.front();
  damaged.payload.pop_back();
  messages.push_back(damaged);
  auto unknown = messages.front();
  unknown.key ^= 1;
  messages.push_back(unknown);
  messages.push_back(messages.front());
  const auto report = run(wanted);
  EXPECT_TRUE(report.passed) << told(report);
  EXPECT_EQ(report.findings.replay.messages, 2U);
  EXPECT_EQ(report.findings.replay.skipped, 2U);
}

TEST_F(rehearsals, name_the_server_whose_hook_throws) {
  const auto report = run(request(fixtures::counter_2_0_1_throwing));
  EXPECT_FALSE(report.passed);
  EXPECT_EQ(report.ended, rehearsal_end::finished);
  ASSERT_EQ(report.findings.failures.size(), 1U) << told(report);
  const auto& failure = report.findings.failures[0];
  EXPECT_EQ(failure.server, "counter 13");
  EXPECT_EQ(failure.stage, upgrade::rehearsal_stage::migrating);
  EXPECT_THAT(failure.hook, HasSubstr("state"));
  EXPECT_EQ(failure.error, "cannot convert 13");
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("counter 13: ")));
  EXPECT_EQ(report.findings.types[0].failed, 1U);
}

TEST_F(rehearsals, show_where_a_hook_crashed) {
  const auto report = misbehaving("fault");
  EXPECT_FALSE(report.passed);
  EXPECT_EQ(report.findings.server, "counter 13") << told(report);
  EXPECT_THAT(report.findings.step, HasSubstr("state"));
  if (!can_catch_crashes()) return;  // a sanitizer says it, and ends the copy itself
  EXPECT_EQ(report.ended, rehearsal_end::crashed);
  EXPECT_THAT(report.problems,
              ElementsAre(HasSubstr("died by SIGSEGV while migrating counter 13 (counter.server), in ")));
  ASSERT_FALSE(report.stack.empty());
  EXPECT_THAT(report.stack[0], HasSubstr("write_to_nowhere"));
  EXPECT_THAT(report.stack, Contains(HasSubstr("libcounter-2.0.4.so")));
}

TEST_F(rehearsals, end_a_hook_that_never_returns_at_the_time_limit) {
  for (const char* how : {"spin", "wait"}) {
    // Its processor time is rounded up, to 2 s: the clock ends it first, whatever else the machine does.
    const auto report = misbehaving(how, "13", 1500ms);
    EXPECT_EQ(report.ended, rehearsal_end::time_limit) << told(report);
    EXPECT_EQ(report.findings.server, "counter 13");
    EXPECT_THAT(report.problems, ElementsAre(HasSubstr("had not ended after its 1500 ms, while migrating counter 13")));
    if (can_catch_crashes()) {
      EXPECT_THAT(report.stack, Contains(HasSubstr("_for_ever")));
    }
  }
}

TEST_F(rehearsals, end_a_hook_that_spins_at_the_processor_limit) {
  if (!can_catch_crashes()) GTEST_SKIP() << "a sanitizer holds the signal back";
  auto wanted = request(fixtures::counter_2_0_4_misbehaving, {{"misbehave", "spin"}, {"at", "13"}});
  wanted.limits.processor = 1s;
  const auto report = run(wanted);
  EXPECT_EQ(report.ended, rehearsal_end::processor_limit) << told(report);
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("used its 1 s of processor time while migrating counter 13")));
  EXPECT_THAT(report.stack, Contains(HasSubstr("spin_for_ever")));
}

TEST_F(rehearsals, bound_the_memory_that_a_hook_takes) {
  if (!can_catch_crashes()) GTEST_SKIP() << "a sanitizer's allocator is not bounded";
  const auto report = misbehaving("allocate");
  ASSERT_FALSE(report.findings.failures.empty()) << told(report);
  EXPECT_EQ(report.findings.failures[0].server, "counter 13");
  EXPECT_THAT(report.findings.failures[0].error, HasSubstr("bad_alloc"));
  EXPECT_THAT(report.problems, Contains(HasSubstr("may use 64 MiB beyond what it copied")));
}

TEST_F(rehearsals, note_what_leaks) {
  if (!can_catch_crashes()) GTEST_SKIP() << "a sanitizer's allocator does not tell how much is in use";
  const auto report = misbehaving("leak", "0");
  EXPECT_TRUE(report.passed) << told(report);
  EXPECT_THAT(run(request(fixtures::counter_2_0_0)).notes, IsEmpty());
  // The first of a type is looked at closely; the client has added to it, so ask for all.
  auto wanted = request(fixtures::counter_2_0_4_misbehaving, {{"misbehave", "leak"}});
  const auto all = run(wanted);
  EXPECT_TRUE(all.passed);
  EXPECT_THAT(all.notes, ElementsAre(AllOf(HasSubstr("counter"), HasSubstr("leaks 1"), HasSubstr("bytes each time"))));
}

/// malloc's caches are filled and emptied as such hooks go, which is no leak.
TEST(rehearsals_of_small_containers, note_no_leak_of_hooks_that_move_them) {
  if (!can_catch_crashes()) GTEST_SKIP() << "a sanitizer's allocator does not tell how much is in use";
  servers::runtime runtime;
  upgrade::switcher switcher{runtime};
  switcher.start(load(fixtures::shelf_1_0_0));
  const auto& put = *switcher.current().plugins[0]->types()[0]->find(std::string_view{"put"})->message;
  std::vector<molt_ref> shelves;
  for (const char* name : {"a", "b", "c"}) shelves.push_back(*runtime.start("shelf.server", name, {}));
  const auto next = [] {
    const std::vector<loader::plugin_file> files{fixtures::shelf_2_0_0};
    return upgrade::load_release("shelf-2", files);
  };
  for (std::int64_t round = 0; round < 30; ++round) {
    for (auto things = round % 3; const auto shelf : shelves) {
      std::int64_t all = 0;
      ++things;
      ASSERT_EQ(runtime.call(shelf, put, &things, &all, 30s), MOLT_OK);
    }
    upgrade::plan planned;
    rehearsal_request wanted;
    wanted.task = switcher.task_for_rehearsal({}, planned);
    wanted.to = "shelf-2";
    wanted.load = next;
    const auto report = rehearse(runtime, wanted);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_TRUE(report->passed) << report->how;
    EXPECT_THAT(report->notes, IsEmpty()) << "round " << round;
  }
}

TEST_F(rehearsals, keep_what_a_hook_prints_away_from_the_live_output) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const auto report = misbehaving("print");
  const auto much = misbehaving("print much");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(report.passed) << told(report);
  EXPECT_THAT(report.output, HasSubstr("a hook was here\n"));
  EXPECT_TRUE(much.passed) << told(much);
  EXPECT_LE(much.output.size(), rehearsal_output_max);
  EXPECT_THAT(much.output, HasSubstr("talks and talks"));
}

TEST_F(rehearsals, notice_a_hook_that_ends_the_process) {
  const auto report = misbehaving("exit");
  EXPECT_EQ(report.ended, rehearsal_end::exited);
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("ended by a call of exit() while migrating counter 13")));
}

TEST_F(rehearsals, notice_that_the_copy_was_killed) {
  auto wanted = request(fixtures::counter_2_0_4_misbehaving, {{"misbehave", "wait"}, {"at", "13"}});
  std::thread killer{[] {
    ASSERT_TRUE(eventually([] { return children().size() == 1; }));
    ::kill(children().at(0), SIGKILL);
  }};
  const auto report = run(wanted);
  killer.join();
  EXPECT_EQ(report.ended, rehearsal_end::crashed);
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("was killed by SIGKILL")));
}

TEST_F(rehearsals, load_the_next_release_where_its_constructors_can_do_no_harm) {
  ::setenv("MOLT_TEST_CONSTRUCTOR", "fault", 1);
  const auto crashed = misbehaving("");
  EXPECT_FALSE(crashed.passed);
  EXPECT_EQ(crashed.findings.stage, upgrade::rehearsal_stage::loading);
  if (can_catch_crashes()) {
    EXPECT_THAT(crashed.problems, ElementsAre(HasSubstr("died by SIGSEGV while loading the release")));
    EXPECT_THAT(crashed.stack, Contains(HasSubstr("libcounter-2.0.4.so")));
  }
  ::setenv("MOLT_TEST_CONSTRUCTOR", "wait", 1);
  const auto hung = misbehaving("", "13", 1s);
  EXPECT_EQ(hung.ended, rehearsal_end::time_limit);
  EXPECT_THAT(hung.problems, ElementsAre(HasSubstr("while loading the release")));
  ::setenv("MOLT_TEST_CONSTRUCTOR", "throw", 1);
  const auto thrown = misbehaving("");
  EXPECT_EQ(thrown.findings.stage, upgrade::rehearsal_stage::loading);
  EXPECT_FALSE(thrown.passed);
  EXPECT_THAT(thrown.problems,
              ElementsAre(HasSubstr(can_catch_crashes() ? "a constructor had enough" : "SIGABRT while loading")));
  ::setenv("MOLT_TEST_CONSTRUCTOR", "print", 1);
  const auto printed = misbehaving("");
  EXPECT_TRUE(printed.passed) << testing::PrintToString(printed.problems);
  EXPECT_EQ(printed.output, "a constructor was here\n") << "heard, and kept away from the live output";
}

TEST_F(rehearsals, say_why_a_release_cannot_be_loaded) {
  const auto report = run(request(fixtures::lying));
  EXPECT_FALSE(report.passed);
  EXPECT_EQ(report.ended, rehearsal_end::finished);
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("libodd-1.0.0.so")));
}

TEST_F(rehearsals, compare_each_state_with_what_comes_back) {
  const auto report = misbehaving("forget");
  EXPECT_EQ(report.findings.failed, 20U);
  ASSERT_FALSE(report.findings.failures.empty());
  EXPECT_EQ(report.findings.failures[3].stage, upgrade::rehearsal_stage::comparing);
  EXPECT_EQ(report.findings.failures[3].error, "the state is not the one it was: value: 3 became 4");
  EXPECT_THAT(report.problems, Contains("and 10 servers more"));
}

TEST_F(rehearsals, ask_self_check_about_every_new_state) {
  const auto report = run(request(fixtures::counter_2_0_0, {{"label", "broken"}}));
  EXPECT_EQ(report.findings.failed, 20U);
  ASSERT_FALSE(report.findings.failures.empty());
  EXPECT_EQ(report.findings.failures[0].hook, "self_check");
  EXPECT_EQ(report.findings.failures[0].error, "the label is broken");
}

TEST_F(rehearsals, end_when_nobody_waits_for_the_answer) {
  auto wanted = request(fixtures::counter_2_0_4_misbehaving, {{"misbehave", "wait"}, {"at", "13"}});
  wanted.given_up = [] { return !children().empty(); };
  const auto done = rehearse(runtime_, wanted);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().why(), reason::stopping);
}

TEST_F(rehearsals, do_not_keep_clients_connections_open) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  auto wanted = request(fixtures::counter_2_0_4_misbehaving, {{"misbehave", "wait"}, {"at", "13"}});
  std::atomic<bool> done{false};
  wanted.given_up = [&] { return done.load(); };
  std::thread rehearsing{[&] { EXPECT_FALSE(rehearse(runtime_, wanted)); }};
  EXPECT_TRUE(eventually([] { return children().size() == 1; }));
  ::close(ends[0]);
  pollfd other{ends[1], POLLIN, 0};
  EXPECT_EQ(::poll(&other, 1, 30'000), 1) << "the copy holds the connection";
  EXPECT_TRUE((other.revents & POLLHUP) != 0);
  done = true;
  rehearsing.join();
  ::close(ends[1]);
}

TEST_F(rehearsals, give_way_to_handlers_and_say_so) {
  auto busy = runtime_.rest(30s);  // as good as a handler that does not return
  ASSERT_TRUE(busy);
  auto wanted = request(fixtures::counter_2_0_0);
  wanted.limits.rest = 50ms;
  const auto done = rehearse(runtime_, wanted);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().why(), reason::timeout);
  EXPECT_THAT(done.error().text(), HasSubstr("no moment without a running handler"));
}

TEST_F(rehearsals, are_as_good_while_other_threads_do_what_takes_locks) {
  if (!can_catch_crashes()) GTEST_SKIP() << "unlike glibc's, a sanitizer's allocator is not put in order by fork";
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  others.emplace_back([&] {  // names, types, relations, memory
    for (int n = 0; !stop; ++n) {
      const auto made = runtime_.start("counter.server", "guest " + std::to_string(n % 7), {});
      (void)runtime_.servers();
      (void)runtime_.lookup("counter 3");
      if (!made) continue;
      EXPECT_TRUE(runtime_.stop(*made, "enough"));
    }
  });
  others.emplace_back([&] {  // loading
    while (!stop) (void)load(fixtures::counter_1_1_0);
  });
  others.emplace_back([&] {  // stdio and memory
    while (!stop) {
      std::ofstream file{"/dev/null"};
      file << std::string(10'000, 'x') << std::flush;
    }
  });
  for (int n = 0; n < 8; ++n) {
    const auto report = run(request(fixtures::counter_2_0_0));
    EXPECT_TRUE(report.passed) << n << ": " << told(report);
  }
  stop = true;
  for (auto& other : others) other.join();
}

}  // namespace
}  // namespace molt::node
