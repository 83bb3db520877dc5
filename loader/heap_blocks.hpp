// Which block of glibc's malloc an address lies in, and whether the block is in use: what freed memory still holds is
// nobody's any more.
//
// Read are the headers before the blocks, as malloc/malloc.c of glibc 2.26 and later lays them out. Of what does not
// look like that (another malloc, a damaged heap) it is said that nothing is known. Blocks that a thread keeps to give
// them out again (its tcache) are known by the key that malloc writes into them; blocks in fast bins are not, so call
// free_small_blocks() before. What is allocated meanwhile must not look like what lay there before:
// overwrite_freed_memory().
//
// Threading: nobody else may use the heap meanwhile: for a copy of the process that has one thread.
#pragma once

#include "loader/process_memory.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace molt::loader {

struct heap_block {
  enum class kind { unknown, used, freed };
  kind state = kind::unknown;  ///< unknown: the address lies in no heap
  std::uintptr_t begin = 0;    ///< of the memory that malloc gave out
  std::size_t size = 0;        ///< that may be used
  std::uintptr_t before = 0;   ///< of one in use, that of the one in use next to it in its heap; 0: none, or not known
  std::uintptr_t after = 0;    ///< the same on the other side
};

/// From here on, no block that malloc gives out or takes back holds what it held before: neither those that are freed
/// nor those that the calling thread will get. But small ones that it frees and gets again do: call this in between.
void overwrite_freed_memory() noexcept;
/// Gives back what lies in fast bins, whose headers say that it is in use.
void free_small_blocks() noexcept;

class heap_blocks {
 public:
  /// `mappings` must stay and be up to date.
  explicit heap_blocks(const std::vector<mapping>& mappings);

  /// Calls `found` once for each address; they must be in ascending order. Walks each heap that holds one from its
  /// begin.
  void locate(std::span<const std::uintptr_t> addresses,
              const std::function<void(std::size_t index, const heap_block&)>& found) const;

 private:
  struct heap;
  struct seeker;
  [[nodiscard]] heap find_heap(std::uintptr_t address) const;
  [[nodiscard]] heap_block find_mapped_block(std::uintptr_t address) const;
  [[nodiscard]] bool is_cached(std::uintptr_t block) const;
  void walk(const heap&, seeker&) const;

  const std::vector<mapping>* mappings_;
  std::uintptr_t inverted_key_;  // inverted, not to be taken for a tcache's
};

}  // namespace molt::loader
