// molt-node: one box as a process. moltd starts it; it can be run alone for development.
#include "base/standard_files.hpp"
#include "base/unique_fd.hpp"
#include "node/api_error.hpp"
#include "node/box.hpp"
#include "node/crash_folder.hpp"
#include "node/crash_signal.hpp"
#include "node/fd_channel.hpp"
#include "node/http_server.hpp"
#include "node/node_api.hpp"
#include "node/request_lanes.hpp"
#include "node/unix_socket.hpp"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

namespace {

using molt::error;
using molt::reason;
using molt::result;
using molt::node::box;
using molt::node::exit_code;

constexpr const char* examples =
    "Examples:\n"
    "  molt-node --release-dir ./kv-1.0.0 --runtime /run/user/1000/kv\n"
    "  molt-node --release-dir /var/lib/molt/releases/kv-1.0.0 --runtime /run/molt --listen-fds redis=7,admin=8\n"
    "  curl --unix-socket /run/user/1000/kv/node.sock http://localhost/v1/status\n\n";

class examples_first : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    return examples + CLI::Formatter::make_help(app, std::move(name), mode);
  }
};

struct settings {
  std::string release_folder;
  std::string contents;
  std::string runtime_folder;
  std::string listen_fds;
  std::string crash_folder;
  std::string log_level = "info";
  unsigned io_threads = 1;
  unsigned pool_threads = 0;
  unsigned stop_patience_ms = 5000;
};

int to_int(exit_code code) { return static_cast<int>(code); }

/// "redis=7,admin=8": descriptors inherited from whoever started us.
result<std::vector<molt::node::named_fd>> inherited_sockets(std::string_view text) {
  std::vector<molt::node::named_fd> sockets;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const auto entry = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const auto equals = entry.rfind('=');
    const auto number = equals == std::string_view::npos ? std::string_view{} : entry.substr(equals + 1);
    int fd = -1;
    const auto [end, failed] = std::from_chars(number.data(), number.data() + number.size(), fd);
    if (equals == 0 || failed != std::errc{} || end != number.data() + number.size() ||
        ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
      return error{reason::invalid_argument,
                   "--listen-fds: \"" + std::string{entry} + "\" is no name=descriptor of an open one"};
    sockets.push_back({std::string{entry.substr(0, equals)}, molt::unique_fd{fd}});
  }
  return sockets;
}

void log_line(int level, std::string_view text) {
  switch (level) {
    case MOLT_LOG_DEBUG:
      return spdlog::debug("{}", text);
    case MOLT_LOG_INFO:
      return spdlog::info("{}", text);
    case MOLT_LOG_WARNING:
      return spdlog::warn("{}", text);
    default:
      return spdlog::error("{}", text);
  }
}

/// As many descriptors as we may have: a connection takes one.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Memory goes back to the system. glibc raises its mmap threshold (up to 32 MiB) with every large block that is freed,
/// and from then on large values lie in heaps that are trimmed only from the top: after 64 MiB values the process would
/// stay large. Fixed thresholds turn that off. And it gives threads arenas of their own, eight per core, of which each
/// keeps what it once held: a state is made by whichever thread migrates it, so after some upgrades every arena would
/// have had room for all states. One per core is enough: envelopes are pooled.
void keep_memory_flat() {
  constexpr int mmap_threshold = 1 << 20;
  constexpr int trim_threshold = 8 << 20;
  ::mallopt(M_MMAP_THRESHOLD, mmap_threshold);
  ::mallopt(M_TRIM_THRESHOLD, trim_threshold);
  ::mallopt(M_ARENA_MAX, static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
}

/// SIGTERM and SIGINT as a descriptor; blocked in every thread, plugins' calls are not interrupted.
molt::unique_fd stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return molt::unique_fd{::signalfd(-1, &set, SFD_CLOEXEC)};
}

/// Waits for a stop signal or for the supervisor to give up; whether it was a signal.
bool wait_for_the_end(int signals, int gave_up) {
  std::array<pollfd, 2> both{{{signals, POLLIN, 0}, {gave_up, POLLIN, 0}}};
  while (::poll(both.data(), both.size(), -1) <= 0) {
  }
  return both[0].revents != 0;
}

int fail(const error& why) {
  spdlog::error("{}", why.text());
  return to_int(molt::node::exit_code_of(why.why()));
}

/// Reports are worth having, and not worth failing for. Without a folder of somebody else's we read what the last
/// molt-node left here ourselves.
void report_crashes(const settings& asked) {
  if (asked.crash_folder.empty()) {
    const molt::node::crash_folder folder{asked.runtime_folder + "/crashes"};
    for (const auto& id : folder.take_raw_reports({asked.release_folder}, [](const error& why) { (void)fail(why); }))
      spdlog::warn("molt-node died here before: crash report {} in {}", id, folder.path().string());
  }
  if (!molt::node::can_catch_crashes())
    spdlog::debug("a sanitizer reports fatal signals in this build; crash reports are for exceptions only");
  const auto folder = asked.crash_folder.empty() ? asked.runtime_folder + "/crashes" : asked.crash_folder;
  if (const auto caught = molt::node::catch_crashes(std::filesystem::absolute(folder)); !caught)
    spdlog::error("no crash reports: {}", caught.error().text());
}

