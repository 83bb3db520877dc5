#include "node/server_api.hpp"

#include "node/api_error.hpp"
#include "node/json_codec.hpp"
#include "node/request_body.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace molt::node {
namespace {

namespace json = boost::json;

constexpr std::string_view all_servers = "/v1/servers";
constexpr std::size_t shown_default = 100;
constexpr std::size_t shown_max = 100'000;
constexpr std::size_t measured_max = 1000;
constexpr std::chrono::milliseconds measure_patience{50};  // for each of many servers
constexpr std::chrono::milliseconds measure_time{10'000};  // for all of them: moltd does not wait for ever
constexpr std::int64_t timeout_default_ms = 5000;
constexpr std::int64_t timeout_max_ms = 20'000;  // less than moltd waits for an answer
constexpr std::int64_t lasts_default_ms = 30'000;
constexpr std::int64_t lasts_max_ms = 86'400'000;

http_response body(const json::value& value) { return {200, as_utf8(json::serialize(value)), "application/json"}; }

template <class Number>
result<Number> number_in(const http_request& asked, std::string_view key, Number otherwise, Number most) {
  const auto text = asked.parameter(key);
  if (text.empty()) return otherwise;
  Number made{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), made);
  if (failed != std::errc{} || end != text.data() + text.size() || made > most)
    return error{reason::invalid_argument, std::string{key} + ": expected a number up to " + std::to_string(most)};
  return made;
}

result<bool> flag_in(const http_request& asked, std::string_view key) {
  const auto text = asked.parameter(key);
  if (text.empty() || text == "false") return false;
  if (text == "true") return true;
  return error{reason::invalid_argument, std::string{key} + ": expected true or false"};
}

using server_list = std::vector<servers::server_info>;

/// The first `limit` by an order, in that order.
result<void> order_by(server_list& all, std::string_view order, std::size_t limit) {
  const auto first = [&](auto comes_before) {
    const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
    std::partial_sort(all.begin(), end, all.end(), comes_before);
  };
  if (order == "handled")
    first([](const auto& a, const auto& b) { return a.handled > b.handled; });
  else if (order == "queued")
    first([](const auto& a, const auto& b) { return a.queued > b.queued; });
  else if (order == "queued_most")
    first([](const auto& a, const auto& b) { return a.queued_most > b.queued_most; });
  else if (!order.empty())
    return error{reason::invalid_argument, "order: expected handled, queued or queued_most"};
  all.resize(std::min(limit, all.size()));
  return ok();
}

result<http_response> get_servers(servers::runtime& runtime, const http_request& asked) {
  MOLT_TRY(const bool measure, flag_in(asked, "measure"));
  MOLT_TRY(const std::size_t limit, number_in(asked, "limit", shown_default, measure ? measured_max : shown_max));
  auto all = runtime.servers();
  if (const auto wanted = asked.parameter("type"); !wanted.empty())
    std::erase_if(all, [&](const auto& each) { return each.type != wanted; });
  const std::size_t total = all.size();
  MOLT_CHECK(order_by(all, asked.parameter("order"), limit));
  json::array shown;
  const auto end = std::chrono::steady_clock::now() + measure_time;
  for (const auto& server : all) {
    json::object made = object_of(server);
    if (measure) {
      auto& bytes = made["archive_bytes"] = nullptr;
      if (std::chrono::steady_clock::now() < end)
        if (const auto measured = runtime.status(server.ref, true, measure_patience)) bytes = *measured->archive_bytes;
    }
    shown.push_back(std::move(made));
  }
  return body({{"servers", std::move(shown)}, {"total", total}});
}

// ---- One server

json::object about(servers::runtime& runtime, molt_ref server) {
  const auto now = runtime.status(server);
  return now ? object_of(now->info) : json::object{{"ref", server.bits}};
}

result<http_response> get_status(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(const bool measure, flag_in(asked, "measure"));
  MOLT_TRY(const auto now, runtime.status(server, measure));
  json::object made = object_of(now.info);
  made["archive_bytes"] = now.archive_bytes ? json::value(*now.archive_bytes) : json::value(nullptr);
  made["handlers"] = now.handlers ? json::value(object_of(*now.handlers)) : json::value(nullptr);
  return body(made);
}

result<http_response> get_state(servers::runtime& runtime, molt_ref server, const http_request&) {
  MOLT_TRY(shown_state shown, state_as_json(runtime, server));
  json::object made = about(runtime, server);
  made["version"] = shown.copy.type->version();
  made["formatted"] = shown.copy.formatted;
  made["state"] = std::move(shown.value);
  auto answer = body(made);
  if (answer.body.size() > state_text_max)
    return error{reason::out_of_bounds,
                 "the state takes more than " + std::to_string(state_text_max >> 20U) + " MiB as JSON"};
  return answer;
}

result<http_response> put_state(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  const auto state = given.take("state");
  MOLT_TRY(const bool whole, given.flag("whole"));
  MOLT_CHECK(given.nothing_else());
  if (!state) return error{reason::invalid_argument, "state: expected the state"};
  MOLT_CHECK(replace_state_from_json(runtime, server, *state, whole));
  return body(about(runtime, server));
}

result<std::chrono::milliseconds> milliseconds_in(request_body& given, std::string_view key, std::int64_t otherwise,
                                                  std::int64_t most) {
  MOLT_TRY(const std::int64_t asked, given.number(key, 0, most));
  return std::chrono::milliseconds{asked == 0 ? otherwise : asked};
}

result<http_response> post_suspend(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  MOLT_TRY(const auto timeout, milliseconds_in(given, "timeout_ms", timeout_default_ms, timeout_max_ms));
  MOLT_CHECK(given.nothing_else());
  MOLT_CHECK(runtime.suspend(server, timeout));
  return body(about(runtime, server));
}

result<http_response> post_resume(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(const request_body given, request_body::of(asked));
  MOLT_CHECK(given.nothing_else());
  MOLT_CHECK(runtime.resume(server));
  return body(about(runtime, server));
}

result<http_response> post_watch(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  MOLT_TRY(const auto lasts, milliseconds_in(given, "lasts_ms", lasts_default_ms, lasts_max_ms));
  MOLT_CHECK(given.nothing_else());
  MOLT_CHECK(runtime.watch(server, lasts));
  json::object made = about(runtime, server);
  const auto before = runtime.trace(server);
  made["last"] = before ? before->last : 0;  // the trace's next events are numbered from there on
  return body(made);
}

result<http_response> post_unwatch(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(const request_body given, request_body::of(asked));
  MOLT_CHECK(given.nothing_else());
  MOLT_CHECK(runtime.unwatch(server));
  return body(about(runtime, server));
}

result<http_response> get_trace(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(const std::uint64_t after, number_in<std::uint64_t>(asked, "after", 0, UINT64_MAX));
  MOLT_TRY(const auto page, runtime.trace(server, after));
  json::array events;
  for (const auto& event : page.events) events.push_back(object_of(event));
  return body({{"ref", server.bits},
               {"watching", page.watching},
               {"ended", page.ended},
               {"why", page.why},
               {"last", page.last},
               {"missed", page.missed},
               {"events", std::move(events)}});
}

result<http_response> get_record(servers::runtime& runtime, molt_ref server, const http_request&) {
  MOLT_TRY(const auto now, runtime.status(server));
  json::array last;
  if (const auto kept = runtime.last_messages(server))
    for (const auto& each : *kept) last.push_back(object_of(each));
  return body({{"ref", server.bits}, {"messages", now.info.recorded}, {"last", std::move(last)}});
}

result<http_response> post_record(servers::runtime& runtime, molt_ref server, const http_request& asked) {
  MOLT_TRY(request_body given, request_body::of(asked));
  MOLT_TRY(const std::int64_t messages, given.number("messages", 0, servers::recorded_messages_max));
  MOLT_TRY(const std::int64_t bytes, given.number("payload_bytes", 0, servers::recorded_payload_bytes_max));
  MOLT_CHECK(given.nothing_else());
  MOLT_CHECK(runtime.record(server,
                            {static_cast<std::size_t>(messages), static_cast<std::size_t>(messages == 0 ? 0 : bytes)}));
  return body(about(runtime, server));
}

struct route {
  std::string_view verb;
  std::string_view method;
  result<http_response> (*function)(servers::runtime&, molt_ref, const http_request&);
};
constexpr route routes[] = {
    {"status", "GET", get_status},     {"state", "GET", get_state},     {"state", "PUT", put_state},
    {"suspend", "POST", post_suspend}, {"resume", "POST", post_resume}, {"watch", "POST", post_watch},
    {"unwatch", "POST", post_unwatch}, {"trace", "GET", get_trace},     {"record", "GET", get_record},
    {"record", "POST", post_record},
};

http_response wrong_method(const http_request& asked, const std::string& expected) {
  auto refusal =
      error_response(error{reason::invalid_argument, asked.path + ": expected " + expected + ", got " + asked.method});
  refusal.status = 405;
  return refusal;
}

/// A server that ended may still be asked for its trace, by its reference.
result<molt_ref> find_for(const route& to, servers::runtime& runtime, std::string_view name) {
  auto found = find_server(runtime, name);
  std::uint64_t bits = 0;
  if (found || to.verb != "trace" ||
      std::from_chars(name.data(), name.data() + name.size(), bits).ptr != name.data() + name.size())
    return found;
  return molt_ref{bits};
}

}  // namespace

