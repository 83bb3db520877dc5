// Crash reports for people; the other half of crash_report.hpp.
#include "node/crash_report.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace molt::node {
namespace {

namespace json = boost::json;

const json::value& member(const json::value& from, std::string_view key) {
  static const json::value none;
  const auto* const object = from.if_object();
  const auto* const found = object != nullptr ? object->if_contains(key) : nullptr;
  return found != nullptr ? *found : none;
}

std::string text(const json::value& from, std::string_view key) {
  const auto& value = member(from, key);
  if (value.is_null()) return {};
  if (const auto* const string = value.if_string()) return std::string{std::string_view{*string}};
  return json::serialize(value);
}

void line(std::string& to, std::string_view key, const std::string& value) {
  if (value.empty()) return;
  to += key;
  to.append(key.size() < 12 ? 12 - key.size() : 1, ' ');
  to += value;
  to += '\n';
}

std::string server_text(const json::value& server) {
  const auto name = text(server, "name");
  return (name.empty() ? "unnamed" : name) + " (" + text(server, "type") + " " + text(server, "version") +
         ", reference " + text(server, "ref") + ")";
}

std::string place_text(const json::value& place) {
  if (const auto omitted = text(place, "omitted"); !omitted.empty()) return "... " + omitted + " frames left out";
  std::string out = text(place, "address");
  if (const auto symbol = text(place, "symbol"); !symbol.empty())
    out += " " + symbol + " + " + text(place, "symbol_offset");
  if (const auto image = text(place, "image"); !image.empty())
    out += " (" + image.substr(image.rfind('/') + 1) + " + " + text(place, "offset") + ")";
  return out;
}

std::string joined(const json::value& from) {
  std::string out;
  if (const auto* const all = from.if_array())
    for (const auto& each : *all)
      if (const auto* const string = each.if_string()) (out += out.empty() ? "" : ", ") += std::string_view{*string};
  return out;
}

std::string duration_text(std::int64_t nanoseconds) {
  const auto count = static_cast<double>(nanoseconds);
  char text[32];
  if (nanoseconds < 1'000'000)
    std::snprintf(text, sizeof text, "%.1f us", count / 1e3);
  else
    std::snprintf(text, sizeof text, "%.1f ms", count / 1e6);
  return text;
}

/// What the server handled before.
void add_last_messages(std::string& out, const json::value& server) {
  const auto* const last = member(server, "last_messages").if_array();
  if (last == nullptr)
    return line(out, "last",
                "its messages are not recorded: record_messages = 16 in its [[server]] of release.toml, or "
                "molt record SERVER 16, keeps the last ones");
  if (last->empty()) return line(out, "last", "it has handled no message since it is recorded");
  out += "last messages, the oldest first\n";
  for (const auto& each : *last) {
    const auto took = member(each, "took_ns");
    out += "  " + text(each, "at") + "  " + text(each, "kind") + "  " + text(each, "message") + "  " +
           text(each, "status") + "  " + duration_text(took.is_int64() ? took.get_int64() : 0) + '\n';
  }
}

void add_server(std::string& out, const json::value& report) {
  const auto& server = member(report, "server");
  if (!server.is_object()) {
    line(out, "server", "none was running on this thread");
    return;
  }
  line(out, "server", server_text(server));
  const auto message = text(server, "message");
  line(out, "message", message.empty() ? "unknown" : message);
  line(out, "queue", text(server, "queued") + " waiting, " + text(server, "handled") + " handled before");
  line(out, "waiting", joined(member(server, "waiting")));
  if (const auto* const callers = member(report, "callers").if_array())
    for (const auto& each : *callers) {
      const auto calling = text(each, "message");
      line(out, "called by", server_text(each) + (calling.empty() ? "" : ", handling " + calling));
    }
}

void add_images(std::string& out, const json::array& stack) {
  std::vector<std::string> seen;
  for (const auto& each : stack) {
    const auto image = text(each, "image");
    const auto id = text(each, "build_id");
    if (image.empty() || id.empty() || std::find(seen.begin(), seen.end(), image + id) != seen.end()) continue;
    if (seen.empty()) out += "images\n";
    seen.push_back(image + id);
    out += "  " + image + ", build ID " + id + '\n';
  }
}

void add_stack(std::string& out, const json::value& report) {
  const auto* const stack = member(report, "stack").if_array();
  if (stack == nullptr || stack->empty()) {
    out += "stack       none\n";
    return;
  }
  const auto of = text(report, "stack_of");
  out += of == "throw"   ? "stack, where the exception was thrown\n"
         : of == "catch" ? "stack, where the exception was caught (the frames that it left are gone)\n"
                         : "stack\n";
  std::size_t number = 0;
  for (const auto& each : *stack) {
    char prefix[16];
    std::snprintf(prefix, sizeof prefix, "  #%-3zu ", number++);
    out += prefix + place_text(each) + '\n';
  }
  add_images(out, *stack);
}

std::string restart_text(const json::value& report) {
  const auto& restart = member(report, "restarted");
  if (const auto* const again = restart.if_bool())
    return *again ? "a server with its name was running again within a second, with a fresh state"
                  : "no server had its name a second later";
  return {};
}

}  // namespace

std::string text_of_report(const json::object& given) {
  const json::value report(given);  // braces would make an array
  std::string out;
  line(out, "report", text(report, "id"));
  line(out, "time", text(report, "time"));
  line(out, "release", text(report, "release"));
  line(out, text(report, "kind") == "exception" ? "thrown" : "died of", text(report, "what"));
  line(out, "type", text(report, "exception"));
  add_server(out, report);
  if (const auto& thread = member(report, "thread"); thread.is_object())
    line(out, "thread", text(thread, "name") + ", " + text(thread, "id") + " of process " + text(report, "pid"));
  if (const auto& handler = member(report, "handler"); handler.is_object()) line(out, "handler", place_text(handler));
  line(out, "restart", restart_text(report));
  if (const auto repeated = text(report, "repeated"); !repeated.empty() && repeated != "0")
    line(out, "repeated", repeated + " more failures within the same second");
  if (member(report, "state").is_null())
    line(out, "state", text(report, "state_note"));
  else
    line(out, "state", text(report, "state"));
  if (const auto* const complete = member(report, "complete").if_bool(); complete != nullptr && !*complete)
    line(out, "note", "the process died before this report was whole");
  if (const auto& server = member(report, "server"); server.is_object()) add_last_messages(out, server);
  add_stack(out, report);
  return out;
}

json::object summary_of_report(const json::object& given) {
  const json::value report(given);  // braces would make an array
  json::object made;
  for (const char* const key : {"id", "time", "kind", "release", "what"}) made[key] = member(report, key);
  const auto& server = member(report, "server");
  made["server"] = member(server, "name");
  for (const char* const key : {"type", "version", "message"}) made[key] = member(server, key);
  if (given.contains("signal")) made["signal"] = member(member(report, "signal"), "name");
  return made;
}

}  // namespace molt::node
