// A rollback that comes while an upgrade is under way: the node is told to go back, and the upgrade's own end is waited
// for.
//
//   the upgrade ended    then
//   rolled_back          done: the servers are where the operator wants them
//   done                 before the node heard of it; nothing here: it is rolled back as any other
//   otherwise            nothing here: what stands in the way of a rollback is said as always
#include "node/api_error.hpp"
#include "node/json_codec.hpp"
#include "tools/moltd_daemon.hpp"

#include <spdlog/spdlog.h>
#include <boost/json.hpp>

#include <optional>
#include <utility>

namespace molt::daemon {
namespace {

namespace json = boost::json;
using releases::transition_kind;
using releases::transition_outcome;

constexpr milliseconds cancel_timeout{2000};
constexpr milliseconds cancel_interval{50};

}  // namespace

std::optional<node::http_response> daemon::cancel_upgrade_under_way() {
  lock held{mutex_};
  if (!store_.in_flight() || store_.in_flight()->kind != transition_kind::upgrade) return std::nullopt;
  const releases::transition cancelled = *store_.in_flight();
  const auto begun = clock::now();
  const auto is_under_way = [&] {
    return store_.in_flight() && store_.in_flight()->to == cancelled.to &&
           store_.in_flight()->started_at == cancelled.started_at && state_ == node_state::running;
  };
  // Whoever carries it out holds `changing_`; after a restart of moltd, nobody does.
  const auto has_ended_unnoted = [&] {
    return !adopted_mid_change_ && std::unique_lock{changing_, std::try_to_lock}.owns_lock();
  };
  if (is_under_way()) spdlog::info("the upgrade to {} is told to go back", cancelled.to);
  while (is_under_way() && !has_ended_unnoted()) {
    held.unlock();
    // Again and again: it may not have begun in the node yet, where none is under way then.
    (void)ask_node("POST", "/v1/cancel", "{}", cancel_timeout);
    held.lock();
    changed_.wait_for(held, cancel_interval, [&] { return !is_under_way(); });
  }
  const auto& past = store_.history();
  if (store_.in_flight() || past.empty() || past.back().to != cancelled.to ||
      past.back().started_at != cancelled.started_at || past.back().outcome != transition_outcome::rolled_back)
    return std::nullopt;
  const std::chrono::duration<double, std::milli> took = clock::now() - begun;
  return node::http_response{200,
                             json::serialize(json::object{{"result", "done"},
                                                          {"from", cancelled.to},
                                                          {"to", cancelled.from},
                                                          {"direction", "down"},
                                                          {"way", "in_place"},
                                                          {"total_ms", took.count()},
                                                          {"cancelled", true},
                                                          {"types", json::array{}},
                                                          {"servers_migrated", 0},
                                                          {"failures", json::array{}},
                                                          {"problems", json::array{}},
                                                          {"notes", json::array{"the upgrade was still under way"}}}),
                             "application/json"};
}

}  // namespace molt::daemon
