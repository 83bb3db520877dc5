// Requests in pieces, and the states' steps up and down.
#include "examples/kv/common/resp_parser.hpp"
#include "examples/kv/common/text.hpp"
#include "examples/kv/states/v3.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kv {
namespace {

/// Each command's words with a blank after each.
std::vector<std::string> commands_of(requests& from) {
  const execute batch = take_commands(from);
  std::vector<std::string> all;
  for (batch_reader reader{batch}; !reader.done();) {
    std::string command;
    for (const std::string_view word : reader.next()) command.append(word).append(" ");
    all.push_back(command);
  }
  return all;
}

TEST(request_parser, reads_the_same_in_pieces_of_every_size) {
  const std::string bytes = "*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\nset k 'a b'\r\n*0\r\n\r\n*1\r\n$4\r\nPING\r\n";
  const std::vector<std::string> expected{"GET a\r\nbc ", "set k a b ", "PING "};
  for (std::size_t size = 1; size <= bytes.size(); ++size) {
    requests into;
    std::string unread;
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      unread += bytes.substr(at, size);
      unread.erase(0, request_parser{into, unread}.run().consumed);
    }
    EXPECT_EQ(unread, "");
    EXPECT_EQ(commands_of(into), expected) << "pieces of " << size;
  }
}

TEST(request_parser, keeps_the_command_being_read_when_whole_ones_are_taken) {
  requests into;
  (void)request_parser{into, "PING\r\n*2\r\n$3\r\nGET\r\n$4\r\nke"}.run();
  EXPECT_EQ(commands_of(into), std::vector<std::string>{"PING "});
  (void)request_parser{into, "ys\r\nPING\r\n"}.run();
  execute whole = take_commands(into);
  (void)request_parser{into, "DBSIZE\r\n"}.run();
  put_back(into, std::move(whole), 2);
  EXPECT_EQ(into.commands, 3U);
  EXPECT_EQ(commands_of(into), (std::vector<std::string>{"GET keys ", "PING ", "DBSIZE "}));
}

TEST(request_parser, keeps_no_more_of_a_word_than_has_come) {
  requests into;
  (void)request_parser{into, "*2\r\n$4\r\nECHO\r\n$67108864\r\nabc"}.run();
  EXPECT_LT(into.input.text.capacity(), 1000U);
}

TEST(request_parser, refuses_more_words_than_a_command_may_have) {
  requests into;
  EXPECT_EQ(farewell(request_parser{into, "*1048577\r\n"}.run()), "-ERR Protocol error: invalid multibulk length\r\n");
}

TEST(matches_glob, takes_no_time_for_many_stars) {
  std::string pattern;
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  EXPECT_FALSE(matches_glob(pattern + "b", std::string(10'000, 'a')));
}

TEST(states, go_up_and_down_with_everything_that_both_know) {
  v1::state first;
  for (int i = 0; i < 10'000; ++i) first.keys.find_or_add("key" + std::to_string(i)) = std::to_string(i);
  first.keys.erase("key77");

  v3::state third = v3::from_v2(v2::from_v1(std::move(first)));
  EXPECT_EQ(third.keys.size(), 9'999U);
  third.keys.find_or_add("list").value = std::make_unique<v3::list>(3, "element");
  third.keys.find("list")->expires_at_ms = 5;
  third.deadlines.emplace(5, "list");
  third.keys.find("key5")->expires_at_ms = 7;
  third.keys.find("key5")->hits = 3;
  third.deadlines.emplace(7, "key5");

  v2::state second = v3::to_v2(std::move(third));
  EXPECT_EQ(second.keys.find("list"), nullptr);
  EXPECT_EQ(second.deadlines.size(), 1U);
  EXPECT_EQ(second.keys.find("key5")->hits, 3U);
  EXPECT_EQ(second.keys.find("key5")->expires_at_ms, 7);

  v1::state again = v2::to_v1(std::move(second));
  EXPECT_EQ(again.keys.size(), 9'999U);
  for (int i = 0; i < 10'000; ++i) {
    const std::string* const value = again.keys.find("key" + std::to_string(i));
    if (i == 77) {
      EXPECT_EQ(value, nullptr);
      continue;
    }
    ASSERT_NE(value, nullptr) << i;
    EXPECT_EQ(*value, std::to_string(i));
  }
}

}  // namespace
}  // namespace kv
