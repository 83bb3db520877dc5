#include "node/server_api.hpp"

#include <boost/json.hpp>

#include <array>
#include <cstdio>
#include <ctime>

namespace molt::node {

namespace json = boost::json;

std::string utc_text(std::chrono::nanoseconds since_epoch, bool precise) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_epoch);
  const std::time_t time = seconds.count();
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  auto size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (precise) {
    const auto below = std::chrono::duration_cast<std::chrono::microseconds>(since_epoch - seconds).count();
    size += static_cast<std::size_t>(
        std::snprintf(text.data() + size, text.size() - size, ".%06u", static_cast<unsigned>(below)));
  }
  return std::string{text.data(), size} + "Z";
}

std::string_view status_text(int status) noexcept {
  switch (status) {
    case MOLT_OK:
      return "ok";
    case MOLT_TIMEOUT:
      return "timeout";
    case MOLT_NO_SUCH_SERVER:
      return "no_such_server";
    case MOLT_SERVER_FAILED:
    case MOLT_THREW:
      return "server_failed";
    case MOLT_OVERLOADED:
      return "overloaded";
    case MOLT_WOULD_DEADLOCK:
      return "would_deadlock";
    case MOLT_UNKNOWN_MESSAGE:
      return "unknown_message";
    case MOLT_STOPPING:
      return "stopping";
    default:
      return "failed";
  }
}

json::object object_of(const servers::server_info& server) {
  return {{"ref", server.ref.bits},
          {"name", server.name},
          {"type", server.type},
          {"version", server.version},
          {"status", server.status},
          {"queued", server.queued},
          {"queued_most", server.queued_most},
          {"handled", server.handled},
          {"started_at", utc_text(server.started_at, false)},
          {"watched", server.watched},
          {"recorded", server.recorded}};
}

json::object object_of(const servers::duration_histogram& times) {
  json::array buckets;
  for (std::size_t i = 0; i < times.counts.size(); ++i)
    if (times.counts[i] != 0) buckets.push_back({{"below_ns", std::int64_t{1} << i}, {"count", times.counts[i]}});
  return {{"count", times.total()},
          {"p50_ns", times.quantile_ns(0.5)},
          {"p99_ns", times.quantile_ns(0.99)},
          {"longest_ns", times.quantile_ns(1.0)},
          {"buckets", std::move(buckets)}};
}

std::string_view kind_text(servers::message_kind kind) noexcept {
  switch (kind) {
    case servers::message_kind::call:
      return "call";
    case servers::message_kind::cast:
      return "cast";
    case servers::message_kind::data:
      return "data";
  }
  return "call";
}

/// Its payload may be secret: only how large it is.
json::object object_of(const servers::recorded_message& handled) {
  return {{"at", utc_text(handled.at, true)},
          {"kind", kind_text(handled.kind)},
          {"message", handled.message},
          {"status", status_text(handled.status)},
          {"took_ns", handled.took.count()},
          {"payload_bytes", handled.has_payload ? json::value(handled.payload.size()) : json::value(nullptr)}};
}

json::object object_of(const servers::trace_event& event) {
  return {{"number", event.number},
          {"at", utc_text(event.at, true)},
          {"kind", kind_text(event.kind)},
          {"message", event.message},
          {"from", event.from.empty() ? json::value(nullptr) : json::value(event.from)},
          {"status", status_text(event.status)},
          {"took_ns", event.took.count()}};
}

}  // namespace molt::node
