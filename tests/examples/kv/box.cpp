#include "box.hpp"

#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace kv_test {

namespace fs = std::filesystem;

scratch_folder::scratch_folder() {
  std::string name = (fs::temp_directory_path() / "molt-kv.XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error{"cannot make " + name};
  path_ = name;
}
scratch_folder::~scratch_folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string read_file(const fs::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

fs::path release_on(const fs::path& folder, const std::string& version, std::uint16_t port) {
  const fs::path release = folder / ("kv-" + version);
  fs::copy(fs::path{KV_RELEASES} / ("kv-" + version), release, fs::copy_options::recursive);
  std::string manifest = read_file(release / "release.toml");
  const std::string usual = "127.0.0.1:6379";
  manifest.replace(manifest.find(usual), usual.size(), "127.0.0.1:" + std::to_string(port));
  std::ofstream{release / "release.toml"} << manifest;
  return release;
}

std::size_t memory_of(int pid) {
  std::ifstream status{"/proc/" + std::to_string(pid) + "/status"};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::strtoul(line.c_str() + 8, nullptr, 10) * 1024;
  return 0;
}

node::node(const std::string& version) {
  const fs::path release = release_on(folder_.path(), version, port_);
  running_ = std::make_unique<process>(
      std::vector<std::string>{KV_NODE, "--release-dir", release.string(), "--runtime", folder_.path().string()},
      (folder_.path() / "log").string());
  if (!wait_for_port(port_, std::chrono::seconds{30})) throw std::runtime_error{"molt-node did not start: " + log()};
}

box::box() {
  const fs::path release = release_on(folder_.path(), "1.0.0", port_);
  running_ = std::make_unique<process>(
      std::vector<std::string>{KV_MOLTD, "--store", (folder_.path() / "store").string(), "--runtime",
                               (folder_.path() / "run").string(), "--node", KV_NODE, "--release", release.string()},
      (folder_.path() / "log").string());
  if (!wait_for_port(port_, std::chrono::seconds{30})) throw std::runtime_error{"moltd did not start: " + log()};
  for (const char* version : {"2.0.0", "2.0.1", "3.0.0"}) {
    const outcome installed = molt("install " + release_on(folder_.path(), version, port_).string());
    if (installed.status != 0) throw std::runtime_error{installed.output};
  }
}

box::~box() {
  const int left = node_pid();
  running_.reset();
  if (left > 0 && ::kill(left, 0) == 0) ::kill(left, SIGKILL);
}

int box::node_pid() const {
  const outcome status = molt("status --json");
  const std::string_view key = "\"pid\":";
  const std::size_t at = status.output.find(key);
  return at == std::string::npos ? 0 : std::atoi(status.output.c_str() + at + key.size());
}

outcome box::molt(const std::string& words) const {
  const std::string command =
      "MOLT_SOCKET=" + (folder_.path() / "run/control.sock").string() + " " KV_MOLT " " + words + " 2>&1";
  std::FILE* const from = ::popen(command.c_str(), "r");
  if (from == nullptr) throw std::runtime_error{"cannot run " + command};
  outcome said;
  std::array<char, 4096> bytes{};
  for (std::size_t got = 0; (got = std::fread(bytes.data(), 1, bytes.size(), from)) > 0;)
    said.output.append(bytes.data(), got);
  const int status = ::pclose(from);
  said.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return said;
}

std::string ask(client& server, const std::vector<std::string>& words) {
  server.send(request(words).append(mark_request));
  std::string answer = server.receive_until(mark_reply);
  if (!answer.ends_with(mark_reply)) return "(ended) " + answer;
  answer.resize(answer.size() - mark_reply.size() - 2);
  return answer;
}

}  // namespace kv_test
