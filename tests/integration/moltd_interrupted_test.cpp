// An upgrade of 400 ms that somebody ends: moltd, the node, the operator.
#include "tests/integration/moltd_harness.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <future>

namespace molt::tests {
namespace {

using testing::HasSubstr;
using testing::Not;

class an_interrupted_change : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box.start_first());
    ASSERT_EQ(box.install("2.0.3").status, 200U);
    EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- moltd's log\n%s", box.log().c_str());
  }
  void reach(const std::string& state) { ASSERT_EQ(box.release_state(), state); }
  std::future<outcome> upgrade(const std::string& how) {
    return std::async(std::launch::async, [this, how] { return box.molt("upgrade box-2.0.3 " + how); });
  }
  bool is_switching() {
    // That is journalled before the node is asked; moltd must not be ended in between.
    return eventually([&] {
      const auto now = box.ask("GET", "/v1/status");
      return now.text({"transition", "phase"}) == "switching" && !now.text({"upgrade", "phase"}).empty();
    });
  }
  bool is_migrating() {
    return eventually([&] { return box.ask("GET", "/v1/status").text({"upgrade", "phase"}) == "migrating"; });
  }

  moltd_box box;
};

TEST_F(an_interrupted_change, by_moltds_sigterm_blames_no_hook) {
  auto change = upgrade("--no-rehearsal");
  ASSERT_TRUE(is_switching());
  EXPECT_EQ(box.stop_moltd(), 0);
  const auto told = change.get();
  EXPECT_EQ(told.status, 5);
  EXPECT_THAT(told.err,
              HasSubstr("moltd was told to stop, and stops its node: the upgrade from box-1.0.0 to box-2.0.3 "));
  EXPECT_THAT(told.err, HasSubstr("next:  start moltd again: it runs box-1.0.0, whose servers begin anew"));
  EXPECT_THAT(told.out + told.err, Not(HasSubstr("hook")));
  ASSERT_TRUE(box.start());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(an_interrupted_change, by_moltds_sigterm_does_not_blame_the_release_whose_rehearsal_it_ended) {
  auto change = upgrade("");
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"rehearsing"}) == "box-2.0.3"; }));
  EXPECT_EQ(box.stop_moltd(), 0);
  const auto told = change.get();
  EXPECT_EQ(told.status, 4);
  EXPECT_THAT(told.err, HasSubstr("moltd was told to stop, and stops its node; nothing was begun"));
  EXPECT_THAT(told.err, HasSubstr("next:  start moltd again"));
}

TEST_F(an_interrupted_change, by_moltds_death_leaves_open_how_it_ended_and_the_next_moltd_logs_it) {
  auto change = upgrade("--no-rehearsal");
  ASSERT_TRUE(is_migrating());
  box.kill_moltd();
  const auto told = change.get();
  EXPECT_EQ(told.status, 5) << "not 4: the node goes on";
  EXPECT_THAT(told.err, HasSubstr("next:  the change may go on without it: molt status, once moltd runs again"));
  EXPECT_EQ(box.molt("upgrade box-2.0.3").status, 4) << "nobody was there";
  ASSERT_TRUE(box.start());
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"transition"}) == "null"; }));
  reach("box-2.0.3 permanent box-1.0.0 probation true");
  EXPECT_THAT(box.log(), HasSubstr("upgrade from box-1.0.0 to box-2.0.3, begun by an earlier moltd: done"));
  EXPECT_EQ(box.call("get"), "3");
}

TEST_F(an_interrupted_change, by_moltds_death_does_not_begin_after_the_next_moltd_has_looked) {
  const auto node = (box.folder.path() / "run/node.sock").string();
  const auto folder = (box.folder.path() / "store/releases/box-2.0.3").string();
  box.kill_moltd();
  ASSERT_TRUE(box.start());
  for (const auto& late : {box.ask_at(node, "POST", "/v1/upgrade", {{"release_dir", folder}, {"adoption", 0}}),
                           box.ask_at(node, "POST", "/v1/commit", {{"adoption", 0}})}) {
    EXPECT_EQ(late.status, 409U);
    EXPECT_THAT(late.text({"error", "message"}), HasSubstr("has been replaced meanwhile"));
  }
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_TRUE(eventually([&] { return box.upgrade_at_once("2.0.3").text({"result"}) == "done"; })) << "its own begins";
  EXPECT_EQ(box.commit().status, 200U);
}

