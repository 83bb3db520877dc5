#include "server/supervisor.hpp"

#include "server/child_stop.hpp"
#include "server/supervision_tree.hpp"

#include <algorithm>
#include <utility>

namespace molt::servers {

supervisor::implementation::implementation(runtime& of, std::function<void(std::string_view)> gave_up)
    : runtime_{of},
      gave_up_{std::move(gave_up)},
      dynamic_{std::make_shared<dynamic_children>(
          of, [this](dynamic_children::wanted lost) { post(std::move(lost)); },
          [this](dynamic_children::done over) { post(std::move(over)); })},
      thread_{[this] { run(); }} {
  root_.name = root_supervisor;
  publish_names();
  runtime_.starts_children(dynamic_);
}

supervisor::implementation::~implementation() {
  runtime_.starts_children(nullptr);
  static_cast<void>(stop("its supervisor goes"));
  {
    std::lock_guard lock{queue_mutex_};
    ending_ = true;
    queue_changed_.notify_one();
  }
  thread_.join();
}

// ---- Starting and stopping

result<void> supervisor::implementation::start(supervisor_spec spec) {
  std::lock_guard lock{operation_};
  if (root_.running) return error{reason::already_exists, "the supervisor has been started"};
  MOLT_CHECK(check(spec));
  leaving_.clear();
  before_update_.reset();
  if (spec.strategy != strategy::dynamic) root_.group.reset();
  spec_ = std::make_shared<const supervisor_spec>(std::move(spec));
  return start_node(root_, *spec_);
}

/// Anew: with the children that its spec gives it. When one does not start, those that did are stopped.
result<void> supervisor::implementation::start_node(node& at, const supervisor_spec& spec) {
  {
    std::lock_guard lock{data_};
    settle_node(at, spec);
    make_children(at, spec);
    at.restarts.clear();
    at.running = true;
  }
  publish_names();
  if (at.group != nullptr) dynamic_->open(at.group);
  for (const auto& each : at.children) {
    auto started = start_one(*each);
    if (started) continue;
    static_cast<void>(stop_node(at, "another child did not start", leave::at_once));
    return started;
  }
  drop_ignored(at);
  return ok();
}

/// Temporary children whose init wants no server to run: as in OTP their place is not kept.
void supervisor::implementation::drop_ignored(node& at) {
  std::lock_guard lock{data_};
  std::erase_if(at.children, [](const auto& each) {
    return each->below == nullptr && each->ref.bits == 0 && each->spec.restart == servers::restart::temporary;
  });
}

result<void> supervisor::implementation::start_one(child& each) {
  each.wanted = false;
  return each.below != nullptr ? start_node(*each.below, *each.spec.supervisor) : start_server(each);
}

result<void> supervisor::implementation::start_server(child& each) {
  {
    std::lock_guard lock{data_};
    ++starting_;
  }
  auto started = runtime_.start(each.spec.type, each.spec.name, each.spec.arguments);
  std::lock_guard lock{data_};
  --starting_;
  if (!started) return std::move(started).error().with("starting " + each.spec.name);
  if (started->bits == 0) return ok();  // ignored
  each.ref = *started;
  refs_[each.ref.bits] = &each;
  return ok();
}

/// From here on its exit is a stranger's.
molt_ref supervisor::implementation::take_ref(child& each) {
  std::lock_guard lock{data_};
  refs_.erase(each.ref.bits);
  return std::exchange(each.ref, {});
}

result<void> supervisor::implementation::stop_one(child& each, std::string_view why, leave how) {
  if (each.below != nullptr) return stop_node(*each.below, why, how);
  const molt_ref ref = take_ref(each);
  if (ref.bits == 0) return ok();
  auto stopped = stop_child_server(runtime_, ref, why, each.spec.shutdown, how == leave::drained);
  if (stopped) return ok();
  return std::move(stopped).error().with("stopping " + each.spec.name);
}

result<void> supervisor::implementation::stop_node(node& at, std::string_view why, leave how) {
  {
    std::lock_guard lock{data_};
    at.running = false;
  }
  result<void> all = ok();
  if (at.group != nullptr)
    if (auto stopped = dynamic_->stop(*at.group, why, how == leave::drained); !stopped)
      all = std::move(stopped).error().with("stopping " + at.name);
  for (auto each = at.children.rbegin(); each != at.children.rend(); ++each)
    if (auto stopped = stop_one(**each, why, how); !stopped && all) all = std::move(stopped);
  return all;
}

result<void> supervisor::implementation::stop(std::string_view why) {
  std::lock_guard lock{operation_};
  auto stopped = stop_node(root_, why, leave::at_once);
  if (auto left = stop_leaving(); !left && stopped) stopped = std::move(left);
  before_update_.reset();
  return stopped;
}

// ---- Ends

void supervisor::implementation::child_ended(const exit_event& told) {
  if (dynamic_->ended(told)) return;
  {
    std::lock_guard lock{data_};
    if (starting_ == 0 && !refs_.contains(told.ref.bits)) return;
  }
  post(ended_server{told.ref, told.failed, told.why});
}

void supervisor::implementation::post(event happened) {
  std::lock_guard lock{queue_mutex_};
  queue_.push_back(std::move(happened));
  queue_changed_.notify_one();
}

void supervisor::implementation::run() {
  std::unique_lock lock{queue_mutex_};
  for (;;) {
    queue_changed_.wait(lock, [&] { return ending_ || !queue_.empty(); });
    if (ending_) return;
    event next = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    std::string why;
    {
      std::lock_guard operation{operation_};
      why = attend(next);
    }
    if (!why.empty() && gave_up_) gave_up_(why);
    lock.lock();
  }
}

/// Not empty: why the root has given up. So with those below.
std::string supervisor::implementation::attend(event& happened) {
  if (auto* const server = std::get_if<ended_server>(&happened)) return attend_server(*server);
  if (auto* const over = std::get_if<dynamic_children::done>(&happened)) return attend_done(*over);
  return attend_dynamic(std::get<dynamic_children::wanted>(happened));
}

std::string supervisor::implementation::attend_server(const ended_server& ended) {
  child* found = nullptr;
  {
    std::lock_guard lock{data_};
    const auto place = refs_.find(ended.ref.bits);
    if (place == refs_.end()) return {};
    found = place->second;
    refs_.erase(place);
    found->ref = {};
  }
  return react(*found, ended.failed, ended.why);
}

std::string supervisor::implementation::attend_dynamic(dynamic_children::wanted& lost) {
  if (!dynamic_->is_current(lost)) return {};
  node& at = *lost.group->owner;
  for (;;) {
    if (too_many_restarts(at))
      return escalate(at, give_up(at, lost.words.name().empty() ? "a child" : lost.words.name(), lost.why));
    auto started = dynamic_->restart(lost);
    if (started || started.error().why() == reason::stopping) return {};
    lost.why = started.error().text();
  }
}

std::string supervisor::implementation::react(child& ended, bool failed, std::string why) {
  const bool again = ended.spec.restart == restart::permanent || (ended.spec.restart == restart::transient && failed);
  if (ended.parent == nullptr) {  // leaving; if the update is undone, it comes back
    ended.wanted = again;
    return {};
  }
  node& at = *ended.parent;
  const bool over = !again && shuts_down(at, ended);
  const std::string name = ended.spec.name;
  if (ended.spec.restart == restart::temporary) forget(ended);
  if (over) return shut_down(at, "its significant child " + name + " has ended");
  if (!again || !at.running) return {};
  auto gave_up = restart(at, ended, std::move(why));
  return gave_up.empty() ? std::string{} : escalate(at, std::move(gave_up));
}

/// The child has ended by itself, and is not started again.
bool supervisor::implementation::shuts_down(const node& at, const child& ended) noexcept {
  if (!ended.spec.significant || !at.running || at.auto_shutdown == auto_shutdown::never) return false;
  return at.auto_shutdown == auto_shutdown::any_significant ||
         std::none_of(at.children.begin(), at.children.end(),
                      [&](const auto& each) { return each.get() != &ended && each->spec.significant && runs(*each); });
}

/// To the supervisor above it is a child that ended without a failure. Afterwards `at` may be gone.
std::string supervisor::implementation::shut_down(node& at, const std::string& why) {
  const std::string text = "the supervisor " + at.name + " has shut down: " + why;
  static_cast<void>(stop_node(at, text, leave::at_once));
  return at.self == nullptr ? text : react(*at.self, false, text);
}

std::string supervisor::implementation::attend_done(const dynamic_children::done& over) {
  if (!dynamic_->is_done(over)) return {};
  return shut_down(*over.group->owner, "its significant children have ended");
}

std::string supervisor::implementation::escalate(node& gave_up, std::string why) {
  return gave_up.self == nullptr ? why : react(*gave_up.self, true, std::move(why));
}

std::string supervisor::implementation::give_up(node& at, std::string_view child_name, std::string_view why) {
  std::string text = at.self != nullptr ? "the supervisor " + at.name + " has given up: " : "";
  text += "more than " + std::to_string(at.intensity) + " restarts in " + std::to_string(at.period.count()) +
          " ms; the last for " + std::string{child_name} + ": " + std::string{why};
  static_cast<void>(stop_node(at, "its supervisor has given up", leave::at_once));
  return text;
}

bool supervisor::implementation::too_many_restarts(node& at) {
  const auto now = std::chrono::steady_clock::now();
  while (!at.restarts.empty() && now - at.restarts.front() > at.period) at.restarts.pop_front();
  if (at.restarts.size() >= at.intensity) return true;
  at.restarts.push_back(now);
  return false;
}

void supervisor::implementation::count_restart(child& again) {
  std::lock_guard lock{data_};
  ++again.restarts;
}

std::string supervisor::implementation::restart(node& at, child& ended, std::string why) {
  child* failing = &ended;
  for (;;) {
    if (too_many_restarts(at)) return give_up(at, failing->spec.name, why);
    std::size_t first = 0;
    if (at.strategy != strategy::one_for_all)
      while (at.children[first].get() != failing) ++first;
    if (at.strategy == strategy::one_for_one) count_restart(*failing);
    auto started = at.strategy == strategy::one_for_one ? start_one(*failing) : restart_from(at, first, failing);
    if (started || started.error().why() == reason::stopping) return {};
    why = started.error().text();
  }
}

/// Stops and starts all from `first` on. `failing` becomes the one that does not start.
result<void> supervisor::implementation::restart_from(node& at, std::size_t first, child*& failing) {
  for (std::size_t i = at.children.size(); i-- > first;) {
    child& each = *at.children[i];
    static_cast<void>(stop_one(each, "its supervisor starts its children again", leave::at_once));
    if (each.spec.restart == servers::restart::temporary) forget(each);
  }
  for (std::size_t i = first; i < at.children.size(); ++i) {
    failing = at.children[i].get();
    count_restart(*failing);
    MOLT_CHECK(start_one(*failing));
  }
  drop_ignored(at);
  return ok();
}

// ---- Children at run time

result<molt_ref> supervisor::implementation::start_child(std::string_view under, child_spec spec) {
  std::lock_guard lock{operation_};
  MOLT_TRY(node* const at, find_node(under));
  if (at->strategy == strategy::dynamic)
    return error{reason::refused, "the supervisor " + at->name + " is dynamic: its children have no specs"};
  if (!at->running) return error{reason::stopping, "the supervisor " + at->name + " does not run"};
  supervisor_spec alone;
  alone.auto_shutdown = at->auto_shutdown;
  alone.children.push_back(spec);
  MOLT_CHECK(check(alone));
  if (contains(root_, spec.name)) return error{reason::already_exists, "a child named " + spec.name + " exists"};
  {
    std::lock_guard data{data_};
    at->children.push_back(make_child(spec, *at));
    at->children.back()->added = true;
  }
  child& added = *at->children.back();
  if (auto started = start_one(added); !started) {
    forget(added);
    return std::move(started).error();
  }
  const molt_ref ref = added.ref;
  drop_ignored(*at);
  return ref;
}

result<void> supervisor::implementation::terminate_child(std::string_view under, std::string_view name) {
  std::lock_guard lock{operation_};
  MOLT_TRY(child* const found, find_child(under, name));
  auto stopped = stop_one(*found, "terminated", leave::at_once);
  if (found->spec.restart == restart::temporary) forget(*found);
  return stopped;
}

result<void> supervisor::implementation::terminate_child(std::string_view under, molt_ref ref) {
  std::lock_guard lock{operation_};
  MOLT_TRY(node* const at, find_node(under));
  if (at->group == nullptr) return error{reason::refused, "the supervisor " + at->name + " is not dynamic"};
  return dynamic_->terminate(*at->group, ref, "terminated");
}

result<molt_ref> supervisor::implementation::restart_child(std::string_view under, std::string_view name) {
  std::lock_guard lock{operation_};
  MOLT_TRY(child* const found, find_child(under, name));
  if (!found->parent->running)
    return error{reason::stopping, "the supervisor " + found->parent->name + " does not run"};
  if (runs(*found)) return error{reason::already_exists, found->spec.name + " runs"};
  MOLT_CHECK(start_one(*found));
  return found->ref;
}

result<void> supervisor::implementation::delete_child(std::string_view under, std::string_view name) {
  std::lock_guard lock{operation_};
  MOLT_TRY(child* const found, find_child(under, name));
  if (runs(*found)) return error{reason::busy, found->spec.name + " runs", "terminate it first"};
  forget(*found);
  return ok();
}

// ---- The outside

supervisor::supervisor(runtime& of, std::function<void(std::string_view)> gave_up)
    : implementation_{std::make_unique<implementation>(of, std::move(gave_up))} {}
supervisor::~supervisor() = default;

result<void> supervisor::start(supervisor_spec spec) { return implementation_->start(std::move(spec)); }
result<void> supervisor::stop(std::string_view why) { return implementation_->stop(why); }
result<void> supervisor::begin_update(supervisor_spec next) { return implementation_->begin_update(std::move(next)); }
result<void> supervisor::finish_update(std::vector<changed_arguments>* changed) {
  return implementation_->finish_update(changed);
}
result<void> supervisor::undo_update() { return implementation_->undo_update(); }
result<void> supervisor::update(supervisor_spec next) {
  MOLT_CHECK(implementation_->begin_update(std::move(next)));
  return implementation_->finish_update(nullptr);
}

result<molt_ref> supervisor::start_child(std::string_view under, child_spec spec) {
  return implementation_->start_child(under, std::move(spec));
}
result<molt_ref> supervisor::start_child(std::string_view under, std::string_view name, const arguments& given) {
  std::vector<molt_argument> items;
  items.reserve(given.size());
  for (const auto& [key, value] : given) items.push_back({key.c_str(), value.c_str()});
  return implementation_->dynamic().start_child(under, name, {items.data(), items.size()});
}
result<void> supervisor::terminate_child(std::string_view under, std::string_view child) {
  return implementation_->terminate_child(under, child);
}
result<void> supervisor::terminate_child(std::string_view under, molt_ref child) {
  return implementation_->terminate_child(under, child);
}
result<molt_ref> supervisor::restart_child(std::string_view under, std::string_view child) {
  return implementation_->restart_child(under, child);
}
result<void> supervisor::delete_child(std::string_view under, std::string_view child) {
  return implementation_->delete_child(under, child);
}

result<std::vector<child_info>> supervisor::which_children(std::string_view under) const {
  return implementation_->which_children(under);
}
result<child_count> supervisor::count_children(std::string_view under) const {
  return implementation_->count_children(under);
}
std::vector<child_info> supervisor::children() const { return implementation_->children(); }
std::string supervisor::supervisor_of(molt_ref ref) const { return implementation_->supervisor_of(ref); }
void supervisor::child_ended(const exit_event& event) { implementation_->child_ended(event); }

}  // namespace molt::servers
