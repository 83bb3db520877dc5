#include "node/crash_report.hpp"

#include "base/demangle.hpp"
#include "base/utf8.hpp"
#include "node/json_codec.hpp"
#include "node/server_api.hpp"
#include "node/symbolizer.hpp"
#include "server/server_type.hpp"
#include "state_migration/archive_buffer.hpp"

#include <unistd.h>
#include <boost/json.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iterator>

namespace molt::node {
namespace {

namespace json = boost::json;

constexpr int report_format = 1;

/// What may be shown of the first `most` bytes.
std::string printable(std::string_view from, std::size_t most = 4096) {
  const auto is_tail = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; };
  if (from.size() > most) {
    while (most != 0 && is_tail(from[most])) --most;  // not in the middle of a character
    from = from.substr(0, most);
  }
  return molt::printable(from);
}

std::string hex(std::uint64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(number));
  return text;
}

std::string time_text(std::int64_t seconds, std::int64_t nanoseconds) {
  const auto at = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::gmtime_r(&at, &parts);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<int>(nanoseconds / 1'000'000));
  return text;
}

std::string signal_name(int number) {
  const char* const known = ::sigabbrev_np(number);
  return known != nullptr ? std::string{"SIG"} + known : "signal " + std::to_string(number);
}

/// What the kernel says beside the number, for the signals that we catch; empty if nothing is known.
std::string code_text(int number, int code) {
  if (code <= 0) return "sent by a process";
  switch (number) {
    case SIGSEGV:
      if (code == SEGV_MAPERR) return "nothing is mapped there";
      if (code == SEGV_ACCERR) return "the memory there may not be used so";
      return code == SI_KERNEL ? "not a canonical address" : "";
    case SIGBUS:
      if (code == BUS_ADRALN) return "misaligned";
      return code == BUS_ADRERR ? "nothing is there, as behind the end of a mapped file" : "";
    case SIGFPE:
      if (code == FPE_INTDIV) return "integer division by zero";
      return code == FPE_INTOVF ? "integer overflow" : "";
    case SIGILL:
      return "an instruction that there is not";
    default:
      return {};
  }
}

json::object object_of(const code_place& place) {
  json::object made{{"address", hex(place.address)}};
  if (!place.image.empty()) {
    made["image"] = printable(place.image);
    made["offset"] = hex(place.offset);
    if (!place.build_id.empty()) made["build_id"] = place.build_id;
  }
  if (!place.symbol.empty()) {
    made["symbol"] = printable(place.symbol, crash_symbol_size_max);
    made["symbol_offset"] = place.symbol_offset;
  }
  return made;
}

json::object server_object(std::uint64_t ref, const std::string& name, const std::string& type,
                           const std::string& version) {
  return {{"ref", ref},
          {"name", name.empty() ? json::value(nullptr) : json::value(printable(name))},
          {"type", printable(type)},
          {"version", printable(version)}};
}

json::array names(const std::vector<std::string>& from) {
  json::array all;
  for (const auto& each : from) all.emplace_back(printable(each));
  return all;
}

json::object report_begin(const char* kind, std::int64_t seconds, std::int64_t nanoseconds,
                          const std::string& release) {
  return {{"format", report_format},
          {"kind", kind},
          {"time", time_text(seconds, nanoseconds)},
          {"release", release.empty() ? json::value(nullptr) : json::value(printable(release))}};
}

json::object last_object(std::int64_t at_ns, std::int64_t took_ns, std::string_view kind, int status,
                         const std::string& message) {
  return {{"at", utc_text(std::chrono::nanoseconds{at_ns}, true)},
          {"kind", kind},
          {"message", printable(message)},
          {"status", status_text(status)},
          {"took_ns", took_ns}};
}

json::value last_messages(const servers::server_failure& told) {
  if (!told.recorded) return nullptr;
  json::array all;
  for (const auto& each : told.last)
    all.push_back(last_object(each.at.count(), each.took.count(), kind_text(each.kind), each.status, each.message));
  return all;
}

