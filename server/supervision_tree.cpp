// The tree of a supervisor: what it looks like, where things are in it.
#include "server/supervision_tree.hpp"

#include "base/assert.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace molt::servers {

std::string_view to_string(strategy chosen) noexcept {
  switch (chosen) {
    case strategy::one_for_one:
      return "one_for_one";
    case strategy::one_for_all:
      return "one_for_all";
    case strategy::rest_for_one:
      return "rest_for_one";
    case strategy::dynamic:
      return "dynamic";
  }
  return "";
}

std::string_view to_string(auto_shutdown chosen) noexcept {
  switch (chosen) {
    case auto_shutdown::never:
      return "never";
    case auto_shutdown::any_significant:
      return "any_significant";
    case auto_shutdown::all_significant:
      return "all_significant";
  }
  return "";
}

bool operator==(const child_spec& a, const child_spec& b) {
  if ((a.supervisor == nullptr) != (b.supervisor == nullptr)) return false;
  return a.name == b.name && a.type == b.type && a.arguments == b.arguments && a.restart == b.restart &&
         a.shutdown == b.shutdown && a.significant == b.significant &&
         (a.supervisor == b.supervisor || *a.supervisor == *b.supervisor);
}

// ---- Specs

namespace {

/// As OTP's bad_combination.
result<void> check_if_significant(const child_spec& each, auto_shutdown above) {
  if (!each.significant) return ok();
  const std::string who = each.name.empty() ? "a dynamic supervisor's model" : each.name;
  if (each.restart == restart::permanent)
    return error{reason::invalid_argument, who + " is significant, and permanent: it would never end"};
  if (above == auto_shutdown::never)
    return error{reason::invalid_argument, who + " is significant, below a supervisor that never shuts down by itself"};
  return ok();
}

result<void> check_below(const supervisor_spec& spec, std::set<std::string_view>& names, std::size_t depth) {
  if (depth > supervisors_depth_max)
    return error{reason::out_of_bounds,
                 "more than " + std::to_string(supervisors_depth_max) + " supervisors below each other"};
  if (spec.strategy == strategy::dynamic) {
    if (spec.model.type.empty()) return error{reason::invalid_argument, "a dynamic supervisor whose model has no type"};
    if (!spec.children.empty()) return error{reason::invalid_argument, "a dynamic supervisor with children of its own"};
    MOLT_CHECK(check_if_significant(spec.model, spec.auto_shutdown));
  }
  for (const auto& each : spec.children) {
    if (each.name.empty()) return error{reason::invalid_argument, "a supervised server without a name"};
    if (!names.insert(each.name).second)
      return error{reason::invalid_argument, "two supervised servers are named " + each.name};
    MOLT_CHECK(check_if_significant(each, spec.auto_shutdown));
    if (each.supervisor == nullptr) continue;
    if (each.name == root_supervisor)
      return error{reason::invalid_argument, "a supervisor below the root is named " + each.name};
    MOLT_CHECK(check_below(*each.supervisor, names, depth + 1));
  }
  return ok();
}

}  // namespace

result<void> supervisor::implementation::check(const supervisor_spec& spec) {
  std::set<std::string_view> names;
  return check_below(spec, names, 1);
}

// ---- Making

/// Gives a supervisor its settings.
void supervisor::implementation::settle_node(node& of, const supervisor_spec& spec) {
  of.strategy = spec.strategy;
  of.intensity = spec.intensity;
  of.period = spec.period;
  of.auto_shutdown = spec.auto_shutdown;
  if (spec.strategy != strategy::dynamic) return;
  if (of.group == nullptr) of.group = std::make_shared<dynamic_group>(of);
  dynamic_->set_model(*of.group, spec.model, spec.children_max, spec.auto_shutdown);
}

std::unique_ptr<supervised_child> supervisor::implementation::make_child(const child_spec& spec, node& parent) {
  auto made = std::make_unique<child>();
  made->spec = spec;
  made->parent = &parent;
  if (spec.supervisor == nullptr) return made;
  made->below = std::make_unique<node>();
  made->below->name = spec.name;
  made->below->self = made.get();
  settle_node(*made->below, *spec.supervisor);
  return made;
}

void supervisor::implementation::make_children(node& of, const supervisor_spec& spec) {
  of.children.clear();
  for (const auto& each : spec.children) of.children.push_back(make_child(each, of));
  for (const auto& each : of.children)
    if (each->below != nullptr) make_children(*each->below, *each->spec.supervisor);
}

