#include "base/memory_map.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace molt {
namespace {

constexpr std::size_t path_max = 4096;
constexpr std::size_t line_max = path_max + 128;

bool take_number(std::string_view& from, unsigned base, std::uint64_t& number) noexcept {
  constexpr std::size_t digits_max = 20;  // of 64 bits in decimal
  number = 0;
  std::size_t used = 0;
  for (; used < from.size() && used <= digits_max; ++used) {
    const char c = from[used];
    unsigned digit = 99;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (digit >= base) break;
    if (number > (UINT64_MAX - digit) / base) return false;
    number = number * base + digit;
  }
  if (used == 0 || used > digits_max) return false;
  from.remove_prefix(used);
  return true;
}

bool take(std::string_view& from, char wanted) noexcept {
  if (from.empty() || from.front() != wanted) return false;
  from.remove_prefix(1);
  return true;
}

}  // namespace

bool parse_map_line(std::string_view line, map_line& to) noexcept {
  // 7f0c5a200000-7f0c5a201000 r-xp 00001000 00:01 1234    /memfd:libkv.so (deleted)
  to = {};
  if (!take_number(line, 16, to.begin) || !take(line, '-') || !take_number(line, 16, to.end) || !take(line, ' '))
    return false;
  if (line.size() < 5 || line[4] != ' ' || to.begin >= to.end) return false;
  to.readable = line[0] == 'r';
  to.writable = line[1] == 'w';
  to.executable = line[2] == 'x';
  to.shared = line[3] == 's';
  line.remove_prefix(5);
  if (!take_number(line, 16, to.file_offset) || !take(line, ' ') || !take_number(line, 16, to.device_major) ||
      !take(line, ':') || !take_number(line, 16, to.device_minor) || !take(line, ' ') ||
      !take_number(line, 10, to.inode))
    return false;
  while (take(line, ' ')) {
  }
  constexpr std::string_view deleted = " (deleted)";
  if (line.ends_with(deleted)) line.remove_suffix(deleted.size());
  to.path = line;
  return true;
}

bool visit_mappings(bool (*visit)(const map_line&, void*), void* with) {
  const unique_fd from{::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)};
  if (!from) return false;
  char buffer[line_max];
  std::size_t filled = 0;
  bool skipping = false;  // the rest of a line that is too long
  for (;;) {
    const ssize_t got = ::read(from.get(), buffer + filled, sizeof buffer - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    filled += static_cast<std::size_t>(got);
    std::size_t begin = 0;
    while (const void* const found = std::memchr(buffer + begin, '\n', filled - begin)) {
      const auto end = static_cast<std::size_t>(static_cast<const char*>(found) - buffer);
      map_line line;
      if (!skipping && parse_map_line({buffer + begin, end - begin}, line) && !visit(line, with)) return true;
      skipping = false;
      begin = end + 1;
    }
    filled -= begin;
    std::memmove(buffer, buffer + begin, filled);
    if (filled == sizeof buffer) {
      filled = 0;
      skipping = true;
    }
  }
}

}  // namespace molt
