// status, images, servers, call: the running node, asked through moltd.
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <optional>

namespace molt::cli {

namespace json = boost::json;

namespace {

void print_status(const json::value& body) {
  const auto& node = member_of(body, "node");
  const auto& release = member_of(body, "release");
  const std::string state = text_of(node, "state");
  const std::string current = text_of(release, "current");
  std::string about = current.empty() ? "none" : current;
  if (flag_of(release, "probation"))
    about += paint(colour::yellow, " in probation") + ", parent " + text_of(release, "parent");
  else if (!current.empty())
    about += ", permanent";
  std::printf("release    %s\n", about.c_str());
  const std::string pid = text_of(node, "pid");
  std::printf("node       %s, %s%s restarts\n", paint(state == "running" ? colour::green : colour::red, state).c_str(),
              pid.empty() ? "" : ("pid " + pid + ", ").c_str(), text_of(node, "restarts").c_str());
  std::printf("servers    %s\nconnections %s\n", text_of(body, "servers").c_str(),
              text_of(body, "connections").c_str());
  for (const auto& listener : items_of(body, "listeners"))
    std::printf("listener   %s on %s\n", text_of(listener, "name").c_str(), text_of(listener, "address").c_str());
  if (const auto& kept = member_of(body, "kept"); kept.is_object())
    std::printf("kept       what %s servers were since %s, %.1f MiB, until commit or rollback\n",
                text_of(kept, "servers").c_str(), text_of(kept, "since").c_str(), number_of(kept, "bytes") / 1048576.0);
  const auto& upgrade = member_of(body, "upgrade");
  if (upgrade.is_object()) {
    const std::string outcome = text_of(upgrade, "result");
    std::printf("upgrade    %s -> %s: %s\n", text_of(upgrade, "from").c_str(), text_of(upgrade, "to").c_str(),
                outcome.empty() ? text_of(upgrade, "phase").c_str() : outcome.c_str());
    const auto& late = items_of(upgrade, "late_hooks");
    for (const auto& hook : late)
      std::printf("%s  %s (%s): %s, %s to %s, has run for %s; hook_timeout_ms is %s\n",
                  paint(colour::red, "late hook").c_str(), text_of(hook, "server").c_str(),
                  text_of(hook, "type").c_str(),
                  text_of(hook, "hook").empty() ? "archiving its state" : text_of(hook, "hook").c_str(),
                  text_of(hook, "from_version").c_str(), text_of(hook, "to_version").c_str(),
                  duration_text(number_of(hook, "running_ms")).c_str(), text_of(hook, "hook_timeout_ms").c_str());
    if (!late.empty()) std::printf("           %s\n", text_of(upgrade, "next_step").c_str());
  }
  const std::string attention = text_of(body, "attention");
  if (!attention.empty()) std::printf("%s  %s\n", paint(colour::red, "attention").c_str(), attention.c_str());
}

/// The payload from the words of the command line, as a member of the request: key=value words go to the node as they
/// are, for it knows the message's members and their types. Reports what is wrong with them.
std::optional<json::object> payload_of(const settings& with, const std::vector<std::string>& words) {
  if (words.empty()) return json::object{{"payload", json::object{}}};
  std::string text;
  if (words.size() == 1 && words.front() == "-")
    text.assign(std::istreambuf_iterator<char>{std::cin}, {});
  else if (words.size() == 1 && words.front().find_first_of("{[\"") == 0)
    text = words.front();
  else if (auto named = parse_key_values(with, words))
    return json::object{{"words", std::move(*named)}};
  else
    return std::nullopt;
  boost::system::error_code bad;
  json::value parsed = json::parse(text, bad);
  if (!bad) return json::object{{"payload", std::move(parsed)}};
  report_error(with,
               error{reason::invalid_argument, "the payload is not JSON: " + bad.message(),
                     "for example: '{\"by\": 3}' or by=3"},
               {}, exit_usage);
  return std::nullopt;
}

}  // namespace

int status(const settings& with) {
  const auto got = ask(with, "GET", "/v1/status");
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  print_status(got.body);
  const auto& release = member_of(got.body, "release");
  if (number_of(got.body, "images_kept") > 0)
    suggest(with, "molt images tells why " + text_of(got.body, "images_kept") + " old images stay mapped");
  if (flag_of(release, "probation"))
    suggest(with, "molt commit keeps " + text_of(release, "current") + "; molt rollback goes back to " +
                      text_of(release, "parent"));
  return exit_done;
}

int images(const settings& with) {
  const auto got = ask(with, "GET", "/v1/images");
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  constexpr std::size_t id_shown = 12;
  table rows{{"PLUGIN", "BUILD ID", "SIZE", "STATE", "RELEASES", "SERVERS", "RUNNING", "MESSAGES", "TIMERS", "DEFERRED",
              "OFFLOADED"}};
  const auto& all = items_of(got.body, "images");
  for (const auto& image : all) {
    const auto& leases = member_of(image, "leases");
    char size[32];
    std::snprintf(size, sizeof size, "%.0f KiB", number_of(image, "size_bytes") / 1024.0);
    rows.add({text_of(image, "plugin"), text_of(image, "build_id").substr(0, id_shown), size, text_of(image, "state"),
              text_of(leases, "releases"), text_of(leases, "servers"), text_of(leases, "running"),
              text_of(leases, "messages"), text_of(leases, "timers"), text_of(leases, "deferred"),
              text_of(leases, "offloaded")});
  }
  std::fputs(rows.text().c_str(), stdout);
  for (const auto& image : all) {
    if (const auto why = text_of(image, "why"); !why.empty())
      std::printf("%s: %s\n", text_of(image, "plugin").c_str(), why.c_str());
    for (const auto& holder : items_of(image, "holders"))
      if (holder.is_string()) std::printf("  %s\n", text_of(holder).c_str());
  }
  return exit_done;
}

namespace {

constexpr std::size_t bar_most = 40;

/// How long its handlers took, a line for each power of two.
void print_times(const json::value& handlers) {
  std::printf("handlers   %s timed: half within %s, 99 of 100 within %s\n", text_of(handlers, "count").c_str(),
              duration_text(number_of(handlers, "p50_ns") / 1e6).c_str(),
              duration_text(number_of(handlers, "p99_ns") / 1e6).c_str());
  double most = 1;
  for (const auto& bucket : items_of(handlers, "buckets")) most = std::max(most, number_of(bucket, "count"));
  table rows{{"BELOW", "COUNT", ""}};
  for (const auto& bucket : items_of(handlers, "buckets"))
    rows.add({duration_text(number_of(bucket, "below_ns") / 1e6), text_of(bucket, "count"),
              std::string(static_cast<std::size_t>(std::lround(number_of(bucket, "count") / most * bar_most)), '#')});
  std::fputs(rows.text().c_str(), stdout);
}

int one_server(const settings& with, const servers_request& request) {
  const auto got = ask(with, "GET", path_of(request.server, "status") + (request.memory ? "?measure=true" : ""));
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  const auto line = [&](const char* what, const std::string& value) { std::printf("%-10s %s\n", what, value.c_str()); };
  line("server", text_of(got.body, "name") + " (reference " + text_of(got.body, "ref") + ")");
  line("type", text_of(got.body, "type") + " " + text_of(got.body, "version"));
  line("status", text_of(got.body, "status") + (flag_of(got.body, "watched") ? ", watched" : ""));
  if (const auto kept = text_of(got.body, "recorded"); kept != "0" && !kept.empty())
    line("recorded", "its last " + kept + " messages");
  line("started", text_of(got.body, "started_at"));
  line("handled", text_of(got.body, "handled"));
  line("queued", text_of(got.body, "queued") + ", at most " + text_of(got.body, "queued_most"));
  if (request.memory) line("memory", text_of(got.body, "archive_bytes") + " bytes as an archive");
  if (const auto& handlers = member_of(got.body, "handlers"); handlers.is_object()) print_times(handlers);
  return exit_done;
}

}  // namespace

int servers(const settings& with, const servers_request& request) {
  if (!request.server.empty()) return one_server(with, request);
  std::string target = "/v1/servers?limit=" + std::to_string(request.limit);
  if (!request.type.empty()) target += "&type=" + encoded(request.type);
  if (!request.order.empty()) target += "&order=" + request.order;
  if (request.memory) target += "&measure=true";
  const auto got = ask(with, "GET", target);
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  std::vector<std::string> heading{"REF", "NAME", "TYPE", "VERSION", "STATUS", "QUEUED", "MOST", "HANDLED", "STARTED"};
  if (request.memory) heading.emplace_back("MEMORY");
  table rows{std::move(heading)};
  const auto& shown = items_of(got.body, "servers");
  for (const auto& server : shown)
    rows.add({text_of(server, "ref"), text_of(server, "name"), text_of(server, "type"), text_of(server, "version"),
              text_of(server, "status"), text_of(server, "queued"), text_of(server, "queued_most"),
              text_of(server, "handled"), text_of(server, "started_at"), text_of(server, "archive_bytes")});
  std::fputs(rows.text().c_str(), stdout);
  const auto total = number_of(got.body, "total");
  if (total > static_cast<double>(shown.size()))
    suggest(with, std::to_string(shown.size()) + " of " + text_of(got.body, "total") + " shown; --limit N shows more");
  return exit_done;
}

int call(const settings& with, const call_request& request) {
  auto body = payload_of(with, request.payload);
  if (!body) return exit_usage;
  body->emplace("server", request.server);
  body->emplace("message", request.message);
  body->emplace("timeout_ms", request.timeout.count());
  answer got;
  {
    const progress shown{"calling " + request.server};
    got = ask(with, "POST", "/v1/call", *body, request.timeout + std::chrono::seconds{5});
  }
  if (!got.ok()) return got.exit_code;
  if (with.json)
    print_json(got.body);
  else if (const auto& reply = member_of(got.body, "reply"); reply.is_string())
    std::printf("%s\n", reply.get_string().c_str());
  else if (!reply.is_null())
    print_json(reply);
  return exit_done;
}

}  // namespace molt::cli
