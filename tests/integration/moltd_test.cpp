#include "node/crash_signal.hpp"
#include "tests/integration/moltd_harness.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/un.h>

#include <cstdio>
#include <future>
#include <random>

namespace molt::tests {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class moltd : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- moltd's log\n%s", box.log().c_str());
  }
  void reach(const std::string& state) { ASSERT_EQ(box.release_state(), state); }

  /// Before the release is installed: a desk of that version (tests/upgrade/plugins), and one server of its type.
  void add_desk(const std::string& version, const std::string& desk) {
    fs::copy_file(fs::path{DESK_PLUGIN_FOLDER} / ("libdesk-" + desk + ".so"), box.release(version) / "plugins/desk.so");
    box.edit_manifest(version, "",
                      "[[plugin]]\nname = \"desk\"\nversion = \"" + desk +
                          "\"\nfile = \"plugins/desk.so\"\n[[server]]\nname = \"desk\"\ntype = \"desk.server\"\n");
  }

  moltd_box box;
};

TEST_F(moltd, installs_and_starts_a_first_release) {
  ASSERT_TRUE(box.start_first());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  EXPECT_TRUE(moltd_box::echoes(box.port("echo1")));
  const auto releases = box.ask("GET", "/v1/releases");
  EXPECT_EQ(releases.body.at("releases").at(0).at("status").as_string(), "permanent");
  struct stat status {};
  ASSERT_EQ(::stat(box.socket().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST_F(moltd, upgrades_commits_and_rolls_back_keeping_the_state) {
  ASSERT_TRUE(box.start_first());
  const auto pid = box.node_pid();
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  ASSERT_EQ(box.install("2.0.0").text({"id"}), "box-2.0.0");
  EXPECT_EQ(box.ask("POST", "/v1/plan", {{"release", "2.0.0"}}).status, 200U);
  EXPECT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  reach("box-2.0.0 permanent box-1.0.0 probation true");
  EXPECT_EQ(box.call("version"), "2.0.0");
  EXPECT_EQ(box.call("add", {{"by", 4}, {"who", "me"}}), "7");
  EXPECT_EQ(box.upgrade("2.0.0").status, 409U) << "it runs already";
  EXPECT_EQ(box.commit().status, 200U);
  reach("box-2.0.0 permanent box-2.0.0 probation false");
  EXPECT_EQ(box.rollback().text({"result"}), "done") << "also after the commit";
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("get"), "7") << "what happened since was kept";
  EXPECT_EQ(box.upgrade("box-2.0.0").text({"result"}), "done");
  EXPECT_EQ(box.rollback().text({"result"}), "done");
  EXPECT_EQ(box.call("get"), "7");
  EXPECT_EQ(box.node_pid(), pid) << "all in one process";
  const auto history = box.ask("GET", "/v1/history").body.at("history").as_array();
  EXPECT_EQ(history.size(), 5U);
}

TEST_F(moltd, opens_the_listeners_of_the_next_release_and_closes_them_again) {
  ASSERT_TRUE(box.start_first());
  const int first = box.port("echo1");
  EXPECT_EQ(box.port("echo2"), 0);
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  EXPECT_EQ(box.port("echo1"), first) << "the same socket";
  const int second = box.port("echo2");
  ASSERT_NE(second, 0);
  EXPECT_TRUE(moltd_box::echoes(first));
  EXPECT_TRUE(moltd_box::echoes(second));
  ASSERT_EQ(box.rollback().text({"result"}), "done");
  EXPECT_TRUE(moltd_box::echoes(first));
  EXPECT_TRUE(eventually([&] { return !moltd_box::echoes(second); }, milliseconds{5000}));
}

TEST_F(moltd, restarts_a_killed_node_within_a_second_on_the_same_port) {
  ASSERT_TRUE(box.start_first());
  const int port = box.port("echo1");
  const auto before = box.node_pid();
  const auto killed = steady_clock::now();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return moltd_box::echoes(port); }));
  const auto took = steady_clock::now() - killed;
  if (measures_time) {
    EXPECT_LT(took, std::chrono::seconds{1});
  }
  EXPECT_TRUE(box.serves());
  EXPECT_NE(box.node_pid(), before);
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"node", "restarts"}), "1");
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(moltd, starts_the_parent_when_the_node_dies_in_probation_and_the_release_when_it_dies_after_commit) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  ::kill(box.node_pid(), SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.node_runs() == "box-1.0.0"; }));
  ASSERT_TRUE(box.serves());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  ASSERT_EQ(box.commit().status, 200U);
  const auto committed = box.node_pid();
  ::kill(committed, SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.node_pid() > 0 && box.node_pid() != committed; }));
  ASSERT_TRUE(box.serves());
  EXPECT_EQ(box.node_runs(), "box-2.0.0");
  EXPECT_EQ(box.rollback().text({"result"}), "done") << "a node that never ran the parent can go back to it";
  EXPECT_EQ(box.node_runs(), "box-1.0.0");
}

