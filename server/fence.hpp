// A store-to-load fence that costs the frequent side nothing.
//
// Two threads each store and then load what the other stored; at least one must see the other's store. The frequent
// side calls light() between its store and its load, the rare side heavy(). heavy() makes every running thread of the
// process execute a full fence (membarrier), so light() only has to keep the compiler from reordering. Where the kernel
// has no membarrier, light() is a full fence. ThreadSanitizer knows no fences: there the operations on both sides are
// seq_cst instead (fast_store, fast_load).
#pragma once

#include <atomic>

#if defined(__SANITIZE_THREAD__)
#define MOLT_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MOLT_THREAD_SANITIZER 1
#endif
#endif

namespace molt::servers::fence {

#if defined(MOLT_THREAD_SANITIZER)
inline constexpr std::memory_order fast_store = std::memory_order_seq_cst;
inline constexpr std::memory_order fast_load = std::memory_order_seq_cst;
#else
inline constexpr std::memory_order fast_store = std::memory_order_release;
inline constexpr std::memory_order fast_load = std::memory_order_acquire;
#endif

namespace detail {
inline bool membarrier_missing = false;  // set before the first runtime has threads
}

/// To be called before anything else here.
void prepare() noexcept;
/// The rare side. Microseconds.
void heavy() noexcept;
/// The frequent side.
inline void light() noexcept {
#if !defined(MOLT_THREAD_SANITIZER)
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (detail::membarrier_missing) [[unlikely]]
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}
/// The same where it is known to cost nothing.
[[nodiscard]] inline bool is_free() noexcept { return !detail::membarrier_missing; }
inline void free_light() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Tells the processor that this is a spin loop.
inline void spin_pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace molt::servers::fence
