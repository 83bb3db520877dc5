// Changing the release under a running node: the part of box.hpp around upgrade/'s switch.
#include "node/box_parts.hpp"
#include "node/listening.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace molt::node {
namespace {

using upgrade::direction;
using upgrade::phase;

error busy() { return {reason::busy, "another upgrade, rollback or commit is under way", "wait until it has ended"}; }

bool contains(const std::vector<std::string>& all, std::string_view one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

bool has_type(const std::vector<plugin_description>& plugins, std::string_view type) {
  return std::any_of(plugins.begin(), plugins.end(),
                     [&](const auto& plugin) { return plugin.find_server_type(type) != nullptr; });
}

/// Arguments for hooks: the manifest's, replaced and followed by the operator's.
void add_arguments(servers::arguments& to, const servers::arguments& from) {
  for (const auto& given : from) {
    const auto found = std::find_if(to.begin(), to.end(), [&](const auto& each) { return each.first == given.first; });
    if (found != to.end()) {
      found->second = given.second;
    } else {
      to.push_back(given);
    }
  }
}

result<void> check_losses(const change_request& request) {
  MOLT_TRY([[maybe_unused]] const auto since, upgrade::accepted_since(request.accept_loss));
  return ok();
}

upgrade::report refused(const release_facts& from, const release_facts& to, direction going,
                        std::vector<std::string> problems) {
  upgrade::report report;
  report.result = phase::refused;
  report.from = from.id();
  report.to = to.id();
  report.going = going;
  report.problems = std::move(problems);
  return report;
}

}  // namespace

// ---- Preparing

box::implementation::change box::implementation::prepare(direction going, release_facts to,
                                                         std::vector<plugin_description> plugins,
                                                         const change_request& request) const {
  change made;
  made.going = going;
  made.from = current();
  made.to = std::move(to);
  made.plugins = std::move(plugins);
  // The newer release of the two says how.
  const auto& newer = going == direction::up ? made.to.manifest : made.from.manifest;
  made.settings = upgrade_settings_of(newer);
  if (request.mode) made.settings.mode = *request.mode;
  if (request.switch_timeout) made.settings.switch_timeout = *request.switch_timeout;
  if (request.keep_states) made.settings.keep_states = true;
  made.settings.from_kept = request.from_kept;
  made.settings.accept_loss = request.accept_loss;
  add_arguments(made.settings.arguments, request.arguments);
  made.settings.starts = servers_started_by(made.to.manifest);
  made.settings.starts_back = servers_started_by(made.from.manifest);
  made.settings.cancelled = [this] {
    return cancelled_.load(std::memory_order_relaxed) || upgrade_cancelled_.load(std::memory_order_relaxed);
  };
  for (const auto& type : types_started_by(made.from.manifest)) {
    if (has_type(made.plugins, type)) {
      made.settings.types_in_use.push_back(type);
    } else if (!contains(made.leaving, type)) {
      made.leaving.push_back(type);
    }
  }
  for (const auto& type : made.leaving)  // connections are nobody's to end
    if (std::none_of(made.from.manifest.listeners.begin(), made.from.manifest.listeners.end(),
                     [&](const auto& entry) { return entry.connection == type; }))
      made.settings.types_leaving.push_back(type);
  return made;
}

/// As the switcher's, but that servers which the manifest started and which are about to leave do not stand in the way.
upgrade::plan box::implementation::plan_of(const change& change) const {
  upgrade::plan_options options{change.going, change.settings.accept_loss, change.settings.one_way,
                                change.settings.types_in_use, change.settings.mode == upgrade::mode::atomic};
  switcher_->add_kept(options, change.settings);
  if (!change.leaving.empty())
    for (const auto& server : runtime_->servers())
      if (!contains(options.types_in_use, server.type) && !leaves_with(change, server))
        options.types_in_use.push_back(server.type);
  return upgrade::make_plan(switcher_->current().descriptions(), change.plugins, options);
}

/// Whether it will end with the change, as its type does: the manifest started it, or a dynamic supervisor of the
/// manifest did.
bool box::implementation::leaves_with(const change& change, const servers::server_info& server) const {
  const auto& manifest = change.from.manifest;
  if (!server.name.empty() && std::any_of(manifest.servers.begin(), manifest.servers.end(),
                                          [&](const auto& entry) { return entry.name == server.name; }))
    return true;
  const std::string path = supervisor_->supervisor_of(server.ref);
  return std::any_of(manifest.supervisors.begin(), manifest.supervisors.end(), [&](const auto& entry) {
    return entry.child.type == server.type && path.ends_with("/" + entry.name);
  });
}

result<box::implementation::change> box::implementation::prepare_rollback(const change_request& request) const {
  const auto contents = switcher_->parents();
  release_facts parent;
  {
    const std::lock_guard lock{mutex_};
    if (parents_.empty() || contents.empty())
      return error{reason::not_found, "there is no parent release to go back to"};
    parent = parents_.back();
  }
  return prepare(direction::down, std::move(parent), contents.back().descriptions(), request);
}

result<upgrade::plan> box::implementation::plan_upgrade(const std::filesystem::path& folder,
                                                        const change_request& request, std::string* id) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  MOLT_TRY(inspected_release next, inspect_release_folder(folder, request.contents));
  if (id != nullptr) *id = next.facts.id();
  return plan_of(prepare(direction::up, std::move(next.facts), std::move(next.plugins), request));
}

