#include "node/http_server.hpp"

#include "node/api_error.hpp"
#include "node/http_client.hpp"
#include "node/unix_socket.hpp"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <latch>
#include <random>
#include <thread>

namespace molt::node {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

class http_server_test : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "molt-http-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/api.sock";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void serve(http_server::handler handle, http_server_options options = {}) {
    auto made = http_server::listen(path_, std::move(handle), options);
    ASSERT_TRUE(made) << made.error().text();
    server_ = std::move(*made);
  }
  void serve_echo(http_server_options options = {}) {
    serve(
        [](const http_request& asked) {
          return http_response{200, asked.method + " " + asked.path + " " + asked.body, "text/plain"};
        },
        options);
  }

  [[nodiscard]] unique_fd connect() const {
    auto fd = connect_unix(path_, SOCK_STREAM, std::chrono::steady_clock::now() + 1s);
    EXPECT_TRUE(fd);
    return std::move(*fd);
  }
  static void send(const unique_fd& to, std::string_view bytes) {
    (void)!::send(to.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  /// Everything until the server closes, or what there is after `limit`.
  static std::string receive_all(const unique_fd& from, std::chrono::milliseconds limit = 5s) {
    std::string got;
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      pollfd poll{from.get(), POLLIN, 0};
      if (left.count() <= 0 || ::poll(&poll, 1, static_cast<int>(left.count())) <= 0) return got;
      std::array<char, 4096> buffer;
      const auto size = ::recv(from.get(), buffer.data(), buffer.size(), 0);
      if (size <= 0) return got;
      got.append(buffer.data(), static_cast<std::size_t>(size));
    }
  }

  std::string folder_;
  std::string path_;
  std::unique_ptr<http_server> server_;
};

TEST_F(http_server_test, answers_a_request_with_path_query_and_body) {
  serve([](const http_request& asked) {
    return http_response{201, asked.path + "|" + std::string{asked.parameter("a b")} + "|" + asked.body, "text/plain"};
  });
  const auto answer = request(path_, "POST", "/v1/x%20y?z=1&a%20b=%26&q", "body", 5s);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->status, 201U);
  EXPECT_EQ(answer->content_type, "text/plain");
  EXPECT_EQ(answer->body, "/v1/x y|&|body");
}

TEST_F(http_server_test, binds_with_a_mode_for_our_user_only) {
  serve_echo();
  struct stat file {};
  ASSERT_EQ(::stat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777U, 0600U);
}

TEST_F(http_server_test, removes_its_socket_file_at_the_end) {
  serve_echo();
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(http_server_test, refuses_a_path_on_which_somebody_answers) {
  serve_echo();
  const auto second = http_server::listen(path_, [](const http_request&) { return http_response{}; });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().why(), reason::busy);
  EXPECT_TRUE(request(path_, "GET", "/", "", 5s));
}

TEST_F(http_server_test, replaces_a_socket_file_that_nobody_answers_on) {
  {
    auto dead = listen_unix(path_, SOCK_STREAM);
    ASSERT_TRUE(dead);
  }
  ASSERT_TRUE(std::filesystem::exists(path_));
  serve_echo();
  EXPECT_TRUE(request(path_, "GET", "/", "", 5s));
}

TEST_F(http_server_test, leaves_a_file_that_is_no_socket_alone) {
  std::ofstream{path_} << "precious";
  const auto made = http_server::listen(path_, [](const http_request&) { return http_response{}; });
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("not a socket"));
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
}

TEST_F(http_server_test, reports_unreachable_when_nobody_answers) {
  const auto answer = request(path_, "GET", "/", "", 1s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().why(), reason::unreachable);
  EXPECT_THAT(answer.error().message(), HasSubstr(path_));
}

TEST_F(http_server_test, refuses_a_path_longer_than_a_socket_may_have) {
  const auto answer = request(std::string(200, 'x'), "GET", "/", "", 1s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().why(), reason::invalid_argument);
}

