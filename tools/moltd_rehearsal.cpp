// Rehearsals: asked for by themselves, and before each upgrade, ahead of its journalled transition. The node makes
// them; nothing of one outlives its answer.
#include "node/json_codec.hpp"
#include "releases/package.hpp"
#include "tools/moltd_answers.hpp"
#include "tools/moltd_daemon.hpp"

#include <boost/json.hpp>
#include <spdlog/spdlog.h>

#include <utility>

namespace molt::daemon {
namespace {

namespace json = boost::json;
using node::exit_code;
using node::http_response;

constexpr milliseconds rehearsal_timeout = std::chrono::hours{48};  ///< the node bounds it; this ends a hang for ever

bool has_passed(const json::object& rehearsal) {
  const auto* const passed = rehearsal.if_contains("passed");
  return passed != nullptr && passed->is_bool() && passed->get_bool();
}

/// Of an upgrade that has not begun.
json::object report_of_refusal(const std::string& from, const std::string& to, json::array problems) {
  return {{"result", "refused"},
          {"from", from},
          {"to", to},
          {"direction", "up"},
          {"way", "keep"},
          {"total_ms", 0},
          {"types", json::array{}},
          {"servers_migrated", 0},
          {"servers_failed", 0},
          {"failures", json::array{}},
          {"problems", std::move(problems)},
          {"notes", json::array{}}};
}

/// What its rehearsal found is why.
json::object refused_report(const std::string& from, const std::string& to, json::object rehearsal) {
  json::array problems;
  if (const auto* const found = rehearsal.if_contains("problems"); found != nullptr && found->is_array())
    for (const auto& each : found->get_array())
      if (each.is_string())
        problems.emplace_back("in the rehearsal: " + std::string{std::string_view{each.get_string()}});
  auto report = report_of_refusal(from, to, std::move(problems));
  report["rehearsal"] = std::move(rehearsal);
  return report;
}

}  // namespace

result<http_response> daemon::ask_for_rehearsal(json::object body, const release_place& place,
                                                const std::function<bool()>& given_up) const {
  MOLT_CHECK(verify(place));  // its code is about to be run
  name_release(body, place);
  auto answered = ask_node("POST", "/v1/rehearse", json::serialize(body), rehearsal_timeout, given_up);
  if (!answered) return answered;
  if (const auto failed = node::error_of(*answered); failed && failed->what.why() == reason::stopping)
    return error{reason::stopping, failed->what.message(),
                 "moltd starts another node, whose servers begin anew: molt status"};
  return answered;
}

http_response daemon::post_rehearse(json::object body, const std::function<bool()>& client_gone) {
  const auto found = body.find("release");
  if (found == body.end() || !found->value().is_string())
    return refused({reason::invalid_argument, "release: expected the release's id, as in \"kv-1.0.0\""});
  const std::string name{std::string_view{found->value().get_string()}};
  body.erase(found);
  lock held{mutex_};
  const auto target = store_.find(name);
  if (!target) return refused(target.error());
  if (state_ == node_state::down)
    return refused({reason::unreachable, "no node is running", "molt status says why; molt upgrade RELEASE starts one"});
  if (target->id == store_.running()) return refused({reason::refused, target->id + " runs already"});
  const auto place = place_of(held, target->id);
  held.unlock();
  const auto answered = ask_for_rehearsal(std::move(body), place, client_gone);
  return answered ? *answered : refused(answered.error());
}

/// What to answer instead of upgrading; nothing: it passed. Lets go of the lock meanwhile. A rollback may end it.
std::optional<http_response> daemon::rehearse_first(lock& held, change& wanted) {
  const auto own = std::make_shared<rehearsed_upgrade>();
  own->from = wanted.from;
  own->to = wanted.to;
  const auto place = place_of(held, wanted.to);
  std::optional<http_response> not_passed;
  {
    struct shown {
      daemon& self;
      lock& held;
      ~shown() {
        held.lock();
        self.rehearsed_.reset();
        self.changed_.notify_all();
      }
    };
    rehearsed_ = own;
    held.unlock();
    const shown until_it_ends{*this, held};
    not_passed = rehearse(wanted, place);
  }
  if (!own->told_to_go_back || state_ != node_state::running) return not_passed;
  const auto failed = not_passed ? node::error_of(*not_passed) : std::nullopt;
  if (failed && failed->code == exit_code::unreachable) return not_passed;  // there is no node to be as before
  own->went_back = true;
  wanted.rehearsal.clear();
  spdlog::info("the upgrade to {} was not begun: it was told to go back", wanted.to);
  auto report = report_of_refusal(wanted.from, wanted.to,
                                  {"it was told to go back while it was being rehearsed; nothing was begun"});
  report["cancelled"] = true;
  return respond(report);
}

std::optional<http_response> daemon::rehearse(change& wanted, const release_place& place) const {
  spdlog::info("rehearsing the upgrade to {}", wanted.to);
  const auto answered = ask_for_rehearsal(wanted.body, place, {});
  if (!answered) return refused(answered.error());
  if (node::error_of(*answered)) return *answered;
  auto report = node::parse_json(answered->body);
  if (!report || !report->is_object())
    return refused({reason::corrupt, "the node's answer to the rehearsal is no JSON object"});
  if (!has_passed(report->get_object())) {
    spdlog::warn("the upgrade to {} was not begun: its rehearsal did not pass", wanted.to);
    return respond(refused_report(wanted.from, wanted.to, std::move(report->get_object())));
  }
  wanted.rehearsal = std::move(report->get_object());
  return std::nullopt;
}

}  // namespace molt::daemon
