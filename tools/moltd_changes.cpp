// What the control socket changes: installing, removing, planning, upgrading, rolling back. moltd_commit.cpp commits.
//
//   journalled          then
//   planned             the release is verified; its new listening sockets are opened and handed to the node
//   switching           the node is told; it may run either release from here on
//   (transition gone)   the outcome is in the history, and the answer is sent
#include "base/durable_file.hpp"
#include "node/http_client.hpp"
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
using releases::transition_kind;
using releases::transition_outcome;

constexpr milliseconds change_timeout = std::chrono::hours{6};  ///< the node bounds its own steps; this ends a hang for ever
constexpr milliseconds plan_timeout = std::chrono::minutes{2};
constexpr milliseconds status_timeout{2000};
constexpr milliseconds fds_timeout{5000};
constexpr milliseconds resolve_interval{50};

/// The member, taken out of the object; empty if it is not there.
result<std::string> take_text(json::object& body, std::string_view key) {
  const auto found = body.find(key);
  if (found == body.end()) return std::string{};
  if (!found->value().is_string()) return error{reason::invalid_argument, std::string{key} + ": expected a string"};
  std::string text{found->value().get_string()};
  body.erase(found);
  return text;
}

result<std::string> take_release(json::object& body) {
  MOLT_TRY(auto name, take_text(body, "release"));
  if (name.empty()) return error{reason::invalid_argument, "release: expected the release's id, as in \"kv-1.0.0\""};
  return name;
}

std::string text_at(const json::value& value, std::string_view key) {
  if (!value.is_object()) return {};
  const auto* found = value.get_object().if_contains(key);
  return found != nullptr && found->is_string() ? std::string{std::string_view{found->get_string()}} : std::string{};
}

bool says(const json::value& value, std::string_view key) {
  const auto* found = value.is_object() ? value.get_object().if_contains(key) : nullptr;
  return found != nullptr && found->is_bool() && found->get_bool();
}

/// The problems and failures of a report in one line, for the history.
std::string detail_of(const json::value& report) {
  std::string text;
  const auto add = [&](const std::string& piece) {
    if (!piece.empty() && text.size() < 1000) text += (text.empty() ? "" : "; ") + piece;
  };
  const auto* object = report.if_object();
  if (object == nullptr) return text;
  if (const auto* problems = object->if_contains("problems"); problems != nullptr && problems->is_array())
    for (const auto& each : problems->get_array())
      if (each.is_string()) add(std::string{std::string_view{each.get_string()}});
  if (const auto* failures = object->if_contains("failures"); failures != nullptr && failures->is_array())
    for (const auto& each : failures->get_array()) add(text_at(each, "server") + ": " + text_at(each, "error"));
  return text;
}

/// The node's plan with one more problem.
http_response with_problem(const http_response& planned, const std::string& problem) {
  auto plan = node::error_of(planned) ? error{} : node::parse_json(planned.body);
  if (!plan || !plan->is_object()) return planned;
  auto& object = plan->get_object();
  auto& problems = object["problems"];
  if (!problems.is_array()) problems = json::array{};
  problems.get_array().emplace_back(problem);
  object["refused"] = true;
  return respond(object);
}

/// The node's report with the rehearsal that came before.
http_response with_rehearsal(const http_response& changed, json::object rehearsal) {
  auto report = node::error_of(changed) ? error{} : node::parse_json(changed.body);
  if (!report || !report->is_object()) return changed;
  report->get_object()["rehearsal"] = std::move(rehearsal);
  return respond(report->get_object());
}

/// The report of a start without state to move.
http_response started_cold(std::string_view from, std::string_view to, clock::time_point begun) {
  const std::chrono::duration<double, std::milli> took = clock::now() - begun;
  return respond({{"result", "done"},
                  {"from", from},
                  {"to", to},
                  {"total_ms", took.count()},
                  {"way", "keep"},
                  {"types", json::array{}},
                  {"servers_migrated", 0},
                  {"failures", json::array{}},
                  {"problems", json::array{}},
                  {"notes", json::array{"no node was running, so the release was started without state"}}});
}