TEST_F(moltd, leaves_the_node_serving_when_it_is_killed_and_the_next_one_adopts_it) {
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  const auto pid = box.node_pid();
  const int port = box.port("echo1");
  box.kill_moltd();
  EXPECT_TRUE(moltd_box::echoes(port));
  ASSERT_TRUE(box.start());
  EXPECT_EQ(box.node_pid(), pid);
  EXPECT_EQ(box.call("get"), "3");
  ASSERT_TRUE(eventually([&] { return box.install("2.0.0").status == 200U; }));
  ASSERT_TRUE(eventually([&] { return box.upgrade("2.0.0").text({"result"}) == "done"; }));
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return moltd_box::echoes(port); })) << "the adopted socket is handed to the next node";
  EXPECT_TRUE(eventually([&] { return box.node_runs() == "box-1.0.0"; }));
}

TEST_F(moltd, shows_one_defined_release_after_being_killed_at_any_point_of_an_upgrade) {
  std::mt19937 random{std::random_device{}()};
  const auto seed = random();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 delays{seed};
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.call("add", {{"by", 1}}), "1");
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  const auto pid = box.node_pid();
  for (int round = 0; round < 12; ++round) {
    const bool back = box.node_runs() == "box-2.0.0";
    auto change = std::async(std::launch::async, [&, rehearsed = round % 4 == 0] {
      return back ? box.rollback() : rehearsed ? box.upgrade("2.0.0") : box.upgrade_at_once("2.0.0");
    });
    std::this_thread::sleep_for(std::chrono::microseconds{delays() % 60'000});
    box.kill_moltd();
    (void)change.get();
    ASSERT_TRUE(box.start()) << "round " << round;
    ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"transition"}) == "null"; }));
    const auto runs = box.node_runs();
    EXPECT_EQ(box.release_state(), runs == "box-2.0.0" ? "box-2.0.0 permanent box-1.0.0 probation true"
                                                       : "box-1.0.0 permanent box-1.0.0 probation false")
        << "round " << round;
    EXPECT_EQ(box.call("get"), "1");
  }
  EXPECT_EQ(box.node_pid(), pid) << "the node never noticed";
}

TEST_F(moltd, waits_for_a_node_that_is_in_the_middle_of_a_change) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.3").status, 200U);
  auto change = std::async(std::launch::async, [&] { return box.upgrade_at_once("2.0.3"); });
  std::this_thread::sleep_for(milliseconds{150});
  box.kill_moltd();
  (void)change.get();
  ASSERT_TRUE(box.start());
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"transition"}) == "null"; }));
  EXPECT_EQ(box.release_state(),
            box.node_runs() + " permanent box-1.0.0 probation " + (box.node_runs() == "box-2.0.3" ? "true" : "false"));
}

TEST_F(moltd, goes_back_in_the_middle_of_an_upgrade) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.3").status, 200U);
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  auto change = std::async(std::launch::async, [&] { return box.upgrade_at_once("2.0.3"); });
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"upgrade", "phase"}) == "migrating"; }));
  const auto back = box.rollback();
  EXPECT_EQ(back.text({"result"}), "done");
  EXPECT_EQ(back.text({"cancelled"}), "true");
  EXPECT_EQ(back.text({"to"}), "box-1.0.0");
  const auto answer = change.get();
  EXPECT_EQ(answer.text({"result"}), "rolled_back");
  EXPECT_EQ(answer.text({"problems"}), R"(["it was told to go back while it was under way"])");
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("version"), "1.0.0");
  EXPECT_EQ(box.call("get"), "3");
  EXPECT_EQ(box.rollback().status, 409U) << "there is nothing to go back from";
}

