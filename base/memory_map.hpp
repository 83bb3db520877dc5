// What is mapped where in this process, read so that a signal handler may: no allocation, no lock, no exception.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

namespace molt {

/// One line of /proc/self/maps.
struct map_line {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t file_offset = 0;
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  std::uint64_t device_major = 0;
  std::uint64_t device_minor = 0;
  std::uint64_t inode = 0;
  std::string_view path;  ///< empty if it is of nothing; "[heap]", "[stack]"; " (deleted)" is left out
};

/// False: it is no such line. Async-signal-safe.
[[nodiscard]] bool parse_map_line(std::string_view line, map_line&) noexcept;

/// Calls `visit` with each mapping, in ascending order, until it returns false. False: /proc cannot be read.
/// Async-signal-safe if `visit` is, which must not throw then; otherwise it may. Lines longer than a path may be are
/// left out. Threading: any thread; others may map and unmap meanwhile.
bool visit_mappings(bool (*visit)(const map_line&, void*), void* with);

template <class Visit>
bool visit_mappings(Visit&& visit) {
  return visit_mappings([](const map_line& line,
                           void* with) -> bool { return (*static_cast<std::remove_reference_t<Visit>*>(with))(line); },
                        const_cast<void*>(static_cast<const void*>(&visit)));
}

}  // namespace molt
