#include "releases/store_state.hpp"

#include "base/assert.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

namespace molt::releases {

std::string_view to_string(release_status status) noexcept {
  switch (status) {
    case release_status::unpacked:
      return "unpacked";
    case release_status::current:
      return "current";
    case release_status::permanent:
      return "permanent";
    case release_status::old:
      return "old";
  }
  return "";
}

std::string_view to_string(transition_kind kind) noexcept {
  switch (kind) {
    case transition_kind::start:
      return "start";
    case transition_kind::upgrade:
      return "upgrade";
    case transition_kind::rollback:
      return "rollback";
  }
  return "";
}

std::string_view to_string(transition_phase phase) noexcept {
  return phase == transition_phase::planned ? "planned" : "switching";
}

std::string_view to_string(transition_outcome outcome) noexcept {
  switch (outcome) {
    case transition_outcome::done:
      return "done";
    case transition_outcome::refused:
      return "refused";
    case transition_outcome::rolled_back:
      return "rolled_back";
    case transition_outcome::failed:
      return "failed";
    case transition_outcome::needs_attention:
      return "needs_attention";
  }
  return "";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

const release_record* store_state::find(std::string_view id) const noexcept {
  const auto found =
      std::find_if(releases.begin(), releases.end(), [&](const auto& record) { return record.id == id; });
  return found == releases.end() ? nullptr : &*found;
}

release_record* store_state::find(std::string_view id) noexcept {
  return const_cast<release_record*>(std::as_const(*this).find(id));
}

std::string store_state::with(release_status status) const {
  for (const auto& record : releases)
    if (record.status == status) return record.id;
  return {};
}

std::string store_state::running() const {
  auto id = with(release_status::current);
  return id.empty() ? with(release_status::permanent) : id;
}

namespace {

[[nodiscard]] error busy_with(const transition& under_way) {
  return error{reason::busy,
               "a transition is under way: " + std::string{to_string(under_way.kind)} +
                   (under_way.from.empty() ? "" : " from " + under_way.from) + " to " + under_way.to,
               "wait for its end; molt status shows it"};
}

}  // namespace

result<release_record> store_state::rollback_target() const {
  if (in_flight) return busy_with(*in_flight);
  const auto* now = find(running());
  if (now == nullptr) return error{reason::refused, "no release is running, so there is nothing to roll back"};
  if (now->parent.empty())
    return error{reason::refused, now->id + " has no parent to roll back to",
                 "it was not upgraded to from another release, or that one was removed"};
  const auto* parent = find(now->parent);
  if (parent == nullptr) return error{reason::refused, now->id + "'s parent " + now->parent + " is not installed"};
  return *parent;
}

result<void> store_state::add(release_record record) {
  if (find(record.id) != nullptr)
    return error{reason::already_exists, record.id + " is installed already", "molt remove " + record.id + " first"};
  if (releases.size() >= releases_max)
    return error{reason::out_of_bounds, "the store holds " + std::to_string(releases_max) + " releases",
                 "molt remove those that are no longer needed"};
  record.status = release_status::unpacked;
  releases.push_back(std::move(record));
  return ok();
}

result<void> store_state::remove(std::string_view id) {
  const auto* record = find(id);
  if (record == nullptr) return error{reason::not_found, "no release " + std::string{id} + " is installed"};
  if (in_flight && (in_flight->from == id || in_flight->to == id)) return busy_with(*in_flight);
  if (record->status == release_status::current)
    return error{reason::refused, record->id + " is current: it runs", "roll back first"};
  if (record->status == release_status::permanent) {
    const auto current = with(release_status::current);
    if (!current.empty())
      return error{reason::refused, record->id + " is permanent: " + current + " is in probation and may go back to it",
                   "molt commit first"};
    return error{reason::refused, record->id + " is permanent: it runs",
                 "upgrade to another release and commit it first"};
  }
  const std::string gone = record->id;
  std::erase_if(releases, [&](const auto& r) { return r.id == gone; });
  for (auto& other : releases)
    if (other.parent == gone) other.parent.clear();
  return ok();
}

result<void> store_state::begin(transition_kind kind, std::string_view to, std::string now) {
  if (in_flight) return busy_with(*in_flight);
  const auto* target = find(to);
  if (target == nullptr) return error{reason::not_found, "no release " + std::string{to} + " is installed"};
  const auto from = running();
  switch (kind) {
    case transition_kind::start:
      if (!from.empty()) return error{reason::refused, from + " runs already", "molt upgrade " + target->id};
      break;
    case transition_kind::upgrade:
      if (from.empty()) return error{reason::refused, "no release is running that could be upgraded"};
      if (from == to) return error{reason::refused, from + " runs already"};
      if (!with(release_status::current).empty())
        return error{reason::refused, from + " is in probation", "molt commit or molt rollback first"};
      break;
    case transition_kind::rollback: {
      MOLT_TRY(const auto parent, rollback_target());
      if (parent.id != to)
        return error{reason::refused, from + " goes back to its parent " + parent.id + ", not to " + target->id};
      break;
    }
  }
  in_flight = transition{kind, from, target->id, transition_phase::planned, std::move(now)};
  return ok();
}

result<void> store_state::begin_switch() {
  if (!in_flight) return error{reason::refused, "no transition is under way"};
  in_flight->phase = transition_phase::switching;
  return ok();
}

void store_state::arrive() {
  auto* to = find(in_flight->to);
  auto* from = find(in_flight->from);
  MOLT_ASSERT(to != nullptr, in_flight->to);
  switch (in_flight->kind) {
    case transition_kind::start:
      to->status = release_status::permanent;
      break;
    case transition_kind::upgrade:
      to->status = release_status::current;
      to->parent = in_flight->from;
      break;
    case transition_kind::rollback:  // in probation `to` is permanent already
      MOLT_ASSERT(from != nullptr, in_flight->from);
      from->status = release_status::old;
      to->status = release_status::permanent;
      break;
  }
}

void store_state::remember(past_transition past) {
  history.push_back(std::move(past));
  if (history.size() > history_max) history.erase(history.begin(), history.end() - history_max);
}

result<void> store_state::finish(transition_outcome outcome, std::string detail, std::string_view runs,
                                 std::string now) {
  if (!in_flight) return error{reason::refused, "no transition is under way"};
  const auto ended = *in_flight;
  if (outcome == transition_outcome::done) {
    arrive();
    attention.clear();
  } else if (outcome == transition_outcome::needs_attention) {
    if (runs == ended.to) arrive();
    attention = std::string{to_string(ended.kind)} + (ended.from.empty() ? "" : " from " + ended.from) + " to " +
                ended.to + ": " + (detail.empty() ? "needs attention" : detail);
  }
  in_flight.reset();
  remember({ended.kind, ended.from, ended.to, outcome, ended.started_at, std::move(now), std::move(detail)});
  return ok();
}

result<void> store_state::commit(std::string /*now*/) {
  if (in_flight) return busy_with(*in_flight);
  auto* current = find(with(release_status::current));
  if (current == nullptr) {
    const auto permanent = with(release_status::permanent);
    return error{reason::refused, permanent.empty() ? "no release is running" : permanent + " is permanent already"};
  }
  if (auto* before = find(with(release_status::permanent)); before != nullptr) before->status = release_status::old;
  current->status = release_status::permanent;
  attention.clear();
  return ok();
}

bool store_state::node_lost(std::string_view why, const std::string& now) {
  bool changed = false;
  if (in_flight) {
    // What starts next is the permanent release: so a rollback out of probation has arrived, everything else has not.
    const bool arrived = find(in_flight->to)->status == release_status::permanent;
    const auto finished =
        finish(arrived ? transition_outcome::done : transition_outcome::failed, std::string{why}, {}, now);
    MOLT_ASSERT(finished.has_value());
    changed = true;
  }
  if (auto* current = find(with(release_status::current)); current != nullptr) {
    current->status = release_status::old;
    remember({transition_kind::rollback, current->id, with(release_status::permanent), transition_outcome::done, now,
              now, "probation ended: " + std::string{why}});
    changed = true;
  }
  return changed;
}

result<void> store_state::resolve_by(std::string_view runs, const std::string& now) {
  if (in_flight) {
    if (runs == in_flight->to) return finish(transition_outcome::done, "found done by a restarted moltd", runs, now);
    if (runs == in_flight->from)
      return finish(transition_outcome::failed, "found not done by a restarted moltd", runs, now);
  } else if (runs == running()) {
    return ok();
  } else if (runs == with(release_status::permanent)) {  // probation ended while nobody looked
    (void)node_lost("the node was found running its parent", now);
    return ok();
  }
  const std::string text = "the node runs " + std::string{runs} + ", but " +
                           (in_flight ? "the transition under way is from " + in_flight->from + " to " + in_flight->to
                                      : "the store says " + (running().empty() ? "nothing" : running()));
  attention = text;
  if (in_flight) (void)finish(transition_outcome::failed, text, {}, now);
  return error{reason::needs_attention, text, "stop the node and let moltd start the permanent release"};
}

result<void> store_state::check() const {
  const auto broken = [](const std::string& text) { return error{reason::corrupt, text}; };
  std::size_t permanent = 0;
  std::size_t current = 0;
  for (const auto& record : releases) {
    if (record.id != record.name + '-' + record.version || !is_name(record.id))
      return broken("the release \"" + record.id.substr(0, name_bytes_max) + "\" has an impossible id");
    if (find(record.id) != &record) return broken(record.id + " is listed twice");
    permanent += record.status == release_status::permanent ? 1 : 0;
    current += record.status == release_status::current ? 1 : 0;
  }
  if (releases.size() > releases_max) return broken("too many releases");
  if (history.size() > history_max) return broken("too long a history");
  if (permanent > 1) return broken("several permanent releases");
  if (current > 1) return broken("several current releases");
  if (current == 1) {
    if (permanent == 0) return broken("a current release without a permanent one");
    if (find(with(release_status::current))->parent != with(release_status::permanent))
      return broken("the current release's parent is not the permanent one");
  }
  if (!in_flight) return ok();
  if (find(in_flight->to) == nullptr) return broken("a transition to a release that is not installed");
  if (in_flight->from != running()) return broken("a transition from a release that does not run");
  return ok();
}

}  // namespace molt::releases
