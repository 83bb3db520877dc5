// A bound on what a piece of foreign code takes from the heap, for as long as a heap_limit is there.
//
//   thread   operator new (tools/molt_node_heap.cpp) when more is taken and not given back than the budget has
//   free     as ever: one test of a word of this thread
//   bound    throws heap_exceeded; while another exception is under way as ever, since two would end the process
//
// Only in a program whose operator new takes part (`heap_is_bounded`); elsewhere a limit bounds nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace molt {

/// Thrown by operator new.
class heap_exceeded : public std::bad_alloc {
 public:
  [[nodiscard]] const char* what() const noexcept override;
};

/// What several threads may take together, in bytes. Threading: any thread.
struct heap_budget {
  explicit heap_budget(std::size_t bytes) noexcept : left{static_cast<std::int64_t>(bytes)} {}
  std::atomic<std::int64_t> left;
  std::atomic<bool> exceeded{false};
};

/// Set once, by the operator new that takes part.
inline std::atomic<bool> heap_is_bounded{false};

namespace detail {

/// A thread takes of a budget a piece at a time.
struct heap_share {
  heap_budget* budget = nullptr;
  std::int64_t left = 0;
};
inline constinit thread_local heap_share this_heap;

/// Makes the share last for so many bytes that were just taken, or throws heap_exceeded with them given back.
void ask_for_more(std::int64_t bytes);

}  // namespace detail

/// Bounds this thread until it is gone; then what was before is back. Null bounds nothing.
class heap_limit {
 public:
  explicit heap_limit(heap_budget* budget) noexcept : outer_{detail::this_heap} { detail::this_heap = {budget, 0}; }
  heap_limit(const heap_limit&) = delete;
  heap_limit& operator=(const heap_limit&) = delete;
  ~heap_limit() {
    const auto mine = detail::this_heap;
    if (mine.budget != nullptr) mine.budget->left.fetch_add(mine.left, std::memory_order_relaxed);
    detail::this_heap = outer_;
  }

 private:
  detail::heap_share outer_;
};

/// The budget of this thread, for others that work for it; null: it is free.
[[nodiscard]] inline heap_budget* heap_budget_here() noexcept { return detail::this_heap.budget; }

/// By operator new, of a thread that has a budget, before the memory is anybody's. Throws heap_exceeded.
inline void heap_taken(std::size_t bytes) {
  auto& mine = detail::this_heap;
  mine.left -= static_cast<std::int64_t>(bytes);
  if (mine.left < 0) detail::ask_for_more(static_cast<std::int64_t>(bytes));
}
/// By operator delete.
inline void heap_given_back(std::size_t bytes) noexcept { detail::this_heap.left += static_cast<std::int64_t>(bytes); }

}  // namespace molt
