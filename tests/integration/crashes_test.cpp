// Servers that fail and nodes that die, with real processes: what the report says, and that life goes on.
#include "node/crash_signal.hpp"
#include "tests/integration/moltd_harness.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace molt::tests {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class crashes : public testing::Test {
 protected:
  void SetUp() override {
    write_file(folder() / "release.toml",
               "[release]\nname = \"box\"\nversion = \"9.0.0\"\n[[plugin]]\nname = \"crasher\"\nversion = \"1.0.0\"\n"
               "file = \"plugins/crasher.so\"\n[[server]]\nname = \"first\"\ntype = \"crasher.server\"\n"
               "record_messages = 3\n"
               "[[server]]\nname = \"second\"\ntype = \"crasher.server\"\n"
               // More failures than a test makes: none of these tests is about giving up.
               "[supervisor]\nintensity = 100\nperiod_ms = 1000\n" +
                   throwers());
    // Else AddressSanitizer keeps what shows where a handler's frames begin away from the stack.
    const char* const given = std::getenv("ASAN_OPTIONS");
    ::setenv("ASAN_OPTIONS", (std::string{given != nullptr ? given : ""} + ":detect_stack_use_after_return=0").c_str(),
             1);
    fs::create_directories(folder() / "plugins");
    fs::copy_file(fixtures::crasher_1_0_0, folder() / "plugins/crasher.so");
    ASSERT_TRUE(box.start({"--release", folder().string(), "--restart-intensity", "100"}));
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- moltd's log\n%s", box.log().c_str());
  }
  [[nodiscard]] fs::path folder() const { return box.folder.path() / "box-9.0.0"; }

  static std::string throwers() {
    std::string text;
    for (const char* const way : {"deep", "library", "again", "kept", "nested"})
      text += std::string{"[[server]]\nname = \"thrower_"} + way + "\"\ntype = \"crasher.server\"\n";
    return text;
  }

  /// Has the node die, and waits for the next one; returns the report.
  std::string die(const std::string& call) {
    const auto before = box.node_pid();
    EXPECT_NE(box.molt("call " + call).status, 0) << "nothing goes on behind the fault";
    EXPECT_TRUE(eventually([&] {
      const auto now = box.node_pid();
      return now > 0 && now != before && box.serves();
    })) << "moltd starts it again";
    return box.molt("crashes show latest").out;
  }

  moltd_box box;
};

TEST_F(crashes, tells_which_server_threw_what_in_which_message_and_shows_no_secret) {
  ASSERT_EQ(box.molt("call first add by=5").out, "5\n");
  EXPECT_EQ(box.molt("call first fail text=ouch").status, 5);
  ASSERT_TRUE(eventually([&] { return box.molt("crashes show latest").status == 0; }));
  EXPECT_THAT(box.molt("crashes").out,
              AllOf(HasSubstr("first"), HasSubstr("1.0.0"), HasSubstr("fail"), HasSubstr("ouch")));
  const auto shown = box.molt("crashes show latest").out;
  EXPECT_THAT(shown, AllOf(HasSubstr("thrown      ouch"), HasSubstr("std::out_of_range"),
                           HasSubstr("first (crasher.server 1.0.0"), HasSubstr("message     fail"),
                           HasSubstr("box-9.0.0"), HasSubstr("0 waiting"), HasSubstr("build ID")));
  EXPECT_THAT(shown, ContainsRegex("handler .*call_thunk<crasher::server, crasher::fail>"));
  EXPECT_THAT(shown, AllOf(HasSubstr("\"count\":5"), HasSubstr("hidden"), Not(HasSubstr("open sesame"))));
  ASSERT_TRUE(eventually([&] {
    return box.molt("crashes show latest").out.find("was running again within a second") != std::string::npos;
  })) << "the report is completed when the server's fate is known";
  EXPECT_EQ(box.molt("call first add by=1").out, "1\n");
}

