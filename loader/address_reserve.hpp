// Addresses at which images were: nothing else gets them for a while.
//
// So a pointer that was left to such an image leads to a fault, never into the code of a version that came later; and
// what freed memory still holds of it is not taken for pointers into that version (image_evidence.hpp).
//
// Invariants: at most reserved_ranges_max ranges and reserved_bytes_max bytes; the oldest go. They cost address space
// only.
// Threading: whoever holds hold_images(), or a copy of the process that was made while that was held.
#pragma once

#include <cstddef>
#include <cstdint>

namespace molt::loader {

inline constexpr std::size_t reserved_ranges_max = 64;
inline constexpr std::size_t reserved_bytes_max = std::size_t{1} << 30U;

/// Where something lies already, or the system has no room, nothing is reserved.
void reserve_addresses(std::uintptr_t begin, std::uintptr_t end) noexcept;
[[nodiscard]] bool is_reserved(std::uintptr_t address) noexcept;

}  // namespace molt::loader
