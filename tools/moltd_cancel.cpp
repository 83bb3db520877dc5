// A rollback that comes while an upgrade is under way: the node is told to go back, and the upgrade's own end is waited
// for.
//
//   the upgrade          then
//   was being rehearsed  the copy is killed, nothing begins. Done: the servers are where the operator wants them
//   ended rolled_back    done, likewise
//   ended done           before the node heard of it; nothing here: it is rolled back as any other
//   ended otherwise      nothing here: what stands in the way of a rollback is said as always
//
// Invariant: a rehearsal that was told to go back while it was shown in rehearsed_ is followed by no upgrade.
#include "tools/moltd_answers.hpp"
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

/// The answer to the rollback.
node::http_response gone_back(const std::string& from, const std::string& to, clock::time_point begun,
                              std::string_view note) {
  const std::chrono::duration<double, std::milli> took = clock::now() - begun;
  return respond({{"result", "done"},
                  {"from", from},
                  {"to", to},
                  {"direction", "down"},
                  {"way", "in_place"},
                  {"total_ms", took.count()},
                  {"cancelled", true},
                  {"types", json::array{}},
                  {"servers_migrated", 0},
                  {"failures", json::array{}},
                  {"problems", json::array{}},
                  {"notes", json::array{note}}});
}

}  // namespace

std::optional<node::http_response> daemon::cancel_rehearsal_under_way() {
  lock held{mutex_};
  const auto rehearsed = rehearsed_;
  if (!rehearsed) return std::nullopt;
  const auto begun = clock::now();
  spdlog::info("the upgrade to {}, which is being rehearsed, is told to go back", rehearsed->to);
  rehearsed->told_to_go_back = true;
  while (rehearsed_ == rehearsed) {
    held.unlock();
    // Again and again: the node may not have begun it yet.
    (void)ask_node("POST", "/v1/cancel", "{}", cancel_timeout);
    held.lock();
    changed_.wait_for(held, cancel_interval, [&] { return rehearsed_ != rehearsed; });
  }
  if (!rehearsed->went_back) return std::nullopt;
  return gone_back(rehearsed->to, rehearsed->from, begun, "the upgrade was still being rehearsed");
}

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
  return gone_back(cancelled.to, cancelled.from, begun, "the upgrade was still under way");
}

}  // namespace molt::daemon