result<upgrade::plan> box::implementation::plan_rollback(const change_request& request,
                                                         const std::filesystem::path& parent) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  MOLT_CHECK(check_losses(request));
  if (must_load(parent)) {
    MOLT_TRY(inspected_release before, inspect_release_folder(parent, request.contents));
    return plan_of(prepare(direction::down, std::move(before.facts), std::move(before.plugins), request));
  }
  MOLT_TRY(const change back, prepare_rollback(request));
  return plan_of(back);
}

// ---- Rehearsing

void box::implementation::note_rehearsal(std::string of) {
  const std::lock_guard lock{mutex_};
  rehearsing_ = std::move(of);
  rehearsal_cancelled_ = false;
}

result<rehearsal_report> box::implementation::rehearse(const std::filesystem::path& folder,
                                                       const change_request& request, std::function<bool()> given_up) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  MOLT_TRY(inspected_release next, inspect_release_folder(folder, request.contents));
  const auto up = prepare(direction::up, std::move(next.facts), std::move(next.plugins), request);
  const auto planned = plan_of(up);
  if (planned.refused()) {
    rehearsal_report report;
    report.from = up.from.id();
    report.to = up.to.id();
    report.mode = up.settings.mode;
    report.problems = planned.problems;
    report.notes = planned.notes;
    return report;
  }
  rehearsal_request wanted;
  wanted.task = switcher_->task_for_rehearsal(up.settings, planned);
  wanted.replay = request.replay.value_or(replaying_of(up.to.manifest));
  if (wanted.replay != replaying::off)
    for (const auto& server : runtime_->servers())
      if (auto messages = runtime_->last_messages(server.ref); messages && !messages->empty())
        wanted.task.recorded.emplace(server.ref.bits, std::move(*messages));
  wanted.to = up.to.id();
  wanted.mode = up.settings.mode;
  wanted.atomic_threads = upgrade::atomic_threads(up.settings);
  wanted.switch_timeout = up.settings.switch_timeout;
  wanted.load = [&]() -> result<upgrade::release_content> {
    MOLT_TRY(loaded_release loaded, load_release_folder(folder, request.contents));
    return std::move(loaded.content);
  };
  wanted.limits = rehearsal_limits_of(up.to.manifest);
  wanted.image_folders = {folder, up.from.folder};
  wanted.given_up = [&] {
    return cancelled_.load(std::memory_order_relaxed) || rehearsal_cancelled_.load(std::memory_order_relaxed) ||
           (given_up && given_up());
  };
  const std::lock_guard undisturbed{without_rest_};
  note_rehearsal(wanted.to);
  auto done = node::rehearse(*runtime_, wanted);
  const bool told_to_end = rehearsal_cancelled_.load();
  note_rehearsal({});
  if (done || done.error().why() != reason::stopping) return done;
  if (cancelled_.load()) return error{reason::stopping, "the node stops, so the rehearsal was ended"};
  if (told_to_end) return error{reason::refused, "the rehearsal was told to end"};
  return done;
}

