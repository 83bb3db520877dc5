#include "loader/word_scan.hpp"

#include "base/assert.hpp"

#include <algorithm>
#include <array>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace molt::loader {
namespace {

constexpr std::size_t block_words = 16;  // two cache lines: what one look decides on

/// Whether any word of the block lies in a range.
using block_look = bool (*)(const std::uintptr_t* block, const hidden_range* ranges, std::size_t count);

bool look_plainly(const std::uintptr_t* block, const hidden_range* ranges, std::size_t count) {
  bool any = false;
  for (std::size_t r = 0; r < count; ++r) {
    const hidden_range range = ranges[r];
    for (std::size_t i = 0; i < block_words; ++i) any |= range.contains(block[i]);
  }
  return any;
}

#if defined(__x86_64__)
// There is no unsigned comparison: both sides are moved by half the range of a word.
[[gnu::target("avx2")]] bool look_wide(const std::uintptr_t* block, const hidden_range* ranges, std::size_t count) {
  const auto* const from = reinterpret_cast<const __m256i*>(block);
  const __m256i word[4] = {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1), _mm256_loadu_si256(from + 2),
                           _mm256_loadu_si256(from + 3)};
  constexpr std::uint64_t half = std::uint64_t{1} << 63U;
  __m256i any = _mm256_setzero_si256();
  for (std::size_t r = 0; r < count; ++r) {
    const __m256i move = _mm256_set1_epi64x(static_cast<std::int64_t>(half - ranges[r].begin()));
    const __m256i size = _mm256_set1_epi64x(static_cast<std::int64_t>(half + ranges[r].size()));
    for (const __m256i& each : word) any = _mm256_or_si256(any, _mm256_cmpgt_epi64(size, _mm256_add_epi64(each, move)));
  }
  return _mm256_testz_si256(any, any) == 0;
}
#endif

block_look choose() noexcept {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") != 0) return &look_wide;
#endif
  return &look_plainly;
}

}  // namespace

bool scan_words(std::span<const std::uintptr_t> words, std::span<const hidden_range> ranges, word_found found,
                void* with) {
  MOLT_ASSERT(ranges.size() <= scan_ranges_max, ranges.size());
  const block_look look = choose();
  const auto in_detail = [&](const std::uintptr_t* from, const std::uintptr_t* end) {
    for (; from != end; ++from)
      for (std::size_t r = 0; r < ranges.size(); ++r)
        if (ranges[r].contains(*from) && !found(from, r, with)) return false;
    return true;
  };
  const std::uintptr_t* at = words.data();
  const std::uintptr_t* const end = at + words.size();
  for (; static_cast<std::size_t>(end - at) >= block_words; at += block_words)
    if (look(at, ranges.data(), ranges.size()) && !in_detail(at, at + block_words)) return false;
  return in_detail(at, end);
}

}  // namespace molt::loader
