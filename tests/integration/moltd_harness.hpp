// A real moltd with a real molt-node in a folder of its own.
#pragma once

#include "node/http_client.hpp"
#include "tests/base/scratch_folder.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fixture_paths.hpp>

#include <boost/json.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace molt::tests {

namespace fs = std::filesystem;
namespace json = boost::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// A sanitizer's start alone takes a second; what is promised is measured without.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool measures_time = false;
#else
inline constexpr bool measures_time = true;
#endif

inline bool eventually(const std::function<bool()>& holds, milliseconds within = milliseconds{30'000}) {
  const auto end = steady_clock::now() + within;
  while (!holds()) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds{5});
  }
  return true;
}

struct reply {
  unsigned status = 0;  ///< 0: nobody answered
  json::value body;

  [[nodiscard]] std::string text(std::initializer_list<std::string_view> path) const {
    const json::value* here = &body;
    for (const auto key : path) {
      if (!here->is_object() || !here->get_object().contains(key)) return "";
      here = &here->get_object().at(key);
    }
    return here->is_string() ? std::string{std::string_view{here->get_string()}} : json::serialize(*here);
  }
};

/// What a program left behind.
struct outcome {
  int status = -1;
  std::string out;
  std::string err;
};

class moltd_box {
 public:
  /// Makes release folders box-1.0.0, box-2.0.0 (hooks, one more listener), box-2.0.1 (a hook that throws at 13)
  /// box-2.0.3 (a hook of 400 ms) and box-2.0.4 (a hook that allocates without end).
  moltd_box() {
    make_release("1.0.0", "1.0.0", fixtures::counter_1_0_0, "1.0.0", 1);
    make_release("2.0.0", "2.0.0", fixtures::counter_2_0_0, "2.0.0", 2);
    make_release("2.0.1", "2.0.1", fixtures::counter_2_0_1_throwing, "2.0.0", 1);
    make_release("2.0.3", "2.0.3", fixtures::counter_2_0_3_slow, "2.0.0", 1);
    make_release("2.0.4", "2.0.4", fixtures::counter_2_0_4_misbehaving, "2.0.0", 1,
                 "[upgrade]\nhook_memory_mb = 64\narguments = { misbehave = \"allocate\" }\n");
  }
  moltd_box(const moltd_box&) = delete;
  moltd_box& operator=(const moltd_box&) = delete;
  ~moltd_box() {
    const auto node = node_pid();
    if (moltd > 0) {
      ::kill(moltd, SIGKILL);
      ::waitpid(moltd, nullptr, 0);
    }
    if (node > 0) ::kill(node, SIGKILL);
  }

  [[nodiscard]] fs::path release(const std::string& version) const { return folder.path() / ("box-" + version); }
  /// Before the release is installed: `from`, which stands in its manifest, becomes `to`. Empty: `to` is appended.
  void edit_manifest(const std::string& version, const std::string& from, const std::string& to) {
    auto text = content_of(release(version) / "release.toml");
    text.replace(from.empty() ? text.size() : text.find(from), from.size(), to);
    write_file(release(version) / "release.toml", text);
  }
  [[nodiscard]] std::string socket() const { return (folder.path() / "run/control.sock").string(); }
  [[nodiscard]] std::string log() const { return content_of(folder.path() / "log"); }
  [[nodiscard]] static std::string content_of(const fs::path& path) {
    std::ifstream file{path};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  /// The command line, as a person types it.
  [[nodiscard]] outcome molt(const std::string& words) const {
    const auto out = folder.path() / "molt.out";
    const auto err = folder.path() / "molt.err";
    const std::string command = MOLT " --socket " + socket() + ' ' + words + " >" + out.string() + " 2>" + err.string();
    const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content_of(out), content_of(err)};
  }

