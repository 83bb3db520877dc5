// The images that are mapped in this process, read so that a signal handler may: no allocation, no lock, no exception.
#pragma once

#include "base/memory_map.hpp"

#include <cstddef>
#include <cstdint>

namespace molt::node {

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
