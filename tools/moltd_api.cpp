// What the control socket asks: routes, status, lists; everything else about servers is the node's to answer.
#include "node/http_client.hpp"
#include "node/json_codec.hpp"
#include "tools/moltd_answers.hpp"
#include "tools/moltd_daemon.hpp"

#include <boost/json.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace molt::daemon {
namespace {

namespace json = boost::json;
using node::http_request;
using node::http_response;

constexpr milliseconds status_timeout{2000};
constexpr milliseconds servers_timeout{30'000};
constexpr std::int64_t call_timeout_default_ms = 5000;
constexpr std::int64_t call_timeout_most_ms = 3'600'000;
constexpr milliseconds call_grace{2000};

json::value or_null(const std::string& text) { return text.empty() ? json::value(nullptr) : json::value(text); }

json::object object_of(const releases::past_transition& past) {
  return {{"kind", releases::to_string(past.kind)},       {"from", or_null(past.from)},
          {"to", past.to},                                {"outcome", releases::to_string(past.outcome)},
          {"started_at", past.started_at},                {"finished_at", past.finished_at},
          {"detail", past.detail}};
}

/// The body as an object; nothing is an empty one.
result<json::object> object_in(const http_request& asked) {
  if (asked.body.empty()) return json::object{};
  MOLT_TRY(json::value value, node::parse_json(asked.body));
  if (!value.is_object()) return error{reason::invalid_argument, "the body is no JSON object"};
  return std::move(value.get_object());
}

/// As long as the call may take, and then a little for the way.
milliseconds timeout_of(const json::object& call) {
  std::int64_t timeout = call_timeout_default_ms;
  if (const auto* given = call.if_contains("timeout_ms"); given != nullptr && given->is_int64() && given->get_int64() > 0)
    timeout = std::min(given->get_int64(), call_timeout_most_ms);
  return milliseconds{timeout} + call_grace;
}

/// Percent-encoded, but for `kept`.
std::string encoded(std::string_view text, char kept = '\0') {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string made;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (plain.find(c) != std::string_view::npos || (kept != '\0' && c == kept))
      made += c;
    else
      (made += '%') += {digits[byte >> 4U], digits[byte & 15U]};
  }
  return made;
}

error no_node() {
  return {reason::unreachable, "no node is running", "molt status says why; molt upgrade RELEASE starts one"};
}

}  // namespace

http_response daemon::answer(const http_request& asked) {
  auto answered = dispatch(asked);
  if (asked.method != "GET") spdlog::debug("{} {}: {}", asked.method, asked.path, answered.status);
  return answered;
}

http_response daemon::dispatch(const http_request& asked) {
  constexpr std::string_view releases_path = "/v1/releases";
  const auto wrong_method = [&](std::string_view expected) {
    auto refusal = node::error_response(
        {reason::invalid_argument, asked.path + ": expected " + std::string{expected} + ", got " + asked.method});
    refusal.status = 405;
    return refusal;
  };
  const bool get = asked.method == "GET";
  if (asked.path == "/v1/status") return get ? get_status() : wrong_method("GET");
  if (asked.path == "/v1/history") return get ? get_history() : wrong_method("GET");
  if (asked.path == "/v1/crashes" || asked.path.starts_with("/v1/crashes/"))
    return get ? get_crashes(std::string_view{asked.path}.substr(std::string_view{"/v1/crashes"}.size()))
               : wrong_method("GET");
  if (asked.path == "/v1/images") return get ? forward(asked, servers_timeout) : wrong_method("GET");
  if (asked.path == "/v1/servers") return get ? forward(asked, servers_timeout) : wrong_method("GET");
  if (asked.path.starts_with("/v1/servers/")) return forward(asked, servers_timeout);  // the node knows the methods
  if (asked.path == releases_path && get) return get_releases();
  if (asked.path.starts_with(releases_path) && asked.path.size() > releases_path.size() + 1 &&
      asked.path[releases_path.size()] == '/')
    return asked.method == "DELETE" ? delete_release(std::string_view{asked.path}.substr(releases_path.size() + 1))
                                    : wrong_method("DELETE");
  const bool known = asked.path == releases_path || asked.path == "/v1/plan" || asked.path == "/v1/rehearse" ||
                     asked.path == "/v1/upgrade" ||
                     asked.path == "/v1/rollback" || asked.path == "/v1/commit" || asked.path == "/v1/call";
  if (!known) return node::error_response({reason::not_found, asked.path + ": no such path"});
  if (asked.method != "POST") return wrong_method(asked.path == releases_path ? "GET or POST" : "POST");
  auto body = object_in(asked);
  if (!body) return node::error_response(body.error(), node::exit_code::refused);
  if (asked.path == releases_path) return post_release(*body);
  if (asked.path == "/v1/plan") return post_plan(std::move(*body));
  if (asked.path == "/v1/rehearse") return post_rehearse(std::move(*body), asked.client_gone);
  if (asked.path == "/v1/upgrade") return post_upgrade(std::move(*body));
  if (asked.path == "/v1/rollback") return post_rollback(std::move(*body));
  if (asked.path == "/v1/commit") return post_commit();
  return forward(asked, timeout_of(*body));
}

