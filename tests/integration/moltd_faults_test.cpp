// Faults put in by hand: what an operator is told then, and that it is true.
#include "base/unique_fd.hpp"
#include "node/request_lanes.hpp"
#include "node/unix_socket.hpp"
#include "releases/package.hpp"
#include "tests/integration/moltd_harness.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <future>
#include <optional>
#include <vector>

namespace molt::tests {
namespace {

using testing::HasSubstr;

class moltd_faults : public testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- moltd's log\n%s", box.log().c_str());
  }
  void reach(const std::string& state) { ASSERT_EQ(box.release_state(), state); }

  moltd_box box;
};

// ---- Calls

TEST_F(moltd_faults, a_call_whose_handler_throws_says_that_the_server_was_restarted_without_its_state) {
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  const auto failed = box.molt("call counter fail '{\"why\":\"the fault\"}'");
  EXPECT_EQ(failed.status, 5) << "not 3: nothing is as before";
  EXPECT_THAT(failed.err, HasSubstr("counter.fail: its handler threw: the fault"));
  EXPECT_THAT(failed.err,
              HasSubstr("counter failed, and the state it had is lost; its supervisor has started it again"));
  EXPECT_THAT(failed.err, HasSubstr("next:  "));
  EXPECT_EQ(box.call("get"), "0") << "as the text says";
}

TEST_F(moltd_faults, a_text_of_a_plugin_does_not_steer_the_terminal) {
  ASSERT_TRUE(box.start_first());
  const std::string sequence =
      "\x1b]0;title\x07\xc2\x9b"
      "2J";
  EXPECT_THAT(box.molt("call counter fail 'why=one " + sequence + " two'").err,
              HasSubstr("its handler threw: one ?]0;title??2J two;"));
  const auto why = testing::Not(HasSubstr("\x1b"));
  ASSERT_TRUE(eventually([&] { return box.molt("crashes").out.find("title") != std::string::npos; }));
  EXPECT_THAT(box.molt("crashes").out, why);
  EXPECT_THAT(box.molt("crashes show latest").out, why);
}

TEST_F(moltd_faults, a_word_of_the_command_line_is_given_to_a_string_member_as_it_is) {
  ASSERT_TRUE(box.start_first());
  EXPECT_THAT(box.molt("call counter fail why=5").err, HasSubstr("its handler threw: 5;"));
  EXPECT_THAT(box.molt("call counter fail 'why={\"a\": true}'").err, HasSubstr("its handler threw: {\"a\": true};"));
  EXPECT_EQ(box.molt("call counter add by=5").out, "5\n") << "and to a number as one";
}

TEST_F(moltd_faults, a_call_that_the_node_does_not_answer_may_have_been_handled) {
  ASSERT_TRUE(box.start_first());
  const auto pid = box.node_pid();
  ::kill(pid, SIGSTOP);
  const auto late = box.molt("call counter add by=1 --timeout-ms 50");
  ::kill(pid, SIGCONT);
  EXPECT_EQ(late.status, 5);
  EXPECT_THAT(late.err, HasSubstr("it may have been handled"));
}

TEST_F(moltd_faults, while_more_calls_wait_than_are_handled_at_once_everything_else_is_answered) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.ask("POST", "/v1/servers/counter/suspend").status, 200U);
  std::vector<std::future<std::string>> calls;
  for (unsigned i = 0; i < node::waiting_threads + 4; ++i)
    calls.push_back(std::async(std::launch::async, [&] {
      return box
          .ask("POST", "/v1/call",
               {{"server", "counter"}, {"message", "add"}, {"payload", {{"by", 1}}}, {"timeout_ms", 120'000}})
          .text({"error"});
    }));
  ASSERT_TRUE(eventually([&] {
    return box.ask("GET", "/v1/servers/counter/status").text({"queued"}) == std::to_string(node::waiting_threads);
  })) << "so many are under way, the others wait for them";
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"node", "state"}), "running");
  EXPECT_EQ(box.molt("status").status, 0);
  EXPECT_EQ(box.molt("servers").status, 0);
  EXPECT_EQ(box.molt("rollback").status, 1) << "refused, as there is no parent; but not left waiting";
  EXPECT_EQ(box.molt("resume counter").status, 0);
  for (auto& each : calls) EXPECT_EQ(each.get(), "");
  EXPECT_EQ(box.call("get"), std::to_string(node::waiting_threads + 4));
}

