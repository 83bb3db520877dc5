#include "upgrade/transaction.hpp"

#include "base/assert.hpp"
#include "upgrade/transaction_attempt.hpp"

#include <algorithm>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

namespace molt::upgrade {
namespace {

using clock = std::chrono::steady_clock;

/// How long a server may take to come to its update point when it is quarantined.
constexpr std::chrono::seconds quarantine_timeout{1};
/// The throttle of the sweep looks at the clock this often at most.
constexpr std::chrono::milliseconds throttle_nap_max{10};

error busy() { return {reason::busy, "another upgrade, rollback or commit is under way", "wait until it has ended"}; }

bool contains(const release_content& content, const loaded_plugin* plugin) {
  return std::any_of(content.plugins.begin(), content.plugins.end(),
                     [&](const auto& own) { return own.get() == plugin; });
}

}  // namespace

std::string_view to_string(phase now) noexcept {
  switch (now) {
    case phase::idle:
      return "idle";
    case phase::prepared:
      return "prepared";
    case phase::migrating:
      return "migrating";
    case phase::converting:
      return "converting";
    case phase::rolling_back:
      return "rolling_back";
    case phase::done:
      return "done";
    case phase::rolled_back:
      return "rolled_back";
    case phase::refused:
      return "refused";
    case phase::needs_attention:
      return "needs_attention";
  }
  return "idle";
}

std::string_view to_string(mode chosen) noexcept { return chosen == mode::lazy ? "lazy" : "atomic"; }

migration::way report::way() const noexcept {
  // What did not last counts too: a hook that failed at the first server moved none.
  auto most = servers_failed != 0 ? plan.costliest() : migration::way::keep;
  for (const auto& type : types) most = std::max(most, type.way);
  return most;
}

switcher::switcher(servers::runtime& runtime) : runtime_{runtime} {}
switcher::~switcher() = default;

void switcher::start(release_content current, content_list parents) {
  const std::scoped_lock both{operation_, mutex_};
  current_ = std::move(current);
  parents_ = std::move(parents);
  kept_.assign(parents_.size(), nullptr);
  bound_ = bound_release::make(current_, {}, {});
  runtime_.switch_to(bound_);
}

result<report> switcher::upgrade(release_content next, const settings& chosen) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  return tidy(move_to(std::move(next), direction::up, chosen), chosen);
}

result<report> switcher::rollback(const settings& chosen) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  auto before = parents();
  if (before.empty()) return error{reason::not_found, "there is no parent release to go back to"};
  release_content target = std::move(before.back());
  before.clear();
  return tidy(move_to(std::move(target), direction::down, chosen), chosen);
}

result<report> switcher::rollback_to(release_content parent, const settings& chosen) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  {
    const std::scoped_lock lock{mutex_};
    if (!parents_.empty())
      return error{reason::invalid_argument,
                   "the parent release " + parents_.back().id + " is in memory: go back to it"};
    parents_.push_back(parent);
    kept_.push_back(nullptr);
  }
  auto ended = move_to(std::move(parent), direction::down, chosen);
  if (!ended || ended->result == phase::refused || ended->result == phase::rolled_back) {
    const std::scoped_lock lock{mutex_};
    left_.push_back(std::move(parents_.back()));
    parents_.pop_back();
    kept_.pop_back();
  }
  return tidy(std::move(ended), chosen);
}

/// Lets go of what the operation left behind. That it could not is worth a note, not a failure.
result<report> switcher::tidy(result<report> ended, const settings& chosen) {
  if (!ended || ended->result == phase::needs_attention || chosen.collect_timeout.count() == 0) return ended;
  if (auto gone = let_go(false, chosen.collect_timeout); !gone) {
    ended->notes.push_back("still mapped: " + gone.error().text());
  } else {
    for (const auto& image : *gone)
      if (!image.unmapped && !image.retiring) ended->notes.push_back(image.plugin + " is still mapped: " + image.why);
  }
  return ended;
}

