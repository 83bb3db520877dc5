// Moving the tree to that of another release, and back.
#include "server/supervision_tree.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace molt::servers {

namespace {

void add_temporary(const supervisor_spec& spec, std::set<std::string>& names) {
  for (const auto& each : spec.children) {
    if (each.restart == restart::temporary) names.insert(each.name);
    if (each.supervisor != nullptr) add_temporary(*each.supervisor, names);
  }
}

void add_servers(const supervisor_spec& spec, std::map<std::string_view, const child_spec*>& servers) {
  for (const auto& each : spec.children) {
    if (each.supervisor != nullptr)
      add_servers(*each.supervisor, servers);
    else
      servers.emplace(each.name, &each);
  }
}

/// Whether a child can go on as what the spec says.
bool fits(const supervised_child& each, const child_spec& spec) {
  if ((each.below != nullptr) != (spec.supervisor != nullptr)) return false;
  if (each.below == nullptr) return each.spec.type == spec.type;
  const bool dynamic = each.below->strategy == strategy::dynamic;
  if (dynamic != (spec.supervisor->strategy == strategy::dynamic)) return false;
  return !dynamic || each.spec.supervisor->model.type == spec.supervisor->model.type;
}

}  // namespace

/// Every child of the tree and every one that was leaving, out of their places; then put into the places that a spec
/// gives them. All under data_: who asks sees the tree of before or the next one.
struct supervisor::implementation::rearrangement {
  implementation& of;
  const std::function<bool(const std::string&)>& ended;  // of those that are not there: not to be started
  children_list all;                                     // in the order of their starts
  std::vector<node*> former;                             // where they were
  std::multimap<std::string, std::size_t, std::less<>> by_name;

  void take_out(node& from) {
    for (auto& each : std::exchange(from.children, {})) {
      child& taken = *each;
      by_name.emplace(taken.spec.name, all.size());
      former.push_back(std::exchange(taken.parent, nullptr));
      all.push_back(std::move(each));
      if (taken.below != nullptr) take_out(*taken.below);
    }
  }

  void take_leaving() {
    for (auto& each : std::exchange(of.leaving_, {})) {
      by_name.emplace(each->spec.name, all.size());
      former.push_back(nullptr);
      all.push_back(std::move(each));
    }
  }

  std::unique_ptr<child> find(const child_spec& spec) {
    const auto [begin, end] = by_name.equal_range(spec.name);
    for (auto each = begin; each != end; ++each)
      if (all[each->second] != nullptr && fits(*all[each->second], spec)) return std::move(all[each->second]);
    return nullptr;
  }

  void put_in(node& into, const supervisor_spec& spec) {
    of.settle_node(into, spec);
    for (const auto& wanted : spec.children) {
      auto placed = find(wanted);
      if (placed == nullptr) {
        if (ended(wanted.name)) continue;
        placed = of.make_child(wanted, into);
        placed->wanted = true;
      }
      placed->spec = wanted;
      placed->parent = &into;
      placed->added = false;
      into.children.push_back(std::move(placed));
      child& each = *into.children.back();
      if (each.below != nullptr) put_in(*each.below, *wanted.supervisor);
    }
  }

  /// Children that were added at run time stay where they are, if that stays.
  void put_added_back() {
    for (std::size_t i = 0; i < all.size(); ++i) {
      node* const place = former[i];
      if (all[i] == nullptr || !all[i]->added || place == nullptr) continue;
      const bool stays = place == &of.root_ || place->self->parent != nullptr;
      if (!stays || contains(of.root_, all[i]->spec.name)) continue;
      all[i]->parent = place;
      if (all[i]->below != nullptr) put_in(*all[i]->below, *all[i]->spec.supervisor);
      place->children.push_back(std::move(all[i]));
    }
  }

  void run(const supervisor_spec& next) {
    take_out(of.root_);
    take_leaving();
    put_in(of.root_, next);
    put_added_back();
    for (auto& each : all)
      if (each != nullptr) of.leaving_.push_back(std::move(each));
  }
};

/// `ended`: of the children in `next` that are not there, those that are not to be started. Error: the first that did
/// not start; the rest did, or were not tried if `all` is false.
result<void> supervisor::implementation::rearrange(const supervisor_spec& next,
                                                   const std::function<bool(const std::string&)>& ended, bool all) {
  {
    std::lock_guard lock{data_};
    rearrangement{*this, ended, {}, {}, {}}.run(next);
  }
  publish_names();
  return start_wanted(root_, all);
}

