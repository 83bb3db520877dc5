// Faults put in by hand: what an operator is told then, and that it is true.
#include "base/unique_fd.hpp"
#include "tests/integration/moltd_harness.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <future>

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
  EXPECT_THAT(failed.err, HasSubstr("counter failed, and the state it had is lost; its supervisor has started it again"));
  EXPECT_THAT(failed.err, HasSubstr("next:  "));
  EXPECT_EQ(box.call("get"), "0") << "as the text says";
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

}  // namespace
}  // namespace molt::tests
