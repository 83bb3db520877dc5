#include "node/node_api.hpp"

#include "node/api_error.hpp"
#include "node/json_codec.hpp"
#include "node/request_body.hpp"
#include "node/server_api.hpp"
#include "upgrade/transaction.hpp"

#include <unistd.h>

#include <boost/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace molt::node {
namespace {

namespace json = boost::json;

constexpr auto commit_timeout = std::chrono::seconds{5};
constexpr std::int64_t call_timeout_max_ms = 3'600'000;
constexpr std::int64_t switch_timeout_max_ms = 86'400'000;

double milliseconds(std::chrono::nanoseconds duration) {
  return std::round(static_cast<double>(duration.count()) / 1e3) / 1e3;
}

double microseconds(std::chrono::nanoseconds duration) { return static_cast<double>(duration.count()) / 1e3; }

json::array strings(const std::vector<std::string>& from) {
  json::array made;
  for (const auto& each : from) made.emplace_back(as_utf8(each));
  return made;
}

json::array objects_of(const std::vector<upgrade::server_restoration>& from) {
  json::array made;
  for (const auto& each : from)
    made.push_back({{"server", as_utf8(each.failed.server)},
                    {"type", each.failed.type},
                    {"hook", as_utf8(each.failed.hook)},
                    {"error", as_utf8(each.failed.error)},
                    {"since", upgrade::to_text(each.since)},
                    {"lost_s", each.lost.count()}});
  return made;
}

json::array objects_of(const std::vector<upgrade::late_hook>& from) {
  json::array made;
  for (const auto& each : from)
    made.push_back({{"server", as_utf8(each.server)},
                    {"type", each.type},
                    {"hook", as_utf8(each.hook)},
                    {"from_version", each.from_version},
                    {"to_version", each.to_version},
                    {"running_ms", milliseconds(each.running)},
                    {"hook_timeout_ms", std::chrono::duration_cast<std::chrono::milliseconds>(each.limit).count()}});
  return made;
}

json::object object_of(const upgrade::report& report) {
  json::array types;
  for (const auto& type : report.types)
    types.push_back({{"type", type.type},
                     {"way", migration::to_string(type.way)},
                     {"servers", type.servers},
                     {"steps", strings(type.steps)}});
  json::array failures;
  for (const auto& failure : report.failures)
    failures.push_back(
        {{"server", failure.server}, {"type", failure.type}, {"hook", failure.hook}, {"error", failure.error}});
  return {{"result", upgrade::to_string(report.result)},
          {"from", report.from},
          {"to", report.to},
          {"direction", migration::to_string(report.going)},
          {"mode", upgrade::to_string(report.mode)},
          {"way", migration::to_string(report.way())},
          {"total_ms", milliseconds(report.total)},
          {"at_rest_ms", milliseconds(report.at_rest)},
          {"reverting_ms", milliseconds(report.reverting)},
          {"largest_migration_ms", milliseconds(report.largest_migration)},
          {"types", std::move(types)},
          {"servers_migrated", report.servers_migrated},
          {"servers_failed", report.servers_failed},
          {"entries_left", report.entries_left},
          {"cancelled", report.cancelled},
          {"servers_restored", report.servers_restored},
          {"restored", objects_of(report.restored)},
          {"failures", std::move(failures)},
          {"problems", strings(report.problems)},
          {"notes", strings(report.notes)}};
}

json::array types_of(const std::vector<upgrade::type_plan>& from) {
  json::array types;
  for (const auto& type : from) {
    json::array losses;
    for (const auto& loss : type.losses) losses.push_back({{"name", loss.name}, {"text", loss.text}});
    json::array messages;
    for (const auto& message : type.messages) {
      json::object one{{"name", message.name}, {"cover", upgrade::to_string(message.cover)}};
      if (message.cover == upgrade::message_cover::edge) {
        one["steps"] = strings(message.steps);
        one["reply_steps"] = strings(message.reply_steps);
      }
      messages.push_back(std::move(one));
    }
    types.push_back({{"type", type.type},
                     {"change", upgrade::to_string(type.change)},
                     {"from_version", type.from_version},
                     {"to_version", type.to_version},
                     {"changes", strings(type.changes)},
                     {"way", migration::to_string(type.way)},
                     {"steps", strings(type.steps)},
                     {"losses", std::move(losses)},
                     {"messages", std::move(messages)}});
  }
  return types;
}

http_response body(const json::value& value, unsigned status = 200) {
  return {status, json::serialize(value), "application/json"};
}

// ---- Reading requests

struct change_body {
  std::string folder;
  bool rollback = false;
  change_request request;
};

/// None: asked by hand.
result<std::optional<std::uint64_t>> adoption_in(request_body& given) {
  if (!given.has("adoption")) return std::optional<std::uint64_t>{};
  MOLT_TRY(const std::int64_t number, given.number("adoption", 0, std::numeric_limits<std::int64_t>::max()));
  return std::optional{static_cast<std::uint64_t>(number)};
}

result<change_body> read_change(const http_request& asked, bool folder_needed) {
  MOLT_TRY(request_body given, request_body::of(asked));
  change_body made;
  MOLT_TRY(made.folder, given.text("release_dir"));
  MOLT_TRY(made.request.contents, given.text("contents"));
  MOLT_TRY(made.rollback, given.flag("rollback"));
  MOLT_TRY(const std::string mode, given.text("mode"));
  if (mode == "lazy")
    made.request.mode = upgrade::mode::lazy;
  else if (mode == "atomic")
    made.request.mode = upgrade::mode::atomic;
  else if (!mode.empty())
    return error{reason::invalid_argument, "mode: expected \"lazy\" or \"atomic\""};
  MOLT_TRY(made.request.arguments, given.arguments("arguments"));
  MOLT_TRY(made.request.accept_loss, given.texts("accept_loss"));
  MOLT_TRY(made.request.keep_states, given.flag("keep_states"));
  MOLT_TRY(const std::string replay, given.text("replay"));
  if (replay == "off")
    made.request.replay = replaying::off;
  else if (replay == "report")
    made.request.replay = replaying::report;
  else if (replay == "strict")
    made.request.replay = replaying::strict;
  else if (!replay.empty())
    return error{reason::invalid_argument, "replay: expected \"off\", \"report\" or \"strict\""};
  MOLT_TRY(made.request.from_kept, given.flag("from_kept"));
  MOLT_TRY(const std::int64_t switch_timeout_ms, given.number("switch_timeout_ms", 1, switch_timeout_max_ms));
  if (switch_timeout_ms != 0) made.request.switch_timeout = std::chrono::milliseconds{switch_timeout_ms};
  MOLT_TRY(made.request.adoption, adoption_in(given));
  MOLT_CHECK(given.nothing_else());
  if (folder_needed && !made.rollback && made.folder.empty())
    return error{reason::invalid_argument, "release_dir: expected the release's folder"};
  if (!made.folder.empty() && made.folder.front() != '/')
    return error{reason::invalid_argument, "release_dir: expected an absolute path"};
  if (!made.request.contents.empty() && made.folder.empty())
    return error{reason::invalid_argument, "contents: expected beside a release_dir"};
  return made;
}

// ---- Answers

result<http_response> post_call(box& node, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  json_call call;
  MOLT_TRY(call.server, given.text("server"));
  MOLT_TRY(call.message, given.text("message"));
  if (auto payload = given.take("payload")) call.payload = json::serialize(*payload);
  if (auto words = given.take("words")) {
    if (!words->is_object()) return error{reason::invalid_argument, "words: expected an object of strings"};
    call.payload = json::serialize(*words);
    call.words = true;
  }
  MOLT_TRY(const std::int64_t timeout_ms, given.number("timeout_ms", 0, call_timeout_max_ms));
  call.timeout = std::chrono::milliseconds{timeout_ms};
  MOLT_CHECK(given.nothing_else());
  if (call.server.empty() || call.message.empty())
    return error{reason::invalid_argument, "server and message: expected their names"};
  const auto reply = node.call(call);
  if (!reply) return error_response(reply.error(), exit_code_of_call(reply.error().why()));
  return http_response{200, R"({"reply":)" + *reply + "}", "application/json"};
}

result<http_response> post_plan(box& node, const http_request& asked) {
  MOLT_TRY(const change_body change, read_change(asked, true));
  const auto status = node.status();
  if (change.rollback) {
    MOLT_TRY(const upgrade::plan plan, node.plan_rollback(change.request, change.folder));
    const std::string to =
        status.parents.empty() ? std::filesystem::path{change.folder}.filename().string() : status.parents.back().id;
    return http_response{200, to_json(plan, status.current.id, to)};
  }
  std::string to;
  MOLT_TRY(const upgrade::plan plan, node.plan_upgrade(change.folder, change.request, &to));
  return http_response{200, to_json(plan, status.current.id, to)};
}

result<http_response> post_rehearse(box& node, const http_request& asked) {
  MOLT_TRY(const change_body change, read_change(asked, true));
  if (change.rollback) return error{reason::invalid_argument, "rollback: only an upgrade is rehearsed"};
  MOLT_TRY(const rehearsal_report report, node.rehearse(change.folder, change.request, asked.client_gone));
  return http_response{200, to_json(report)};
}

http_response report_of_change(const box& node, const upgrade::report& report) {
  json::object made = object_of(report);
  made["stopping"] = node.stops();
  return body(made);
}

result<http_response> post_upgrade(box& node, const http_request& asked) {
  MOLT_TRY(const change_body change, read_change(asked, true));
  MOLT_TRY(const upgrade::report report, node.upgrade(change.folder, change.request));
  return report_of_change(node, report);
}

result<http_response> post_rollback(box& node, const http_request& asked) {
  MOLT_TRY(const change_body change, read_change(asked, false));
  MOLT_TRY(const upgrade::report report, node.rollback(change.request, change.folder));
  return report_of_change(node, report);
}

result<http_response> post_cancel(box& node, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  MOLT_CHECK(given.nothing_else());
  MOLT_CHECK(node.cancel_upgrade());
  return http_response{200, "{}"};
}

result<http_response> post_adopt(box& node, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  MOLT_CHECK(given.nothing_else());
  return body({{"adoption", node.adopt()}});
}

result<http_response> post_commit(box& node, const http_request& asked) {
  MOLT_TRY(const change_body change, read_change(asked, false));
  MOLT_TRY(const auto gone, node.commit(commit_timeout, change.request.adoption));
  json::array images;
  for (const auto& image : gone)
    images.push_back({{"plugin", image.plugin},
                      {"build_id", image.build_id},
                      {"unmapped", image.unmapped},
                      {"retiring", image.retiring},
                      {"why", image.why}});
  return body({{"release", node.status().current.id}, {"unloaded", std::move(images)}});
}

json::object object_of(const image_status& image) {
  const auto& uses = image.uses;
  return {{"plugin", image.plugin},
          {"build_id", image.build_id},
          {"size_bytes", image.size},
          {"state", to_string(image.state)},
          {"leases",
           {{"releases", image.releases},
            {"servers", uses.servers},
            {"running", uses.running},
            {"messages", uses.messages},
            {"timers", uses.timers},
            {"deferred", uses.deferred},
            {"offloaded", uses.offloaded}}},
          {"why", as_utf8(image.why)},
          {"holders", strings(image.holders)}};
}

result<http_response> get_images(box& node, const http_request& /*asked*/) {
  json::array images;
  for (const auto& each : node.images()) images.push_back(object_of(each));
  const auto looked = node.looked_for_holders();
  return body({{"images", std::move(images)},
               {"looks",
                {{"count", looked.looks},
                 {"last_at_rest_ms", milliseconds(looked.at_rest)},
                 {"last_fork_ms", milliseconds(looked.fork)},
                 {"last_scan_ms", milliseconds(looked.scan)},
                 {"last_scanned_bytes", looked.scanned_bytes},
                 {"last_images", looked.images}}}});
}

result<http_response> dispatch(box& node, const http_request& asked) {
  const bool get = asked.method == "GET" || asked.method == "HEAD";
  struct route {
    std::string_view path;
    bool get;
    result<http_response> (*function)(box&, const http_request&);
  };
  static constexpr route routes[] = {
      {"/v1/status", true,
       [](box& from, const http_request&) -> result<http_response> {
         return http_response{200, to_json(from.status())};
       }},
      {"/v1/images", true, get_images},
      {"/v1/call", false, post_call},
      {"/v1/plan", false, post_plan},
      {"/v1/rehearse", false, post_rehearse},
      {"/v1/upgrade", false, post_upgrade},
      {"/v1/rollback", false, post_rollback},
      {"/v1/cancel", false, post_cancel},
      {"/v1/adopt", false, post_adopt},
      {"/v1/commit", false, post_commit},
  };
  if (is_about_servers(asked.path)) return answer_about_servers(node.runtime(), asked);
  for (const auto& each : routes) {
    if (each.path != asked.path) continue;
    if (each.get ? get : asked.method == "POST") return each.function(node, asked);
    auto refusal = error_response(error{
        reason::invalid_argument, asked.path + ": expected " + (each.get ? "GET" : "POST") + ", got " + asked.method});
    refusal.status = 405;
    return refusal;
  }
  return error{reason::not_found, asked.path + ": no such path"};
}

/// Null if none was asked for.
json::value replay_of(const rehearsal_report& report) {
  if (report.replay == replaying::off) return nullptr;
  const auto& replay = report.findings.replay;
  json::array differences;
  for (const auto& each : replay.differences)
    differences.push_back(
        {{"server", as_utf8(each.server)}, {"message", as_utf8(each.message)}, {"difference", as_utf8(each.text)}});
  return {{"servers", replay.servers},
          {"messages", replay.messages},
          {"skipped", replay.skipped},
          {"differed", replay.differed},
          {"differences", std::move(differences)}};
}

}  // namespace