int serve(const settings& asked) {
  const auto signals = stop_signals();
  report_crashes(asked);
  const molt::unique_fd gave_up{::eventfd(0, EFD_CLOEXEC)};
  raise_descriptor_limit();
  keep_memory_flat();
  auto sockets = inherited_sockets(asked.listen_fds);
  if (!sockets) return fail(sockets.error());

  molt::node::box_options options;
  options.contents = asked.contents;
  options.open_listeners = asked.listen_fds.empty();
  options.listeners = std::move(*sockets);
  options.data_plane.io_threads = asked.io_threads;
  options.servers.pool_threads = asked.pool_threads;
  options.log = log_line;
  options.crash_folder = asked.crash_folder.empty() ? asked.runtime_folder + "/crashes" : asked.crash_folder;
  options.gave_up = [&](std::string_view) { (void)::eventfd_write(gave_up.get(), 1); };
  auto node = box::start(std::filesystem::absolute(asked.release_folder), std::move(options));
  if (!node) return fail(node.error());

  auto channel = molt::node::fd_channel_server::listen(
      asked.runtime_folder + "/node-fds.sock",
      {[&] { return (*node)->duplicate_listeners(); },
       [&](std::vector<molt::node::named_fd> given) { return (*node)->offer_listeners(std::move(given)); }});
  if (!channel) return fail(channel.error());
  auto api = molt::node::http_server::listen(
      asked.runtime_folder + "/node.sock",
      [&](const molt::node::http_request& request) { return molt::node::answer(**node, request); },
      molt::node::control_api_options());
  if (!api) return fail(api.error());
  const auto status = (*node)->status();
  spdlog::info("{} serves, {} servers", status.current.id, status.servers);
  for (const auto& listener : status.listeners) spdlog::info("listener {} on {}", listener.name, listener.address);

  const bool asked_to = wait_for_the_end(signals.get(), gave_up.get());
  spdlog::info("stopping");
  (*node)->cancel_change();
  api->reset();
  channel->reset();
  (*node)->stop(std::chrono::milliseconds{asked.stop_patience_ms});
  spdlog::info("stopped");
  return to_int(asked_to ? exit_code::done : exit_code::failed);
}

}  // namespace

int main(int count, char** words) {
  molt::open_standard_files();
  (void)std::signal(SIGPIPE, SIG_IGN);
  (void)std::signal(SIGHUP, SIG_IGN);  // a terminal that closes must not cost the servers their states
  settings asked;
  CLI::App app{"Runs the plugins and servers of one release. moltd starts it; SIGTERM stops it gracefully.",
               "molt-node"};
  app.formatter(std::make_shared<examples_first>());
  app.set_version_flag("--version", "molt-node " MOLT_VERSION);
  app.add_option("--release-dir", asked.release_folder, "The release's folder, with release.toml")->required();
  app.add_option("--contents", asked.contents,
                 "SHA-256 that the release's molt-contents must have, in hex; without it that file is believed");
  app.add_option("--runtime", asked.runtime_folder, "Where node.sock and node-fds.sock go; must exist")->required();
  app.add_option("--listen-fds", asked.listen_fds,
                 "Listening sockets inherited: name=fd,...; without it the release's addresses are bound here");
  app.add_option("--crash-dir", asked.crash_folder, "Where crash reports go; otherwise the runtime folder's crashes/");
  app.add_option("--io-threads", asked.io_threads, "Threads that read and write connections")
      ->check(CLI::Range(1U, 64U));
  app.add_option("--pool-threads", asked.pool_threads, "Threads that run casts; 0: one per core")
      ->check(CLI::Range(0U, 256U));
  app.add_option("--stop-patience-ms", asked.stop_patience_ms, "How long SIGTERM waits for slow clients");
  app.add_option("--log-level", asked.log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& stopped) {
    return app.exit(stopped) == 0 ? to_int(exit_code::done) : to_int(exit_code::usage);
  }
  try {
    spdlog::set_default_logger(spdlog::stderr_logger_mt("molt-node"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l molt-node[%P]: %v");
    spdlog::set_level(spdlog::level::from_str(asked.log_level));
    const int done = serve(asked);
    molt::node::stop_catching_crashes();
    return done;
  } catch (const std::exception& thrown) {
    std::fprintf(stderr, "molt-node: %s\n", thrown.what());
    return to_int(exit_code::failed);
  }
}