/// After each change of which supervisors there are.
void supervisor::implementation::publish_names() {
  std::map<std::string, dynamic_children::group_ptr, std::less<>> names;
  std::vector<const node*> left{&root_};
  while (!left.empty()) {
    const node& each = *left.back();
    left.pop_back();
    names.emplace(each.name, each.group);
    for (const auto& below : each.children)
      if (below->below != nullptr) left.push_back(below->below.get());
  }
  names.emplace("", root_.group);
  dynamic_->set_names(std::move(names));
}

void supervisor::implementation::forget(child& gone) {
  auto& list = gone.parent->children;
  const auto found = std::find_if(list.begin(), list.end(), [&](const auto& each) { return each.get() == &gone; });
  MOLT_ASSERT(found != list.end());
  const bool was_supervisor = gone.below != nullptr;
  {
    std::lock_guard lock{data_};
    list.erase(found);
  }
  if (was_supervisor) publish_names();
}

// ---- Finding

result<supervisor_node*> supervisor::implementation::find_node(std::string_view name) const {
  auto& self = const_cast<implementation&>(*this);
  if (name.empty()) return &self.root_;
  std::vector<node*> left{&self.root_};
  while (!left.empty()) {
    node& each = *left.back();
    left.pop_back();
    if (each.name == name) return &each;
    for (const auto& below : each.children)
      if (below->below != nullptr) left.push_back(below->below.get());
  }
  return error{reason::not_found, "no supervisor is named " + std::string{name}};
}

result<supervised_child*> supervisor::implementation::find_child(std::string_view under, std::string_view name) const {
  MOLT_TRY(node* const at, find_node(under));
  for (const auto& each : at->children)
    if (each->spec.name == name) return each.get();
  return error{reason::not_found, "the supervisor " + at->name + " has no child named " + std::string{name}};
}

bool supervisor::implementation::contains(const node& at, std::string_view name) {
  return std::any_of(at.children.begin(), at.children.end(), [&](const auto& each) {
    return each->spec.name == name || (each->below != nullptr && contains(*each->below, name));
  });
}

// ---- Questions

bool supervisor::implementation::runs(const child& each) noexcept {
  return each.below != nullptr ? each.below->running : each.ref.bits != 0;
}

std::string supervisor::implementation::path_of(const node& of) {
  if (of.self == nullptr) return of.name;
  return of.self->parent == nullptr ? of.name : path_of(*of.self->parent) + "/" + of.name;
}

child_info supervisor::implementation::info_of(const child& each) const {
  child_info info;
  info.name = each.spec.name;
  info.type = each.spec.type;
  info.ref = each.ref;
  info.restarts = each.restarts;
  info.supervisor = each.parent != nullptr ? path_of(*each.parent) : "";
  info.running = runs(each);
  if (each.below == nullptr) return info;
  info.is_supervisor = true;
  info.strategy = each.below->strategy;
  info.children = each.below->group != nullptr ? dynamic_->size(*each.below->group) : each.below->children.size();
  return info;
}

void supervisor::implementation::add_infos(const node& of, std::vector<child_info>& all) const {
  for (const auto& each : of.children) {
    all.push_back(info_of(*each));
    if (each->below != nullptr) add_infos(*each->below, all);
  }
}

std::vector<child_info> supervisor::implementation::children() const {
  std::vector<child_info> all;
  std::lock_guard lock{data_};
  add_infos(root_, all);
  return all;
}

result<std::vector<child_info>> supervisor::implementation::which_children(std::string_view under) const {
  std::lock_guard lock{data_};
  MOLT_TRY(const node* const at, find_node(under));
  std::vector<child_info> all;
  if (at->group != nullptr) {
    all = dynamic_->list(*at->group);
    const auto path = path_of(*at);
    for (auto& each : all) each.supervisor = path;
  }
  for (const auto& each : at->children) all.push_back(info_of(*each));
  return all;
}

result<child_count> supervisor::implementation::count_children(std::string_view under) const {
  std::lock_guard lock{data_};
  MOLT_TRY(const node* const at, find_node(under));
  child_count count;
  if (at->group != nullptr) {
    count.specs = 1;
    count.active = count.workers = dynamic_->size(*at->group);
    return count;
  }
  count.specs = at->children.size();
  for (const auto& each : at->children) {
    count.active += runs(*each) ? 1 : 0;
    ++(each->below != nullptr ? count.supervisors : count.workers);
  }
  return count;
}

std::string supervisor::implementation::supervisor_of(molt_ref ref) const {
  std::lock_guard lock{data_};
  if (const auto found = refs_.find(ref.bits); found != refs_.end())
    return found->second->parent != nullptr ? path_of(*found->second->parent) : "";
  const auto group = dynamic_->group_of(ref);
  return group != nullptr ? path_of(*group->owner) : "";
}

}  // namespace molt::servers