// ---- Doing

/// Status shows a change as long as this lives, and then the report, if there is one.
class box::implementation::change_under_way {
 public:
  explicit change_under_way(implementation& of) noexcept : of_{of} {}
  change_under_way(const change_under_way&) = delete;
  change_under_way& operator=(const change_under_way&) = delete;
  ~change_under_way() { of_.end(std::move(report_)); }
  result<upgrade::report> ends_with(result<upgrade::report> report) {
    if (report) report_ = *report;
    return report;
  }

 private:
  implementation& of_;
  std::optional<upgrade::report> report_;
};

result<upgrade::report> box::implementation::upgrade(const std::filesystem::path& folder,
                                                     const change_request& request) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  MOLT_CHECK(begin(folder, direction::up, request));
  change_under_way shown{*this};
  MOLT_TRY(loaded_release next, load_release_folder(folder, request.contents));
  auto up = prepare(direction::up, std::move(next.facts), next.content.descriptions(), request);
  up.content = std::move(next.content);
  return shown.ends_with(run(std::move(up)));
}

/// A parent that a commit or a restart let go of stands in its folder only.
bool box::implementation::must_load(const std::filesystem::path& parent) const {
  return !parent.empty() && switcher_->parents().empty();
}

result<upgrade::report> box::implementation::rollback(const change_request& request,
                                                      const std::filesystem::path& parent) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  MOLT_CHECK(check_losses(request));
  MOLT_CHECK(begin(parent, direction::down, request));
  change_under_way shown{*this};
  if (must_load(parent)) {
    MOLT_TRY(loaded_release before, load_release_folder(parent, request.contents));
    auto down = prepare(direction::down, std::move(before.facts), before.content.descriptions(), request);
    down.content = std::move(before.content);
    return shown.ends_with(run(std::move(down)));
  }
  MOLT_TRY(change back, prepare_rollback(request));
  return shown.ends_with(run(std::move(back)));
}

result<std::vector<loader::unload_report>> box::implementation::commit(std::chrono::nanoseconds timeout,
                                                                       std::optional<std::uint64_t> adoption) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  {
    const std::lock_guard lock{mutex_};
    MOLT_CHECK(check_adoption(adoption));
  }
  const std::lock_guard undisturbed{without_rest_};
  auto gone = switcher_->commit(timeout);
  if (gone) {
    const std::lock_guard lock{mutex_};
    parents_.clear();
    committed_ = true;
  }
  return gone;
}

std::uint64_t box::implementation::adopt() {
  const std::lock_guard lock{mutex_};
  return ++adoptions_;
}

result<void> box::implementation::check_adoption(std::optional<std::uint64_t> adoption) const {
  if (!adoption || *adoption == adoptions_) return ok();
  return error{reason::refused, "whoever asked for it has been replaced meanwhile; nothing was changed"};
}

/// From here on status shows the change. `to`: its folder, which may be empty for a parent that is in memory.
result<void> box::implementation::begin(const std::filesystem::path& to, direction going,
                                        const change_request& request) {
  const std::lock_guard lock{mutex_};
  MOLT_CHECK(check_adoption(request.adoption));
  changing_to_ = to.filename().string();
  if (changing_to_.empty()) changing_to_ = parents_.empty() ? "its parent" : parents_.back().id();
  changing_up_ = going == direction::up;
  loading_ = true;
  upgrade_cancelled_ = false;
  return ok();
}

void box::implementation::note_loaded(const std::string& to) {
  const std::lock_guard lock{mutex_};
  changing_to_ = to;
  loading_ = false;
}