bool is_about_servers(std::string_view path) noexcept {
  return path.starts_with(all_servers) && (path.size() == all_servers.size() || path[all_servers.size()] == '/');
}

result<http_response> answer_about_servers(servers::runtime& runtime, const http_request& asked) {
  const std::string method = asked.method == "HEAD" ? "GET" : asked.method;
  if (asked.path == all_servers) return method == "GET" ? get_servers(runtime, asked) : wrong_method(asked, "GET");
  const std::string_view rest = std::string_view{asked.path}.substr(all_servers.size() + 1);
  const auto slash = rest.rfind('/');
  const std::string_view verb = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
  std::string expected;
  for (const auto& each : routes) {
    if (each.verb != verb) continue;
    expected += (expected.empty() ? "" : " or ") + std::string{each.method};
    if (each.method != method) continue;
    MOLT_TRY(const molt_ref server, find_for(each, runtime, rest.substr(0, slash)));
    return each.function(runtime, server, asked);
  }
  if (!expected.empty()) return wrong_method(asked, expected);
  return error{reason::not_found, asked.path + ": no such path"};
}

result<molt_ref> find_server(servers::runtime& runtime, std::string_view name) {
  if (const molt_ref named = runtime.lookup(name); named.bits != 0) return named;
  std::uint64_t bits = 0;
  const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), bits);
  const bool number = failed == std::errc{} && end == name.data() + name.size();
  if (number && runtime.type_of(molt_ref{bits}) != nullptr) return molt_ref{bits};
  return error{reason::no_such_server,
               "no server is named " + std::string{name} + (number ? ", nor has that reference" : ""),
               "`molt servers` lists them"};
}

result<shown_state> state_as_json(servers::runtime& runtime, molt_ref server) {
  MOLT_TRY(servers::state_copy copy, runtime.get_state(server, state_bytes_max));
  MOLT_TRY(json::value value, json_from_archive(*copy.type->abi().state, copy.archive, "state"));
  return shown_state{std::move(copy), std::move(value)};
}

result<void> replace_state_from_json(servers::runtime& runtime, molt_ref server, const json::value& state, bool whole) {
  const auto type = runtime.type_of(server);  // keeps the image while its schema is used
  if (type == nullptr) return error{reason::no_such_server, "the server has ended"};
  if (type->abi().format_status != nullptr && !whole)
    return error{
        reason::refused,
        std::string{type->name()} + " hides parts of its state (format_status), and what `state` shows may lack them",
        "--whole, or \"whole\": true, says that they are there"};
  MOLT_TRY(const std::string archive, archive_from_json(*type->abi().state, state, "state"));
  if (archive.size() > state_bytes_max)
    return error{reason::out_of_bounds,
                 "the state takes more than " + std::to_string(state_bytes_max >> 20U) + " MiB as an archive"};
  return runtime.replace_state(server, *type, archive);
}

}  // namespace molt::node
