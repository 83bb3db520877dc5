#include "server/relations.hpp"

namespace molt::servers {

std::uint64_t relations::monitor(molt_ref watcher, molt_ref target) {
  std::lock_guard lock{mutex_};
  const std::uint32_t index = make(kind::monitor, watcher, target);
  if (index == none) return 0;
  return (std::uint64_t{relations_[index].generation} << 32U) | (index + 1);
}

bool relations::demonitor(molt_ref watcher, std::uint64_t id) {
  const std::uint64_t index = (id & 0xffffffffU) - 1;
  std::lock_guard lock{mutex_};
  if (index >= relations_.size()) return false;
  const relation& found = relations_[index];
  if (found.what != kind::monitor || found.generation != id >> 32U || found.sides[0].server.bits != watcher.bits)
    return false;
  release(static_cast<std::uint32_t>(index));
  return true;
}

bool relations::link(molt_ref a, molt_ref b) {
  std::lock_guard lock{mutex_};
  if (links_.contains(pair_of(a, b))) return true;
  const std::uint32_t index = make(kind::link, a, b);
  if (index == none) return false;
  links_.emplace(pair_of(a, b), index);
  return true;
}

bool relations::unlink(molt_ref a, molt_ref b) {
  std::lock_guard lock{mutex_};
  const auto found = links_.find(pair_of(a, b));
  if (found == links_.end()) return false;
  release(found->second);
  return true;
}

bool relations::join(molt_ref server, std::string_view name) {
  if (name.size() > group_name_max) return false;
  std::lock_guard lock{mutex_};
  const auto found = groups_.find(name);
  if (found != groups_.end() && memberships_.contains(pair_of(server, found->second))) return true;
  const std::uint32_t index = make(kind::membership, server, {});
  if (index == none) return false;
  const auto place = found != groups_.end() ? found : groups_.emplace(std::string{name}, group{}).first;
  group& joined = place->second;
  joined.name = &place->first;
  relations_[index].of = &joined;
  relations_[index].place = static_cast<std::uint32_t>(joined.members.size());
  joined.members.push_back(index);
  memberships_.emplace(pair_of(server, joined), index);
  return true;
}

bool relations::leave(molt_ref server, std::string_view name) {
  std::lock_guard lock{mutex_};
  const auto found = groups_.find(name);
  if (found == groups_.end()) return false;
  const auto membership = memberships_.find(pair_of(server, found->second));
  if (membership == memberships_.end()) return false;
  release(membership->second);
  return true;
}

std::size_t relations::members(std::string_view name, molt_ref* to, std::size_t capacity) const {
  std::lock_guard lock{mutex_};
  const auto found = groups_.find(name);
  if (found == groups_.end()) return 0;
  const auto& all = found->second.members;
  for (std::size_t i = 0; i < std::min(all.size(), capacity); ++i) to[i] = relations_[all[i]].sides[0].server;
  return all.size();
}

relations::parted relations::part(molt_ref gone) {
  parted told;
  std::lock_guard lock{mutex_};
  for (auto own = first_.find(gone.bits); own != first_.end(); own = first_.find(gone.bits)) {
    const std::uint32_t index = own->second;
    const relation& each = relations_[index];
    const molt_ref first = each.sides[0].server;
    if (each.what == kind::monitor && first.bits != gone.bits)
      told.watchers.emplace_back(first, (std::uint64_t{each.generation} << 32U) | (index + 1));
    else if (each.what == kind::link)
      told.linked.push_back(first.bits == gone.bits ? each.sides[1].server : first);
    release(index);
  }
  return told;
}

std::size_t relations::size() const {
  std::lock_guard lock{mutex_};
  return relations_.size() - unused_.size();
}

std::uint32_t relations::make(kind what, molt_ref a, molt_ref b) {
  std::uint32_t index = 0;
  if (!unused_.empty()) {
    index = unused_.back();
    unused_.pop_back();
  } else {
    if (relations_.size() >= relations_max_) return none;
    index = static_cast<std::uint32_t>(relations_.size());
    relations_.emplace_back();
  }
  relation& made = relations_[index];
  made.what = what;
  made.sides[0].server = a;
  made.sides[1].server = b;
  for (unsigned which = 0; which < sides_of(what); ++which) enlist(index, which);
  return index;
}

void relations::release(std::uint32_t index) {
  relation& freed = relations_[index];
  for (unsigned which = 0; which < sides_of(freed.what); ++which) strike(index, which);
  if (freed.what == kind::link) links_.erase(pair_of(freed.sides[0].server, freed.sides[1].server));
  if (freed.what == kind::membership) {
    group& left = *freed.of;
    memberships_.erase(pair_of(freed.sides[0].server, left));
    const std::uint32_t last = left.members.back();
    left.members[freed.place] = last;
    relations_[last].place = freed.place;
    left.members.pop_back();
    if (left.members.empty()) groups_.erase(groups_.find(*left.name));
    freed.of = nullptr;
  }
  freed.what = kind::free;
  if (++freed.generation == 0) freed.generation = 1;
  unused_.push_back(index);
}

relations::side& relations::side_of(std::uint32_t index, molt_ref server) noexcept {
  auto& sides = relations_[index].sides;
  return sides[0].server.bits == server.bits ? sides[0] : sides[1];
}

void relations::enlist(std::uint32_t index, unsigned which) {
  side& mine = relations_[index].sides[which];
  const auto [place, only] = first_.try_emplace(mine.server.bits, index);
  mine.previous = none;
  mine.next = only ? none : place->second;
  if (!only) side_of(place->second, mine.server).previous = index;
  place->second = index;
}

void relations::strike(std::uint32_t index, unsigned which) {
  const side mine = relations_[index].sides[which];
  if (mine.next != none) side_of(mine.next, mine.server).previous = mine.previous;
  if (mine.previous != none)
    side_of(mine.previous, mine.server).next = mine.next;
  else if (mine.next != none)
    first_[mine.server.bits] = mine.next;
  else
    first_.erase(mine.server.bits);
}

}  // namespace molt::servers
