#include "base/heap_budget.hpp"

#include <exception>

namespace molt {

const char* heap_exceeded::what() const noexcept { return "took more memory than it may"; }

namespace detail {

void ask_for_more(std::int64_t bytes) {
  constexpr std::int64_t piece = std::int64_t{1} << 20U;  // taken of a budget at once
  auto& mine = this_heap;
  auto& budget = *mine.budget;
  const auto wanted = piece - mine.left;
  if (budget.left.fetch_sub(wanted, std::memory_order_relaxed) >= wanted) {
    mine.left = piece;
    return;
  }
  budget.left.fetch_add(wanted, std::memory_order_relaxed);
  if (std::uncaught_exceptions() > 0) return;
  mine.left += bytes;
  budget.exceeded.store(true, std::memory_order_relaxed);
  throw heap_exceeded{};
}

}  // namespace detail
}  // namespace molt