result<void> supervisor::implementation::start_wanted(node& at, bool all) {
  if (!at.running) return ok();
  result<void> first = ok();
  for (const auto& place : at.children) {
    child& each = *place;
    result<void> started = ok();
    const bool wanted = std::exchange(each.wanted, false);
    if (each.below != nullptr) {
      if (wanted) {
        {
          std::lock_guard lock{data_};
          each.below->running = true;
        }
        if (each.below->group != nullptr) dynamic_->open(each.below->group);
      }
      started = start_wanted(*each.below, all);
    } else if (wanted && each.ref.bits == 0) {
      make_way(each);
      started = start_server(each);
    }
    if (started) continue;
    if (!all) return started;
    if (first) first = std::move(started);
  }
  if (first) drop_ignored(at);
  return first;
}

/// A server of another type has the name until it ends.
void supervisor::implementation::make_way(const child& next) {
  for (const auto& each : leaving_) {
    if (each->below != nullptr || each->spec.name != next.spec.name || each->ref.bits == 0) continue;
    static_cast<void>(stop_one(*each, "its type is another in the next release", leave::drained));
    each->wanted = true;
  }
}

result<void> supervisor::implementation::stop_leaving() {
  result<void> all = ok();
  for (auto each = leaving_.rbegin(); each != leaving_.rend(); ++each)
    if (auto stopped = stop_one(**each, "it is not in the next release", leave::drained); !stopped && all)
      all = std::move(stopped);
  children_list gone;
  std::lock_guard lock{data_};
  gone.swap(leaving_);
  return all;
}

result<void> supervisor::implementation::begin_update(supervisor_spec wanted) {
  std::lock_guard lock{operation_};
  if (!root_.running) return error{reason::stopping, "the supervisor does not run"};
  if (before_update_ != nullptr) return error{reason::busy, "an update is under way"};
  MOLT_CHECK(check(wanted));
  if ((wanted.strategy == strategy::dynamic) != (root_.group != nullptr))
    return error{reason::invalid_argument, "a root supervisor neither becomes dynamic nor ceases to be"};
  auto next = std::make_shared<const supervisor_spec>(std::move(wanted));
  std::set<std::string> temporary;  // one that is not there any more has done what it was for
  add_temporary(*spec_, temporary);
  auto started = rearrange(
      *next, [&](const std::string& name) { return temporary.contains(name); }, false);
  if (!started) {
    static_cast<void>(rearrange(
        *spec_, [](const std::string&) { return true; }, true));
    static_cast<void>(stop_leaving());
    return started;
  }
  before_update_ = std::exchange(spec_, std::move(next));
  return ok();
}

result<void> supervisor::implementation::finish_update(std::vector<changed_arguments>* changed) {
  std::lock_guard lock{operation_};
  if (before_update_ == nullptr) return error{reason::invalid_argument, "no update is under way"};
  if (changed != nullptr) note_changed(*before_update_, *spec_, *changed);
  before_update_.reset();
  return stop_leaving();
}

result<void> supervisor::implementation::undo_update() {
  std::lock_guard lock{operation_};
  if (before_update_ == nullptr) return error{reason::invalid_argument, "no update is under way"};
  spec_ = std::exchange(before_update_, nullptr);
  auto restored = rearrange(
      *spec_, [](const std::string&) { return true; }, true);
  if (auto stopped = stop_leaving(); !stopped && restored) return stopped;
  return restored;
}

void supervisor::implementation::note_changed(const supervisor_spec& before, const supervisor_spec& now,
                                              std::vector<changed_arguments>& changed) const {
  std::map<std::string_view, const child_spec*> old;
  std::map<std::string_view, const child_spec*> next;
  add_servers(before, old);
  add_servers(now, next);
  for (const auto& [bits, each] : refs_) {
    const auto was = old.find(each->spec.name);
    const auto is = next.find(each->spec.name);
    if (each->parent == nullptr || was == old.end() || is == next.end()) continue;
    if (was->second->type == is->second->type && was->second->arguments != is->second->arguments)
      changed.push_back({each->spec.name, each->ref, each->spec.arguments});
  }
}

}  // namespace molt::servers