result<plan> switcher::plan_upgrade(const release_content& next, const settings& chosen) const {
  const auto from = current();
  if (bound_current() == nullptr) return error{reason::invalid_argument, "no release was started"};
  return plan_between(from, next, direction::up, chosen);
}

result<plan> switcher::plan_rollback(const settings& chosen) const {
  const auto before = parents();
  if (before.empty()) return error{reason::not_found, "there is no parent release to go back to"};
  return plan_between(current(), before.back(), direction::down, chosen);
}

rehearsal_task switcher::task_for_rehearsal(const settings& chosen, const plan& planned) const {
  rehearsal_task task{current(), everything_loaded(), {}, {}, planned.one_way};
  task.settings = {direction::up, chosen.hook_timeout, chosen.arguments, chosen.accept_loss, chosen.types_leaving};
  task.settings.hook_memory_max = chosen.hook_memory_max;
  if (chosen.keep_states) task.keeps = std::make_shared<kept_states>(chosen.keep_bytes_max);
  task.settings.keep = task.keeps;
  task.starts = chosen.starts;
  task.starts_back = chosen.starts_back;
  for (const auto& type : planned.back)
    for (const auto& loss : type.losses) task.losses.push_back(loss.name);
  return task;
}

plan switcher::plan_between(const release_content& from, const release_content& to, direction going,
                            const settings& chosen) const {
  plan_options options{going, chosen.accept_loss, chosen.one_way, chosen.types_in_use, chosen.mode == mode::atomic};
  add_kept(options, chosen);
  const auto running = from.descriptions();
  const auto next = to.descriptions();
  const auto removed = [&](const plugin_description& plugin) {
    return std::any_of(plugin.server_types.begin(), plugin.server_types.end(), [&](const auto& type) {
      return std::none_of(next.begin(), next.end(),
                          [&](const auto& other) { return other.find_server_type(type.name) != nullptr; });
    });
  };
  if (std::any_of(running.begin(), running.end(), removed))  // only then is it worth looking at every server
    for (auto& server : runtime_.servers())
      if (std::find(options.types_in_use.begin(), options.types_in_use.end(), server.type) ==
              options.types_in_use.end() &&
          std::find(chosen.types_leaving.begin(), chosen.types_leaving.end(), server.type) ==
              chosen.types_leaving.end())
        options.types_in_use.push_back(std::move(server.type));
  return make_plan(running, next, options);
}

result<report> switcher::move_to(release_content next, direction going, const settings& chosen) {
  if (bound_current() == nullptr) return error{reason::invalid_argument, "no release was started"};
  share_loaded_plugins(everything_loaded(), next);
  attempt now{chosen, current(), std::move(next), going, nullptr, nullptr, {}};
  now.report.from = now.from.id;
  now.report.to = now.to.id;
  now.report.going = going;
  now.report.mode = chosen.from_kept ? mode::atomic : chosen.mode;
  phase_.store(phase::prepared, std::memory_order_release);
  now.report.plan = plan_between(now.from, now.to, going, chosen);
  now.report.problems = now.report.plan.problems;
  now.report.notes = now.report.plan.notes;
  if (!now.report.plan.refused() && chosen.before_switch)
    if (auto agreed = chosen.before_switch(now.report.plan); !agreed)
      now.report.problems.push_back(agreed.error().text());
  if (!now.report.problems.empty()) {
    conclude(now, phase::refused);
    return std::move(now.report);
  }
  if (going == direction::up && chosen.keep_states) now.keeps = std::make_shared<kept_states>(chosen.keep_bytes_max);
  if (!keep_types(now)) {
    conclude(now, phase::refused);
    return std::move(now.report);
  }
  now.bound = bind(now.to, going, chosen, chosen.accept_loss, now.keeps);
  {
    const std::scoped_lock lock{mutex_};
    moving_ = now.bound;
  }
  std::optional<hook_watchdog> watchdog;
  watch_hooks(now, watchdog);
  // Last, as callers undo it.
  if (going == direction::down) convert_entries_back(now.from, now.to, chosen.convert_back_timeout, chosen.cancelled);
  // A way down that needs everything at rest is not asked for it: it must not be closed.
  if (now.report.plan.uses_others()) now.report.mode = mode::atomic;
  now.report.mode == mode::atomic ? run_atomic(now) : run_lazy(now);
  return std::move(now.report);
}

