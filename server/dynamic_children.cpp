#include "server/dynamic_children.hpp"

#include "base/assert.hpp"
#include "server/cell.hpp"
#include "server/child_stop.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace molt::servers {

// ---- Words

child_words::child_words(std::string_view name, const molt_argument* given, std::size_t count) {
  if (name.empty() && count == 0) return;
  std::size_t size = name.size() + 2;  // the last NUL ends the list: a key is never empty
  for (std::size_t i = 0; i < count; ++i) size += std::strlen(given[i].key) + std::strlen(given[i].value) + 2;
  bytes_ = std::make_unique<char[]>(size);
  char* to = std::copy(name.begin(), name.end(), bytes_.get()) + 1;  // the memory is zero
  for (std::size_t i = 0; i < count; ++i) {
    if (*given[i].key == '\0') continue;
    for (const char* const text : {given[i].key, given[i].value}) to = std::copy_n(text, std::strlen(text), to) + 1;
  }
}

void child_words::append_to(std::vector<molt_argument>& to) const {
  if (bytes_ == nullptr) return;
  for (const char* key = bytes_.get() + std::strlen(bytes_.get()) + 1; *key != '\0';) {
    const char* const value = key + std::strlen(key) + 1;
    to.push_back({key, value});
    key = value + std::strlen(value) + 1;
  }
}

namespace {

/// The model's arguments, replaced by name and followed by the child's own.
std::vector<molt_argument> merged(const arguments& model, const molt_argument* given, std::size_t count) {
  std::vector<molt_argument> all;
  all.reserve(model.size() + count);
  for (const auto& each : model)
    if (std::none_of(given, given + count, [&](const auto& own) { return each.first == own.key; }))
      all.push_back({each.first.c_str(), each.second.c_str()});
  all.insert(all.end(), given, given + count);
  return all;
}

}  // namespace

// ---- Records

dynamic_children::record& dynamic_children::at(std::uint32_t slot) {
  const std::size_t chunk = slot / records_per_chunk;
  if (chunk >= chunks_.size()) chunks_.resize(chunk + 1);
  if (chunks_[chunk] == nullptr) chunks_[chunk] = std::make_unique<record[]>(records_per_chunk);
  return chunks_[chunk][slot % records_per_chunk];
}

dynamic_children::record* dynamic_children::find(molt_ref ref) noexcept {
  const std::uint32_t slot = slot_of(ref);
  const std::size_t chunk = slot / records_per_chunk;
  if (chunk >= chunks_.size() || chunks_[chunk] == nullptr) return nullptr;
  record& found = chunks_[chunk][slot % records_per_chunk];
  return found.generation != 0 && found.generation == generation_of(ref) ? &found : nullptr;
}

void dynamic_children::insert(dynamic_group& group, molt_ref ref, child_words words) {
  const std::uint32_t slot = slot_of(ref);
  record& made = at(slot);
  if (made.generation != 0) {  // the slot's last child has ended, but its end has not been told yet
    const std::uint64_t bits = (std::uint64_t{made.generation} << 32U) | slot;
    const group_ptr of = groups_[made.group];
    displaced_.insert_or_assign(bits, wanted{of, of->opened, remove(made, slot), {}});
  }
  made = {generation_of(ref), group.id, none, group.first, std::move(words)};
  if (group.first != none) at(group.first).previous = slot;
  group.first = slot;
  ++group.count;
}

child_words dynamic_children::remove(record& gone, std::uint32_t slot) {
  dynamic_group& group = *groups_[gone.group];
  if (gone.previous != none)
    at(gone.previous).next = gone.next;
  else
    group.first = gone.next;
  if (gone.next != none) at(gone.next).previous = gone.previous;
  MOLT_ASSERT(group.count != 0, slot);
  --group.count;
  return std::exchange(gone, {}).words;
}

std::vector<molt_ref> dynamic_children::take(dynamic_group& group, std::size_t most) {
  std::vector<molt_ref> taken;
  std::lock_guard lock{mutex_};
  while (taken.size() < most && group.first != none) {
    record& each = at(group.first);
    taken.push_back({(std::uint64_t{each.generation} << 32U) | group.first});
    remove(each, group.first);
  }
  return taken;
}

// ---- Groups

void dynamic_children::set_names(std::map<std::string, group_ptr, std::less<>> names) {
  std::lock_guard lock{mutex_};
  names_.swap(names);
}

void dynamic_children::set_model(dynamic_group& group, const child_spec& model, std::size_t children_max,
                                 servers::auto_shutdown shuts_down) {
  auto shared = std::make_shared<const child_spec>(model);
  std::lock_guard lock{mutex_};
  group.model.swap(shared);
  group.children_max = children_max;
  group.auto_shutdown = shuts_down;
}

