#include "loader/process_memory.hpp"

#include "base/memory_map.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace molt::loader {
namespace {

constexpr std::size_t pages_at_once = std::size_t{1} << 16U;
constexpr std::uint64_t page_is_present = std::uint64_t{1} << 63U;
constexpr std::uint64_t page_is_swapped = std::uint64_t{1} << 62U;

}  // namespace

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

int mapping::protection() const noexcept {
  return (readable ? PROT_READ : 0) | (writable ? PROT_WRITE : 0) | (executable ? PROT_EXEC : 0);
}

result<std::vector<mapping>> read_mappings() {
  std::vector<mapping> all;
  const bool read = visit_mappings([&all](const map_line& line) {
    all.push_back(
        {line.begin, line.end, line.readable, line.writable, line.executable, line.shared, std::string{line.path}});
    return true;
  });
  if (!read) return error{reason::io, std::string{"/proc/self/maps: "} + std::strerror(errno)};
  if (all.empty()) return error{reason::io, "/proc/self/maps: there is nothing to read"};
  return all;
}

const mapping* find_mapping(const std::vector<mapping>& all, std::uintptr_t address) noexcept {
  const auto behind =
      std::upper_bound(all.begin(), all.end(), address, [](auto at, const mapping& one) { return at < one.begin; });
  if (behind == all.begin()) return nullptr;
  const mapping& found = *std::prev(behind);
  return found.contains(address) ? &found : nullptr;
}

resident_pages::resident_pages() : pagemap_{::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)} {}

resident_pages::~resident_pages() {
  if (pagemap_ >= 0) ::close(pagemap_);
}

void resident_pages::visit(std::uintptr_t begin, std::uintptr_t end,
                           const std::function<void(std::uintptr_t, std::uintptr_t)>& visit) {
  const std::size_t page = page_size();
  if (pagemap_ < 0) return visit(begin, end);
  entries_.resize(pages_at_once);
  std::uintptr_t run = 0;  // begin of pages that are there, 0: none
  for (std::uintptr_t at = begin; at < end;) {
    const std::size_t wanted = std::min(pages_at_once, (end - at) / page);
    const auto got = ::pread(pagemap_, entries_.data(), wanted * sizeof(std::uint64_t),
                             static_cast<off_t>(at / page * sizeof(std::uint64_t)));
    const std::size_t pages = got > 0 ? static_cast<std::size_t>(got) / sizeof(std::uint64_t) : 0;
    if (pages == 0) {
      if (run == 0) run = at;
      break;  // the rest as if it were there
    }
    for (std::size_t i = 0; i < pages; ++i, at += page) {
      const bool there = (entries_[i] & (page_is_present | page_is_swapped)) != 0;
      if (there && run == 0) run = at;
      if (there || run == 0) continue;
      visit(run, at);
      run = 0;
    }
  }
  if (run != 0) visit(run, end);
}

}  // namespace molt::loader