error moltd_stops() {
  return {reason::stopping, "moltd was told to stop, and stops its node; nothing was begun", "start moltd again first"};
}

/// Of a change whose node was told to stop meanwhile.
std::string_view how_it_ended(transition_outcome outcome) noexcept {
  switch (outcome) {
    case transition_outcome::done:
      return "was just done";
    case transition_outcome::refused:
      return "was not begun";
    case transition_outcome::rolled_back:
      return "was taken back";
    case transition_outcome::failed:
    case transition_outcome::needs_attention:
      break;
  }
  return "did not end well";
}

transition_outcome outcome_named(std::string_view name) noexcept {
  if (name == "done") return transition_outcome::done;
  if (name == "refused") return transition_outcome::refused;
  if (name == "rolled_back") return transition_outcome::rolled_back;
  return transition_outcome::needs_attention;
}

}  // namespace

result<http_response> daemon::ask_node(std::string_view method, std::string_view target, std::string_view body,
                                       milliseconds timeout, const std::function<bool()>& given_up) const {
  return node::request(node_socket_, method, target, body, timeout, given_up);
}

// -- The store's content

http_response daemon::post_release(const json::object& asked) {
  json::object body = asked;
  auto path = take_text(body, "path");
  if (!path) return refused(path.error());
  if (path->empty() || path->front() != '/') return refused({reason::invalid_argument, "path: expected an absolute path"});
  const std::unique_lock installing{installing_, std::try_to_lock};
  if (!installing) return refused({reason::busy, "another release is being installed", "try again when it is done"});
  const auto staged = store_.stage(*path);
  if (!staged && is_out_of_space(staged.error()))
    return refused(
        {reason::io, staged.error().message(),
         "make room for " + options_.store_folder.string() + ": molt remove deletes a release that is not needed"});
  if (!staged) return refused(staged.error());
  const lock held{mutex_};
  const auto done = store_.admit(*staged);
  if (!done) return refused(done.error());
  spdlog::info("{} {} from {}", done->repaired ? "repaired" : "installed", done->id, *path);
  return respond({{"id", done->id}, {"repaired", done->repaired}});
}

http_response daemon::delete_release(std::string_view name) {
  const lock held{mutex_};
  (void)write_what_is_owed(held);
  const auto release = store_.find(name);
  if (!release) return refused(release.error());
  if (auto removed = store_.remove(release->id); !removed) return refused(removed.error());
  spdlog::info("removed {}", release->id);
  (void)write_what_is_owed(held);  // there may be room now
  return respond({{"id", release->id}});
}

// -- Asking what would happen

http_response daemon::post_plan(json::object body) {
  bool back = false;
  if (const auto found = body.find("rollback"); found != body.end()) {
    back = found->value().is_bool() && found->value().get_bool();
    body.erase(found);
  }
  lock held{mutex_};
  if (auto owed = write_what_is_owed(held); !owed) return refused(owed.error());
  result<releases::release_record> target = error{};
  if (back) {
    target = store_.rollback_target();
  } else {
    const auto name = take_release(body);
    if (!name) return refused(name.error());
    target = store_.find(*name);
  }
  if (!target) return refused(target.error());
  if (state_ == node_state::down)
    return refused({reason::unreachable, "no node is running", "molt status says why; molt upgrade RELEASE starts one"});
  if (!back && target->id == store_.running()) return refused({reason::refused, target->id + " runs already"});
  // The node knows nothing of probation; it is asked all the same, so that the next step can be looked at before the commit.
  const std::string against =
      !back && store_.in_probation() ? store_.running() + " is in probation: molt commit or molt rollback first" : "";
  const auto place = place_of(held, target->id);
  held.unlock();
  if (auto whole = verify(place); !whole) return refused(whole.error());  // as the change would
  name_release(body, place);
  if (back) body["rollback"] = true;
  auto planned = ask_node("POST", "/v1/plan", json::serialize(body), plan_timeout);
  if (!planned) return refused(planned.error());
  return against.empty() ? *planned : with_problem(*planned, against);
}

// -- Changing the release

