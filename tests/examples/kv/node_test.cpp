// Clients that send halves, much, or nothing; and very many of them.
#include "box.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace kv_test {
namespace {

constexpr std::size_t mib = std::size_t{1} << 20U;

class kv_node : public testing::Test {
 protected:
  static node& running() {
    static node started{"3.0.0"};
    return started;
  }
  void SetUp() override {
    client server{running().port()};
    ASSERT_EQ(ask(server, {"FLUSHALL"}), "+OK");
  }
  void TearDown() override {
    client server{running().port()};
    EXPECT_EQ(ask(server, {"PING"}), "+PONG") << running().log();
  }

  /// Memory in use once freed memory has gone back; false when it stays above `most` for ten seconds.
  static bool memory_falls_below(std::size_t most) {
    if (!KV_MEASURE_MEMORY) return true;
    for (int i = 0; i < 100; ++i) {
      if (memory_of(running().pid()) <= most) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds{100});
    }
    return false;
  }
};

TEST_F(kv_node, answers_a_request_that_arrives_byte_by_byte) {
  client server{running().port()};
  for (const char byte : std::string{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nbc\r\nGET k\r\n"})
    server.send(std::string_view{&byte, 1});
  EXPECT_EQ(server.receive_until("bc\r\n"), "+OK\r\n$5\r\na\r\nbc\r\n");
}

TEST_F(kv_node, forgets_a_half_request_of_a_client_that_leaves) {
  for (int i = 0; i < 100; ++i) {
    client server{running().port()};
    server.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nhalf of");
  }
  client server{running().port()};
  EXPECT_EQ(ask(server, {"EXISTS", "k"}), ":0");
}

TEST_F(kv_node, answers_what_came_before_a_client_stopped_sending) {
  client server{running().port()};
  server.send("SET k 1\r\nGET k\r\n*2\r\n$3\r\nGE");
  server.finish();
  EXPECT_EQ(server.receive_until("never"), "+OK\r\n$1\r\n1\r\n");
}

TEST_F(kv_node, keeps_a_value_of_64_mib_and_refuses_one_more_byte) {
  const std::size_t before = memory_of(running().pid());
  std::string value(64 * mib, 'v');
  for (std::size_t i = 0; i < value.size(); i += 4099) value[i] = static_cast<char>('a' + i % 26);
  {
    client server{running().port()};
    EXPECT_EQ(ask(server, {"SET", "large", value}), "+OK");
    EXPECT_TRUE(ask(server, {"GET", "large"}) == "$67108864\r\n" + value);
    EXPECT_EQ(ask(server, {"STRLEN", "large"}), ":67108864");
    EXPECT_EQ(ask(server, {"APPEND", "large", "x"}), "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    server.send("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$67108865\r\n");
    EXPECT_EQ(server.receive_until("never"), "-ERR Protocol error: invalid bulk length\r\n");
  }
  client server{running().port()};
  EXPECT_EQ(ask(server, {"DEL", "large"}), ":1");
  EXPECT_TRUE(memory_falls_below(before + 48 * mib))
      << memory_of(running().pid()) / mib << " MiB, before " << before / mib;
}

TEST_F(kv_node, ends_a_command_that_is_too_large) {
  client server{running().port()};
  const std::string value(64 * mib, 'v');
  const std::string word = "$67108864\r\n" + value + "\r\n";
  std::string answer;
  server.send("*9\r\n$4\r\nMSET\r\n");
  try {
    for (int i = 0; i < 8; ++i) server.send(word);
  } catch (const std::system_error&) {
    // it has been closed
  }
  EXPECT_EQ(server.receive_until("never"), "-ERR Protocol error: command too large\r\n");
}

TEST_F(kv_node, holds_back_a_client_that_does_not_read_its_replies) {
  const std::size_t before = memory_of(running().pid());
  constexpr std::size_t size = 4 * mib;
  // 800 MiB of replies; where memory tells nothing, only more than sockets hold.
  constexpr int times = KV_MEASURE_MEMORY ? 200 : 50;
  const std::string value(size, 'v');
  {
    client slow{running().port()};
    ASSERT_EQ(ask(slow, {"SET", "k", value}), "+OK");
    std::string requests;
    for (int i = 0; i < times; ++i) requests += "GET k\r\n";
    slow.send(requests);
    std::size_t most = 0;
    client other{running().port()};
    for (int i = 0; i < 20; ++i) {
      most = std::max(most, memory_of(running().pid()));
      EXPECT_EQ(ask(other, {"PING"}), "+PONG");
      std::this_thread::sleep_for(std::chrono::milliseconds{50});
    }
    if (KV_MEASURE_MEMORY) {
      EXPECT_LT(most, before + 300 * mib) << "before " << before / mib << " MiB, at most " << most / mib;
    }
    const std::string expected = "$" + std::to_string(size) + "\r\n" + value + "\r\n";
    for (int i = 0; i < times; ++i) ASSERT_TRUE(slow.receive(expected.size()) == expected) << "reply " << i;
    EXPECT_EQ(ask(slow, {"PING"}), "+PONG");
    EXPECT_EQ(ask(slow, {"DEL", "k"}), ":1");
  }
  EXPECT_TRUE(memory_falls_below(before + 48 * mib))
      << memory_of(running().pid()) / mib << " MiB, before " << before / mib;
}

TEST_F(kv_node, takes_many_pipelined_commands_at_once) {
  client server{running().port()};
  std::string requests;
  constexpr int count = 100'000;
  for (int i = 0; i < count; ++i) requests += "INCR n\r\n";
  std::thread sending{[&] { server.send(requests); }};
  const std::string answers = server.receive_until(":" + std::to_string(count) + "\r\n");
  sending.join();
  EXPECT_TRUE(answers.starts_with(":1\r\n:2\r\n"));
}

TEST_F(kv_node, scans_every_key_once_while_others_come_and_go) {
  client server{running().port()};
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(ask(server, {"SET", "stays" + std::to_string(i), "x"}), "+OK");
  std::string cursor = "0";
  std::size_t found = 0;
  int turn = 0;
  do {
    const std::string answer = ask(server, {"SCAN", cursor, "MATCH", "stays*", "COUNT", "100"});
    const std::size_t begin = answer.find("\r\n", answer.find('$')) + 2;
    cursor = answer.substr(begin, answer.find("\r\n", begin) - begin);
    for (std::size_t at = answer.find("stays"); at != std::string::npos; at = answer.find("stays", at + 1)) ++found;
    ASSERT_EQ(ask(server, {"SET", "comes" + std::to_string(turn), "x"}), "+OK");
    ask(server, {"DEL", "comes" + std::to_string(turn / 2)});
    ++turn;
  } while (cursor != "0" && turn < 10'000);
  EXPECT_EQ(found, 5000U);
}

TEST_F(kv_node, deletes_expired_keys_that_nobody_asks_for) {
  client server{running().port()};
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(ask(server, {"SET", "k" + std::to_string(i), "x", "PX", "200"}), "+OK");
  for (int i = 0; i < 100 && ask(server, {"DBSIZE"}) != ":0"; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  EXPECT_EQ(ask(server, {"DBSIZE"}), ":0");
}

TEST_F(kv_node, serves_ten_thousand_connections_and_refuses_more) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  constexpr std::size_t count = 10'000;
  if (files.rlim_max < count + 100) GTEST_SKIP() << "only " << files.rlim_max << " open files are allowed here";
  const std::size_t before = memory_of(running().pid());
  for (int round = 0; round < 2; ++round) {
    std::vector<client> clients;
    clients.reserve(count);
    for (std::size_t i = 0; i < count; ++i) clients.emplace_back(running().port());
    for (client& each : clients) each.send("INCR n\r\n");
    for (client& each : clients) ASSERT_TRUE(each.receive_until("\r\n").starts_with(':'));
    client one_more{running().port()};
    EXPECT_EQ(one_more.receive(), "") << "the connection beyond the limit should be closed";
    EXPECT_EQ(ask(clients.front(), {"GET", "n"}),
              "$" + std::to_string(std::to_string(count * static_cast<std::size_t>(round + 1)).size()) + "\r\n" +
                  std::to_string(count * static_cast<std::size_t>(round + 1)));
  }
  for (int i = 0; i < 100; ++i) {  // until all have been let go
    try {
      client server{running().port()};
      if (ask(server, {"PING"}) == "+PONG") break;
    } catch (const std::system_error&) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  EXPECT_TRUE(memory_falls_below(before + 32 * mib))
      << memory_of(running().pid()) / mib << " MiB, before " << before / mib;
}

}  // namespace
}  // namespace kv_test