TEST_F(moltd, starts_the_permanent_release_when_both_died_during_an_upgrade) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.3").status, 200U);
  const auto pid = box.node_pid();
  auto change = std::async(std::launch::async, [&] { return box.upgrade_at_once("2.0.3"); });
  std::this_thread::sleep_for(milliseconds{150});
  ::kill(box.moltd, SIGSTOP);  // so that it does not see the node die
  ::kill(pid, SIGKILL);
  box.kill_moltd();
  (void)change.get();
  ASSERT_TRUE(box.start());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.node_runs(), "box-1.0.0");
}

TEST_F(moltd, says_so_when_the_node_dies_during_an_upgrade_and_starts_the_parent) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.3").status, 200U);
  const auto pid = box.node_pid();
  auto change = std::async(std::launch::async, [&] { return box.upgrade_at_once("2.0.3"); });
  std::this_thread::sleep_for(milliseconds{150});
  EXPECT_EQ(box.upgrade("2.0.3").status, 409U) << "one change at a time";
  ::kill(pid, SIGKILL);
  const auto answer = change.get();
  EXPECT_EQ(answer.text({"error", "exit_code"}), "5");
  EXPECT_THAT(answer.text({"error", "message"}), HasSubstr("the node ended during the change to box-2.0.3"));
  ASSERT_TRUE(box.serves());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(moltd, rehearses_an_upgrade_before_it_journals_it) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.install("2.0.1").status, 200U);
  EXPECT_THAT(moltd_box::content_of("/proc/" + std::to_string(box.node_pid()) + "/environ"),
              HasSubstr("glibc.malloc.hugetlb=1"))
      << "without huge pages a fork takes long";
  EXPECT_EQ(box.call("add", {{"by", 13}}), "13");
  const auto rehearsed = box.ask("POST", "/v1/rehearse", {{"release", "2.0.0"}});
  EXPECT_EQ(rehearsed.text({"passed"}), "true") << json::serialize(rehearsed.body);
  EXPECT_EQ(rehearsed.body.at("types").at(0).at("type").as_string(), "counter.server");
  const auto failed = box.ask("POST", "/v1/rehearse", {{"release", "2.0.1"}});
  EXPECT_EQ(failed.text({"passed"}), "false");
  EXPECT_EQ(failed.body.at("failures").at(0).at("error").as_string(), "cannot convert 13");
  const auto refused = box.upgrade("2.0.1");
  EXPECT_EQ(refused.text({"result"}), "refused");
  EXPECT_THAT(json::serialize(refused.body.at("problems")), HasSubstr("in the rehearsal: counter"));
  EXPECT_EQ(box.ask("POST", "/v1/rehearse", {{"release", "1.0.0"}}).text({"error", "message"}),
            "box-1.0.0 runs already");
  EXPECT_EQ(box.ask("GET", "/v1/history").body.at("history").as_array().size(), 1U) << "nothing of it is kept";
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.upgrade_at_once("2.0.1").text({"result"}), "rolled_back");
  const auto done = box.upgrade("2.0.0");
  EXPECT_EQ(done.text({"result"}), "done");
  EXPECT_EQ(done.text({"rehearsal", "passed"}), "true");
  EXPECT_EQ(box.call("get"), "13");
}