http_response daemon::post_upgrade(json::object body) {
  change wanted;
  const auto name = take_release(body);
  if (!name) return refused(name.error());
  {
    const lock held{mutex_};
    if (auto owed = write_what_is_owed(held); !owed) return refused(owed.error());
    const auto target = store_.find(*name);
    if (!target) return refused(target.error());
    wanted.from = store_.running();
    wanted.to = target->id;
    wanted.kind = wanted.from.empty() ? transition_kind::start : transition_kind::upgrade;
  }
  wanted.rehearse = true;
  if (const auto found = body.find("rehearsal"); found != body.end()) {
    if (!found->value().is_bool())
      return refused({reason::invalid_argument, "rehearsal: expected true or false"});
    wanted.rehearse = found->value().get_bool();
    body.erase(found);
  }
  wanted.body = std::move(body);
  auto answered = run_change(wanted);
  return wanted.rehearsal.empty() ? answered : with_rehearsal(answered, std::move(wanted.rehearsal));
}

http_response daemon::post_rollback(json::object body) {
  if (auto done = cancel_rehearsal_under_way()) return std::move(*done);
  if (auto done = cancel_upgrade_under_way()) return std::move(*done);
  change wanted;
  {
    const lock held{mutex_};
    if (auto owed = write_what_is_owed(held); !owed) return refused(owed.error());
    if (state_ == node_state::stopping) return refused(moltd_stops());
    const auto target = store_.rollback_target();
    if (!target) return refused(target.error());
    wanted.from = store_.running();
    wanted.to = target->id;
    wanted.kind = transition_kind::rollback;
  }
  wanted.body = std::move(body);
  return run_change(wanted);
}

std::optional<error> daemon::in_the_way_of_change(const lock& held) {
  if (auto owed = write_what_is_owed(held); !owed) return std::move(owed).error();
  if (state_ == node_state::starting || state_ == node_state::backing_off)
    return error{reason::busy, "the node is starting", "try again in a moment"};
  if (state_ == node_state::stopping) return moltd_stops();
  if (adopted_mid_change_)
    return error{reason::busy, "the node is in the middle of a change that an earlier moltd began"};
  if (store_.in_flight() && state_ == node_state::running) {  // whoever carried it out threw: no memory was left
    adopted_mid_change_ = true;
    wake();
    return error{reason::busy, "the outcome of the last change is being found out", "try again in a moment"};
  }
  return std::nullopt;
}

http_response daemon::run_change(change& wanted) {
  const std::unique_lock changing{changing_, std::try_to_lock};
  if (!changing) return refused({reason::busy, "another change of the release is under way", "molt status shows it"});
  lock held{mutex_};
  if (const auto why = in_the_way_of_change(held)) return refused(*why);
  // Before anything is journalled. What the store would refuse is not rehearsed.
  if (wanted.rehearse && wanted.kind == transition_kind::upgrade && state_ == node_state::running &&
      !store_.in_probation() && wanted.to != store_.running()) {
    auto not_passed = rehearse_first(held, wanted);
    if (state_ == node_state::stopping)
      return refused(moltd_stops());  // which ended the rehearsal: the release may be fine
    if (not_passed) return std::move(*not_passed);
    if (const auto why = in_the_way_of_change(held)) return refused(*why);
  }
  if (state_ == node_state::down && wanted.kind == transition_kind::upgrade && wanted.to == store_.running())
    return start_again(held, wanted);
  // Journalled first, so that a second request, and a crash from here on, find it.
  if (auto begun = store_.begin_transition(wanted.kind, wanted.to); !begun) return refused(begun.error());
  wanted.from = store_.in_flight()->from;
  commit_open_ = false;
  const bool cold = state_ == node_state::down;
  const auto place = place_of(held, wanted.to);
  held.unlock();
  spdlog::info("{} to {} begins", releases::to_string(wanted.kind), wanted.to);
  if (auto whole = verify(place); !whole) {
    held.lock();
    (void)end_transition(held, transition_outcome::refused, whole.error().text());
    return refused(whole.error());
  }
  return cold ? change_cold(wanted) : change_live(wanted);
}

