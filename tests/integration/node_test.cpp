// molt-node as a real process.
#include "node/api_error.hpp"
#include "node/fd_channel.hpp"
#include "node/http_client.hpp"
#include "node/listening.hpp"
#include "tests/node/node_fixture.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <boost/json.hpp>

#include <map>
#include <vector>

extern char** environ;

namespace molt::node {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// A child process with its output in a file; killed at the end if it still runs.
class process {
 public:
  process(std::vector<std::string> words, const std::filesystem::path& output, std::map<int, int> inherited = {}) {
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    for (const auto& [ours, theirs] : inherited) ::posix_spawn_file_actions_adddup2(&actions, ours, theirs);
    if (::posix_spawn(&pid_, words.front().c_str(), &actions, nullptr, arguments.data(), environ) != 0) pid_ = -1;
    ::posix_spawn_file_actions_destroy(&actions);
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;
  ~process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    (void)wait();
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  /// The exit status, or minus the signal's number.
  int wait() {
    int status = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) return -1000;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  /// Resident memory in KiB.
  [[nodiscard]] std::size_t resident() const {
    std::ifstream status{"/proc/" + std::to_string(pid_) + "/status"};
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6));
    return 0;
  }

 private:
  pid_t pid_ = -1;
};

std::string content_of(const std::filesystem::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

class node_process_test : public releases_test {
 protected:
  void SetUp() override {
    releases_test::SetUp();
    std::filesystem::create_directories(runtime());
  }
  void TearDown() override {
    node_.reset();
    if (HasFailure()) std::fputs(content_of(log()).c_str(), stderr);
    releases_test::TearDown();
  }

  [[nodiscard]] std::filesystem::path runtime() const { return folder_ / "run"; }
  [[nodiscard]] std::filesystem::path log() const { return folder_ / "log"; }
  [[nodiscard]] std::string socket() const { return (runtime() / "node.sock").string(); }

  void spawn(const std::filesystem::path& release, std::vector<std::string> more = {},
             std::map<int, int> inherited = {}) {
    std::vector<std::string> words{MOLT_NODE, "--release-dir", release.string(), "--runtime", runtime().string()};
    words.insert(words.end(), more.begin(), more.end());
    node_ = std::make_unique<process>(std::move(words), log(), std::move(inherited));
  }
  void spawn_and_wait(const std::filesystem::path& release, std::vector<std::string> more = {},
                      std::map<int, int> inherited = {}) {
    spawn(release, std::move(more), std::move(inherited));
    ASSERT_TRUE(eventually([&] { return request(socket(), "GET", "/v1/status", "", 5s).has_value(); }, 30s));
  }

  boost::json::object get(const std::string& path) { return parse(request(socket(), "GET", path, "", 30s)); }
  boost::json::object post(const std::string& path, const std::string& body) {
    return parse(request(socket(), "POST", path, body, 60s));
  }
  static boost::json::object parse(const result<http_response>& response) {
    if (!response) return {{"unreachable", response.error().text()}};
    return boost::json::parse(response->body).as_object();
  }
  [[nodiscard]] std::uint16_t port() {
    return port_of(std::string{std::string_view{get("/v1/status").at("listeners").at(0).at("address").as_string()}});
  }
  static std::string text(const boost::json::value& value) { return std::string{std::string_view{value.as_string()}}; }

  std::unique_ptr<process> node_;
};

TEST_F(node_process_test, serves_clients_and_its_api) {
  spawn_and_wait(make_release({}));
  client user{port()};
  EXPECT_EQ(user.ask("keep a"), "1");
  const auto status = get("/v1/status");
  EXPECT_EQ(text(status.at("release").at("current")), "line-1.0.0");
  EXPECT_EQ(status.at("node").at("pid").as_int64(), node_->pid());
  EXPECT_EQ(status.at("connections").to_number<int>(), 1);
  EXPECT_EQ(
      post("/v1/call", R"({"server":"keeper","message":"keep","payload":{"text":"b"}})").at("reply").to_number<int>(),
      2);
  const auto servers = get("/v1/servers?limit=1");
  EXPECT_EQ(servers.at("total").to_number<int>(), 2);
  EXPECT_EQ(servers.at("servers").as_array().size(), 1U);
  const auto kept = get("/v1/servers?type=line.keeper");
  EXPECT_EQ(text(kept.at("servers").at(0).at("name")), "keeper");
}

TEST_F(node_process_test, refuses_requests_that_make_no_sense) {
  spawn_and_wait(make_release({}));
  const auto refusal = [&](const boost::json::object& answer) { return text(answer.at("error").at("message")); };
  EXPECT_THAT(refusal(get("/v1/nothing")), HasSubstr("no such path"));
  EXPECT_THAT(refusal(get("/v1/call")), HasSubstr("expected POST"));
  EXPECT_THAT(refusal(get("/v1/servers?limit=many")), HasSubstr("limit"));
  EXPECT_THAT(refusal(post("/v1/upgrade", "{")), HasSubstr("no JSON"));
  EXPECT_THAT(refusal(post("/v1/upgrade", "{}")), HasSubstr("release_dir"));
  EXPECT_THAT(refusal(post("/v1/upgrade", R"({"release_dir":"relative"})")), HasSubstr("absolute"));
  EXPECT_THAT(refusal(post("/v1/upgrade", R"({"release_dir":"/x","mood":"lazy"})")), HasSubstr("mood"));
  EXPECT_THAT(refusal(post("/v1/upgrade", R"({"release_dir":"/x","mode":"hasty"})")), HasSubstr("mode"));
  const auto missing = post("/v1/upgrade", R"({"release_dir":"/nowhere"})");
  EXPECT_THAT(refusal(missing), HasSubstr("/nowhere"));
  EXPECT_EQ(missing.at("error").at("exit_code").to_number<int>(), 1);
  EXPECT_EQ(client{port()}.ask("echo on"), "on");
}

TEST_F(node_process_test, upgrades_rolls_back_and_commits_over_its_api) {
  spawn_and_wait(make_release({}));
  const auto second = make_release(version_2()).string();
  client user{port()};
  EXPECT_EQ(user.ask("keep a"), "1");
  const auto plan = post("/v1/plan", R"({"release_dir":")" + second + "\"}");
  EXPECT_EQ(text(plan.at("to")), "line-2.0.0");
  EXPECT_TRUE(plan.at("problems").as_array().empty());
  const auto up = post("/v1/upgrade", R"({"release_dir":")" + second + R"(","mode":"atomic"})");
  EXPECT_EQ(text(up.at("result")), "done");
  EXPECT_EQ(up.at("servers_migrated").to_number<int>(), 2);
  EXPECT_EQ(user.ask("keep b"), "2");
  const auto down = post("/v1/rollback", "{}");
  EXPECT_EQ(text(down.at("result")), "done");
  EXPECT_EQ(user.ask("keep c"), "3");
  EXPECT_EQ(text(post("/v1/upgrade", R"({"release_dir":")" + second + "\"}").at("result")), "done");
  const auto committed = post("/v1/commit", "{}");
  ASSERT_TRUE(committed.contains("unloaded"));
  EXPECT_EQ(committed.at("unloaded").as_array().size(), 1U);
  EXPECT_EQ(user.ask("keep d"), "4");
}

