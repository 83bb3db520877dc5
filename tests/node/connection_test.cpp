// Real sockets against a box with the line plugin.
#include "node_fixture.hpp"

#include <gmock/gmock.h>
#include <malloc.h>

#include <random>
#include <vector>

namespace molt::node {
namespace {

using connection_test = box_test;

TEST_F(connection_test, answers_lines_in_order) {
  start();
  client user{port()};
  ASSERT_TRUE(user.connected());
  user.send("echo a\necho b\nlines\n");
  EXPECT_EQ(user.line(), "a");
  EXPECT_EQ(user.line(), "b");
  EXPECT_EQ(user.line(), "2");
}

TEST_F(connection_test, is_replayed_on_a_copy_that_writes_to_nobody) {
  start();
  client user{port()};
  EXPECT_EQ(user.ask("echo a"), "a");
  molt_ref recorded{};
  for (const auto& server : box_->servers())
    if (server.type == "line.connection") recorded = server.ref;
  ASSERT_TRUE(box_->runtime().record(recorded, {16, 4096}));
  EXPECT_EQ(user.ask("echo b"), "b");
  EXPECT_EQ(user.ask("lines"), "2");
  EXPECT_EQ(user.ask("keep x"), "1") << "a call, which in the copy nobody answers, whatever the version";
  EXPECT_EQ(user.ask("slow 1 s"), "s") << "a timer, whose message is recorded too";
  ASSERT_TRUE(eventually([&] {
    const auto all = box_->runtime().last_messages(recorded);
    return all && all->size() == 5;
  })) << "it answers before its handler has returned";
  auto next = version_2();
  next.upgrade = "[upgrade]\nrehearsal_replay = \"report\"\n";
  const auto report = box_->rehearse(make_release(next), {});
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_TRUE(report->passed) << report->how;
  const auto& replay = report->findings.replay;
  EXPECT_EQ(replay.servers, 1U);
  EXPECT_EQ(replay.messages, 5U);
  EXPECT_EQ(replay.skipped, 0U);
  for (const auto& each : replay.differences) ADD_FAILURE() << each.server << ", " << each.message << ": " << each.text;
  EXPECT_EQ(user.ask("lines"), "5") << "the client has got each answer once";
  EXPECT_EQ(user.ask("keep y"), "2") << "and the keeper each call";
}

TEST_F(connection_test, keeps_half_a_request_until_the_rest_arrives) {
  start();
  client user{port()};
  for (const char c : std::string_view{"echo one byte at a time\n"}) {
    user.send({&c, 1});
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(user.line(), "one byte at a time");
}

TEST_F(connection_test, answers_a_long_pipeline_wholly_and_in_order) {
  start();
  client user{port()};
  std::jthread sender{[&] {
    std::string all;
    for (int i = 0; i < 100'000; ++i) all += "echo " + std::to_string(i) + "\n";
    user.send(all);
  }};
  for (int i = 0; i < 100'000; ++i) ASSERT_EQ(user.line(), std::to_string(i));
}

TEST_F(connection_test, cuts_requests_anywhere) {
  start();
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random{seed};
  std::string all;
  for (int i = 0; i < 2000; ++i)
    all += i % 10 == 0 ? "take 700\n" + std::string(700, 'z') : "echo " + std::to_string(i) + "\n";
  client user{port()};
  std::jthread sender{[&] {
    for (std::size_t at = 0; at < all.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 500, all.size() - at);
      user.send(std::string_view{all}.substr(at, size));
      at += size;
    }
  }};
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(user.line(), i % 10 == 0 ? "took 700" : std::to_string(i));
}

TEST_F(connection_test, takes_64_mib_in_one_request_and_gives_64_mib_in_one_answer) {
  start();
  client user{port()};
  const std::size_t large = std::size_t{64} << 20U;
  std::jthread sender{
      [&] { user.send("take " + std::to_string(large) + "\n" + std::string(large, 'z') + "echo next\n"); }};
  EXPECT_EQ(user.line(60s), "took 67108864");
  EXPECT_EQ(user.line(), "next");
  user.send("big " + std::to_string(large) + "\necho after\n");
  EXPECT_TRUE(user.line(60s) == std::string(large, 'x'));
  EXPECT_EQ(user.line(), "after");
}

TEST_F(connection_test, stops_reading_from_a_client_that_does_not_read) {
  box_options options;
  options.data_plane.output_high_water = std::size_t{256} << 10U;
  start({}, std::move(options));
  client slow{port()};
  // 600 requests for 100 KB each: were all handled, 60 MB would wait.
  std::string all;
  for (int i = 0; i < 600; ++i) all += "big 100000\n";
  std::jthread sender{[&] { slow.send(all); }};
  std::this_thread::sleep_for(300ms);
  client other{port()};
  EXPECT_EQ(other.ask("echo still here"), "still here");
  for (int i = 0; i < 600; ++i) ASSERT_EQ(slow.line(60s).size(), 100'000U) << i;
}

TEST_F(connection_test, offers_again_what_a_plugin_held_back_for_its_output) {
  start();
  client user{port()};
  user.send("fill 1000000\necho done\n");  // 16 MB in pieces that the plugin writes only as they drain
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(user.line() == std::string(1'000'000, 'f')) << i;
  EXPECT_EQ(user.line(), "done");
}

TEST_F(connection_test, sends_what_handlers_on_other_threads_write) {
  start();
  client user{port()};
  EXPECT_EQ(user.ask("slow 20 later"), "later");
  user.send("burst 500\n");
  for (int i = 0; i < 500; ++i) ASSERT_EQ(user.line(), "burst " + std::to_string(i));
}

TEST_F(connection_test, keeps_the_order_of_writes_from_both_sides) {
  start();
  client user{port()};
  for (int round = 0; round < 200; ++round) {
    user.send("burst 3\n");
    ASSERT_EQ(user.line(), "burst 0");
    user.send("echo x\n");
    std::vector<std::string> rest{user.line(), user.line(), user.line()};
    std::erase(rest, "x");
    ASSERT_EQ(rest, (std::vector<std::string>{"burst 1", "burst 2"}));
  }
}

TEST_F(connection_test, closes_after_what_was_written_when_the_handler_closes) {
  start();
  client user{port()};
  user.send("big 3000000\nquit\necho never\n");
  EXPECT_EQ(user.line().size(), 3'000'000U);
  EXPECT_EQ(user.line(), "bye");
  EXPECT_EQ(user.line(), "<closed>");
  EXPECT_TRUE(eventually([&] { return box_->status().connections == 0; }));
}

TEST_F(connection_test, closes_the_connection_whose_handler_throws_and_no_other) {
  start();
  client other{port()};
  EXPECT_EQ(other.ask("echo a"), "a");
  client user{port()};
  EXPECT_EQ(user.ask("echo b"), "b");
  EXPECT_EQ(user.ask("throw"), "<closed>");
  EXPECT_EQ(other.ask("echo c"), "c");
  EXPECT_TRUE(eventually([&] { return box_->status().connections == 1; }));
}

TEST_F(connection_test, answers_a_client_that_has_ended_its_input) {
  start();
  client user{port()};
  user.send("big 5000000\necho last\nhalf a li");
  user.end_of_input();
  EXPECT_EQ(user.line().size(), 5'000'000U);
  EXPECT_EQ(user.line(), "last");
  EXPECT_EQ(user.line(), "<closed>");
}

TEST_F(connection_test, forgets_clients_that_vanish) {
  start();
  for (int i = 0; i < 50; ++i) {
    client user{port()};
    user.send("burst 20\nbig 2000000\nslow 1 x\n");
    const linger now{1, 0};  // a reset
    ::setsockopt(user.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  EXPECT_TRUE(eventually([&] { return box_->status().connections == 0 && box_->status().servers == 1; }));
}

TEST_F(connection_test, refuses_connections_over_the_limit_and_takes_new_ones_when_there_is_room) {
  shape small;
  small.listeners = listener("line", "line.connection", "connections_max = 2\n");
  start(small);
  auto first = std::make_unique<client>(port());
  EXPECT_EQ(first->ask("echo 1"), "1");
  client second{port()};
  EXPECT_EQ(second.ask("echo 2"), "2");
  client third{port()};
  EXPECT_EQ(third.line(), "<closed>");
  EXPECT_EQ(box_->status().listeners.front().refused, 1U);
  first.reset();
  EXPECT_TRUE(eventually([&] { return client{port()}.ask("echo 4") == "4"; }));
}

TEST_F(connection_test, closes_a_connection_that_sends_more_than_may_wait) {
  box_options options;
  options.data_plane.input_max = 100'000;
  start({}, std::move(options));
  client user{port()};
  user.send("take 1000000\n" + std::string(900'000, 'z'));
  EXPECT_EQ(user.line(), "<closed>");
  EXPECT_EQ(client{port()}.ask("echo on"), "on");
}

TEST_F(connection_test, closes_a_connection_whose_output_passes_the_bound) {
  box_options options;
  options.data_plane.output_max = 1'000'000;
  start({}, std::move(options));
  client user{port()};
  user.send(
      "big 900000\nbig 900000\nbig 900000\nbig 900000\nbig 900000\nbig 900000\nbig 900000\nbig 900000\nbig 900000\n");
  std::this_thread::sleep_for(100ms);
  EXPECT_TRUE(eventually([&] { return box_->status().connections == 0; }));
}

TEST_F(connection_test, deals_connections_to_several_threads) {
  box_options options;
  options.data_plane.io_threads = 3;
  start({}, std::move(options));
  std::vector<std::jthread> users;
  for (int i = 0; i < 8; ++i)
    users.emplace_back([&, i] {
      client user{port()};
      for (int n = 0; n < 500; ++n) {
        ASSERT_EQ(user.ask("echo " + std::to_string(n)), std::to_string(n));
        if (n % 50 == i) {
          user.send("burst 10\n");
          for (int b = 0; b < 10; ++b) ASSERT_EQ(user.line(), "burst " + std::to_string(b));
        }
      }
      EXPECT_NE(user.ask("keep x").substr(0, 5), "error");
    });
  users.clear();
  EXPECT_TRUE(eventually([&] { return box_->status().connections == 0; }));
}

TEST_F(connection_test, stops_with_answers_on_their_way) {
  start();
  client user{port()};
  EXPECT_EQ(user.ask("echo up"), "up");
  user.send("big 8000000\n");
  std::this_thread::sleep_for(50ms);
  std::jthread stopping{[&] { box_->stop(5s); }};
  EXPECT_EQ(user.line().size(), 8'000'000U);
  EXPECT_EQ(user.line(), "<closed>");
}

TEST_F(connection_test, stops_in_time_although_a_client_does_not_read) {
  start();
  client user{port()};
  user.send("big 60000000\n");
  std::this_thread::sleep_for(100ms);
  const auto before = std::chrono::steady_clock::now();
  box_->stop(200ms);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 3s);
}

}  // namespace
}  // namespace molt::node