TEST_F(crashes, show_the_stack_of_the_throw_whatever_was_thrown_and_caught_besides) {
  struct throwing {
    const char* way;
    const char* what;
    const char* from;  // a function in the stack
    const char* not_from;
  };
  for (const auto& each : {throwing{"deep", "the first", "crasher::throws_first(", "crasher::throws_second("},
                           throwing{"library", "basic_string::at", "crasher::throw_so(", "crasher::throws_first("},
                           throwing{"again", "the first", "crasher::throws_first(", "crasher::throws_second("},
                           throwing{"kept", "the first", "crasher::throws_first(", "crasher::throws_second("},
                           throwing{"nested", "the second", "crasher::throws_second(", "crasher::throws_first("}}) {
    SCOPED_TRACE(each.way);
    // A server of its own each time: within a second its failures are counted, not reported.
    const auto server = std::string{"thrower_"} + each.way;
    EXPECT_EQ(box.molt("call " + server + " throw_in way=" + each.way).status, 5);
    std::string shown;
    ASSERT_TRUE(eventually([&] {
      shown = box.molt("crashes show latest").out;
      return shown.find(server) != std::string::npos;
    }));
    EXPECT_THAT(shown, AllOf(HasSubstr(each.what), HasSubstr("stack, where the exception was thrown\n"),
                             HasSubstr(each.from), Not(HasSubstr(each.not_from)), HasSubstr("crasher::throw_so("),
                             HasSubstr("call_thunk<crasher::server, crasher::throw_in>")));
    // Behind the throw stands who called, once.
    EXPECT_THAT(shown, AllOf(ContainsRegex("#0 .*(throw|terminate|crasher|libstdc)"), HasSubstr("molt::node::"),
                             Not(ContainsRegex("note_thrown|__cxa_throw|caught_in"))));
  }
}

TEST_F(crashes, say_so_where_only_the_stack_of_the_catch_is_known) {
  EXPECT_EQ(box.molt("call first throw_in way=made").status, 5);
  ASSERT_TRUE(eventually([&] { return box.molt("crashes show latest").status == 0; }));
  EXPECT_THAT(box.molt("crashes show latest").out,
              AllOf(HasSubstr("thrown      only made"), HasSubstr("where the exception was caught"),
                    Not(HasSubstr("crasher::throws_second("))));
}

TEST_F(crashes, tell_each_signal_with_its_cause_server_message_and_stack) {
  if (!node::can_catch_crashes()) GTEST_SKIP() << "a sanitizer reports these signals itself";
  struct death {
    const char* signal;
    const char* what;
    const char* in;
  };
  for (const auto& each :
       {death{"SIGBUS", "SIGBUS at address 0x", "crasher::read_behind_the_end("},
        death{"SIGFPE", "SIGFPE", "crasher::divide("}, death{"SIGILL", "SIGILL", "crasher::execute_nothing("},
        death{"SIGTRAP", "SIGTRAP", "crasher::stop_at_a_breakpoint("}}) {
    SCOPED_TRACE(each.signal);
    EXPECT_THAT(die(std::string{"first die_of signal="} + each.signal),
                AllOf(HasSubstr(each.what), HasSubstr("first (crasher.server 1.0.0"), HasSubstr("message     die_of"),
                      HasSubstr(each.in), HasSubstr("call_thunk<crasher::server, crasher::die_of>")));
  }
}

TEST_F(crashes, show_the_last_messages_of_a_recorded_server_or_how_to_record_it) {
  for (int i = 0; i < 4; ++i) ASSERT_EQ(box.molt("call first add by=5").status, 0);
  ASSERT_EQ(box.molt("call first fail text=ouch").status, 5);
  std::string shown;
  ASSERT_TRUE(eventually([&] {
    shown = box.molt("crashes show latest").out;
    return shown.find("message     fail") != std::string::npos;
  }));
  EXPECT_THAT(shown, ContainsRegex("last messages, the oldest first\n(  [^ ]*Z  call  add  ok  [0-9.]+ [um]s\n){3}"));

  ASSERT_EQ(box.molt("call second fail text=ouch").status, 5);
  ASSERT_TRUE(eventually([&] {
    shown = box.molt("crashes show latest").out;
    return shown.find("server      second") != std::string::npos;
  }));
  EXPECT_THAT(shown, HasSubstr("not recorded: record_messages = 16"));

  ASSERT_EQ(box.molt("record second 2").status, 0);
  ASSERT_EQ(box.molt("call second add by=1").status, 0);
  EXPECT_THAT(box.molt("record second").out, HasSubstr("call  add  ok"));
  if (!node::can_catch_crashes()) return;  // a sanitizer reports signals itself
  EXPECT_THAT(die("second die_of signal=SIGFPE"),
              ContainsRegex("last messages, the oldest first\n  [^ ]*Z  call  add  ok"));
  ASSERT_EQ(box.molt("call first add by=1").status, 0);
  EXPECT_THAT(die("first give_up"), ContainsRegex("last messages, the oldest first\n  [^ ]*Z  call  add  ok"))
      << "the manifest's recording begins anew with the node";
}