TEST_F(node_process_test, stops_gracefully_on_sigterm) {
  spawn_and_wait(make_release({}));
  client idle{port()};
  EXPECT_EQ(idle.ask("echo a"), "a");
  client busy{port()};
  busy.send("big 20000000\n");
  std::this_thread::sleep_for(100ms);
  node_->signal(SIGTERM);
  EXPECT_EQ(busy.line().size(), 20'000'000U);
  EXPECT_EQ(busy.line(), "<closed>");
  EXPECT_EQ(idle.line(), "<closed>");
  EXPECT_EQ(node_->wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(socket()));
  EXPECT_THAT(content_of(log()), HasSubstr("stopped"));
}

TEST_F(node_process_test, leaves_nothing_in_the_way_when_killed) {
  auto listening = listen_tcp("line", {"127.0.0.1", 0, false});
  ASSERT_TRUE(listening);
  const auto release = make_release({});
  spawn_and_wait(release, {"--listen-fds", "line=20"}, {{listening->get(), 20}});
  const auto first_port = port();
  client user{first_port};
  EXPECT_EQ(user.ask("keep a"), "1");
  node_->signal(SIGKILL);
  EXPECT_EQ(node_->wait(), -SIGKILL);
  EXPECT_EQ(user.line(), "<closed>");
  EXPECT_TRUE(std::filesystem::exists(socket()));
  spawn_and_wait(release, {"--listen-fds", "line=20"}, {{listening->get(), 20}});
  EXPECT_EQ(port(), first_port);
  EXPECT_EQ(client{first_port}.ask("keep b"), "1");
}

