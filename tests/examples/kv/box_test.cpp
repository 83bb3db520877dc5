// kv under moltd: upgrades and rollbacks with clients connected, a hook that throws, and the death of the node.
#include "box.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

namespace kv_test {
namespace {

using clock = std::chrono::steady_clock;

constexpr int keys = 20'000;

void fill(client& server) {
  for (int i = 0; i < keys; ++i) {
    const std::string number = std::to_string(i);
    ASSERT_EQ(ask(server, {"SET", "key" + number, "value of " + number}), "+OK");
  }
}

void expect_all_there(client& server) {
  for (int i = 0; i < keys; ++i) {
    const std::string value = "value of " + std::to_string(i);
    ASSERT_EQ(ask(server, {"GET", "key" + std::to_string(i)}), "$" + std::to_string(value.size()) + "\r\n" + value);
  }
}

bool lives_for_about(client& server, const std::string& key, int seconds) {
  const std::string answer = ask(server, {"TTL", key});
  const int left = answer.starts_with(':') ? std::atoi(answer.c_str() + 1) : -1;
  return left <= seconds && left > seconds - 100;
}

#define EXPECT_MOLT(expected_status, words)                                               \
  do {                                                                                    \
    const outcome said = on.molt(words);                                                  \
    EXPECT_EQ(said.status, expected_status) << "molt " << (words) << "\n" << said.output; \
  } while (false)

TEST(kv_under_moltd, goes_up_twice_and_down_twice_with_a_client_connected) {
  box on;
  client server{on.port()};
  fill(server);
  const int node_before = on.node_pid();

  EXPECT_EQ(ask(server, {"TTL", "key1"}).substr(0, 20), "-ERR unknown command");
  EXPECT_MOLT(0, "upgrade kv-2.0.0");
  EXPECT_EQ(ask(server, {"TTL", "key1"}), ":-1");
  EXPECT_EQ(ask(server, {"SET", "timed", "x", "EX", "1000"}), "+OK");
  EXPECT_EQ(ask(server, {"GET", "key1"}), "$10\r\nvalue of 1");
  EXPECT_EQ(ask(server, {"GET", "key1"}), "$10\r\nvalue of 1");
  EXPECT_EQ(ask(server, {"HITS", "key1"}), ":2");

  EXPECT_MOLT(0, "commit");
  EXPECT_MOLT(0, "upgrade kv-3.0.0");
  EXPECT_EQ(ask(server, {"HITS", "key1"}), ":2");
  EXPECT_TRUE(lives_for_about(server, "timed", 1000));
  EXPECT_EQ(ask(server, {"RPUSH", "list", "a", "b"}), ":2");
  EXPECT_EQ(ask(server, {"SET", "list2", "string"}), "+OK");
  expect_all_there(server);

  EXPECT_MOLT(1, "rollback");
  EXPECT_EQ(ask(server, {"LLEN", "list"}), ":2");
  EXPECT_MOLT(0, "rollback --accept-loss lists");
  EXPECT_EQ(ask(server, {"EXISTS", "list"}), ":0");
  EXPECT_EQ(ask(server, {"GET", "list2"}), "$6\r\nstring");
  EXPECT_TRUE(lives_for_about(server, "timed", 1000));
  EXPECT_EQ(ask(server, {"HITS", "key1"}), ":3");

  EXPECT_MOLT(1, "rollback");
  EXPECT_MOLT(0, "rollback --accept-loss expiry");
  EXPECT_EQ(ask(server, {"GET", "timed"}), "$1\r\nx");
  EXPECT_EQ(ask(server, {"TTL", "timed"}).substr(0, 20), "-ERR unknown command");
  expect_all_there(server);
  EXPECT_EQ(ask(server, {"DBSIZE"}), ":" + std::to_string(keys + 2));
  EXPECT_EQ(on.node_pid(), node_before);
}

TEST(kv_under_moltd, goes_from_1_to_3_in_one_step_and_back) {
  box on;
  client server{on.port()};
  fill(server);
  EXPECT_MOLT(0, "upgrade kv-3.0.0");
  EXPECT_EQ(ask(server, {"TYPE", "key1"}), "+string");
  expect_all_there(server);
  EXPECT_MOLT(1, "rollback --accept-loss lists");
  EXPECT_MOLT(0, "rollback --accept-loss lists --accept-loss expiry");
  expect_all_there(server);
  EXPECT_EQ(ask(server, {"DBSIZE"}), ":" + std::to_string(keys));
}

TEST(kv_under_moltd, keeps_every_key_when_a_hook_throws_in_the_middle) {
  box on;
  client server{on.port()};
  fill(server);
  ASSERT_EQ(ask(server, {"SET", "key7", "unlucky"}), "+OK");
  EXPECT_MOLT(1, "upgrade kv-2.0.1");  // found in the rehearsal
  EXPECT_MOLT(3, "upgrade --no-rehearsal kv-2.0.1");
  EXPECT_EQ(ask(server, {"GET", "key7"}), "$7\r\nunlucky");
  ASSERT_EQ(ask(server, {"SET", "key7", "value of 7"}), "+OK");
  EXPECT_EQ(ask(server, {"TTL", "key1"}).substr(0, 20), "-ERR unknown command");
  expect_all_there(server);
  EXPECT_MOLT(0, "upgrade kv-2.0.0");
  expect_all_there(server);
}

TEST(kv_under_moltd, serves_again_within_a_second_when_its_node_is_killed) {
  box on;
  client server{on.port()};
  fill(server);
  process load{
      {"sh", "-c",
       "while :; do redis-benchmark -p " + std::to_string(on.port()) + " -t set,get -n 100000 -q || sleep 0.1; done"},
      "/dev/null"};
  std::this_thread::sleep_for(std::chrono::milliseconds{300});
  const int killed = on.node_pid();
  ASSERT_GT(killed, 0);
  ASSERT_EQ(::kill(killed, SIGKILL), 0);
  const auto began = clock::now();
  bool answered = false;
  while (!answered && clock::now() < began + std::chrono::seconds{KV_PATIENCE_S}) {
    try {
      client again{on.port(), std::chrono::milliseconds{200}};
      again.send("PING\r\n");
      answered = again.receive_until("\r\n") == "+PONG\r\n";
    } catch (const std::exception&) {
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
  }
  EXPECT_TRUE(answered) << on.log();
  EXPECT_NE(on.node_pid(), killed);
}

}  // namespace
}  // namespace kv_test