http_response daemon::forward(const http_request& asked, milliseconds timeout) const {
  std::string target = encoded(asked.path, '/');
  char separator = '?';
  for (const auto& [name, value] : asked.query) {
    target += separator + encoded(name) + '=' + encoded(value);
    separator = '&';
  }
  auto answered = ask_node(asked.method, target, asked.body, timeout);
  if (answered) return *answered;
  const error& why = answered.error();
  if (why.why() == reason::timeout && asked.path == "/v1/call")
    return node::error_response({reason::timeout, "the node did not answer the call in time: " + why.message(),
                                 "it may have been handled, or be handled later; molt status says what the node does"},
                                node::exit_code_of_call(reason::timeout));
  if (why.why() == reason::timeout) return node::error_response(why, node::exit_code::unreachable);
  if (why.why() != reason::unreachable) return node::error_response(why);
  const lock held{mutex_};
  return node::error_response(process_ ? error{reason::unreachable, "the node does not answer: " + why.message(),
                                               "molt status says what became of it"}
                                       : no_node());
}

/// What runs, and what a node that is started anew would run. What is not written down yet has happened all the same:
/// then the node's own status says what runs.
json::object daemon::release_now(const lock& /*held*/, const json::object& node_status) const {
  const auto permanent = store_.permanent();
  if (!unwritten_.empty())
    if (const auto* own = node_status.if_contains("release"); own != nullptr && own->is_object()) {
      const auto text = [&](std::string_view key) {
        const auto* found = own->get_object().if_contains(key);
        return found != nullptr && found->is_string() ? std::string{std::string_view{found->get_string()}}
                                                      : std::string{};
      };
      const auto current = text("current");
      return {{"current", or_null(current)},
              {"permanent", or_null(permanent)},
              {"parent", or_null(text("parent"))},
              {"probation", current != permanent}};
    }
  const auto running = store_.running();
  const auto found = running.empty() ? result<releases::release_record>{error{}} : store_.find(running);
  return {{"current", or_null(running)},
          {"permanent", or_null(permanent)},
          {"parent", or_null(found ? found->parent : "")},
          {"probation", store_.in_probation()}};
}

http_response daemon::get_status() {
  json::object body;
  if (const auto answered = ask_node("GET", "/v1/status", "", status_timeout); answered && answered->status == 200)
    if (auto parsed = node::parse_json(answered->body); parsed && parsed->is_object()) body = std::move(parsed->get_object());
  for (const char* count : {"servers", "connections", "images_kept"})
    if (!body.contains(count)) body[count] = 0;
  if (!body.contains("listeners")) body["listeners"] = json::array{};
  for (const char* absent : {"upgrade", "rehearsing", "kept"})
    if (!body.contains(absent)) body[absent] = nullptr;
  const lock held{mutex_};
  const auto release = release_now(held, body);
  body["node"] = {{"state", to_string(state_)},
                  {"pid", process_ ? json::value(process_->pid()) : json::value(nullptr)},
                  {"restarts", restarts_}};
  body["release"] = release;
  body["attention"] = or_null(unwritten_.empty() ? store_.attention() : what_is_owed(held).text());
  body["transition"] = nullptr;
  if (const auto& under_way = store_.in_flight())
    body["transition"] = {{"kind", releases::to_string(under_way->kind)},
                          {"from", or_null(under_way->from)},
                          {"to", under_way->to},
                          {"phase", releases::to_string(under_way->phase)},
                          {"started_at", under_way->started_at}};
  return respond(body);
}

http_response daemon::get_releases() {
  json::array all;
  const lock held{mutex_};
  for (const auto& release : store_.releases())
    all.push_back({{"id", release.id},
                   {"name", release.name},
                   {"version", release.version},
                   {"status", releases::to_string(release.status)},
                   {"parent", or_null(release.parent)},
                   {"installed_at", release.installed_at}});
  return respond({{"releases", std::move(all)}});
}

/// What the last molt-node left, if it died.
void daemon::take_crash_reports() {
  const auto made = crashes_.take_raw_reports({options_.store_folder / "releases"},
                                              [](const error& why) { spdlog::error("{}", why.text()); });
  for (const auto& id : made) spdlog::error("crash report {}: molt crashes show {}", id, id);
}

/// `id`: empty for the list, else with a slash before.
http_response daemon::get_crashes(std::string_view id) {
  take_crash_reports();
  if (id.size() > 1) {
    const auto report = crashes_.read(id.substr(1));
    return report ? respond(*report) : node::error_response(report.error());
  }
  const auto found = crashes_.list();
  if (!found) return node::error_response(found.error());
  json::array all;
  for (const auto& each : *found) all.push_back(each);
  return respond({{"crashes", std::move(all)}});
}

http_response daemon::get_history() {
  json::array all;
  const lock held{mutex_};
  for (const auto& past : store_.history()) all.push_back(object_of(past));
  return respond({{"history", std::move(all)}});
}

}  // namespace molt::daemon