// ---- Listening sockets

/// What connect(2) says: 0 or errno.
int connecting(int port) {
  const unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
}

/// A port that was free a moment ago.
int free_port() {
  const unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) return 0;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &size) != 0) return 0;
  return ntohs(at.sin_port);
}

TEST_F(moltd_faults, refuses_clients_after_giving_up_on_the_node_and_takes_them_when_it_runs_again) {
  const int port = free_port();
  const auto manifest = box.release("1.0.0") / "release.toml";
  auto text = moltd_box::content_of(manifest);
  const std::string any = "127.0.0.1:0";
  ASSERT_NE(text.find(any), std::string::npos);
  write_file(manifest, text.replace(text.find(any), any.size(), "127.0.0.1:" + std::to_string(port)));
  const auto wrapper = box.folder / "node";
  write_file(wrapper, "#!/bin/sh\n[ -e \"$0.broken\" ] && exit 1\nexec " MOLT_NODE " \"$@\"\n");
  fs::permissions(wrapper, fs::perms::owner_all);
  box.node_program = wrapper.string();
  ASSERT_TRUE(box.start({"--release", box.release("1.0.0").string(), "--restart-intensity", "1"}));
  ASSERT_TRUE(moltd_box::echoes(port));
  write_file(box.folder / "node.broken", "");
  ::kill(box.node_pid(), SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"node", "state"}) == "down"; }));
  EXPECT_EQ(connecting(port), ECONNREFUSED) << "nobody will ever accept there";
  fs::remove(box.folder / "node.broken");
  EXPECT_EQ(box.molt("upgrade 1.0.0").status, 0);
  EXPECT_TRUE(moltd_box::echoes(port));
}

// ---- The store's disk

/// From here on store.json cannot be written: its temporary name is taken by a folder.
class unwritable_store {
 public:
  explicit unwritable_store(const moltd_box& box) : in_the_way_{box.folder.path() / "store/store.json.new"} {
    fs::create_directory(in_the_way_);
  }
  unwritable_store(const unwritable_store&) = delete;
  unwritable_store& operator=(const unwritable_store&) = delete;
  ~unwritable_store() { fs::remove(in_the_way_); }

 private:
  fs::path in_the_way_;
};

TEST_F(moltd_faults, commits_nothing_when_the_store_cannot_be_written) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  {
    const unwritable_store full{box};
    const auto failed = box.molt("commit");
    EXPECT_EQ(failed.status, 3);
    EXPECT_THAT(failed.err, HasSubstr("nothing was committed: creating "));
    EXPECT_THAT(failed.err, HasSubstr("then molt commit again"));
  }
  const auto node = box.ask_at((box.folder.path() / "run/node.sock").string(), "GET", "/v1/status");
  EXPECT_EQ(node.text({"release", "parent"}), "box-1.0.0") << "the node still has its parent in memory";
  reach("box-2.0.0 permanent box-1.0.0 probation true");
  EXPECT_EQ(box.molt("commit").status, 0);
  reach("box-2.0.0 permanent box-2.0.0 probation false");
}