TEST_F(moltd, ends_a_hook_that_allocates_without_bound_and_goes_on_as_before) {
  if (!node::can_catch_crashes()) GTEST_SKIP() << "a sanitizer has its own operator new";
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.4").status, 200U);
  EXPECT_EQ(box.call("add", {{"by", 13}}), "13");
  const auto pid = box.node_pid();
  const auto ended = box.upgrade_at_once("2.0.4");
  EXPECT_EQ(ended.text({"result"}), "rolled_back");
  EXPECT_THAT(json::serialize(ended.body.at("failures")),
              HasSubstr("took more than 64 MiB of memory, which is as much as a hook may (hook_memory_mb)"));
  EXPECT_EQ(box.call("get"), "13");
  EXPECT_EQ(box.node_pid(), pid) << "the same process";
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(moltd, goes_back_to_what_was_kept_where_the_hooks_fail_once_that_is_accepted) {
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  ASSERT_EQ(box.install("2.0.1").status, 200U);
  auto done = box.molt("upgrade 2.0.1 --keep-states");
  ASSERT_EQ(done.status, 0) << done.out << done.err;
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"kept", "servers"}), "1");
  EXPECT_THAT(box.molt("status").out, HasSubstr("what 1 servers were since 20"));
  EXPECT_EQ(box.call("add", {{"by", -16}, {"who", "me"}}), "-13") << "with which its hook fails";
  done = box.molt("rollback");
  EXPECT_EQ(done.status, 3) << done.out << done.err;
  EXPECT_THAT(done.err, HasSubstr("molt plan --rollback --from-kept"));
  EXPECT_THAT(done.err + done.out, HasSubstr("molt rollback --from-kept goes back all the same, or correct the hook in "
                                             "a version after box-2.0.1 and install it, then molt commit and molt "
                                             "upgrade"));
  EXPECT_EQ(box.call("get"), "-13");
  done = box.molt("plan --rollback --from-kept");
  EXPECT_EQ(done.status, 0) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("where a hook fails, its server becomes what it was"));
  const std::string since = "since=" + box.ask("GET", "/v1/status").text({"kept", "since"});
  done = box.molt("rollback --from-kept");
  EXPECT_EQ(done.status, 1) << done.out << done.err;
  EXPECT_THAT(done.err, HasSubstr("1 servers of counter.server cannot go back by their hooks"));
  EXPECT_THAT(done.err, HasSubstr("accept it with --accept-loss " + since));
  EXPECT_THAT(done.err + done.out, HasSubstr("molt plan --rollback --from-kept shows every problem"));
  EXPECT_EQ(box.molt("rollback --from-kept --accept-loss since=noon").status, 1);
  done = box.molt("rollback --from-kept --accept-loss since=1970-01-01T00:00:00Z");
  EXPECT_EQ(done.status, 1) << done.out << done.err;
  EXPECT_THAT(done.err, HasSubstr("since=1970-01-01T00:00:00Z is before anything was kept"));
  EXPECT_EQ(box.call("version"), "2.0.1");
  EXPECT_EQ(box.call("get"), "-13") << "nothing was changed";
  done = box.molt("rollback --from-kept --accept-loss " + since);
  EXPECT_EQ(done.status, 0) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr(" is what it was at " + since.substr(6)));
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("get"), "3");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"kept"}), "null");
  EXPECT_EQ(box.molt("rollback --from-kept").status, 1) << "there is nothing any more";
}

TEST_F(moltd, goes_back_to_what_was_kept_after_an_upgrade_that_could_not_go_back_by_itself) {
  for (const char* version : {"1.0.0", "2.0.1"})
    box.edit_manifest(version, "[[server]]",
                      "[[server]]\nname = \"stuck\"\ntype = \"counter.server\"\narguments = { start = \"-13\" }\n"
                      "[[server]]");
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.call("add", {{"by", 13}}), "13") << "with which its hook fails";
  ASSERT_EQ(box.install("2.0.1").status, 200U);
  auto done = box.molt("upgrade 2.0.1 --keep-states --no-rehearsal");
  EXPECT_EQ(done.status, 5) << done.out << done.err;
  EXPECT_THAT(done.err, HasSubstr("stuck could not go back to box-1.0.0, so none did: cannot convert back -13"));
  EXPECT_THAT(done.err, HasSubstr("molt plan --rollback --from-kept"));
  reach("box-2.0.1 permanent box-1.0.0 probation true");
  EXPECT_EQ(box.call("version"), "1.0.0") << "it could not come over";
  EXPECT_EQ(box.molt("call stuck version").out, "2.0.1\n");
  const std::string since = "since=" + box.ask("GET", "/v1/status").text({"kept", "since"});
  done = box.molt("rollback --from-kept");
  EXPECT_EQ(done.status, 1) << done.out << done.err;
  EXPECT_THAT(done.err, HasSubstr("accept it with --accept-loss " + since));
  EXPECT_EQ(box.molt("call stuck version").out, "2.0.1\n");
  done = box.molt("rollback --from-kept --accept-loss " + since);
  EXPECT_EQ(done.status, 0) << done.out << done.err;
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"attention"}), "null");
  EXPECT_EQ(box.molt("call stuck version").out, "1.0.0\n");
  EXPECT_EQ(box.molt("call stuck get").out, "-13\n");
  EXPECT_EQ(box.call("get"), "13");
}