TEST_F(an_interrupted_change, by_moltds_death_may_be_a_call_that_was_handled) {
  ASSERT_EQ(box.ask("POST", "/v1/servers/counter/suspend").status, 200U);
  auto call = std::async(std::launch::async, [&] { return box.molt("call counter add by=1"); });
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/servers/counter/status").text({"queued"}) == "1"; }));
  box.kill_moltd();
  const auto told = call.get();
  EXPECT_EQ(told.status, 5);
  EXPECT_THAT(told.err, HasSubstr("next:  it may have been handled: look before sending it again"));
  ASSERT_TRUE(box.start());
  EXPECT_EQ(box.molt("resume counter").status, 0);
  EXPECT_TRUE(eventually([&] { return box.call("get") == "4"; })) << "as here";
}

TEST_F(an_interrupted_change, is_not_what_a_terminal_that_closes_leaves) {
  const auto pid = box.node_pid();
  ::kill(box.moltd, SIGHUP);
  ::kill(pid, SIGHUP);
  EXPECT_EQ(box.upgrade_at_once("2.0.3").text({"result"}), "done");
  EXPECT_EQ(box.call("get"), "3");
  EXPECT_EQ(box.node_pid(), pid);
}

// ---- The node's end

TEST_F(an_interrupted_change, by_the_nodes_sigterm_is_told_as_a_loss_of_its_state) {
  auto change = upgrade("--no-rehearsal");
  ASSERT_TRUE(is_migrating());
  const auto pid = box.node_pid();
  ::kill(pid, SIGTERM);
  const auto told = change.get();
  EXPECT_EQ(told.status, 5) << "not 3: nothing is as before";
  EXPECT_THAT(told.err, HasSubstr("molt-node was told to stop, and its state is lost: the upgrade from box-1.0.0 to "
                                  "box-2.0.3 was taken back"));
  EXPECT_THAT(told.err, HasSubstr("next:  box-1.0.0 is started in its place, whose servers begin anew"));
  ASSERT_TRUE(eventually([&] { return box.node_pid() > 0 && box.node_pid() != pid && box.serves(); }));
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("get"), "0") << "as it says";
}

TEST_F(an_interrupted_change, by_the_nodes_sigterm_does_not_blame_the_release_whose_rehearsal_it_ended) {
  for (const char* command : {"upgrade", "rehearse"}) {
    ASSERT_TRUE(box.serves());
    const auto pid = box.node_pid();
    auto change = std::async(std::launch::async, [&] { return box.molt(std::string{command} + " box-2.0.3"); });
    ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"rehearsing"}) == "box-2.0.3"; }));
    ::kill(pid, SIGTERM);
    const auto told = change.get();
    EXPECT_EQ(told.status, 4) << command;
    EXPECT_THAT(told.err, HasSubstr("the node stops, so the rehearsal was ended")) << command;
    ASSERT_TRUE(eventually([&] { return box.node_pid() > 0 && box.node_pid() != pid; }));
  }
}

// ---- A rollback

TEST_F(an_interrupted_change, by_a_rollback_while_it_is_rehearsed_has_never_begun) {
  const auto pid = box.node_pid();
  auto change = upgrade("");
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"rehearsing"}) == "box-2.0.3"; }));
  const auto back = box.rollback();
  EXPECT_EQ(back.text({"result"}), "done");
  EXPECT_EQ(back.text({"cancelled"}), "true");
  EXPECT_EQ(back.text({"from"}) + " to " + back.text({"to"}), "box-2.0.3 to box-1.0.0");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"rehearsing"}), "null") << "the copy is gone";
  const auto told = change.get();
  EXPECT_EQ(told.status, 1) << told.out << told.err;
  EXPECT_THAT(told.err, HasSubstr("it was told to go back while it was being rehearsed; nothing was begun"));
  EXPECT_THAT(told.err, HasSubstr("next:  nothing was begun; box-1.0.0 serves as before"));
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("get"), "3");
  EXPECT_EQ(box.node_pid(), pid);
  EXPECT_EQ(box.ask("GET", "/v1/history").body.at("history").as_array().size(), 1U) << "nothing was journalled";
  EXPECT_EQ(box.rollback().status, 409U) << "there is nothing to go back from";
  EXPECT_EQ(box.upgrade("2.0.3").text({"result"}), "done") << "and the next one begins";
}

}  // namespace
}  // namespace molt::tests
