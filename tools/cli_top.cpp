// top: which servers are busiest, again and again.
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"
#include "tools/cli_screen.hpp"

#include <boost/json/serialize.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <thread>
#include <unordered_map>

namespace molt::cli {

namespace json = boost::json;

namespace {

using std::chrono::steady_clock;

constexpr unsigned looked_at = 10'000;  // servers: those that have handled most
constexpr std::size_t shown_off_screen = 20;

/// What all servers had handled at one moment.
struct sample {
  steady_clock::time_point at;
  json::value body;
  std::unordered_map<std::string, double> handled;  // by reference
};

std::optional<sample> take_sample(const settings& with, int& exit_code) {
  auto got = ask(with, "GET", "/v1/servers?order=handled&limit=" + std::to_string(looked_at));
  exit_code = got.exit_code;
  if (!got.ok()) return std::nullopt;
  sample made{steady_clock::now(), std::move(got.body), {}};
  for (const auto& server : items_of(made.body, "servers"))
    made.handled[text_of(server, "ref")] = number_of(server, "handled");
  return made;
}

struct row {
  const json::value* server;
  double rate;  // messages a second
};

/// The busiest first. A server that was not among those looked at before has handled all it has since.
std::vector<row> rank(const sample& before, const sample& now) {
  const double seconds = std::max(1e-3, std::chrono::duration<double>(now.at - before.at).count());
  std::vector<row> rows;
  for (const auto& server : items_of(now.body, "servers")) {
    const auto known = before.handled.find(text_of(server, "ref"));
    const double since = number_of(server, "handled") - (known != before.handled.end() ? known->second : 0.0);
    rows.push_back({&server, std::max(0.0, since / seconds)});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const row& a, const row& b) { return a.rate > b.rate; });
  return rows;
}

std::string page_of(const sample& now, const std::vector<row>& rows, std::size_t most) {
  double sum = 0;
  for (const auto& each : rows) sum += each.rate;
  char total[64];
  std::snprintf(total, sizeof total, "%.0f messages/s, ", sum);
  table shown{{"MESSAGES/S", "QUEUED", "MOST", "HANDLED", "STATUS", "TYPE", "VERSION", "NAME"}};
  for (std::size_t i = 0; i < std::min(most, rows.size()); ++i) {
    const auto& server = *rows[i].server;
    char rate[32];
    std::snprintf(rate, sizeof rate, "%.0f", rows[i].rate);
    const std::string name = text_of(server, "name");
    shown.add({rate, text_of(server, "queued"), text_of(server, "queued_most"), text_of(server, "handled"),
               text_of(server, "status"), text_of(server, "type"), text_of(server, "version"),
               name.empty() ? text_of(server, "ref") : name});
  }
  return total + text_of(now.body, "total") + " servers\n" + shown.text();
}

json::value json_of(const sample& now, const std::vector<row>& rows) {
  json::array servers;
  for (const auto& each : rows) {
    json::object made = each.server->as_object();
    made["messages_per_s"] = each.rate;
    servers.push_back(std::move(made));
  }
  return {{"servers", std::move(servers)}, {"total", member_of(now.body, "total")}};
}

/// True: the user wants to end.
bool wait(const full_screen* screen, std::chrono::milliseconds interval) {
  if (screen == nullptr) {
    std::this_thread::sleep_for(interval);
    return false;
  }
  for (const auto end = steady_clock::now() + interval;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now());
    if (left.count() <= 0) return false;
    const char pressed = screen->key(left);
    if (pressed == 'q' || pressed == 'Q' || pressed == 4) return true;  // 4: Ctrl-D
  }
}

}  // namespace

int top(const settings& with, const top_request& request) {
  int exit_code = exit_done;
  auto before = take_sample(with, exit_code);
  if (!before) return exit_code;
  const bool live = !with.json && ::isatty(STDOUT_FILENO) == 1;
  std::optional<full_screen> screen;
  if (live) screen.emplace();
  const unsigned count = request.count != 0 ? request.count : live ? UINT32_MAX : 1;
  if (live) screen->show(page_of(*before, rank(*before, *before), screen->rows()));
  for (unsigned i = 0; i < count; ++i) {
    if (wait(screen ? &*screen : nullptr, request.interval)) return exit_done;
    auto now = take_sample(with, exit_code);
    if (!now) return exit_code;
    const auto rows = rank(*before, *now);
    if (with.json)
      print_json(json_of(*now, rows));
    else if (screen)
      screen->show(page_of(*now, rows, screen->rows()));
    else
      std::fputs(page_of(*now, rows, shown_off_screen).c_str(), stdout);
    std::fflush(stdout);
    before = std::move(now);
  }
  return exit_done;
}

}  // namespace molt::cli
