#include "loader/process_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

namespace molt::loader {
namespace {

constexpr std::size_t pages_at_once = std::size_t{1} << 16U;
constexpr std::uint64_t page_is_present = std::uint64_t{1} << 63U;
constexpr std::uint64_t page_is_swapped = std::uint64_t{1} << 62U;

template <class Number>
bool take_number(std::string_view& from, Number& number, int base) {
  const auto [end, failed] = std::from_chars(from.data(), from.data() + from.size(), number, base);
  if (failed != std::errc{}) return false;
  from.remove_prefix(static_cast<std::size_t>(end - from.data()));
  return true;
}

bool take(std::string_view& from, char wanted) {
  if (from.empty() || from.front() != wanted) return false;
  from.remove_prefix(1);
  return true;
}

std::string_view take_word(std::string_view& from) {
  const auto word = from.substr(0, from.find(' '));
  from.remove_prefix(std::min(from.size(), word.size() + 1));
  return word;
}

}  // namespace

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

int mapping::protection() const noexcept {
  return (readable ? PROT_READ : 0) | (writable ? PROT_WRITE : 0) | (executable ? PROT_EXEC : 0);
}

bool parse_mapping(std::string_view line, mapping& to) {
  // 7f0c5a200000-7f0c5a201000 r-xp 00001000 00:01 1234    /memfd:libkv.so (deleted)
  to = {};
  if (!take_number(line, to.begin, 16) || !take(line, '-') || !take_number(line, to.end, 16) || !take(line, ' '))
    return false;
  const auto allowed = take_word(line);
  if (allowed.size() != 4 || to.begin >= to.end) return false;
  to.readable = allowed[0] == 'r';
  to.writable = allowed[1] == 'w';
  to.executable = allowed[2] == 'x';
  to.shared = allowed[3] == 's';
  (void)take_word(line);  // offset
  (void)take_word(line);  // device
  if (!take_number(line, to.inode, 10)) return false;
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(' ')));
  to.path = line;
  return true;
}

result<std::vector<mapping>> read_mappings() {
  std::ifstream maps{"/proc/self/maps"};
  if (!maps) return error{reason::io, std::string{"/proc/self/maps: "} + std::strerror(errno)};
  std::vector<mapping> all;
  std::string line;
  for (mapping one; std::getline(maps, line);)
    if (parse_mapping(line, one)) all.push_back(std::move(one));
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