TEST_F(crashes, tells_what_was_running_when_a_signal_ended_the_node) {
  if (!node::can_catch_crashes()) GTEST_SKIP() << "a sanitizer reports these signals itself";
  EXPECT_THAT(
      die("first dereference address=16"),
      AllOf(HasSubstr("SIGSEGV at address 0x10 (nothing is mapped there)"), HasSubstr("message     dereference"),
            HasSubstr("first (crasher.server 1.0.0"), HasSubstr("crasher::read_through("), HasSubstr("box-9.0.0")));
  EXPECT_THAT(box.log(), HasSubstr("killed by signal 11")) << "the exit status is the signal's";
  EXPECT_THAT(die("first give_up"), AllOf(HasSubstr("SIGABRT (abort)"), HasSubstr("message     give_up")));
  EXPECT_THAT(die("first terminate_all"),
              AllOf(HasSubstr("uncaught std::runtime_error: nobody may catch this"), HasSubstr("crasher::fails(")));
  EXPECT_THAT(die("first jump"), AllOf(HasSubstr("SIGSEGV at address 0x0"), HasSubstr("message     jump")))
      << "the unwinder finds nothing behind a call through a null pointer";
  const auto listed = box.molt("crashes").out;
  for (const char* const message : {"dereference", "give_up", "terminate_all", "jump"})
    EXPECT_THAT(listed, HasSubstr(message));
}

TEST_F(crashes, tells_of_an_overflown_stack_with_its_innermost_and_outermost_frames) {
  if (!node::can_catch_crashes()) GTEST_SKIP() << "a sanitizer reports these signals itself";
  EXPECT_THAT(die("first recurse from=1"),
              AllOf(HasSubstr("SIGSEGV"), HasSubstr("crasher::go_deeper("), HasSubstr("frames left out"),
                    HasSubstr("call_thunk<crasher::server, crasher::recurse>"), HasSubstr("message     recurse")));
}

TEST_F(crashes, names_the_servers_whose_calls_led_there) {
  if (!node::can_catch_crashes()) GTEST_SKIP() << "a sanitizer reports these signals itself";
  EXPECT_THAT(die("first relay to=second"),
              AllOf(HasSubstr("server      second (crasher.server"), HasSubstr("message     dereference"),
                    ContainsRegex("called by   first .*handling relay")));
}

TEST_F(crashes, are_read_from_the_folder_when_nothing_runs) {
  EXPECT_EQ(box.molt("call first fail text=ouch").status, 5);
  ASSERT_TRUE(eventually([&] { return box.molt("crashes show latest").status == 0; }));
  box.stop_moltd();
  EXPECT_EQ(box.molt("crashes").status, 4);
  const auto folder = " --dir " + (box.folder.path() / "store/crashes").string();
  EXPECT_THAT(box.molt("crashes" + folder).out, HasSubstr("ouch"));
  const auto shown = box.molt("crashes show latest --json" + folder);
  EXPECT_EQ(shown.status, 0);
  const auto report = json::parse(shown.out);
  EXPECT_EQ(report.at("server").at("message").as_string(), "fail");
  EXPECT_EQ(box.molt("crashes show nonsense" + folder).status, 1);
  EXPECT_EQ(box.molt("crashes --dir /nonexistent").status, 1);
}

}  // namespace
}  // namespace molt::tests
