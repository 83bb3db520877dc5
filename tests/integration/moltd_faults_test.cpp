// Faults put in by hand: what an operator is told then, and that it is true.
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

}  // namespace
}  // namespace molt::tests