json::value last_messages(const crash_raw::server& server) {
  if (!server.recorded) return nullptr;
  json::array all;
  for (const auto& each : server.last)
    all.push_back(last_object(each.at_ns, each.took_ns, each.kind, each.status, each.message));
  return all;
}

/// The function that `in` names.
const void* function_of(const servers::server_type& type, const std::string& in) {
  const molt_server_type& table = type.abi();
  if (in == "init()") return reinterpret_cast<const void*>(table.init);
  if (in == "handle_data()") return reinterpret_cast<const void*>(table.handle_data);
  if (in == "config_change()") return reinterpret_cast<const void*>(table.config_change);
  const molt_handler* const handler = type.find(in);
  return handler != nullptr ? reinterpret_cast<const void*>(handler->handle) : nullptr;
}

// ---- Servers of a raw report

/// The message that the server was handling: one of its functions stands on the stack. `from` is the first frame that
/// may be its own; on success, the frame behind the function's.
std::string running_function(const crash_raw::server& server, const std::vector<code_place>& stack, std::size_t& from) {
  for (std::size_t i = from; i < stack.size(); ++i) {
    if (stack[i].symbol.empty()) continue;
    for (const auto& handler : server.handlers)
      if (stack[i].address - stack[i].symbol_offset == handler.address) {
        from = i + 1;
        return handler.message;
      }
  }
  // An image without symbols: the nearest function below one of its addresses.
  for (std::size_t i = from; i < stack.size(); ++i) {
    if (!stack[i].symbol.empty() || stack[i].image.empty()) continue;
    const crash_raw::handler* nearest = nullptr;
    for (const auto& handler : server.handlers)
      if (handler.address <= stack[i].address && stack[i].address - handler.address < 4096 &&
          (nearest == nullptr || nearest->address < handler.address))
        nearest = &handler;
    if (nearest != nullptr) {
      from = i + 1;
      return nearest->message + " (probably)";
    }
  }
  return {};
}

json::object signal_object(const crash_raw& raw) {
  json::object made{{"number", raw.signal}, {"name", signal_name(raw.signal)}, {"code", raw.code}};
  if (const auto text = code_text(raw.signal, raw.code); !text.empty()) made["code_text"] = text;
  made["address"] = raw.signal == SIGABRT || raw.code <= 0 ? json::value(nullptr) : json::value(hex(raw.address));
  return made;
}

std::string signal_what(const crash_raw& raw) {
  std::string what = signal_name(raw.signal);
  if (!raw.text.empty()) return what + ": " + printable(raw.text);
  if (raw.signal != SIGABRT && raw.code > 0) what += " at address " + hex(raw.address);
  if (raw.signal == SIGABRT && raw.code == SI_TKILL) return what + " (abort)";
  if (const auto text = code_text(raw.signal, raw.code); !text.empty()) what += " (" + text + ")";
  return what;
}

}  // namespace

// ---- Making

failed_server failed_server::of(const servers::server_failure& told) {
  failed_server made;
  made.told = told;
  made.why = told.why;
  made.when = std::chrono::system_clock::now();
  if (told.type != nullptr) made.type = told.type->shared_from_this();
  made.told.type = nullptr;
  made.told.why = {};
  if (made.type == nullptr || told.state == nullptr) return made;
  const molt_server_type& type = made.type->abi();
  if (type.format_status == nullptr) {
    made.state_note = "the type has no format_status, so its state is not shown";
    return made;
  }
  molt_text error;
  error.size = 0;
  const auto look = [&](const void* shown) {
    migration::archive_buffer archive{crash_state_size_max};
    molt_text why;
    why.size = 0;
    if (archive.save(*type.state, shown, why) != MOLT_OK) {
      made.state_note = "the state is too large for a report, or cannot be written";
      return;
    }
    const auto value = json_from_archive(*type.state, archive.bytes(), "state");
    if (!value) {
      made.state_note = value.error().message();
      return;
    }
    made.state = json::serialize(*value);
    if (made.state.size() <= crash_state_size_max) return;
    made.state.clear();
    made.state_note = "the state is too large for a report";
  };
  if (made.type->show(told.state, look, &error) != MOLT_OK)
    made.state_note =
        "format_status failed: " + std::string{error.data, std::min<std::size_t>(error.size, MOLT_TEXT_CAPACITY)};
  made.told.state = nullptr;
  return made;
}

