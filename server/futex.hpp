// Waiting on a word of memory, with a time limit (std::atomic::wait has none).
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace molt::servers::futex {

/// Returns when woken, when the word is not `expected`, after `limit_ns`, or for no reason.
inline void wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t limit_ns) noexcept {
  if (limit_ns <= 0) return;
  const timespec limit{static_cast<time_t>(limit_ns / 1'000'000'000), static_cast<long>(limit_ns % 1'000'000'000)};
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, &limit, nullptr, 0);
}

inline void wake_all(std::atomic<std::uint32_t>& word) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace molt::servers::futex
