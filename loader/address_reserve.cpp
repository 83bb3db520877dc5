#include "loader/address_reserve.hpp"

#include "loader/process_memory.hpp"

#include <sys/mman.h>

namespace molt::loader {
namespace {

// Inverted: these addresses are what is looked for in memory.
struct reserved_range {
  std::uintptr_t inverted_begin = 0;
  std::size_t size = 0;  // 0: none
};

constinit reserved_range ranges[reserved_ranges_max] = {};
constinit std::size_t next_range = 0;  // in a ring: the oldest
constinit std::size_t reserved_bytes = 0;

void let_go(reserved_range& of) noexcept {
  if (of.size == 0) return;
  ::munmap(reinterpret_cast<void*>(~of.inverted_begin), of.size);
  reserved_bytes -= of.size;
  of = {};
}

}  // namespace

void reserve_addresses(std::uintptr_t begin, std::uintptr_t end) noexcept {
  const std::uintptr_t page = page_size();
  const std::uintptr_t first = begin & ~(page - 1);
  const std::size_t size = ((end + page - 1) & ~(page - 1)) - first;
  if (size > reserved_bytes_max) return;
  for (std::size_t i = 0; i < reserved_ranges_max && reserved_bytes + size > reserved_bytes_max; ++i)
    let_go(ranges[(next_range + i) % reserved_ranges_max]);
  reserved_range& mine = ranges[next_range];
  let_go(mine);
  void* const made = ::mmap(reinterpret_cast<void*>(first), size, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (made == MAP_FAILED) return;
  if (reinterpret_cast<std::uintptr_t>(made) != first) {  // a kernel that does not know MAP_FIXED_NOREPLACE
    ::munmap(made, size);
    return;
  }
  mine = {~first, size};
  reserved_bytes += size;
  next_range = (next_range + 1) % reserved_ranges_max;
}

bool is_reserved(std::uintptr_t address) noexcept {
  for (const auto& each : ranges)
    if (each.size != 0 && address - ~each.inverted_begin < each.size) return true;
  return false;
}

}  // namespace molt::loader