TEST_F(moltd, plans_the_hooks_that_messages_and_replies_go_through) {
  add_desk("1.0.0", "1.0.0");
  add_desk("2.0.0", "3.0.0");
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  const auto text = box.molt("plan 2.0.0");
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("\nmessage counter.server.add: 1 hook, counter::v1::add to counter::add (hook of "
                                  "2.0.0)\n"));
  EXPECT_THAT(text.out,
              HasSubstr("\nmessage desk.server.touch: 2 hooks, desk::v1::touch to desk::v2::touch (hook of "
                        "3.0.0), then desk::v2::touch to desk::v3::touch (hook of 3.0.0); its reply: 2 hooks, "
                        "desk::v3::total to desk::v2::total (hook of 3.0.0), then desk::v2::total to i64 (hook "
                        "of 3.0.0)\n"));
  EXPECT_THAT(text.out,
              HasSubstr("\nand back desk.server.touch: 2 hooks, desk::v3::touch to desk::v2::touch (hook of "
                        "3.0.0), then desk::v2::touch to desk::v1::touch (hook of 3.0.0); its reply: 2 hooks, "
                        "i64 to desk::v2::total "));
  EXPECT_THAT(text.out, testing::Not(HasSubstr("desk.server.heard"))) << "it has not changed";

  const auto answered = box.molt("plan 2.0.0 --json");
  ASSERT_EQ(answered.status, 0) << answered.err;
  const auto plan = json::parse(answered.out);
  const auto route = [&](std::string_view way, std::string_view type, std::string_view message) {
    for (const auto& each : plan.at(way).as_array())
      if (each.at("type").as_string() == type)
        for (const auto& one : each.at("messages").as_array())
          if (one.at("name").as_string() == message) return one;
    return json::value{};
  };
  EXPECT_EQ(route("types", "desk.server", "heard"), (json::value{{"name", "heard"}, {"cover", "same_key"}}));
  const json::array of_tell{"desk::v1::tell to desk::v2::tell (hook of 3.0.0)",
                            "desk::v2::tell to desk::v3::tell (hook of 3.0.0)"};
  EXPECT_EQ(route("types", "desk.server", "tell"),
            (json::value{{"name", "tell"}, {"cover", "edge"}, {"steps", of_tell}, {"reply_steps", json::array{}}}));
  const json::array of_ask{"desk::v3::total to desk::v2::total (hook of 3.0.0)",
                           "desk::v2::total to i64 (hook of 3.0.0)"};
  EXPECT_EQ(route("types", "desk.server", "ask").at("reply_steps"), of_ask);
  EXPECT_EQ(route("back", "desk.server", "ask").at("reply_steps").as_array().size(), 2U);
  EXPECT_EQ(route("types", "counter.server", "add").at("steps").as_array().size(), 1U);
}

TEST_F(moltd, replays_recorded_messages_in_a_rehearsal) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.ask("POST", "/v1/servers/counter/record", {{"messages", 16}, {"payload_bytes", 4096}}).status, 200U);
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  auto done = box.molt("rehearse 2.0.0 --replay strict");
  EXPECT_EQ(done.status, 0) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("replayed 1 messages of 1 servers, 0 skipped, 0 answered in another way"));
  EXPECT_EQ(box.call("version"), "1.0.0");
  done = box.molt("rehearse 2.0.0 --replay report");
  EXPECT_EQ(done.status, 0) << done.out << done.err;
  EXPECT_THAT(done.out, HasSubstr("differs: counter, version: "));
  done = box.molt("upgrade 2.0.0 --replay strict");
  EXPECT_EQ(done.status, 1) << done.out << done.err;
  EXPECT_THAT(done.err, HasSubstr("in the rehearsal: in the replay: counter, version: "));
  EXPECT_EQ(box.call("get"), "3") << "and the live server has handled each message once";
}