/// Servers become of these types without needing memory: if there is none, nothing has been touched. Until they are
/// retired the runtime shares them.
bool switcher::keep_types(attempt& now) {
  try {
    for (const auto& plugin : now.to.plugins)
      for (const auto& type : plugin->types()) runtime_.keep(*type);
    return true;
  } catch (const std::bad_alloc&) {
    now.report.problems.emplace_back("there is no memory for the types of " + now.to.id);
    leave(now.to);
    return false;
  }
}

/// Neither current nor a parent, and perhaps still mapped.
void switcher::leave(const release_content& left) {
  const std::scoped_lock lock{mutex_};
  left_.push_back(left);
}

/// That late hooks are not told of is no reason not to go on: status shows them all the same.
void switcher::watch_hooks(attempt& now, std::optional<hook_watchdog>& watchdog) const {
  if (!now.settings.hook_is_late || now.settings.hook_timeout.count() <= 0) return;
  try {
    watchdog.emplace(*watch_, now.settings.hook_timeout, now.settings.hook_is_late);
  } catch (const std::system_error& none) {
    now.report.notes.push_back(std::string{"nothing told of hooks that run too long: "} + none.what());
  }
}

// ---- lazy

void switcher::run_lazy(attempt& now) {
  std::optional<name_expectation> expected;
  expect_added(now, expected);
  make_current(now);
  phase_.store(phase::migrating, std::memory_order_release);
  runtime_.switch_to(now.bound);
  const bool begun = begin_in(now);
  expected.reset();
  begun ? settle(now) : roll_back(now);
}

/// Code of the next release runs from the switch on, and what it adds some moments later.
void switcher::expect_added(const attempt& now, std::optional<name_expectation>& expected) {
  if (!now.settings.switched || !now.settings.starts) return;
  try {
    std::vector<std::string> names;
    for (const auto& [name, type] : *now.settings.starts) names.push_back(name);
    expected.emplace(runtime_, names);
  } catch (const std::bad_alloc&) {
    return;  // servers may have moved by now: without it a name is missing for some milliseconds, no more
  }
}

/// Brings over the servers without traffic, and then the entries that nobody touches.
void switcher::settle(attempt& now) {
  const bool rolls_back = now.settings.on_failure == failure_policy::rollback;
  const bool all = sweep(now, *now.bound, rolls_back) && convert_entries(now, *now.bound, rolls_back);
  now.report.servers_migrated = now.bound->adopted();
  if (now.bound->failed() == 0 && all) return conclude(now, phase::done);
  now.report.servers_failed = now.bound->failed();
  now.report.failures = now.bound->failures();
  if (rolls_back || !all) return roll_back(now);
  quarantine(now);
  conclude(now, phase::needs_attention);
}

/// What the release adds.
bool switcher::begin_in(attempt& now) {
  if (!now.settings.switched) return true;
  auto begun = now.settings.switched();
  now.switched = begun.has_value();
  if (!begun) now.report.problems.push_back(begun.error().text());
  return now.switched && all_taken(now);
}