  /// Starts moltd without waiting for anything.
  void launch(std::vector<std::string> more = {}) {
    std::vector<std::string> words{
        MOLTD, "--store", (folder / "store").string(), "--runtime", (folder / "run").string(), "--node", node_program};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 2, (folder / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (::posix_spawn(&moltd, MOLTD, &actions, nullptr, arguments.data(), environ) != 0) std::abort();
    ::posix_spawn_file_actions_destroy(&actions);
  }
  /// Starts moltd and waits until its node serves.
  bool start(std::vector<std::string> more = {}) {
    launch(std::move(more));
    return serves();
  }
  bool start_first() { return start({"--release", release("1.0.0").string()}); }
  bool serves() {
    return eventually([&] { return ask("GET", "/v1/status").text({"node", "state"}) == "running"; });
  }
  void kill_moltd() {
    ::kill(moltd, SIGKILL);
    ::waitpid(moltd, nullptr, 0);
    moltd = -1;
  }
  /// SIGTERM; returns the exit status.
  int stop_moltd() {
    ::kill(moltd, SIGTERM);
    return await_end();
  }
  int await_end() {
    int status = 0;
    ::waitpid(moltd, &status, 0);
    moltd = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  reply ask(std::string_view method, std::string_view target, const json::value& body = nullptr,
            milliseconds timeout = milliseconds{60'000}) const {
    return ask_at(socket(), method, target, body, timeout);
  }
  reply ask_at(const std::string& path, std::string_view method, std::string_view target,
               const json::value& body = nullptr, milliseconds timeout = milliseconds{60'000}) const {
    const auto got = node::request(path, method, target, body.is_null() ? "" : json::serialize(body), timeout);
    if (!got) return {};
    json::error_code bad;
    return {got->status, json::parse(got->body, bad)};
  }
  reply install(const std::string& version) {
    return ask("POST", "/v1/releases", {{"path", release(version).string()}});
  }
  reply upgrade(const std::string& id) { return ask("POST", "/v1/upgrade", {{"release", id}}); }
  /// Without rehearsing it first.
  reply upgrade_at_once(const std::string& id) {
    return ask("POST", "/v1/upgrade", {{"release", id}, {"rehearsal", false}});
  }
  reply rollback() { return ask("POST", "/v1/rollback", json::object{}); }
  reply commit() { return ask("POST", "/v1/commit", json::object{}); }
  /// "box-2.0.0 permanent box-1.0.0 probation true"
  std::string release_state() {
    const auto status = ask("GET", "/v1/status");
    return status.text({"release", "current"}) + " permanent " + status.text({"release", "permanent"}) + " probation " +
           status.text({"release", "probation"});
  }
  /// What the node itself says, asked past moltd.
  std::string node_runs() const {
    return ask_at((folder.path() / "run/node.sock").string(), "GET", "/v1/status").text({"release", "current"});
  }
  [[nodiscard]] pid_t node_pid() const {
    const auto status =
        ask_at((folder.path() / "run/node.sock").string(), "GET", "/v1/status", nullptr, milliseconds{2000});
    const auto text = status.text({"node", "pid"});
    return text.empty() ? -1 : static_cast<pid_t>(std::stol(text));
  }
  std::string call(const std::string& message, const json::object& payload = {}) {
    return ask("POST", "/v1/call", {{"server", "counter"}, {"message", message}, {"payload", payload}}).text({"reply"});
  }

  /// The port of a listener; 0: there is none of that name.
  int port(const std::string& name) {
    const auto status = ask("GET", "/v1/status");
    if (!status.body.is_object()) return 0;
    for (const auto& listener : status.body.at("listeners").as_array())
      if (listener.at("name").as_string() == name) {
        const std::string address{listener.at("address").as_string()};
        return std::stoi(address.substr(address.rfind(':') + 1));
      }
    return 0;
  }
  /// Sends five bytes and reads them back.
  static bool echoes(int port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{10, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::string got(5, '\0');
    const bool fine = ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
                      ::send(fd, "hello", 5, MSG_NOSIGNAL) == 5 && ::recv(fd, got.data(), 5, MSG_WAITALL) == 5 &&
                      got == "hello";
    ::close(fd);
    return fine;
  }

  scratch_folder folder;
  std::string node_program = MOLT_NODE;
  pid_t moltd = -1;

 private:
  void make_release(const std::string& version, const std::string& counter_version, const char* counter,
                    const std::string& echo_version, int listeners, const std::string& more = {}) {
    std::string text =
        "[release]\nname = \"box\"\nversion = \"" + version + "\"\n[[plugin]]\nname = \"counter\"\nversion = \"" +
        counter_version + "\"\nfile = \"plugins/counter.so\"\n[[plugin]]\nname = \"echo\"\nversion = \"" +
        echo_version +
        "\"\nfile = \"plugins/echo.so\"\n[[server]]\nname = \"counter\"\ntype = " + "\"counter.server\"\n";
    for (int i = 1; i <= listeners; ++i)
      text += "[[listener]]\nname = \"echo" + std::to_string(i) +
              "\"\naddress = \"127.0.0.1:0\"\nconnection = \"echo.connection\"\n";
    write_file(release(version) / "release.toml", text + more);
    fs::create_directories(release(version) / "plugins");
    fs::copy_file(counter, release(version) / "plugins/counter.so");
    fs::copy_file(fs::path{ECHO_PLUGIN_FOLDER} / ("libecho-" + echo_version + ".so"),
                  release(version) / "plugins/echo.so");
  }
};

}  // namespace molt::tests