/// The node stands still between moltd's look at the store and its own part.
class a_commit_that_the_node_does_and_the_store_does_not_know : public moltd_faults {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box.start_first());
    ASSERT_EQ(box.install("2.0.0").status, 200U);
    ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
    pid_ = box.node_pid();
    const auto file = box.folder.path() / "store/store.json";
    struct stat before {};
    ASSERT_EQ(::stat(file.c_str(), &before), 0);
    ::kill(pid_, SIGSTOP);
    commit_ = std::async(std::launch::async, [&] { return box.molt("commit"); });
    ASSERT_TRUE(eventually([&] {
      struct stat now {};
      return ::stat(file.c_str(), &now) == 0 && now.st_ino != before.st_ino;
    }));
  }
  void go_on() { ::kill(pid_, SIGCONT); }
  std::string attention() { return box.ask("GET", "/v1/status").text({"attention"}); }
  bool is_written_down() {
    return eventually([&] { return box.release_state() == "box-2.0.0 permanent box-2.0.0 probation false"; });
  }

  pid_t pid_ = -1;
  std::future<outcome> commit_;
};

TEST_F(a_commit_that_the_node_does_and_the_store_does_not_know, is_written_down_by_itself_once_there_is_room) {
  {
    const unwritable_store full{box};
    go_on();
    const auto half = commit_.get();
    EXPECT_EQ(half.status, 5);
    EXPECT_THAT(half.err, HasSubstr("the node has committed, but a node that ends now is started again with box-1.0.0: "
                                    "the commit of box-2.0.0 could not be written down yet: creating "));
    EXPECT_THAT(half.err, HasSubstr("next:  make room for "));
    EXPECT_THAT(half.err, HasSubstr("moltd writes it down by itself then"));
    EXPECT_THAT(attention(), HasSubstr("the commit of box-2.0.0 could not be written down yet"));
    reach("box-2.0.0 permanent box-1.0.0 probation true");
    EXPECT_EQ(box.molt("commit").status, 1);
  }
  EXPECT_TRUE(is_written_down()) << "nobody asked for it";
  EXPECT_EQ(attention(), "null");
  EXPECT_EQ(box.node_pid(), pid_);
  EXPECT_EQ(box.rollback().text({"result"}), "done") << "and the way back is as after any commit";
}

TEST_F(a_commit_that_the_node_does_and_the_store_does_not_know, is_done_when_it_is_asked_for_again) {
  {
    const unwritable_store full{box};
    go_on();
    EXPECT_EQ(commit_.get().status, 5);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(box.molt("commit").status, 1);  // by now moltd itself waits for seconds
  }
  const auto again = box.molt("commit");
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(again.out, "box-2.0.0 is permanent\n");
  reach("box-2.0.0 permanent box-2.0.0 probation false");
}

TEST_F(a_commit_that_the_node_does_and_the_store_does_not_know, is_found_out_by_the_next_moltd) {
  box.kill_moltd();
  EXPECT_EQ(commit_.get().status, 5) << "nobody knows";
  go_on();  // the kernel does so too, with SIGHUP, which it sends to a stopped process whose parent died
  ASSERT_EQ(box.ask_at((box.folder.path() / "run/node.sock").string(), "POST", "/v1/commit").status, 200U)
      << "the killed one may not have come that far";
  ASSERT_TRUE(box.start());
  EXPECT_TRUE(is_written_down());
  ::kill(pid_, SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.node_pid() > 0 && box.node_pid() != pid_; }));
  EXPECT_EQ(box.node_runs(), "box-2.0.0");
}

TEST_F(moltd_faults, a_commit_that_the_node_does_after_the_next_moltd_has_looked_is_found_out_too) {
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  ASSERT_EQ(box.upgrade("2.0.0").text({"result"}), "done");
  box.kill_moltd();
  ASSERT_TRUE(box.start());
  ASSERT_TRUE(eventually([&] { return box.molt("plan --rollback").status == 0; })) << "it has adopted the node";
  reach("box-2.0.0 permanent box-1.0.0 probation true");
  ASSERT_EQ(box.ask_at((box.folder.path() / "run/node.sock").string(), "POST", "/v1/commit").status, 200U)
      << "as the killed one had asked";
  EXPECT_TRUE(eventually([&] { return box.release_state() == "box-2.0.0 permanent box-2.0.0 probation false"; }));
}