void dynamic_children::open(const group_ptr& group) {
  std::lock_guard lock{mutex_};
  if (group->open) return;
  group->open = true;
  ++group->opened;
  group->restarting = 0;
  group->ended_by_itself = false;
  const auto place = std::find(groups_.begin(), groups_.end(), nullptr);
  group->id = static_cast<std::uint32_t>(place - groups_.begin());
  if (place == groups_.end())
    groups_.push_back(group);
  else
    *place = group;
}

void dynamic_children::close(dynamic_group& group) {
  std::unique_lock lock{mutex_};
  group.open = false;
  settled_.wait(lock, [&] { return group.starting == 0; });
}

result<void> dynamic_children::stop(dynamic_group& group, std::string_view why, bool drained) {
  close(group);
  std::shared_ptr<const child_spec> model;
  {
    std::lock_guard lock{mutex_};
    if (groups_.size() <= group.id || groups_[group.id].get() != &group) return ok();  // never opened, or stopped
    model = group.model;
  }
  const auto deadline = deadline_after(model->shutdown);
  std::vector<molt_ref> busy;
  for (auto batch = take(group, stop_batch); !batch.empty(); batch = take(group, stop_batch))
    for (const auto ref : batch) {
      const auto gone = drained ? runtime_.drain_and_stop(ref, why, time_until(deadline)) : runtime_.stop(ref, why, {});
      if (!gone && gone.error().why() == reason::timeout) busy.push_back(ref);
    }
  for (const auto ref : busy) runtime_.request_stop(ref, why);  // all at once, then they are waited for
  std::size_t late = 0;
  for (const auto ref : busy) {
    const auto gone = runtime_.stop(ref, why, time_until(deadline));
    if (gone || gone.error().why() == reason::no_such_server) continue;
    runtime_.kill(ref, why);
    ++late;
  }
  {
    std::lock_guard lock{mutex_};
    groups_[group.id] = nullptr;
  }
  if (late == 0 || model->shutdown == shutdown_brutal) return ok();
  return error{reason::timeout, std::to_string(late) + " children did not stop in time"};
}

// ---- Starting

result<molt_ref> dynamic_children::start_child(std::string_view supervisor, std::string_view name,
                                               const molt_arguments& given) {
  group_ptr group;
  {
    std::lock_guard lock{mutex_};
    const auto found = names_.find(supervisor);
    if (found == names_.end()) return error{reason::not_found, "no supervisor is named " + std::string{supervisor}};
    group = found->second;
  }
  if (group == nullptr) return error{reason::refused, "the supervisor " + std::string{supervisor} + " is not dynamic"};
  child_words words;
  return start(group, name, given.items, given.count, words, false);
}

result<void> dynamic_children::restart(wanted& lost) {
  const std::string name{lost.words.name()};
  std::vector<molt_argument> given;
  lost.words.append_to(given);
  auto started = start(lost.group, name, given.data(), given.size(), lost.words, true);
  if (started) return ok();
  return std::move(started).error();
}

bool dynamic_children::is_current(const wanted& asked) const {
  std::lock_guard lock{mutex_};
  return asked.group->open && asked.group->opened == asked.opened;
}

result<molt_ref> dynamic_children::start(const group_ptr& group, std::string_view name, const molt_argument* given,
                                         std::size_t count, child_words& words, bool again) {
  std::shared_ptr<const child_spec> model;
  std::uint64_t opened = 0;
  std::uint64_t dropped = 0;
  {
    std::lock_guard lock{mutex_};
    if (!group->open) return error{reason::stopping, "the supervisor does not run"};
    if (!again && group->count + group->starting + group->restarting >= group->children_max)
      return error{reason::out_of_bounds,
                   "the supervisor has " + std::to_string(group->children_max) + " children already"};
    ++group->starting;
    ++starting_;
    model = group->model;
    opened = group->opened;
    dropped = early_dropped_;
  }
  const auto all = merged(model->arguments, given, count);
  auto started = runtime_.start(model->type, name, all.data(), all.size());
  const bool runs = started && started->bits != 0;  // else its init wants no server to run
  if (runs && !again && (!name.empty() || model->restart != restart::temporary))
    words = child_words{name, given, count};
  bool settled = true;
  {
    std::lock_guard lock{mutex_};
    if (runs) settled = settle(group, opened, dropped, *started, words);
    if (again && started && group->restarting != 0) --group->restarting;
    if (--starting_ == 0) early_.clear();
    if (--group->starting == 0) settled_.notify_all();
    tell_if_done(group);
    if (settled) return started;
  }
  if (!runtime_.stop(*started, "its supervisor stops", time_until(deadline_after(model->shutdown))))
    runtime_.kill(*started, "its supervisor stops");
  return error{reason::stopping, "the supervisor stopped while its child was starting"};
}

