// Looks through memory for words that lie in given ranges of addresses: whoever holds a pointer there, as far as
// pointers are stored whole and aligned.
//
// The ranges are kept inverted, so that the search does not find itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace molt::loader {

/// A range of addresses, written so that neither of its bounds is a word in memory.
class hidden_range {
 public:
  hidden_range() = default;
  hidden_range(std::uintptr_t begin, std::uintptr_t end) noexcept : inverted_{~begin}, size_{end - begin} {}
  [[nodiscard]] std::uintptr_t begin() const noexcept { return ~inverted_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept { return address + inverted_ + 1 < size_; }

 private:
  std::uintptr_t inverted_ = ~std::uintptr_t{0};
  std::size_t size_ = 0;
};

/// At most so many ranges in one pass.
inline constexpr std::size_t scan_ranges_max = 16;

/// Told of each word found; false: enough.
using word_found = bool (*)(const std::uintptr_t* at, std::size_t range, void* with);

/// Calls `found` for each word that lies in one of the ranges, in ascending order. False: `found` had enough.
/// Reads all of `words`. Threading: any thread.
bool scan_words(std::span<const std::uintptr_t> words, std::span<const hidden_range> ranges, word_found found,
                void* with);

}  // namespace molt::loader
