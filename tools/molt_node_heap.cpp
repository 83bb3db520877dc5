// operator new and delete of molt-node and its plugins: libstdc++'s, but that a thread which runs a hook is held to its
// budget (base/heap_budget.hpp). Every other thread pays one test of a word of its own.
//
// Counted is what is taken by operator new and not given back by operator delete; malloc by itself is not.
#include "base/heap_budget.hpp"

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <new>

// A sanitizer has its own, and must see each of these.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOLT_BOUNDS_HEAP 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOLT_BOUNDS_HEAP 0
#endif
#endif
#ifndef MOLT_BOUNDS_HEAP
#define MOLT_BOUNDS_HEAP 1
#endif

#if MOLT_BOUNDS_HEAP
namespace {

[[maybe_unused]] const bool takes_part = [] {
  molt::heap_is_bounded = true;
  return true;
}();

[[gnu::cold, gnu::noinline]] void* count(void* made) {
  try {
    molt::heap_taken(::malloc_usable_size(made));
  } catch (...) {
    std::free(made);
    throw;
  }
  return made;
}

/// As the standard says: the handler may make room.
template <class Allocate>
void* must(const Allocate& allocate) {
  void* made = allocate();
  while (made == nullptr) [[unlikely]] {
      const auto handler = std::get_new_handler();
      if (handler == nullptr) throw std::bad_alloc{};
      handler();
      made = allocate();
    }
  if (molt::heap_budget_here() != nullptr) [[unlikely]]
    return count(made);
  return made;
}

void release(void* memory) noexcept {
  if (molt::heap_budget_here() != nullptr && memory != nullptr) [[unlikely]]
    molt::heap_given_back(::malloc_usable_size(memory));
  std::free(memory);
}

void* aligned(std::size_t size, std::align_val_t to) {
  const auto alignment = static_cast<std::size_t>(to);
  const auto whole = (size + alignment - 1) / alignment * alignment;
  return must([&] { return std::aligned_alloc(alignment, whole == 0 ? alignment : whole); });
}

}  // namespace

// The forms for arrays and without exceptions are libstdc++'s, which come here.
[[gnu::visibility("default")]] void* operator new(std::size_t size) {
  return must([size] { return std::malloc(size == 0 ? 1 : size); });
}
[[gnu::visibility("default")]] void* operator new(std::size_t size, std::align_val_t to) { return aligned(size, to); }
[[gnu::visibility("default")]] void operator delete(void* memory) noexcept { release(memory); }
[[gnu::visibility("default")]] void operator delete(void* memory, std::size_t) noexcept { release(memory); }
[[gnu::visibility("default")]] void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
[[gnu::visibility("default")]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  release(memory);
}
#endif