/// No node runs: nothing to move. The wanted release is started; the loop ends the transition.
http_response daemon::change_cold(change& wanted) {
  const auto begun = clock::now();
  lock held{mutex_};
  if (auto switching = store_.begin_switch(); !switching) {
    (void)end_transition(held, transition_outcome::refused, switching.error().text());
    return refused(switching.error());
  }
  cold_target_ = wanted.to;
  wanted_ = true;
  wake();
  changed_.wait(held, [&] {
    return !store_.in_flight() || state_ == node_state::running || state_ == node_state::stopping;
  });
  if (!unwritten_.empty()) return not_written_down("", what_is_owed(held));
  if (store_.running() != wanted.to)
    return node::error_response({reason::needs_attention, wanted.to + " could not be started", store_.attention()},
                                exit_code::needs_attention);
  return started_cold(wanted.from, wanted.to, begun);
}

/// moltd gave up on the node, and an operator wants the same release again. Nothing to journal: no other one could start.
http_response daemon::start_again(lock& held, const change& wanted) {
  const auto begun = clock::now();
  const auto place = place_of(held, wanted.to);
  held.unlock();
  if (auto whole = verify(place); !whole) return refused(whole.error());
  held.lock();
  if (state_ == node_state::stopping) return refused(moltd_stops());
  spdlog::info("{} is started again", wanted.to);
  wanted_ = true;
  wake();
  changed_.wait(held, [&] {
    return state_ == node_state::running || state_ == node_state::stopping || (state_ == node_state::down && !wanted_);
  });
  if (state_ != node_state::running)
    return node::error_response({reason::needs_attention, wanted.to + " could not be started", store_.attention()},
                                exit_code::needs_attention);
  return started_cold(wanted.from, wanted.to, begun);
}

http_response daemon::change_live(change& wanted) {
  lock held{mutex_};
  const auto stop = [&](const error& why) {
    if (!held) held.lock();
    (void)end_transition(held, transition_outcome::refused, why.text());
    spdlog::warn("{} to {} refused: {}", releases::to_string(wanted.kind), wanted.to, why.text());
    return refused(why);
  };
  auto candidate = listeners_for(held, wanted.to);
  if (!candidate) return stop(candidate.error());
  std::vector<std::pair<std::string, int>> added;
  for (const auto& [name, listener] : *candidate) {
    const auto before = listeners_.find(name);
    if (before == listeners_.end() || before->second.address != listener.address) added.emplace_back(name, listener.fd.get());
  }
  const auto place = place_of(held, wanted.to);
  held.unlock();
  if (!added.empty())
    if (auto given = node::put_fds(node_fd_socket_, added, fds_timeout); !given) return stop(given.error());
  // Also for a rollback: a node that was restarted, or told to commit, must load the parent anew.
  name_release(wanted.body, place);
  const char* target = wanted.kind == transition_kind::rollback ? "/v1/rollback" : "/v1/upgrade";
  held.lock();
  if (!store_.in_flight()) {  // the node ended, and the loop has ended the transition with it
    held.unlock();
    return await_resolution(wanted);
  }
  if (adoption_) wanted.body["adoption"] = *adoption_;
  if (auto switching = store_.begin_switch(); !switching) return stop(switching.error());
  held.unlock();
  const auto answered = ask_node("POST", target, json::serialize(wanted.body), change_timeout);
  if (!answered) {
    spdlog::error("{} to {}: {}", releases::to_string(wanted.kind), wanted.to, answered.error().text());
    return await_resolution(wanted);
  }
  return conclude(wanted, *answered, std::move(*candidate));
}