bool switcher::sweep(attempt& now, const bound_release& bound, bool stop_at_failure) {
  const auto rate = now.settings.sweep_rate_max;
  const auto begun = clock::now();
  const auto before = bound.adopted();
  const auto is_cancelled = [&] {
    const bool forward = &bound == now.bound.get();  // the way back is not cancelled
    now.report.cancelled = now.report.cancelled || (forward && now.settings.cancelled && now.settings.cancelled());
    return forward && now.report.cancelled;
  };
  bool early = false;
  const auto keep_going = [&] {
    bound.destroy_old_states();
    early = early || (stop_at_failure && bound.failed() != 0) || is_cancelled();
    if (early) return false;
    if (rate != 0) {
      const auto due = begun + std::chrono::nanoseconds{(bound.adopted() - before) * 1'000'000'000 / rate};
      while (clock::now() < due)
        std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(due - clock::now(), throttle_nap_max));
    }
    return true;
  };
  runtime_.sweep(keep_going);
  bound.destroy_old_states();
  return !early && !is_cancelled() && !(stop_at_failure && bound.failed() != 0);
}

/// Every server that moved goes back by the opposite edges, never by a lossy one.
void switcher::roll_back(attempt& now) {
  phase_.store(phase::rolling_back, std::memory_order_release);
  if (auto resting = way_back_that_needs_rest(now)) return roll_back_at_rest(now, std::move(resting));
  if (now.switched && now.settings.going_back) now.settings.going_back();
  const auto known = now.report.problems.size();
  const auto back = bind(now.from, opposite(now.going), now.settings, {}, nullptr);
  for (const auto& plugin : now.to.plugins)
    for (const auto& type : plugin->types()) {
      const auto way = back->path_for(*type);
      if (way || !has_servers(*type)) continue;
      now.report.problems.push_back(std::string{type->name()} + " has servers of " + now.to.id +
                                    " and cannot go back by itself: " + way.error().text());
    }
  if (now.report.problems.size() != known) return conclude(now, phase::needs_attention);
  convert_entries_back(now.to, now.from, now.settings.convert_back_timeout, {});
  unmake_current(now, back);
  runtime_.switch_to(back);
  sweep(now, *back, false);
  auto failures = back->failures();
  // A failure on the way back is the more important one.
  now.report.servers_failed += back->failed();
  for (auto& failure : failures) {
    now.report.problems.push_back(failure.server + " could not go back to " + now.from.id + ": " + failure.error);
    now.report.failures.push_back(std::move(failure));
  }
  conclude(now, back->failed() == 0 ? phase::rolled_back : phase::needs_attention);
}

/// Only asked where a way back is missing, so the long look at all servers is rare.
bool switcher::has_servers(const servers::server_type& type) const {
  const auto all = runtime_.servers();
  return std::any_of(all.begin(), all.end(), [&](const auto& server) {
    return server.type == type.name() && server.version == type.version();
  });
}

/// The servers that failed keep their state and their messages, and answer nothing until an operator decides.
void switcher::quarantine(attempt& now) {
  for (const auto& failure : now.report.failures) {
    if (failure.entry) {
      now.report.problems.push_back(failure.server + " answers on " + now.to.id +
                                    ", but an entry of its state could not be converted: " + failure.error);
      continue;
    }
    now.report.problems.push_back(failure.server + " stays suspended on " + now.from.id +
                                  ", its messages kept: " + failure.error);
    if (runtime_.suspend(failure.ref, quarantine_timeout)) {
      const std::scoped_lock lock{mutex_};
      quarantined_.push_back(failure.ref);
    }
  }
}

void switcher::resume_quarantined() {
  std::vector<molt_ref> all;
  {
    const std::scoped_lock lock{mutex_};
    all.swap(quarantined_);
  }
  for (const auto ref : all)
    if (auto resumed = runtime_.resume(ref); !resumed) continue;  // ended meanwhile
}

// ---- the end of an operation