result<void> box::implementation::cancel_upgrade() {
  const std::lock_guard lock{mutex_};
  const bool upgrades = !changing_to_.empty() && changing_up_;
  if (!upgrades && rehearsing_.empty()) return error{reason::not_found, "no upgrade is under way"};
  (upgrades ? upgrade_cancelled_ : rehearsal_cancelled_) = true;
  return ok();
}

void box::implementation::end(std::optional<upgrade::report> report) {
  const std::lock_guard lock{mutex_};
  changing_to_.clear();
  loading_ = false;
  if (report) last_ = std::move(report);
  offered_.clear();  // what was offered was for this change
}

result<upgrade::report> box::implementation::run(change change) {
  const std::lock_guard undisturbed{without_rest_};
  if (cancelled_.load()) return error{reason::stopping, "the node stops"};
  auto planned = plan_of(change);
  if (planned.refused()) {
    auto report = refused(change.from, change.to, change.going, planned.problems);
    report.notes = planned.notes;
    report.plan = std::move(planned);
    return report;
  }
  auto sockets = sockets_for(&change.from.manifest, change.to.manifest);
  if (!sockets) return refused(change.from, change.to, change.going, {sockets.error().text()});
  change.sockets = std::move(*sockets);
  return carry_out(change);
}

result<upgrade::report> box::implementation::carry_out(change& change) {
  announce_connection_types(change);
  follow_switch(change);
  tell_of_late_hooks(change);
  note_loaded(change.to.id());
  auto report = do_switch(change);
  if (report && report->cancelled)
    report->problems.emplace_back(cancelled_.load() ? "the node stops, so everything went back"
                                                    : "it was told to go back while it was under way");
  // Needs attention may be on neither release wholly; then what runs decides.
  if (!report || report->result == phase::refused || report->result == phase::rolled_back ||
      switcher_->current().id != change.to.id()) {
    restore(change);
    return report;
  }
  remember(change);
  record_as(change.from.manifest, change.to.manifest, recorded::now_too);
  finish_supervision(change, *report);
  apply_listeners(change, *report);
  return report;
}

result<upgrade::report> box::implementation::do_switch(change& change) {
  // The content is given away: whoever kept it would keep its images mapped.
  if (change.going == direction::up) return switcher_->upgrade(std::move(change.content), change.settings);
  if (!change.content.id.empty()) return switcher_->rollback_to(std::move(change.content), change.settings);
  return switcher_->rollback(change.settings);
}

/// While the switch runs, a listener whose connection type changes takes whichever of the two the release has.
void box::implementation::announce_connection_types(const change& change) {
  for (const auto& entry : change.from.manifest.listeners) {
    const auto* next = find_listener(change.to.manifest, entry.name);
    if (next == nullptr || next->connection == entry.connection) continue;
    auto settings = listener_settings_of(entry);
    settings.other_type = next->connection;
    (void)plane_->change(std::move(settings));  // not_found: it was never opened
  }
}

/// Listeners as they were; supervision has not changed, or went back with the switch.
void box::implementation::restore(const change& change) {
  record_as(change.to.manifest, change.from.manifest, recorded::later);
  for (const auto& entry : change.from.manifest.listeners) (void)plane_->change(listener_settings_of(entry));
}

void box::implementation::remember(const change& change) {
  const std::lock_guard lock{mutex_};
  if (change.going == direction::up) {
    parents_.push_back(change.from);
  } else if (!parents_.empty()) {
    parents_.pop_back();
  }
  current_ = change.to;
  committed_ = false;
  retirement_->set(image_settings_of(current_.manifest));
  report_for(current_);
}