TEST_F(node_process_test, hands_its_sockets_over_and_takes_new_ones) {
  auto listening = listen_tcp("line", {"127.0.0.1", 0, false});
  spawn_and_wait(make_release({}), {"--listen-fds", "line=20"}, {{listening->get(), 20}});
  const auto channel = (runtime() / "node-fds.sock").string();
  const auto got = get_fds(channel, 5s);
  ASSERT_TRUE(got) << got.error().text();
  ASSERT_EQ(got->size(), 1U);
  auto second = version_2();
  second.listeners += listener("more", "line.connection");
  const auto body = R"({"release_dir":")" + make_release(second).string() + "\"}";
  EXPECT_EQ(text(post("/v1/upgrade", body).at("result")), "refused");
  const auto more = listen_tcp("more", {"127.0.0.1", 0, false});
  ASSERT_TRUE(put_fds(channel, {{"more", more->get()}}, 5s));
  EXPECT_EQ(text(post("/v1/upgrade", body).at("result")), "done");
  EXPECT_EQ(get("/v1/status").at("listeners").as_array().size(), 2U);
}

TEST_F(node_process_test, says_why_it_does_not_start) {
  spawn(folder_ / "nowhere");
  EXPECT_EQ(node_->wait(), 1);
  EXPECT_THAT(content_of(log()), HasSubstr("nowhere"));
  const auto release = make_release({});
  std::filesystem::resize_file(release / "plugins/line.so", 3000);
  spawn(release);
  EXPECT_EQ(node_->wait(), 1);
  EXPECT_THAT(content_of(log()), HasSubstr("line.so"));
  spawn(make_release({}), {"--listen-fds", "line=99"});
  EXPECT_EQ(node_->wait(), 1);
  EXPECT_THAT(content_of(log()), HasSubstr("line=99"));
}

TEST_F(node_process_test, begins_its_help_with_examples_and_knows_wrong_usage) {
  process help{{MOLT_NODE, "--help"}, log()};
  EXPECT_EQ(help.wait(), 0);
  EXPECT_THAT(content_of(log()), StartsWith("Examples:"));
  process wrong{{MOLT_NODE, "--frobnicate"}, log()};
  EXPECT_EQ(wrong.wait(), 2);
}

TEST_F(node_process_test, ends_when_its_supervisor_gives_up) {
  shape strict;
  strict.supervisor = "[supervisor]\nintensity = 1\nperiod_ms = 60000\n";
  spawn_and_wait(make_release(strict));
  for (int i = 0; i < 50; ++i)
    if (!request(socket(), "POST", "/v1/call", R"({"server":"keeper","message":"keep","payload":{"text":"throw"}})",
                 5s))
      break;
  EXPECT_EQ(node_->wait(), 3);
}