/// The store's disk fills up while an upgrade of 400 ms runs.
class an_end_that_cannot_be_written_down : public moltd_faults {
 protected:
  void SetUp() override {
    ASSERT_TRUE(box.start_first());
    ASSERT_EQ(box.install("2.0.3").status, 200U);
    EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
    pid_ = box.node_pid();
    auto upgrade = std::async(std::launch::async, [&] { return box.molt("upgrade --no-rehearsal box-2.0.3"); });
    ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").text({"transition", "phase"}) == "switching"; }));
    full_.emplace(box);
    told_ = upgrade.get();
    reach("box-2.0.3 permanent box-1.0.0 probation true");
  }
  std::string attention() { return box.ask("GET", "/v1/status").text({"attention"}); }
  [[nodiscard]] std::string on_disk() const { return moltd_box::content_of(box.folder.path() / "store/store.json"); }

  std::optional<unwritable_store> full_;
  outcome told_;
  pid_t pid_ = -1;
};

TEST_F(an_end_that_cannot_be_written_down, is_told_and_written_by_itself_once_there_is_room) {
  EXPECT_EQ(told_.status, 5);
  EXPECT_THAT(told_.err,
              HasSubstr("the node says done: the end of the upgrade from box-1.0.0 to box-2.0.3 (done) could "
                        "not be written down yet: creating "));
  EXPECT_THAT(told_.err, HasSubstr("next:  make room for " + (box.folder.path() / "store").string()));
  EXPECT_THAT(told_.err, HasSubstr("Do not stop it before"));
  EXPECT_THAT(attention(), HasSubstr("could not be written down yet: creating "));
  EXPECT_THAT(attention(), HasSubstr("make room for "));
  for (const char* refused : {"commit", "rollback", "upgrade box-1.0.0", "plan --rollback"}) {
    const auto answer = box.molt(refused);
    EXPECT_EQ(answer.status, 1) << refused;
    EXPECT_THAT(answer.err, HasSubstr("could not be written down yet")) << refused;
  }
  full_.reset();
  EXPECT_TRUE(eventually([&] { return attention() == "null"; })) << "nobody asked for it";
  EXPECT_THAT(on_disk(), HasSubstr(R"("transition":null)"));
  EXPECT_THAT(box.log(), HasSubstr("the end of the upgrade from box-1.0.0 to box-2.0.3 (done) is written down now"));
  reach("box-2.0.3 permanent box-1.0.0 probation true");
  EXPECT_EQ(box.rollback().text({"result"}), "done");
  EXPECT_EQ(box.call("get"), "3");
  EXPECT_EQ(box.node_pid(), pid_);
}

TEST_F(an_end_that_cannot_be_written_down, does_not_keep_a_commit_waiting_once_there_is_room) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(box.molt("commit").status, 1);  // by now moltd itself waits for seconds
  full_.reset();
  const auto commit = box.molt("commit");
  EXPECT_EQ(commit.status, 0) << commit.err;
  reach("box-2.0.3 permanent box-2.0.3 probation false");
  EXPECT_EQ(attention(), "null");
  EXPECT_EQ(box.call("get"), "3");
}

TEST_F(an_end_that_cannot_be_written_down, does_not_keep_a_rollback_waiting_once_there_is_room) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(box.molt("rollback").status, 1);
  full_.reset();
  const auto back = box.molt("rollback");
  EXPECT_EQ(back.status, 0) << back.err;
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("get"), "3");
}

TEST_F(an_end_that_cannot_be_written_down, is_overtaken_by_the_end_of_the_node_and_the_parent_starts) {
  ::kill(pid_, SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.node_pid() > 0 && box.node_pid() != pid_ && box.serves(); }));
  EXPECT_EQ(box.node_runs(), "box-1.0.0");
  EXPECT_THAT(attention(),
              HasSubstr("the end of the node (molt-node killed by signal 9 (Killed)) could not be written "));
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  full_.reset();
  EXPECT_EQ(box.upgrade_at_once("2.0.3").text({"result"}), "done");
  reach("box-2.0.3 permanent box-1.0.0 probation true");
}