bool dynamic_children::settle(const group_ptr& group, std::uint64_t opened, std::uint64_t dropped, molt_ref ref,
                              child_words& words) {
  if (!group->open || group->opened != opened) return false;
  const auto early =
      std::find_if(early_.begin(), early_.end(), [&](const early_end& each) { return each.bits == ref.bits; });
  if (early != early_.end()) {
    ended_child(group, std::move(words), early->failed, early->why);
    early_.erase(early);
  } else if (dropped != early_dropped_ && runtime_.type_of(ref) == nullptr) {
    ended_child(group, std::move(words), true, "it ended at once");
  } else {
    insert(*group, ref, std::move(words));
  }
  return true;
}

// ---- Ending

bool dynamic_children::ended(const exit_event& event) {
  std::lock_guard lock{mutex_};
  record* const found = find(event.ref);
  if (found == nullptr) {
    if (const auto displaced = displaced_.find(event.ref.bits); displaced != displaced_.end()) {
      auto last = std::move(displaced->second);
      displaced_.erase(displaced);
      if (last.group->open && last.group->opened == last.opened)
        ended_child(last.group, std::move(last.words), event.failed, event.why);
      return true;
    }
    if (starting_ == 0) return false;
    early_.push_back({event.ref.bits, event.failed, event.why});
    if (early_.size() <= early_max) return false;
    early_.pop_front();
    ++early_dropped_;
    return false;
  }
  const group_ptr group = groups_[found->group];
  auto words = remove(*found, slot_of(event.ref));
  if (group->open) ended_child(group, std::move(words), event.failed, event.why);
  return true;
}

void dynamic_children::ended_child(const group_ptr& group, child_words words, bool failed, std::string_view why) {
  const auto when = group->model->restart;
  if (when == restart::temporary || (when == restart::transient && !failed)) {
    group->ended_by_itself = group->model->significant;
    return tell_if_done(group);
  }
  ++group->restarting;
  again_({group, group->opened, std::move(words), std::string{why}});
}

/// Whether nothing keeps a supervisor whose significant children end.
bool dynamic_children::is_over(const dynamic_group& group) noexcept {
  switch (group.auto_shutdown) {
    case auto_shutdown::never:
      return false;
    case auto_shutdown::any_significant:
      return true;
    case auto_shutdown::all_significant:
      return group.count + group.starting + group.restarting == 0;
  }
  return false;
}

void dynamic_children::tell_if_done(const group_ptr& group) {
  if (!group->ended_by_itself || !group->open || !is_over(*group)) return;
  group->ended_by_itself = false;
  over_({group, group->opened});
}

bool dynamic_children::is_done(const done& asked) const {
  std::lock_guard lock{mutex_};
  return asked.group->open && asked.group->opened == asked.opened && is_over(*asked.group);
}

result<void> dynamic_children::terminate(dynamic_group& group, molt_ref ref, std::string_view why) {
  std::chrono::milliseconds shutdown{};
  {
    std::lock_guard lock{mutex_};
    record* const found = find(ref);
    if (found == nullptr || found->group != group.id)
      return error{reason::not_found, "the supervisor has no such child"};
    remove(*found, slot_of(ref));
    shutdown = group.model->shutdown;
  }
  return stop_child_server(runtime_, ref, why, shutdown, false);
}

// ---- Questions

std::vector<child_info> dynamic_children::list(const dynamic_group& group) const {
  auto& self = const_cast<dynamic_children&>(*this);
  std::vector<child_info> all;
  std::lock_guard lock{mutex_};
  all.reserve(group.count);
  for (std::uint32_t slot = group.first; slot != none; slot = self.at(slot).next) {
    const record& each = self.at(slot);
    child_info info;
    info.name = each.words.name();
    info.type = group.model->type;
    info.ref = {(std::uint64_t{each.generation} << 32U) | slot};
    info.running = true;
    all.push_back(std::move(info));
  }
  return all;
}

std::size_t dynamic_children::size(const dynamic_group& group) const {
  std::lock_guard lock{mutex_};
  return group.count;
}

dynamic_children::group_ptr dynamic_children::group_of(molt_ref ref) const {
  std::lock_guard lock{mutex_};
  const record* const found = const_cast<dynamic_children&>(*this).find(ref);
  return found != nullptr ? groups_[found->group] : nullptr;
}

}  // namespace molt::servers
