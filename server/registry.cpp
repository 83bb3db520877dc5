#include "server/registry.hpp"

#include "base/assert.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOLT_LOOKS_FOR_LEAKS
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MOLT_LOOKS_FOR_LEAKS
#endif
#ifdef MOLT_LOOKS_FOR_LEAKS
#include <sanitizer/lsan_interface.h>
#endif

namespace molt::servers {

registry::registry(std::size_t servers_max) : slots_max_{std::clamp<std::size_t>(servers_max, 1, (1ULL << 31U))} {
  mapped_bytes_ = slots_max_ * (sizeof(cell) + sizeof(cell_detail));
  mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MOLT_ASSERT(mapped_ != MAP_FAILED, mapped_bytes_, errno);
  // With a million servers a call to any of them would first look for its page. A system without huge pages does
  // without.
  madvise(mapped_, mapped_bytes_, MADV_HUGEPAGE);
#ifdef MOLT_LOOKS_FOR_LEAKS
  // It does not look into mapped memory by itself: every server's state would be a leak.
  __lsan_register_root_region(mapped_, mapped_bytes_);
#endif
  // Zeroed memory is a valid cell: free, of generation 0, with an empty mailbox.
  cells_ = static_cast<cell*>(mapped_);
  details_ = reinterpret_cast<cell_detail*>(cells_ + slots_max_);
}

registry::~registry() {
#ifdef MOLT_LOOKS_FOR_LEAKS
  __lsan_unregister_root_region(mapped_, mapped_bytes_);
#endif
  munmap(mapped_, mapped_bytes_);
}

cell* registry::take_free() {
  std::lock_guard lock{free_mutex_};
  if (!free_.empty()) {
    const auto slot = free_.back();
    free_.pop_back();
    return &cells_[slot];
  }
  const auto slot = used_.load(std::memory_order_relaxed);
  if (slot >= slots_max_) return nullptr;
  used_.store(slot + 1, std::memory_order_release);
  return &cells_[slot];
}

void registry::give_back(cell& unused) {
  std::lock_guard lock{free_mutex_};
  free_.push_back(slot_of(unused));
}

bool registry::name(cell& named, std::string_view name, molt_ref ref) {
  std::lock_guard lock{names_mutex_};
  const auto [place, added] = names_.emplace(name, ref);
  if (added) detail(named).name = &place->first;
  return added;
}

void registry::unname(cell& named) {
  std::lock_guard lock{names_mutex_};
  const std::string*& name = detail(named).name;
  if (name == nullptr) return;
  names_.erase(names_.find(*name));
  name = nullptr;
}

void registry::unname(molt_ref ref) {
  if (!is_slot(servers::slot_of(ref))) return;
  std::lock_guard lock{names_mutex_};
  const std::string*& name = detail(at(servers::slot_of(ref))).name;
  if (name == nullptr) return;
  const auto found = names_.find(*name);
  if (found->second.bits != ref.bits) return;  // the next one in this slot
  names_.erase(found);
  name = nullptr;
}

molt_ref registry::lookup(std::string_view name) const {
  std::lock_guard lock{names_mutex_};
  const auto found = names_.find(name);
  return found != names_.end() ? found->second : molt_ref{};
}

std::string registry::name_of(const cell& named) const {
  std::lock_guard lock{names_mutex_};
  const std::string* const name = detail(named).name;
  return name != nullptr ? *name : std::string{};
}

}  // namespace molt::servers