TEST_F(an_end_that_cannot_be_written_down, is_found_out_by_the_next_moltd_when_this_one_is_killed) {
  box.kill_moltd();
  ASSERT_TRUE(box.start());
  EXPECT_TRUE(eventually([&] { return attention() != "null"; })) << "nor can the next one write it down";
  full_.reset();
  EXPECT_TRUE(eventually([&] { return attention() == "null"; }));
  reach("box-2.0.3 permanent box-1.0.0 probation true");
  EXPECT_EQ(box.call("get"), "3");
  EXPECT_EQ(box.node_pid(), pid_);
}

// ---- Damaged releases

void damage(const fs::path& file) {
  fs::permissions(file, fs::perms::owner_all);
  std::ofstream{file, std::ios::app} << "x";
}

TEST_F(moltd_faults, a_damaged_permanent_release_is_repaired_by_installing_it_again) {
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  damage(box.folder / "store/releases/box-1.0.0/plugins/counter.so");
  const auto pid = box.node_pid();
  const auto repaired = box.molt("install --json " + box.release("1.0.0").string());
  EXPECT_EQ(repaired.status, 0) << repaired.err;
  EXPECT_THAT(repaired.out, HasSubstr("\"repaired\":true"));
  EXPECT_EQ(box.call("get"), "3") << "the node was not touched";
  EXPECT_EQ(box.node_pid(), pid);
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return box.node_pid() > 0 && box.node_pid() != pid; })) << "and it can be started again";
  EXPECT_EQ(box.molt("install " + box.release("1.0.0").string()).status, 1) << "undamaged, it is refused";
}

TEST_F(moltd_faults, says_how_to_repair_the_release_that_it_could_not_start) {
  ASSERT_TRUE(box.start_first());
  EXPECT_EQ(box.stop_moltd(), 0);
  damage(box.folder / "store/releases/box-1.0.0/plugins/counter.so");
  box.launch();
  ASSERT_TRUE(eventually([&] { return box.ask("GET", "/v1/status").status == 200U; }));
  EXPECT_THAT(box.ask("GET", "/v1/status").text({"attention"}),
              HasSubstr("has changed since it was installed (install the package that it came from again"));
  const auto repaired = box.molt("install " + box.release("1.0.0").string());
  EXPECT_EQ(repaired.status, 0) << repaired.err;
  EXPECT_THAT(repaired.err, HasSubstr("molt upgrade box-1.0.0"));
  EXPECT_EQ(box.molt("upgrade box-1.0.0").status, 0);
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"attention"}), "null");
}

/// Changes a file of an installed release, and the list of its files with it.
void forge(const fs::path& release, const fs::path& file) {
  damage(release / file);
  const auto list = releases::list_contents(release);
  ASSERT_TRUE(list);
  for (const auto& each : {release, release / releases::contents_file_name})
    fs::permissions(each, fs::perms::owner_all);
  std::ofstream{release / releases::contents_file_name} << releases::print_contents(*list);
  ASSERT_TRUE(releases::verify_contents(release)) << "by itself it is sound";
}