TEST_F(http_server_test, times_out_a_handler_that_takes_longer_than_the_client_waits) {
  serve([](const http_request&) {
    std::this_thread::sleep_for(500ms);
    return http_response{};
  });
  const auto answer = request(path_, "GET", "/", "", 50ms);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().why(), reason::timeout);
}

TEST_F(http_server_test, turns_an_exception_of_the_handler_into_500) {
  serve([](const http_request&) -> http_response { throw std::runtime_error{"out of ideas"}; });
  const auto answer = request(path_, "GET", "/", "", 5s);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 500U);
  const auto failed = error_of(*answer);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->what.why(), reason::internal);
  EXPECT_THAT(failed->what.message(), HasSubstr("out of ideas"));
}

TEST_F(http_server_test, answers_pipelined_requests_in_order_on_one_connection) {
  serve_echo();
  const auto client = connect();
  send(client, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const auto got = receive_all(client);
  EXPECT_LT(got.find("GET /a"), got.find("GET /b"));
  EXPECT_NE(got.find("GET /b"), std::string::npos);
}

TEST_F(http_server_test, says_continue_to_a_client_that_waits_for_it) {
  serve_echo();
  const auto client = connect();
  send(client, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_THAT(receive_all(client, 300ms), StartsWith("HTTP/1.1 100 "));
  send(client, "hi");
  EXPECT_THAT(receive_all(client, 300ms), HasSubstr("POST /a hi"));
}

TEST_F(http_server_test, answers_head_without_a_body) {
  serve_echo();
  const auto client = connect();
  send(client, "HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const auto got = receive_all(client);
  EXPECT_THAT(got, HasSubstr("Content-Length: 8\r\n"));
  EXPECT_THAT(got, testing::EndsWith("\r\n\r\n"));
}

TEST_F(http_server_test, refuses_malformed_requests_with_400_and_goes_on) {
  serve_echo();
  for (const std::string_view bad :
       {"\r\n\r\nGARBAGE\r\n\r\n", "GET nopath HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%zz HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -4\r\n\r\n", "GET /%00 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    const auto client = connect();
    send(client, bad);
    EXPECT_THAT(receive_all(client), StartsWith("HTTP/1.1 400 ")) << bad;
  }
  EXPECT_TRUE(request(path_, "GET", "/", "", 5s));
}

TEST_F(http_server_test, refuses_a_header_over_the_limit_with_431) {
  serve_echo();
  const auto client = connect();
  send(client, "GET / HTTP/1.1\r\nX: " + std::string(std::size_t{64} << 10U, 'x'));
  EXPECT_THAT(receive_all(client), StartsWith("HTTP/1.1 431 "));
}

TEST_F(http_server_test, refuses_a_body_over_the_limit_with_413) {
  http_server_options options;
  options.body_max = 1000;
  serve_echo(options);
  EXPECT_EQ(request(path_, "POST", "/", std::string(1000, 'x'), 5s)->status, 200U);
  EXPECT_EQ(request(path_, "POST", "/", std::string(1001, 'x'), 5s)->status, 413U);
  const auto client = connect();
  send(client,
       "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + std::string(2000, 'x') + "\r\n0\r\n\r\n");
  EXPECT_THAT(receive_all(client), StartsWith("HTTP/1.1 413 "));
}

TEST_F(http_server_test, carries_64_mib_both_ways) {
  serve([](const http_request& asked) { return http_response{200, asked.body, "text/plain"}; });
  const std::string large(std::size_t{64} << 20U, 'x');
  const auto answer = request(path_, "POST", "/", large, 60s);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->body, large);
}

TEST_F(http_server_test, is_not_held_up_by_clients_that_send_nothing_or_half_a_request) {
  serve_echo();
  std::vector<unique_fd> slow;
  for (int i = 0; i < 50; ++i) {
    slow.push_back(connect());
    if (i % 2 == 0) send(slow.back(), "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhal");
  }
  const auto before = std::chrono::steady_clock::now();
  ASSERT_TRUE(request(path_, "GET", "/", "", 5s));
  EXPECT_LT(std::chrono::steady_clock::now() - before, 1s);
}

TEST_F(http_server_test, cuts_off_a_client_whose_request_does_not_arrive) {
  http_server_options options;
  options.request_timeout = 100ms;
  options.body_timeout = 100ms;
  serve_echo(options);
  const auto client = connect();
  send(client, "GET / HT");
  const auto other = connect();
  send(other, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhal");
  EXPECT_EQ(receive_all(client, 3s), "");
  EXPECT_EQ(receive_all(other, 3s), "");
  for (int i = 0; i < 100 && server_->connections() != 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(server_->connections(), 0U);
}

TEST_F(http_server_test, cuts_off_a_client_that_takes_no_answer) {
  http_server_options options;
  options.write_timeout = 200ms;
  serve(
      [](const http_request&) {
        return http_response{200, std::string(std::size_t{16} << 20U, 'x'), "text/plain"};
      },
      options);
  const auto client = connect();
  send(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  for (int i = 0; i < 300 && server_->connections() == 0; ++i) std::this_thread::sleep_for(10ms);
  for (int i = 0; i < 300 && server_->connections() != 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(server_->connections(), 0U);
}

TEST_F(http_server_test, answers_503_while_all_its_connections_are_being_handled) {
  http_server_options options;
  options.connections_max = 2;
  std::latch begun{2};
  std::latch over{1};
  serve(
      [&](const http_request&) {
        begun.count_down();
        over.wait();
        return http_response{};
      },
      options);
  {
    std::jthread first{[&] { EXPECT_TRUE(request(path_, "GET", "/", "", 5s)); }};
    std::jthread second{[&] { EXPECT_TRUE(request(path_, "GET", "/", "", 5s)); }};
    begun.wait();
    const auto third = request(path_, "GET", "/", "", 5s);
    over.count_down();
    ASSERT_TRUE(third) << third.error().text();
    EXPECT_EQ(third->status, 503U);
  }
}

TEST_F(http_server_test, makes_room_by_closing_the_client_that_has_been_silent_longest) {
  http_server_options options;
  options.connections_max = 4;
  serve_echo(options);
  const auto awaited = [&](std::size_t count) {
    for (int i = 0; i < 300 && server_->connections() != count; ++i) std::this_thread::sleep_for(10ms);
    return server_->connections() == count;
  };
  const auto oldest = connect();
  ASSERT_TRUE(awaited(1));
  const auto half = connect();
  send(half, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel");
  ASSERT_TRUE(awaited(2));
  const auto third = connect();
  const auto fourth = connect();
  ASSERT_TRUE(awaited(4));
  ASSERT_TRUE(request(path_, "GET", "/", "", 5s));
  EXPECT_EQ(receive_all(oldest, 1s), "");
  EXPECT_EQ(::send(oldest.get(), "x", 1, MSG_NOSIGNAL), -1) << "closed, for it came first";
  send(half, "lo");
  EXPECT_THAT(receive_all(half, 1s), HasSubstr("POST / hello")) << "the others were left alone";
}

TEST_F(http_server_test, answers_a_request_that_was_sent_whole_before_its_connection_had_to_make_room) {
  std::latch stopped{1};
  std::latch over{1};
  http_server_options options;
  options.connections_max = 2;
  options.lane_of = [&](const http_request& asked) -> std::size_t {
    if (asked.path != "/stop") return 0;
    stopped.count_down();
    over.wait();  // nothing is accepted, read or written meanwhile
    return 0;
  };
  serve_echo(options);
  const auto oldest = connect();
  for (int i = 0; i < 300 && server_->connections() != 1; ++i) std::this_thread::sleep_for(10ms);
  const auto second = connect();
  send(second, "GET /stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  stopped.wait();
  const auto newcomer = connect();
  send(newcomer, "GET /new HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  send(oldest, "GET /whole HTTP/1.1\r\nHost: x\r\n\r\n");
  over.count_down();
  EXPECT_THAT(receive_all(oldest, 20s), HasSubstr("GET /whole")) << "and then closed, though it might have stayed";
  EXPECT_THAT(receive_all(newcomer, 20s), HasSubstr("GET /new"));
  EXPECT_THAT(receive_all(second, 20s), HasSubstr("GET /stop"));
}

TEST_F(http_server_test, answers_requests_of_one_lane_while_all_threads_of_another_are_taken) {
  http_server_options options;
  options.lanes = {2, 1};
  options.lane_of = [](const http_request& asked) -> std::size_t { return asked.path == "/quick" ? 1 : 0; };
  std::latch begun{2};
  std::latch over{1};
  serve(
      [&](const http_request& asked) {
        if (asked.path != "/quick") {
          begun.count_down();
          over.wait();
        }
        return http_response{};
      },
      options);
  std::vector<std::jthread> slow;
  for (int i = 0; i < 2; ++i) slow.emplace_back([&] { EXPECT_TRUE(request(path_, "GET", "/slow", "", 30s)); });
  begun.wait();
  EXPECT_TRUE(request(path_, "GET", "/quick", "", 30s));
  over.count_down();
}

TEST_F(http_server_test, answers_while_many_more_clients_than_it_serves_keep_silent) {
  http_server_options options;
  options.connections_max = 16;
  serve_echo(options);
  std::vector<unique_fd> silent;
  for (int i = 0; i < 300; ++i) silent.push_back(connect());
  for (int i = 0; i < 20; ++i) {
    const auto answered = request(path_, "GET", "/", "", 5s);
    ASSERT_TRUE(answered) << answered.error().text();
    EXPECT_EQ(answered->status, 200U);
    silent.push_back(connect());
  }
  EXPECT_LE(server_->connections(), 18U);
}

TEST_F(http_server_test, runs_handlers_side_by_side) {
  std::latch both{2};
  serve([&](const http_request&) {
    both.arrive_and_wait();
    return http_response{};
  });
  std::jthread other{[&] { EXPECT_TRUE(request(path_, "GET", "/", "", 5s)); }};
  EXPECT_TRUE(request(path_, "GET", "/", "", 5s));
}

TEST_F(http_server_test, answers_the_request_it_is_handling_when_destroyed) {
  std::latch begun{1};
  serve([&](const http_request&) {
    begun.count_down();
    std::this_thread::sleep_for(200ms);
    return http_response{200, "late but whole", "text/plain"};
  });
  std::jthread client{[&] {
    const auto answer = request(path_, "GET", "/", "", 5s);
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(answer->body, "late but whole");
  }};
  begun.wait();
  server_.reset();
}

TEST_F(http_server_test, survives_random_bytes) {
  serve_echo();
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random{seed};
  const std::string whole =
      "POST /v1/call?x=%20 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
  for (int round = 0; round < 300; ++round) {
    std::string bytes = whole.substr(0, random() % (whole.size() + 1));
    for (unsigned change = random() % 8; change > 0 && !bytes.empty(); --change)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto client = connect();
    send(client, bytes);
  }
  ASSERT_TRUE(request(path_, "GET", "/", "", 5s));
}

TEST(api_error, survives_the_way_over_http) {
  const error sent{reason::refused, "installing \"x\": no build ID", "link with --build-id"};
  const auto got = error_of(error_response(sent));
  ASSERT_TRUE(got);
  EXPECT_EQ(got->what.why(), sent.why());
  EXPECT_EQ(got->what.message(), sent.message());
  EXPECT_EQ(got->what.hint(), sent.hint());
  EXPECT_EQ(got->code, exit_code::refused);
}

TEST(api_error, makes_an_error_of_a_body_that_is_not_ours) {
  const auto got = error_of({502, "<html>bad gateway", "text/html"});
  ASSERT_TRUE(got);
  EXPECT_THAT(got->what.message(), HasSubstr("bad gateway"));
  EXPECT_FALSE(error_of({204, "", ""}));
}

}  // namespace
}  // namespace molt::node
