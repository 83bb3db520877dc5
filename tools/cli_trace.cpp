// record: the last messages of a server are kept; or those that are, shown.
// trace: a server is watched for as long as this runs, and what it handles is shown as it comes.
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <thread>

namespace molt::cli {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds looks_every{100};
constexpr std::int64_t watched_on_ms = 10'000;  // after this program has died without a word

std::atomic<bool> interrupted{false};

/// While it lives, Ctrl-C ends the trace in order, and does not end the program.
class ends_after_interrupt {
 public:
  ends_after_interrupt() {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = true; };
    ::sigaction(SIGINT, &action, &before_[0]);
    ::sigaction(SIGTERM, &action, &before_[1]);
  }
  ends_after_interrupt(const ends_after_interrupt&) = delete;
  ends_after_interrupt& operator=(const ends_after_interrupt&) = delete;
  ~ends_after_interrupt() {
    ::sigaction(SIGINT, &before_[0], nullptr);
    ::sigaction(SIGTERM, &before_[1], nullptr);
  }

 private:
  std::array<struct sigaction, 2> before_{};
};

void show(const settings& with, const json::value& event) {
  if (with.json) {
    print_json(event);
    return;
  }
  const std::string at = text_of(event, "at");  // 2026-01-31T12:00:00.000000Z
  const std::string time = at.size() == 27 ? at.substr(11, 15) : at;
  const std::string status = text_of(event, "status");
  const std::string from = text_of(event, "from");
  std::string line = time + "  " + text_of(event, "kind") + "  " + text_of(event, "message") + "  " +
                     (status == "ok" ? status : paint(colour::red, status)) + "  " +
                     duration_text(number_of(event, "took_ns") / 1e6);
  if (!from.empty()) line += "  from " + from;
  std::puts(line.c_str());
}

/// Shows what has come. False: nothing more will.
bool show_page(const settings& with, const json::value& page) {
  if (const auto missed = text_of(page, "missed"); missed != "0" && !missed.empty())
    std::fprintf(stderr, "%s messages were handled faster than they could be shown\n", missed.c_str());
  for (const auto& event : items_of(page, "events")) show(with, event);
  std::fflush(stdout);
  if (flag_of(page, "ended")) {
    const std::string line = "the server has ended: " + text_of(page, "why") + "\n";
    std::fputs(line.c_str(), stderr);
  }
  return flag_of(page, "watching");
}

}  // namespace

int trace(const settings& with, const trace_request& request) {
  const ends_after_interrupt in_order;
  const auto end = std::chrono::steady_clock::now() + request.lasts;
  const auto watched = ask(with, "POST", path_of(request.server, "watch"), {{"lasts_ms", watched_on_ms}});
  if (!watched.ok()) return watched.exit_code;
  const std::string server = text_of(watched.body, "ref");  // its name may be another's soon
  std::string last = text_of(watched.body, "last");
  int exit_code = exit_done;
  for (bool more = true; more;) {
    const auto now = std::chrono::steady_clock::now();
    const bool over = interrupted || now >= end;
    if (!over) std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(looks_every, end - now));
    const auto page = ask(with, "GET", path_of(server, "trace") + "?after=" + last);
    if (!page.ok()) return page.exit_code;
    more = show_page(with, page.body);
    last = text_of(page.body, "last");
    if (!more || !over) continue;
    exit_code = ask(with, "POST", path_of(server, "unwatch")).exit_code;
    break;
  }
  return exit_code;
}

int record(const settings& with, const record_request& request) {
  if (request.messages >= 0) {
    const auto got = ask(with, "POST", path_of(request.server, "record"),
                         {{"messages", request.messages}, {"payload_bytes", request.payload_bytes}});
    if (!got.ok()) return got.exit_code;
    if (with.json)
      print_json(got.body);
    else if (request.messages == 0)
      std::printf("%s is recorded no more\n", request.server.c_str());
    else
      std::printf("the last %lld messages of %s are kept\n", static_cast<long long>(request.messages),
                  request.server.c_str());
    return exit_done;
  }
  const auto got = ask(with, "GET", path_of(request.server, "record"));
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  if (text_of(got.body, "messages") == "0")
    std::printf("%s is not recorded; molt record %s 16 begins it\n", request.server.c_str(), request.server.c_str());
  for (const auto& each : items_of(got.body, "last")) show(with, each);
  return exit_done;
}

}  // namespace molt::cli