TEST_F(moltd, ends_a_rehearsal_whose_client_or_moltd_went_away) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.3").status, 200U);  // its hook takes 400 ms
  const auto rehearsing = [&] {
    const auto status =
        node::request((box.folder.path() / "run/node.sock").string(), "GET", "/v1/status", "", milliseconds{5000});
    return status && status->body.find(R"("rehearsing":"box-2.0.3")") != std::string::npos;
  };
  for (const bool whole_moltd : {false, true}) {
    auto client = std::async(std::launch::async, [&] {
      return node::request(box.socket(), "POST", "/v1/rehearse", R"({"release":"2.0.3"})", milliseconds{300});
    });
    EXPECT_TRUE(eventually(rehearsing));
    if (whole_moltd) box.kill_moltd();
    EXPECT_FALSE(client.get());
    EXPECT_TRUE(eventually([&] { return !rehearsing(); }));
    if (whole_moltd) {
      ASSERT_TRUE(box.start());
    }
    EXPECT_EQ(box.call("get"), "0");
  }
  EXPECT_TRUE(eventually([&] { return box.upgrade("2.0.3").text({"result"}) == "done"; })) << "once it has adopted";
}

TEST_F(moltd, refuses_a_release_that_changed_on_disk_and_changes_nothing) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  const auto plugin = box.folder / "store/releases/box-2.0.0/plugins/counter.so";
  fs::permissions(plugin, fs::perms::owner_all);
  std::ofstream{plugin, std::ios::app} << "x";
  const auto answer = box.upgrade("2.0.0");
  EXPECT_EQ(answer.text({"error", "exit_code"}), "1");
  EXPECT_THAT(answer.text({"error", "message"}), HasSubstr("plugins/counter.so: has changed since it was installed"));
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"transition"}), "null");
}

TEST_F(moltd, answers_what_it_refuses_with_exit_code_one) {
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.upgrade("9.9.9").text({"error", "exit_code"}), "1");
  EXPECT_EQ(box.commit().text({"error", "exit_code"}), "1");
  EXPECT_EQ(box.rollback().text({"error", "exit_code"}), "1");
  EXPECT_EQ(box.install("4.0.0").text({"error", "exit_code"}), "1");
  EXPECT_EQ(box.install("1.0.0").text({"error", "reason"}), "already_exists");
  EXPECT_EQ(box.ask("DELETE", "/v1/releases/box-1.0.0").text({"error", "exit_code"}), "1");
  EXPECT_EQ(box.ask("POST", "/v1/releases", {{"path", "relative"}}).status, 400U);
  EXPECT_EQ(box.ask("POST", "/v1/upgrade", {{"release", 5}}).status, 400U);
  EXPECT_EQ(box.ask("POST", "/v1/upgrade", json::array{}).status, 400U);
  EXPECT_EQ(box.ask("POST", "/v1/status").status, 405U);
  EXPECT_EQ(box.ask("GET", "/v1/nothing").status, 404U);
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  EXPECT_EQ(box.ask("DELETE", "/v1/releases/box-2.0.0").status, 200U);
}

TEST_F(moltd, plans_what_the_upgrade_would_answer) {
  const auto plan = [&](const std::string& id) { return box.ask("POST", "/v1/plan", {{"release", id}}); };
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  EXPECT_EQ(plan("1.0.0").text({"error", "message"}), "box-1.0.0 runs already");
  EXPECT_EQ(plan("2.0.0").text({"refused"}), "false");
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  const auto in_probation = plan("1.0.0");
  EXPECT_EQ(in_probation.text({"refused"}), "true");
  EXPECT_THAT(in_probation.text({"problems"}), HasSubstr("box-2.0.0 is in probation"));
}

TEST_F(moltd, gives_up_on_a_node_that_keeps_ending_and_an_operator_can_bring_it_back) {
  const auto wrapper = box.folder / "node";
  write_file(wrapper, "#!/bin/sh\n[ -e \"$0.broken\" ] && exit 1\nexec " MOLT_NODE " \"$@\"\n");
  fs::permissions(wrapper, fs::perms::owner_all);
  box.node_program = wrapper.string();
  ASSERT_TRUE(box.start({"--release", box.release("1.0.0").string(), "--restart-intensity", "3"}));
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  write_file(box.folder / "node.broken", "");
  ::kill(box.node_pid(), SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"node", "state"}) == "down"; }));
  const auto status = box.ask("GET", "/v1/status");
  EXPECT_THAT(status.text({"attention"}), HasSubstr("gave up after 4 ends of molt-node"));
  EXPECT_EQ(box.ask("GET", "/v1/servers").text({"error", "exit_code"}), "4");
  EXPECT_EQ(box.upgrade("2.0.0").text({"error", "exit_code"}), "5") << "it cannot start either";
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"node", "state"}) == "down"; }));
  EXPECT_EQ(box.upgrade("1.0.0").text({"error", "exit_code"}), "5") << "nor can the one that ran";
  fs::remove(box.folder / "node.broken");
  EXPECT_EQ(box.upgrade("1.0.0").text({"result"}), "done") << "the same release again";
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"attention"}), "null");
  EXPECT_EQ(box.upgrade("1.0.0").text({"error", "message"}), "box-1.0.0 runs already");
  write_file(box.folder / "node.broken", "");
  ::kill(box.node_pid(), SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"node", "state"}) == "down"; }));
  fs::remove(box.folder / "node.broken");
  EXPECT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  reach("box-2.0.0 permanent box-1.0.0 probation true");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"attention"}), "null");
}

