// The comparisons themselves, for whoever provides `std::unique_ptr<peer> ours()`. Include once per test program.
#pragma once

#include "script.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

namespace kv_test {

/// The kv under test, as a new, empty store.
std::unique_ptr<peer> ours();

class kv_and_redis : public testing::Test {
 protected:
  static redis_server& redis() {
    static redis_server running;
    return running;
  }
  void SetUp() override {
    if (redis().port == 0) GTEST_SKIP() << "no redis-server here to compare with";
    theirs_ = connect(redis().port);
    ours_ = ours();
    theirs_->exchange("FLUSHALL\r\n");
  }

  std::unique_ptr<peer> theirs_;
  std::unique_ptr<peer> ours_;
};

TEST_F(kv_and_redis, answer_the_script_alike) {
  int compared = 0;
  for (const script_line& line : read_commands(KV_MAJOR)) {
    const std::string theirs = theirs_->exchange(line.bytes);
    const std::string ours = ours_->exchange(line.bytes);
    EXPECT_TRUE(agree(line.how, theirs, ours)) << "commands.txt:" << line.number << ": " << line.text
                                               << "\nredis: " << shown(theirs) << "\nkv:    " << shown(ours);
    ++compared;
  }
  EXPECT_GT(compared, 180);
}

TEST_F(kv_and_redis, answer_malformed_and_odd_bytes_alike) {
  for (const script_line& line : read_raw()) {
    SCOPED_TRACE("raw.txt:" + std::to_string(line.number) + ": " + line.text);
    theirs_->reconnect();
    ours_->reconnect();
    const std::string theirs = theirs_->exchange(line.bytes);
    const std::string ours = ours_->exchange(line.bytes);
    EXPECT_EQ(shown(theirs), shown(ours));
    EXPECT_EQ(theirs_->ended(), ours_->ended());
  }
}

TEST_F(kv_and_redis, answer_random_commands_alike) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  for (int i = 0; i < KV_RANDOM_COMMANDS; ++i) {
    const std::vector<std::string> words = random_command(random, KV_MAJOR);
    const std::string bytes = request(words);
    const std::string theirs = theirs_->exchange(bytes);
    const std::string ours = ours_->exchange(bytes);
    if (words[0] == "ttl" && agree(comparison::near, theirs, ours))
      continue;  // a second may have passed between the two
    ASSERT_EQ(shown(theirs), shown(ours)) << "command " << i << ": " << shown(bytes);
  }
}

}  // namespace kv_test