http_response answer(box& node, const http_request& asked) {
  auto answered = dispatch(node, asked);
  return answered ? std::move(*answered) : error_response(answered.error());
}

std::string to_json(const upgrade::report& report) { return json::serialize(object_of(report)); }

std::string to_json(const upgrade::plan& plan, const std::string& from, const std::string& to) {
  return json::serialize(json::object{{"from", from},
                                      {"to", to},
                                      {"direction", migration::to_string(plan.going)},
                                      {"refused", plan.refused()},
                                      {"way", migration::to_string(plan.costliest())},
                                      {"one_way", plan.one_way},
                                      {"types", types_of(plan.types)},
                                      {"back", types_of(plan.back)},
                                      {"problems", strings(plan.problems)},
                                      {"notes", strings(plan.notes)}});
}

std::string to_json(const rehearsal_report& report) {
  const auto& found = report.findings;
  json::array types;
  for (const auto& type : found.types)
    types.push_back({{"type", as_utf8(type.type)},
                     {"way", migration::to_string(type.way)},
                     {"steps", as_utf8(type.steps)},
                     {"servers", type.servers},
                     {"failed", type.failed},
                     {"median_us", microseconds(type.median)},
                     {"p99_us", microseconds(type.p99)},
                     {"largest_us", microseconds(type.largest)},
                     {"largest_back_us", microseconds(type.largest_back)},
                     {"memory_added_bytes", type.memory_added}});
  json::array failures;
  for (const auto& failure : found.failures)
    failures.push_back({{"server", as_utf8(failure.server)},
                        {"type", as_utf8(failure.type)},
                        {"stage", upgrade::to_string(failure.stage)},
                        {"hook", as_utf8(failure.hook)},
                        {"error", as_utf8(failure.error)}});
  json::value at = nullptr;
  if (report.ended != rehearsal_end::finished && report.ended != rehearsal_end::not_begun)
    at = {{"stage", upgrade::to_string(found.stage)},
          {"server", as_utf8(found.server)},
          {"type", as_utf8(found.type)},
          {"hook", as_utf8(found.step)}};
  return json::serialize(json::object{{"passed", report.passed},
                                      {"from", report.from},
                                      {"to", report.to},
                                      {"ended", to_string(report.ended)},
                                      {"at", std::move(at)},
                                      {"stack", strings(report.stack)},
                                      {"output", as_utf8(report.output)},
                                      {"at_rest_ms", milliseconds(report.at_rest)},
                                      {"fork_ms", milliseconds(report.fork)},
                                      {"total_ms", milliseconds(report.total)},
                                      {"copied_bytes", report.copied_bytes},
                                      {"servers", found.visited},
                                      {"servers_unchanged", found.unchanged},
                                      {"servers_failed", found.failed},
                                      {"pause",
                                       {{"median_us", microseconds(found.median)},
                                        {"p99_us", microseconds(found.p99)},
                                        {"largest_us", microseconds(found.largest)},
                                        {"together_ms", milliseconds(found.total)}}},
                                      {"mode", upgrade::to_string(report.mode)},
                                      {"atomic",
                                       {{"pause_ms", milliseconds(report.predicted_rest)},
                                        {"threads", report.atomic_threads},
                                        {"switch_timeout_ms", milliseconds(report.switch_timeout)}}},
                                      {"memory_added_bytes", found.memory_added},
                                      {"types", std::move(types)},
                                      {"replay", replay_of(report)},
                                      {"failures", std::move(failures)},
                                      {"problems", strings(report.problems)},
                                      {"notes", strings(report.notes)}});
}

