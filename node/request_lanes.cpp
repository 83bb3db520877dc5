#include "node/request_lanes.hpp"

#include <algorithm>
#include <array>

namespace molt::node {
namespace {

using namespace std::string_view_literals;

constexpr std::array changes{"/v1/plan"sv, "/v1/rehearse"sv, "/v1/upgrade"sv, "/v1/rollback"sv, "/v1/commit"sv};
constexpr std::array never_wait{"/v1/status"sv,  "/v1/cancel"sv,  "/v1/adopt"sv,
                                "/v1/history"sv, "/v1/crashes"sv, "/v1/releases"sv};
constexpr std::array never_wait_for_a_server{"status"sv, "trace"sv, "unwatch"sv, "resume"sv};
constexpr auto servers = "/v1/servers"sv;

bool is_at_or_below(std::string_view path, std::string_view place) noexcept {
  return path.starts_with(place) && (path.size() == place.size() || path[place.size()] == '/');
}

template <class Places>
bool is_in(std::string_view path, const Places& places) noexcept {
  return std::any_of(places.begin(), places.end(), [&](auto each) { return is_at_or_below(path, each); });
}

}  // namespace

request_lane lane_of(const http_request& asked) noexcept {
  const std::string_view path = asked.path;
  const bool reads = asked.method == "GET" || asked.method == "HEAD";
  if (is_in(path, changes) || (!reads && is_at_or_below(path, "/v1/releases"))) return request_lane::change;
  if (is_in(path, never_wait)) return request_lane::prompt;
  // To measure a state is to wait for its server.
  if (!is_at_or_below(path, servers) || asked.parameter("measure") == "true") return request_lane::waiting;
  if (path.size() == servers.size()) return request_lane::prompt;
  const auto verb = path.substr(path.rfind('/') + 1);
  const bool prompt =
      (reads && verb == "record") ||
      std::find(never_wait_for_a_server.begin(), never_wait_for_a_server.end(), verb) != never_wait_for_a_server.end();
  return prompt ? request_lane::prompt : request_lane::waiting;
}

http_server_options control_api_options() {
  http_server_options options;
  options.lanes = {prompt_threads, change_threads, waiting_threads};
  options.lane_of = [](const http_request& asked) { return static_cast<std::size_t>(lane_of(asked)); };
  return options;
}

}  // namespace molt::node