TEST_F(moltd, says_why_a_first_release_could_not_be_started) {
  box.node_program = "/bin/false";
  box.launch({"--release", box.release("1.0.0").string()});
  ASSERT_TRUE(eventually([&] {
    return box.ask("GET", "/v1/status").text({"attention"}) != "null" && box.ask("GET", "/v1/status").status == 200U;
  }));
  EXPECT_THAT(box.ask("GET", "/v1/status").text({"attention"}),
              HasSubstr("the first release could not be started: molt-node exited with status 1"));
  EXPECT_EQ(box.ask("GET", "/v1/releases").body.at("releases").at(0).at("status").as_string(), "unpacked");
}

TEST_F(moltd, starts_without_a_release_and_the_first_upgrade_starts_one) {
  box.launch();
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").status == 200U; }));
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"node", "state"}), "down");
  ASSERT_EQ(box.install("1.0.0").status, 200U);
  EXPECT_EQ(box.upgrade("1.0.0").text({"result"}), "done");
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(moltd, ends_its_node_on_sigterm_and_comes_back_with_the_permanent_release) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  const auto pid = box.node_pid();
  EXPECT_EQ(box.stop_moltd(), 0);
  EXPECT_EQ(::kill(pid, 0), -1) << "the node is gone";
  EXPECT_FALSE(fs::exists(box.socket()));
  ASSERT_TRUE(box.start());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(moltd, is_alone_on_its_store) {
  ASSERT_TRUE(box.start_first());
  const auto first = box.moltd;
  box.launch();
  const int status = box.await_end();
  box.moltd = first;
  EXPECT_EQ(status, 1);
  EXPECT_THAT(box.log(), HasSubstr("is in use by process " + std::to_string(first)));
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

/// The first message that moltd sends to systemd.
std::string first_notification(moltd_box& box, const std::function<bool()>& start) {
  const std::string path = (box.folder / "notify").string();
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  EXPECT_TRUE(start());
  ::unsetenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe)
  const timeval patience{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string text(200, '\0');
  const auto got = ::recv(fd, text.data(), text.size(), 0);
  ::close(fd);
  fs::remove(path);
  return got > 0 ? text.substr(0, static_cast<std::size_t>(got)) : "nothing";
}

TEST_F(moltd, tells_systemd_when_it_is_ready) {
  EXPECT_EQ(first_notification(box, [&] { return box.start_first(); }), "READY=1\nSTATUS=box-1.0.0 runs");
  box.kill_moltd();
  EXPECT_EQ(first_notification(box, [&] { return box.start(); }), "READY=1\nSTATUS=adopted the running node");
}

TEST_F(moltd, is_ready_without_a_release) {
  EXPECT_THAT(first_notification(box,
                                 [&] {
                                   box.launch();
                                   return eventually([&] { return box.ask("GET", "/v1/status").status == 200U; });
                                 }),
              StartsWith("READY=1"));
}

TEST(moltd_help, begins_with_examples) {
  std::FILE* help = ::popen(MOLTD " --help", "r");
  std::string text(9, '\0');
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), help), text.size());
  EXPECT_EQ(text, "Examples:");
  while (std::fgetc(help) != EOF) {
  }
  EXPECT_EQ(::pclose(help), 0);
  EXPECT_EQ(WEXITSTATUS(std::system(MOLTD " --colour 2>/dev/null")), 2);  // NOLINT(concurrency-mt-unsafe)
}

}  // namespace
}  // namespace molt::tests