std::string to_json(const box_status& status) {
  json::array listeners;
  for (const auto& each : status.listeners)
    listeners.push_back({{"name", each.name},
                         {"address", each.address},
                         {"connections", each.connections},
                         {"accepted", each.accepted},
                         {"refused", each.refused}});
  json::array parents;
  for (const auto& parent : status.parents)
    parents.push_back({{"id", parent.id}, {"release_dir", parent.folder.string()}});
  json::value change = nullptr;
  if (!status.changing_to.empty()) {
    change = {
        {"phase", upgrade::to_string(status.phase)},
        {"from", status.current.id},
        {"to", status.changing_to},
        {"servers_migrated", status.migrated},
        {"entries_left", status.entries_left},
        {"late_hooks", objects_of(status.late_hooks)},
        {"next_step", status.late_hooks.empty() ? json::value(nullptr) : json::value(what_to_do_about_late_hooks())}};
  } else if (status.last) {
    change = object_of(*status.last);
  }
  json::value kept = nullptr;
  if (status.kept)
    kept = {{"servers", status.kept->servers},
            {"bytes", status.kept->bytes},
            {"since",
             status.kept->servers == 0 ? json::value(nullptr) : json::value(upgrade::to_text(status.kept->since))}};
  const json::value parent = status.parents.empty() ? json::value(nullptr) : json::value(status.parents.back().id);
  return json::serialize(
      json::object{{"node", {{"state", "running"}, {"pid", ::getpid()}}},
                   {"release",
                    {{"current", status.current.id},
                     {"release_dir", status.current.folder.string()},
                     {"parent", parent},
                     {"parents", std::move(parents)},
                     {"committed", status.committed}}},
                   {"servers", status.servers},
                   {"connections", status.connections},
                   {"images_kept", status.images_kept},
                   {"listeners", std::move(listeners)},
                   {"upgrade", std::move(change)},
                   {"kept", std::move(kept)},
                   {"rehearsing", status.rehearsing.empty() ? json::value(nullptr) : json::value(status.rehearsing)},
                   {"statistics",
                    {{"started", status.statistics.started},
                     {"ended", status.statistics.ended},
                     {"failed", status.statistics.failed},
                     {"timers_pending", status.statistics.timers_pending},
                     {"deferred_pending", status.statistics.deferred_pending},
                     {"unknown_messages", status.statistics.unknown_messages},
                     {"late_replies", status.statistics.late_replies}}}});
}

}  // namespace molt::node