/// Only where the two releases differ: else what an operator has asked for stays.
void box::implementation::record_as(const releases::manifest& before, const releases::manifest& next, recorded which) {
  constexpr std::chrono::seconds patience{1};
  std::map<std::string, servers::recording> was;
  for (const auto& each : before.servers)
    if (each.record_messages != 0) was[each.name] = recording_of(each);
  std::map<std::string, servers::recording> changed;
  for (const auto& each : next.servers) {
    const auto old = was.extract(each.name);
    const auto now = recording_of(each);
    if (now != (old.empty() ? servers::recording{} : old.mapped())) changed[each.name] = now;
  }
  for (const auto& [name, gone] : was) changed[name] = {};
  for (const auto& [name, now] : changed) {
    runtime_->record_named(name, now);
    const molt_ref runs = which == recorded::now_too ? runtime_->lookup(name) : molt_ref{};
    if (runs.bits == 0) continue;
    if (const auto done = runtime_->record(runs, now, patience); !done)
      options_.log(MOLT_LOG_WARNING, name + ": what is recorded of it has not changed: " + done.error().text());
  }
}

std::string what_to_do_about_late_hooks() {
  return "nothing can interrupt a hook; when it returns, its server is put back as it was, and until then that "
         "server's callers wait (mode atomic: all callers). If it never returns: save what you need of the servers "
         "that still answer (molt state get), then kill -KILL " +
         std::to_string(::getpid()) + ": moltd starts the permanent release, whose servers begin anew";
}

/// An operator hears of a hook that runs too long while it does.
void box::implementation::tell_of_late_hooks(change& change) {
  change.settings.hook_is_late = [this](const upgrade::late_hook& late, bool ended) {
    if (ended)
      options_.log(MOLT_LOG_INFO, "a hook that was over its time has ended: " + to_text(late));
    else
      options_.log(MOLT_LOG_WARNING,
                   "a hook is over its time: " + to_text(late) + "; " + what_to_do_about_late_hooks());
  };
}

/// Added servers start with the switch, and end before it is taken back.
void box::implementation::follow_switch(change& change) {
  change.settings.switched = [this, &change]() -> result<void> {
    record_as(change.from.manifest, change.to.manifest, recorded::later);
    if (auto begun = supervisor_->begin_update(supervisor_spec_of(change.to.manifest)); !begun)
      return std::move(begun).error().with("a server of " + change.to.id() + " did not start");
    change.supervision_begun = true;
    return ok();
  };
  change.settings.going_back = [this, &change] {
    change.supervision_begun = false;
    if (const auto undone = supervisor_->undo_update(); !undone)
      options_.log(MOLT_LOG_ERROR, "going back: " + undone.error().text());
  };
}

/// Removed servers handle what waits for them and stop; those whose arguments changed are told.
void box::implementation::finish_supervision(const change& change, upgrade::report& report) {
  if (!change.supervision_begun)  // it could not all go back: so what there is now is supervised
    if (auto begun = supervisor_->begin_update(supervisor_spec_of(change.to.manifest)); !begun) {
      report.problems.push_back(begun.error().text());
      return;
    }
  std::vector<servers::changed_arguments> changed;
  if (const auto done = supervisor_->finish_update(&changed); !done) report.notes.push_back(done.error().text());
  if (!change.leaving.empty())  // started meanwhile, and not by a supervisor
    for (const auto& server : runtime_->servers())
      if (contains(change.leaving, server.type))
        report.problems.push_back("a server of the type " + server.type + ", which " + change.to.id() +
                                  " lacks, runs on" + (server.name.empty() ? "" : ": " + server.name));
  for (const auto& each : changed)
    if (const auto told = runtime_->change_config(each.ref, each.now);
        !told && told.error().why() != reason::no_such_server)
      report.notes.push_back(each.name + " was not told its changed arguments: " + told.error().text());
}

void box::implementation::apply_listeners(change& change, upgrade::report& report) {
  for (const auto& entry : change.from.manifest.listeners)
    if (find_listener(change.to.manifest, entry.name) == nullptr) plane_->close_listener(entry.name);
  for (const auto& entry : change.to.manifest.listeners) {
    const auto socket = change.sockets.find(entry.name);
    const auto done = socket == change.sockets.end()
                          ? plane_->change(listener_settings_of(entry))
                          : plane_->listen(std::move(socket->second), listener_settings_of(entry));
    if (!done) report.problems.push_back(done.error().text());
  }
}

}  // namespace molt::node
