// moltd: supervises one box. It owns the release store, the control socket and the listening sockets, and never loads a plugin.
#include "base/standard_files.hpp"
#include "node/api_error.hpp"
#include "tools/moltd_daemon.hpp"

#include <sys/signalfd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

namespace {

namespace fs = std::filesystem;
using molt::node::exit_code;

constexpr const char* examples =
    "Examples:\n"
    "  moltd --store /var/lib/molt --runtime /run/molt\n"
    "  moltd --store ./store --runtime ./run --release ./kv-1.0.0.molt   # installs and starts it when the store is empty\n"
    "  molt --socket ./run/control.sock status\n\n";

class examples_first : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    return examples + CLI::Formatter::make_help(app, std::move(name), mode);
  }
};

/// Beside moltd, or where an installation keeps it.
fs::path find_node() {
  std::error_code failed;
  const fs::path here = fs::read_symlink("/proc/self/exe", failed).parent_path();
  for (const char* place : {"molt-node", "../libexec/molt/molt-node", "../lib/molt/molt-node"})
    if (fs::exists(here / place, failed)) return fs::weakly_canonical(here / place, failed);
  return here / "molt-node";
}

/// SIGTERM and SIGINT as a descriptor, blocked in every thread made later.
molt::unique_fd stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return molt::unique_fd{::signalfd(-1, &set, SFD_CLOEXEC)};
}

int serve(molt::daemon::options with) {
  const auto signals = stop_signals();
  auto daemon = molt::daemon::daemon::start(std::move(with));
  if (!daemon) {
    spdlog::error("{}", daemon.error().text());
    return static_cast<int>(molt::node::exit_code_of(daemon.error().why()));
  }
  (*daemon)->run(signals.get());
  return static_cast<int>(exit_code::done);
}

}  // namespace

int main(int count, char** words) {
  molt::open_standard_files();
  (void)std::signal(SIGPIPE, SIG_IGN);
  (void)std::signal(SIGHUP, SIG_IGN);  // a terminal that closes must not cost the servers their states
  molt::daemon::options with;
  std::string store;
  std::string runtime;
  std::string node;
  std::string log_level = "info";
  bool foreground = false;
  std::int64_t period_ms = with.period.count();
  std::int64_t start_timeout_ms = with.start_timeout.count();
  std::int64_t stop_timeout_ms = with.stop_timeout.count();
  CLI::App app{"Keeps one molt-node running on the right release. SIGTERM stops both; kill -9 leaves the node serving, and the "
               "next moltd takes it over.",
               "moltd"};
  app.formatter(std::make_shared<examples_first>());
  app.set_version_flag("--version", "moltd " MOLT_VERSION);
  app.add_option("--store", store, "Where releases are kept; made if missing")->required();
  app.add_option("--runtime", runtime, "Where control.sock and node.sock go; made if missing")->required();
  app.add_option("--node", node, "The molt-node to run; otherwise the one beside moltd");
  app.add_option("--release", with.first_release,
                 "Package, folder or id to install and start when no release is permanent yet");
  app.add_flag("--foreground", foreground, "Does nothing: moltd never leaves the foreground. For scripts that say so");
  app.add_option("--restart-intensity", with.intensity, "More ends of the node than this within the period: give up")
      ->check(CLI::Range(0, 1000));
  app.add_option("--restart-period-ms", period_ms, "The period of --restart-intensity")->check(CLI::Range(1, 86'400'000));
  app.add_option("--start-timeout-ms", start_timeout_ms, "How long the node may take until it answers")
      ->check(CLI::Range(1, 86'400'000));
  app.add_option("--stop-timeout-ms", stop_timeout_ms, "How long after SIGTERM the node gets SIGKILL")
      ->check(CLI::Range(1, 86'400'000));
  app.add_option("--node-argument", with.node_arguments, "Passed on to molt-node, e.g. --node-argument=--io-threads=2");
  app.add_option("--log-level", log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& stopped) {
    return static_cast<int>(app.exit(stopped) == 0 ? exit_code::done : exit_code::usage);
  }
  try {
    spdlog::set_default_logger(spdlog::stderr_logger_mt("moltd"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l moltd[%P]: %v");
    spdlog::set_level(spdlog::level::from_str(log_level));
    with.store_folder = fs::absolute(store);
    with.runtime_folder = fs::absolute(runtime);
    with.node_program = node.empty() ? find_node() : fs::absolute(node);
    with.period = std::chrono::milliseconds{period_ms};
    with.start_timeout = std::chrono::milliseconds{start_timeout_ms};
    with.stop_timeout = std::chrono::milliseconds{stop_timeout_ms};
    return serve(std::move(with));
  } catch (const std::exception& thrown) {
    std::fprintf(stderr, "moltd: %s\n", thrown.what());
    return static_cast<int>(exit_code::failed);
  }
}