TEST_F(node_process_test, closes_connections_when_descriptors_run_out_and_recovers) {
  spawn_and_wait(make_release({}));
  const auto at = port();
  const rlimit few{64, 64};
  ASSERT_EQ(::prlimit(node_->pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  std::vector<std::unique_ptr<client>> all;
  int served = 0;
  int closed = 0;
  for (int i = 0; i < 100; ++i) {
    all.push_back(std::make_unique<client>(at));
    (all.back()->ask("echo a") == "a" ? served : closed)++;
  }
  EXPECT_GT(served, 10);
  EXPECT_GT(closed, 36);
  EXPECT_THAT(content_of(log()), HasSubstr("gets no descriptor"));
  all.clear();
  EXPECT_TRUE(eventually([&] { return client{at}.ask("echo b") == "b"; }));
  EXPECT_TRUE(eventually([&] { return get("/v1/status").contains("release"); }));
}

TEST_F(node_process_test, takes_10000_connections_and_gives_their_memory_back) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < 10'200) GTEST_SKIP() << "10,000 connections need as many open files";
  shape wide;
  wide.listeners = listener("line", "line.connection", "connections_max = 10000\n");
  spawn_and_wait(make_release(wide));
  const auto at = port();
  {  // what is allocated once stays: the second round shows what is kept
    client warm{at};
    EXPECT_EQ(warm.ask("echo a"), "a");
  }
  const auto before = node_->resident();
  std::vector<std::unique_ptr<client>> all;
  for (int i = 0; i < 10'000; ++i) {
    all.push_back(std::make_unique<client>(at));
    ASSERT_TRUE(all.back()->connected()) << i;
  }
  for (auto& each : all) ASSERT_TRUE(each->send("echo here\n"));
  for (auto& each : all) ASSERT_EQ(each->line(30s), "here");
  EXPECT_EQ(get("/v1/status").at("connections").to_number<int>(), 10'000);
  const auto during = node_->resident();
  client one_more{at};
  EXPECT_EQ(one_more.line(), "<closed>");
  const auto up = post("/v1/upgrade", R"({"release_dir":")" + make_release(version_2()).string() + "\"}");
  EXPECT_EQ(text(up.at("result")), "done");
  EXPECT_EQ(up.at("servers_migrated").to_number<int>(), 10'001);
  for (auto& each : all) ASSERT_TRUE(each->send("lines\n"));
  for (auto& each : all) ASSERT_EQ(each->line(30s), "1");
  all.clear();
  EXPECT_TRUE(eventually([&] { return get("/v1/status").at("connections").to_number<int>() == 0; }, 30s));
  RecordProperty("kib_per_connection_x100", static_cast<int>((during - before) * 100 / 10'000));
  std::printf("resident: %zu KiB before, %zu KiB with 10,000 connections, %zu KiB after\n", before, during,
              node_->resident());
  if (!sanitized) {
    EXPECT_LT(during - before, std::size_t{4} * 10'000) << "KiB for 10,000 idle connections";
  }
}

TEST_F(node_process_test, is_as_small_after_64_mib_values_as_before) {
  spawn_and_wait(make_release({}));
  const std::size_t large = std::size_t{64} << 20U;
  const std::string value(large, 'z');
  const auto round = [&] {
    client user{port()};
    std::jthread sender{[&] { user.send("take " + std::to_string(large) + "\n" + value + "\n"); }};
    ASSERT_EQ(user.line(60s), "took 67108864");
    ASSERT_EQ(user.line(60s), "what?");
    user.send("big 67108864\n");
    ASSERT_EQ(user.line(60s).size(), large);
  };
  // The node gives the memory back a moment after the client has its last byte.
  const auto settled = [&](std::size_t bound) {
    eventually([&] { return node_->resident() < bound; });
    return node_->resident();
  };
  round();
  const auto after_one = settled(40'000U);
  // Eight would tell a slow growth; a sanitizer's memory tells nothing.
  for (int i = 0; i < (sanitized ? 1 : 8); ++i) round();
  const auto after_many = settled(after_one + 4096);
  std::printf("resident: %zu KiB after one round, %zu KiB after all\n", after_one, after_many);
  if (!sanitized) {
    EXPECT_LT(after_one, 40'000U);
    EXPECT_LT(after_many, after_one + 4096);
  }
}

}  // namespace
}  // namespace molt::node