/// From the switch on, `to` is current. Up: `from` becomes the nearest parent. Down: the nearest parent is used up.
void switcher::make_current(attempt& now) {
  const std::scoped_lock lock{mutex_};
  if (now.going == direction::up) {
    parents_.push_back(now.from);
    kept_.push_back(now.keeps);
  } else {
    MOLT_ASSERT(!parents_.empty());
    parents_.pop_back();
    now.keeps = std::move(kept_.back());
    kept_.pop_back();
    left_.push_back(now.from);
  }
  current_ = now.to;
  bound_ = now.bound;
}

void switcher::unmake_current(const attempt& now, std::shared_ptr<const bound_release> back) {
  const std::scoped_lock lock{mutex_};
  if (now.going == direction::up) {
    parents_.pop_back();
    kept_.pop_back();
    left_.push_back(now.to);
  } else {
    left_.pop_back();
    parents_.push_back(now.to);
    kept_.push_back(now.keeps);
  }
  current_ = now.from;
  bound_ = std::move(back);
  moving_ = bound_;
}

void switcher::conclude(attempt& now, phase result) {
  auto& report = now.report;
  if (now.handed != nullptr || now.handed_back != nullptr) runtime_.gives_states(nullptr);
  report.result = result;
  report.entries_left = entries_left_.exchange(0);
  if (const auto listed = report.failures.size(); listed < report.servers_failed && listed < failures_listed_max)
    report.problems.push_back("for want of memory " + std::to_string(report.servers_failed - listed) +
                              " failures of servers could be counted, but not listed");
  if (now.bound != nullptr) {
    if (report.servers_migrated != 0) report.types = now.bound->counts();
    report.largest_migration = now.bound->largest_migration();
    if (const auto late = now.bound->late(); late != 0)
      report.notes.push_back(std::to_string(late) +
                             " servers took longer than the hook timeout and could not be undone: their hooks " +
                             "consume the old state and are noexcept");
  }
  {
    const std::scoped_lock lock{mutex_};
    moving_ = nullptr;
  }
  const bool stays = result == phase::needs_attention || (now.going == direction::down && result == phase::rolled_back);
  if (stays && !now.settings.from_kept && report.servers_failed != 0)
    if (const auto all = kept(); all != nullptr && (now.going == direction::down || all == now.keeps))
      report.problems.push_back(
          "what " + std::to_string(all->summary().servers) +
          " servers were when they migrated is kept: molt plan --rollback --from-kept tells more");
  if (result == phase::done || result == phase::rolled_back) resume_quarantined();
  report.total = clock::now() - now.begun;
  phase_.store(result, std::memory_order_release);
  if (now.settings.after) now.settings.after(result);
}

std::shared_ptr<bound_release> switcher::bind(release_content content, direction going, const settings& chosen,
                                              std::vector<std::string> accept_loss,
                                              std::shared_ptr<kept_states> keep) const {
  adopt_settings made{
      going, chosen.hook_timeout, chosen.arguments, std::move(accept_loss), chosen.types_leaving, chosen.hook_threads};
  made.keep = std::move(keep);
  made.hook_memory_max = chosen.hook_memory_max;
  made.watch = watch_;
  if (chosen.from_kept && going == direction::down) {
    made.from_kept = kept();
    if (const auto since = accepted_since(chosen.accept_loss)) made.lose_since = *since;
  }
  return bound_release::make(std::move(content), everything_loaded(), std::move(made));
}

void switcher::add_kept(plan_options& options, const settings& chosen) const {
  options.from_kept = chosen.from_kept;
  if (!chosen.from_kept) return;
  if (const auto all = kept(); all != nullptr)
    for (const auto& type : all->by_type()) options.kept.push_back({type.type, type.servers, to_text(type.since)});
}

std::shared_ptr<const kept_states> switcher::kept() const {
  const std::scoped_lock lock{mutex_};
  return kept_.empty() ? nullptr : kept_.back();
}

// ---- what is loaded

release_content switcher::current() const {
  const std::scoped_lock lock{mutex_};
  return current_;
}

std::vector<release_content> switcher::parents() const {
  const std::scoped_lock lock{mutex_};
  return parents_;
}