json::object report_of(const failed_server& failed, const std::string& release,
                       const std::vector<std::filesystem::path>& folders) {
  const auto since = failed.when.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  json::object made =
      report_begin("exception", seconds.count(),
                   std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count(), release);
  made["pid"] = ::getpid();
  made["what"] = printable(failed.why);
  if (!failed.told.exception.empty())
    made["exception"] = printable(demangle(failed.told.exception), crash_symbol_size_max);
  const std::string type = failed.type != nullptr ? std::string{failed.type->name()} : "";
  const std::string version = failed.type != nullptr ? std::string{failed.type->version()} : "";
  json::object server = server_object(failed.told.ref.bits, failed.told.name, type, version);
  if (!failed.told.in.empty()) server["message"] = printable(failed.told.in);
  server["queued"] = failed.told.queued;
  server["handled"] = failed.told.handled;
  server["waiting"] = names(failed.told.waiting);
  server["last_messages"] = last_messages(failed.told);
  made["server"] = std::move(server);
  json::array callers;
  for (const auto& each : failed.told.callers)
    callers.push_back(server_object(each.ref.bits, each.name, each.type, each.version));
  made["callers"] = std::move(callers);

  symbolizer symbols{images_of_this_process(), folders};
  if (failed.type != nullptr)
    if (const void* const function = function_of(*failed.type, failed.told.in); function != nullptr)
      made["handler"] = object_of(symbols.place(reinterpret_cast<std::uint64_t>(function), false));
  json::array stack;
  for (const auto address : failed.told.stack) stack.push_back(object_of(symbols.place(address, true)));
  made["stack"] = std::move(stack);
  made["stack_of"] = failed.told.stack_from_throw ? "throw" : "catch";
  json::error_code bad;
  made["state"] = failed.state.empty() ? json::value(nullptr) : json::parse(failed.state, bad);
  if (!failed.state_note.empty()) made["state_note"] = printable(failed.state_note);
  return made;
}

json::object report_of(const crash_raw& raw, const std::vector<std::filesystem::path>& folders) {
  json::object made = report_begin("signal", raw.seconds, raw.nanoseconds, raw.release);
  made["pid"] = raw.pid;
  made["what"] = signal_what(raw);
  made["signal"] = signal_object(raw);
  made["thread"] = {{"id", raw.thread}, {"name", printable(raw.thread_name)}};

  symbolizer symbols{raw.images, folders};
  std::vector<code_place> places;
  json::array stack;
  for (const auto address : raw.frames) {
    places.push_back(symbols.place(address, !places.empty()));
    stack.push_back(object_of(places.back()));
    if (raw.omitted != 0 && raw.omitted_at == stack.size()) stack.push_back(json::object{{"omitted", raw.omitted}});
  }
  std::size_t from = 0;
  json::array servers;
  for (const auto& each : raw.servers) {
    json::object server = server_object(each.ref, each.name, each.type, each.version);
    if (const auto message = running_function(each, places, from); !message.empty())
      server["message"] = printable(message);
    server["queued"] = each.queued;
    server["handled"] = each.handled;
    server["last_messages"] = last_messages(each);
    servers.push_back(std::move(server));
  }
  made["server"] = nullptr;
  if (!servers.empty()) {
    made["server"] = std::move(servers.front());
    servers.erase(servers.begin());
  }
  made["callers"] = std::move(servers);
  made["stack"] = std::move(stack);
  made["stack_of"] = raw.by_frame_pointers ? "signal, by frame pointers" : "signal";
  made["complete"] = raw.complete && !raw.faulted;
  return made;
}

}  // namespace molt::node