/// The node has answered: journals what it says.
http_response daemon::conclude(const change& wanted, const http_response& from_node, listeners candidate) {
  auto outcome = transition_outcome::refused;
  std::string detail;
  std::string runs;
  bool node_stopping = false;
  if (const auto failed = node::error_of(from_node)) {  // "an error object means that there was no change to speak of"
    detail = failed->what.text();
    node_stopping = failed->what.why() == reason::stopping;
  } else if (const auto report = node::parse_json(from_node.body); report) {
    outcome = outcome_named(text_at(*report, "result"));
    detail = detail_of(*report);
    node_stopping = says(*report, "stopping");
  } else {
    return await_resolution(wanted);
  }
  if (outcome == transition_outcome::needs_attention) {
    const auto to_runs = ask_node("GET", "/v1/status", "", status_timeout);
    const auto body = to_runs ? node::parse_json(to_runs->body) : error{};
    if (body && body->is_object() && body->get_object().contains("release"))
      runs = text_at(body->get_object().at("release"), "current");
  }
  const lock held{mutex_};
  if (!store_.in_flight()) return from_node;  // the node ended right after its answer, and so did the transition
  const bool arrived = outcome == transition_outcome::done || runs == wanted.to;
  if (arrived && state_ != node_state::stopping) listeners_ = std::move(candidate);
  const auto written = end_transition(held, outcome, detail, runs);
  changed_.notify_all();
  spdlog::info("{} from {} to {}: {}{}{}", releases::to_string(wanted.kind), wanted.from, wanted.to,
               releases::to_string(outcome), detail.empty() ? "" : ": ", detail);
  if (state_ == node_state::stopping) return stopped_meanwhile(held, wanted, how_it_ended(outcome));
  if (node_stopping) return node_stops(held, wanted, how_it_ended(outcome));
  if (!written)
    return not_written_down("the node says " + std::string{releases::to_string(outcome)} + ": ", written.error());
  return from_node;
}

/// SIGTERM ends the node too, so what the change came to is over as well; no hook is to blame.
http_response daemon::stopped_meanwhile(const lock& /*held*/, const change& wanted, std::string_view ended) const {
  const auto next = store_.boot_release();
  return node::error_response(
      {reason::stopping,
       "moltd was told to stop, and stops its node: the " + std::string{releases::to_string(wanted.kind)} + " from " +
           wanted.from + " to " + wanted.to + ' ' + std::string{ended},
       "start moltd again: it runs " + next + ", whose servers begin anew"},
      exit_code::needs_attention);
}

/// It got SIGTERM from somebody else: the loop starts another.
http_response daemon::node_stops(const lock& /*held*/, const change& wanted, std::string_view ended) const {
  return node::error_response(
      {reason::stopping,
       "molt-node was told to stop, and its state is lost: the " + std::string{releases::to_string(wanted.kind)} +
           " from " + wanted.from + " to " + wanted.to + ' ' + std::string{ended},
       store_.boot_release() + " is started in its place, whose servers begin anew"},
      exit_code::needs_attention);
}

/// The connection to the node broke in the middle. Either the node is gone, and the loop ends the transition; or it goes on,
/// and then its status tells how it ended, once it begins nothing more of what it was asked.
http_response daemon::await_resolution(const change& wanted) {
  for (bool begins_no_more = false;;) {
    {
      lock held{mutex_};
      if (state_ == node_state::stopping) return stopped_meanwhile(held, wanted, "was cut off");
      if (!store_.in_flight() || !unwritten_.empty()) {
        const auto runs = store_.boot_release();
        return node::error_response(
            {reason::needs_attention, "the node ended during the change to " + wanted.to + "; its state is lost",
             runs.empty() ? "nothing runs" : runs + " was started in its place"},
            exit_code::needs_attention);
      }
      changed_.wait_for(held, resolve_interval);
    }
    if (!begins_no_more) {
      const auto adoption = adopt_node();
      if (!adoption) continue;
      begins_no_more = true;
      const lock held{mutex_};
      adoption_ = *adoption;
    }
    const auto status = ask_node("GET", "/v1/status", "", status_timeout);
    const auto body = status ? node::parse_json(status->body) : error{};
    if (!body || !body->is_object()) continue;
    const auto* release = body->get_object().if_contains("release");
    const auto* last = body->get_object().if_contains("upgrade");
    if (release == nullptr || last == nullptr || (last->is_object() && !last->get_object().contains("result"))) continue;
    const lock held{mutex_};
    if (!store_.in_flight() || !unwritten_.empty()) continue;
    if (auto resolved = settle_by(held, text_at(*release, "current")); !resolved)
      return node::error_response(resolved.error(), exit_code::needs_attention);
    if (last->is_object()) return respond(last->get_object());
    return refused({reason::refused, "the node did not carry out the change to " + wanted.to});
  }
}

}  // namespace molt::daemon