std::uint64_t switcher::migrated_so_far() const {
  const std::scoped_lock lock{mutex_};
  const auto& bound = moving_ != nullptr ? moving_ : bound_;
  return bound == nullptr ? 0 : bound->adopted();
}

std::shared_ptr<const bound_release> switcher::bound_current() const {
  const std::scoped_lock lock{mutex_};
  return bound_;
}

switcher::content_list switcher::everything_loaded() const {
  const std::scoped_lock lock{mutex_};
  content_list all{current_};
  all.insert(all.end(), parents_.rbegin(), parents_.rend());
  all.insert(all.end(), left_.begin(), left_.end());
  return all;
}

result<std::vector<loader::unload_report>> switcher::commit(std::chrono::nanoseconds timeout) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  return let_go(true, timeout);
}

result<std::vector<loader::unload_report>> switcher::collect(std::chrono::nanoseconds timeout) {
  const std::unique_lock alone{operation_, std::try_to_lock};
  if (!alone) return busy();
  return let_go(false, timeout);
}

result<std::vector<loader::unload_report>> switcher::let_go(bool parents_too, std::chrono::nanoseconds timeout) {
  auto unneeded = unneeded_plugins(parents_too);
  if (!unneeded.empty()) {
    const auto deadline = clock::now() + timeout;
    runtime_.sweep([] { return true; });
    for (const auto& plugin : unneeded)
      for (const auto& type : plugin->types())
        if (auto retired = runtime_.retire(
                *type, std::max<std::chrono::nanoseconds>(deadline - clock::now(), std::chrono::nanoseconds{0}));
            !retired)
          return std::move(retired).error().with(plugin->description().name + " " + plugin->description().version);
    forget_sources();
  }
  {
    const std::scoped_lock lock{mutex_};
    left_.clear();
    if (parents_too) {
      parents_.clear();
      kept_.clear();
    }
  }
  std::vector<loader::unload_report> gone;
  for (auto& plugin : unneeded) gone.push_back(unload(std::move(plugin)));
  return gone;
}

/// Those of releases that were left (and of the parents), unless a release that stays has them too.
std::vector<std::shared_ptr<const loaded_plugin>> switcher::unneeded_plugins(bool parents_too) const {
  const std::scoped_lock lock{mutex_};
  std::vector<std::shared_ptr<const loaded_plugin>> all;
  const auto add = [&](const release_content& content) {
    for (const auto& plugin : content.plugins) {
      const bool kept = contains(current_, plugin.get()) ||
                        (!parents_too && std::any_of(parents_.begin(), parents_.end(), [&](const auto& parent) {
                          return contains(parent, plugin.get());
                        }));
      if (!kept && std::find(all.begin(), all.end(), plugin) == all.end()) all.push_back(plugin);
    }
  };
  for (const auto& content : left_) add(content);
  if (parents_too)
    for (const auto& content : parents_) add(content);
  return all;
}

/// No server is on another release any more: the current one needs no way from any, and no lease on their images.
void switcher::forget_sources() {
  auto fresh = bound_release::make(current(), {}, {});
  {
    const std::scoped_lock lock{mutex_};
    bound_ = fresh;
  }
  runtime_.switch_to(std::move(fresh));
  runtime_.sweep([] { return true; });
}

loader::unload_report switcher::unload(std::shared_ptr<const loaded_plugin> last) const {
  loader::unload_report report{
      last->description().name + " " + last->description().version, last->image().build_id(), false, false, {}};
  auto lease = last->lease();
  if (retire_) {
    last.reset();
    return retire_(std::move(lease));
  }
  if (last.use_count() > 1) {
    report.why = "its loaded_plugin is held elsewhere";
    return report;
  }
  last.reset();
  auto gone = loader::unload(lease);
  if (gone) return std::move(*gone);
  report.why = gone.error().text();
  return report;
}

}  // namespace molt::upgrade
