// What is mapped where in this process, read so that a signal handler may: no allocation, no lock, no exception.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace molt::node {

/// One line of /proc/self/maps.
struct map_line {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t file_offset = 0;
  bool executable = false;
  std::string_view path;  ///< empty if it is no file's; " (deleted)" is left out
};

/// False: it is no such line. Async-signal-safe.
[[nodiscard]] bool parse_map_line(std::string_view line, map_line&) noexcept;

/// Copies memory of this process; false if it is not there to be read. Async-signal-safe.
[[nodiscard]] bool read_memory(std::uint64_t address, void* to, std::size_t size) noexcept;

inline constexpr std::size_t build_id_max = 32;  ///< bytes

/// The build ID of the ELF image whose header is mapped at `header`; its size, 0 if there is none to be found.
/// Async-signal-safe.
[[nodiscard]] std::size_t read_build_id(std::uint64_t header, unsigned char (&to)[build_id_max]) noexcept;

/// Calls `visit` with each executable mapping of a file and where that file's header is mapped (0: nowhere).
/// Async-signal-safe if `visit` is. False: /proc cannot be read.
bool visit_images(void (*visit)(const map_line&, std::uint64_t header, void*), void* with) noexcept;

}  // namespace molt::node