TEST_F(moltd_faults, a_release_that_was_changed_together_with_its_list_is_never_run) {
  constexpr const char* told = "molt-contents: has changed since it was installed";
  ASSERT_TRUE(box.start_first());
  ASSERT_EQ(box.install("2.0.0").status, 200U);
  EXPECT_EQ(box.call("add", {{"by", 3}}), "3");
  forge(box.folder / "store/releases/box-2.0.0", "plugins/counter.so");
  for (const char* const words : {"plan 2.0.0", "rehearse 2.0.0", "upgrade 2.0.0", "upgrade --no-rehearsal 2.0.0"}) {
    const auto refused = box.molt(words);
    EXPECT_EQ(refused.status, 1) << words;
    EXPECT_THAT(refused.err, HasSubstr(told)) << words;
    EXPECT_THAT(refused.err, HasSubstr("install the package that it came from again")) << words;
  }
  EXPECT_EQ(box.call("get"), "3");
  const auto repaired = box.molt("install --json " + box.release("2.0.0").string());
  EXPECT_EQ(repaired.status, 0) << repaired.err;
  EXPECT_THAT(repaired.out, HasSubstr("\"repaired\":true"));
  EXPECT_EQ(box.molt("upgrade 2.0.0").status, 0);
  EXPECT_EQ(box.molt("rollback").status, 0);
  // The one that runs, and would be started again.
  forge(box.folder / "store/releases/box-1.0.0", "release.toml");
  ::kill(box.node_pid(), SIGKILL);
  ASSERT_TRUE(
      eventually([&] { return box.ask("GET", "/v1/status").text({"attention"}).find(told) != std::string::npos; }));
  EXPECT_EQ(box.molt("install " + box.release("1.0.0").string()).status, 0);
  EXPECT_EQ(box.molt("upgrade box-1.0.0").status, 0);
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

// ---- Hooks

/// Two counters; the hook of the one whose value is 13 waits for a file.
class a_hook_that_runs_too_long : public moltd_faults {
 protected:
  void SetUp() override {
    for (const char* version : {"1.0.0", "2.0.4"})
      box.edit_manifest(version, "", "[[server]]\nname = \"other\"\ntype = \"counter.server\"\n");
    box.edit_manifest("2.0.4", "hook_memory_mb = 64", "hook_timeout_ms = 200");
    ASSERT_TRUE(box.start_first());
    ASSERT_EQ(box.install("2.0.4").status, 200U);
    EXPECT_EQ(box.call("add", {{"by", 13}}), "13");
    pid_ = box.node_pid();
  }
  /// Until it is late.
  std::future<reply> upgrade() {
    auto change = std::async(std::launch::async, [&] {
      return box.ask("POST", "/v1/upgrade",
                     {{"release", "2.0.4"},
                      {"rehearsal", false},
                      {"arguments", {{"misbehave", "wait for"}, {"at", "13"}, {"file", file_.string()}}}});
    });
    EXPECT_TRUE(eventually([&] { return status().text({"late_hooks"}).size() > 2; }));
    return change;
  }
  reply status() { return {200, box.ask("GET", "/v1/status").body.at("upgrade")}; }
  [[nodiscard]] std::string way_out() const { return "then kill -KILL " + std::to_string(pid_) + ": moltd starts "; }
  [[nodiscard]] std::size_t in_log(std::string_view text) const {
    const auto log = box.log();
    std::size_t count = 0;
    for (auto at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++count;
    return count;
  }

  const fs::path file_ = box.folder / "it may go on";
  pid_t pid_ = -1;
};

TEST_F(a_hook_that_runs_too_long, is_named_while_it_runs_and_undone_when_it_returns) {
  auto change = upgrade();
  const auto late = status();
  ASSERT_EQ(late.body.at("late_hooks").as_array().size(), 1U) << json::serialize(late.body);
  const reply hook{200, late.body.at("late_hooks").at(0)};
  EXPECT_EQ(hook.text({"server"}), "counter");
  EXPECT_EQ(hook.text({"type"}), "counter.server");
  EXPECT_EQ(hook.text({"hook"}), "counter::v1::state to counter::state (hook of 2.0.4, with context)");
  EXPECT_EQ(hook.text({"from_version"}) + " to " + hook.text({"to_version"}), "1.0.0 to 2.0.4");
  EXPECT_EQ(hook.text({"hook_timeout_ms"}), "200");
  EXPECT_GT(hook.body.at("running_ms").to_number<double>(), 200);
  EXPECT_THAT(late.text({"next_step"}), HasSubstr(way_out()));
  const auto shown = box.molt("status").out;
  EXPECT_THAT(shown,
              HasSubstr("late hook  counter (counter.server): counter::v1::state to counter::state (hook of 2.0.4, "
                        "with context), 1.0.0 to 2.0.4, has run for "));
  EXPECT_THAT(shown, HasSubstr("; hook_timeout_ms is 200\n"));
  EXPECT_THAT(shown, HasSubstr(way_out()));
  EXPECT_EQ(box.molt("call other add by=1").out, "1\n") << "the others answer";
  EXPECT_THAT(box.molt("state get other").out, HasSubstr("1"));
  const std::string warning = "warning molt-node[" + std::to_string(pid_) + "]: a hook is over its time: counter ";
  EXPECT_TRUE(eventually([&] { return in_log(warning) >= 3; })) << "again and again";

  write_file(file_, "");
  const auto ended = change.get();
  EXPECT_EQ(ended.text({"result"}), "rolled_back");
  EXPECT_THAT(json::serialize(ended.body.at("failures")), HasSubstr("longer than the hook timeout of 200 ms"));
  EXPECT_EQ(in_log("a hook that was over its time has ended: counter "), 1U);
  EXPECT_EQ(status().text({"late_hooks"}), "") << "that was the report";
  EXPECT_EQ(box.call("get"), "13");
  EXPECT_EQ(box.call("version"), "1.0.0");
  EXPECT_EQ(box.molt("call other get").out, "1\n");
  EXPECT_EQ(box.node_pid(), pid_) << "the same process";
  reach("box-1.0.0 permanent box-1.0.0 probation false");
}

TEST_F(a_hook_that_runs_too_long, ends_with_its_process_and_moltd_starts_the_permanent_release) {
  auto change = upgrade();
  ASSERT_THAT(status().text({"next_step"}), HasSubstr(way_out()));
  ASSERT_EQ(::kill(pid_, SIGKILL), 0) << "as it says";
  const auto answer = change.get();
  EXPECT_EQ(answer.text({"error", "exit_code"}), "5");
  EXPECT_THAT(answer.text({"error", "message"}), HasSubstr("the node ended during the change to box-2.0.4"));
  ASSERT_TRUE(box.serves());
  reach("box-1.0.0 permanent box-1.0.0 probation false");
  EXPECT_EQ(box.call("get"), "0") << "it begins anew";
  EXPECT_EQ(box.ask("GET", "/v1/status").text({"transition"}), "null");
}

// ---- The control socket

TEST_F(moltd_faults, a_runtime_folder_whose_path_is_too_long_for_a_socket_is_refused_as_such) {
  const std::string command = MOLTD " --store " + (box.folder.path() / "store").string() + " --runtime " +
                              (box.folder.path() / std::string(120, 'x')).string() + " 2>" +
                              (box.folder.path() / "log").string();
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 1);  // NOLINT(concurrency-mt-unsafe)
  EXPECT_THAT(box.log(), HasSubstr("a socket's path has 1 to 107 bytes (choose a shorter runtime directory)"));
}

TEST_F(moltd_faults, answers_the_command_line_beside_300_clients_that_say_nothing) {
  ASSERT_TRUE(box.start_first());
  std::vector<unique_fd> silent;
  for (int i = 0; i < 300; ++i) {
    auto fd = node::connect_unix(box.socket(), SOCK_STREAM, steady_clock::now() + milliseconds{5000});
    ASSERT_TRUE(fd) << fd.error().text();
    silent.push_back(std::move(*fd));
  }
  const auto begun = steady_clock::now();
  const auto status = box.molt("status");
  EXPECT_EQ(status.status, 0) << status.err;
  EXPECT_LT(steady_clock::now() - begun, milliseconds{5000});
}

}  // namespace
}  // namespace molt::tests
