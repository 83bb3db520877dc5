#include "loader/heap_blocks.hpp"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

namespace molt::loader {
namespace {

// Of glibc's chunks: the word before a block holds its size and, in the lowest bits:
constexpr std::uintptr_t previous_in_use = 1;
constexpr std::uintptr_t is_mapped = 2;
constexpr std::uintptr_t flags = 7;
constexpr std::size_t word = sizeof(std::uintptr_t);
constexpr std::size_t header = 2 * word;
constexpr std::size_t alignment = 16;
constexpr int freed_byte = 0xa5;
/// Heaps of threads are aligned to this, and so found from any address in them.
constexpr std::uintptr_t thread_heap_size = std::uintptr_t{64} << 20U;
/// Where the first chunk stands in a thread's first heap, behind heap_info and malloc_state, and in further ones.
constexpr std::array<std::uintptr_t, 2> first_chunk_at{0x8d0, 0x8c0};
constexpr std::array<std::uintptr_t, 2> next_chunk_at{0x30, 0x20};

[[gnu::no_sanitize_address]] std::uintptr_t word_at(std::uintptr_t address) noexcept {
  return *reinterpret_cast<const volatile std::uintptr_t*>(address);
}

/// What malloc writes into the second word of a block that it puts into a tcache.
std::uintptr_t read_key() noexcept {
  void* volatile made = std::malloc(3 * word);
  if (made == nullptr) return 0;
  const auto at = reinterpret_cast<std::uintptr_t>(made);
  std::free(made);
  return word_at(at + word);
}

}  // namespace

struct heap_blocks::heap {
  std::uintptr_t begin = 0;  // 0: none
  std::uintptr_t end = 0;
  std::array<std::uintptr_t, 2> first{};  // where the first chunk may stand
};

/// Goes through the addresses while the walk goes through the chunks.
struct heap_blocks::seeker {
  std::span<const std::uintptr_t> addresses;
  const std::function<void(std::size_t, const heap_block&)>& found;
  std::size_t next = 0;
  // Those of the last block in use, told when the one after it is known.
  heap_block open{};
  std::size_t open_begin = 0;
  std::size_t open_end = 0;
  std::uintptr_t last_used = 0;

  [[nodiscard]] bool done() const noexcept { return next == addresses.size(); }
  [[nodiscard]] bool is_open() const noexcept { return open_begin != open_end; }
  void give(heap_block::kind state, std::uintptr_t begin, std::uintptr_t end) {
    const bool used = state == heap_block::kind::used;
    if (used) close(begin);
    for (; !done() && addresses[next] < begin; ++next) found(next, heap_block{});
    const std::size_t first = next;
    while (!done() && addresses[next] < end) ++next;
    const heap_block block{state, begin, end - begin, used ? last_used : 0};
    if (used) {
      open = block;
      open_begin = first;
      open_end = next;
      last_used = begin;
    } else {
      for (std::size_t n = first; n < next; ++n) found(n, block);
    }
  }
  void close(std::uintptr_t after) {
    open.after = after;
    for (; is_open(); ++open_begin) found(open_begin, open);
  }
  void leave_heap() {
    close(0);
    last_used = 0;
  }
};

void overwrite_freed_memory() noexcept {
  ::mallopt(M_PERTURB, freed_byte);
  // malloc does not look at that when it gives out of the thread's tcache: that is emptied.
  constexpr std::size_t classes = 64;
  constexpr std::size_t of_each = 8;  // one more than it holds
  void* taken[classes][of_each] = {};
  for (std::size_t n = 0; n < classes; ++n)
    for (void*& each : taken[n]) {
      const std::size_t size = 3 * word + n * alignment;
      each = std::malloc(size);
      if (each != nullptr) std::memset(each, freed_byte, size);
    }
  for (auto& of_size : taken)
    for (void* const each : of_size) std::free(each);
}

void free_small_blocks() noexcept { ::malloc_trim(0); }

heap_blocks::heap_blocks(const std::vector<mapping>& mappings) : mappings_{&mappings}, inverted_key_{~read_key()} {}

/// The heap that may hold the address, by where it lies.
heap_blocks::heap heap_blocks::find_heap(std::uintptr_t address) const {
  const auto& all = *mappings_;
  const mapping* const here = find_mapping(all, address);
  if (here == nullptr) return {};
  if (here->path == "[heap]") {  // perhaps in several mappings side by side
    const mapping* first = here;
    while (first != all.data() && std::prev(first)->path == "[heap]" && std::prev(first)->end == first->begin) --first;
    const mapping* last = here;
    while (last + 1 != all.data() + all.size() && std::next(last)->path == "[heap]" &&
           last->end == std::next(last)->begin)
      ++last;
    return {first->begin, last->end, {first->begin, first->begin}};
  }
  if (!here->path.empty()) return {};
  const std::uintptr_t base = address & ~(thread_heap_size - 1);
  const mapping* const begin = find_mapping(all, base);
  if (begin == nullptr || begin->begin != base || !begin->readable || !begin->path.empty()) return {};
  // heap_info: the arena, the heap before this one, bytes in use
  const std::uintptr_t arena = word_at(base);
  const std::uintptr_t before = word_at(base + word);
  const std::uintptr_t size = word_at(base + 2 * word);
  const bool is_first = arena > base && arena < base + 0x100;
  if (size <= first_chunk_at[0] || size > thread_heap_size || size % alignment != 0 || is_first != (before == 0))
    return {};
  if (base + size < address || find_mapping(all, base + size - 1) == nullptr) return {};
  const auto& at = is_first ? first_chunk_at : next_chunk_at;
  return {base, base + size, {base + at[0], base + at[1]}};
}

/// A block with a mapping of its own. The kernel joins mappings, so its header is looked for.
heap_block heap_blocks::find_mapped_block(std::uintptr_t address) const {
  const mapping* const here = find_mapping(*mappings_, address);
  if (here == nullptr || !here->path.empty() || !here->readable) return {};
  const std::size_t page = page_size();
  for (std::uintptr_t at = address & ~(page - 1); at >= here->begin; at -= page) {
    const std::uintptr_t size = word_at(at + word);
    if ((size & flags) != is_mapped || (size & ~flags) % page != 0 || word_at(at) != 0) continue;
    const std::uintptr_t end = at + (size & ~flags);
    if (end <= here->end && address >= at + header && address < end)
      return {heap_block::kind::used, at + header, end - at - header};
  }
  return {};
}

/// Whether a thread keeps the block to give it out again. The key alone does not say so: a block that was kept once,
/// and whose user has not written there, has it still. But then its first word is not, encoded, the next one that is
/// kept.
bool heap_blocks::is_cached(std::uintptr_t block) const {
  if (inverted_key_ == 0 || ~inverted_key_ == 0 || word_at(block + word) != ~inverted_key_) return false;
  const std::uintptr_t next = word_at(block) ^ (block >> 12U);
  if (next == 0) return true;
  if (next % alignment != 0) return false;
  const mapping* const in = find_mapping(*mappings_, next);
  return in != nullptr && in->readable && in->writable && next + header <= in->end &&
         word_at(next + word) == ~inverted_key_;
}

void heap_blocks::walk(const heap& in, seeker& seek) const {
  for (const std::uintptr_t first : in.first) {
    std::uintptr_t at = first;
    while (at + header <= in.end && (!seek.done() || seek.is_open())) {
      const std::uintptr_t size = word_at(at + word) & ~flags;
      const std::uintptr_t next = at + size;
      if (size < header || size % alignment != 0 || next > in.end || next < at) break;
      const bool last = next + header > in.end;  // what has not been given out yet
      const bool freed =
          last || (word_at(next + word) & previous_in_use) == 0 || (size >= 2 * header && is_cached(at + header));
      seek.give(freed ? heap_block::kind::freed : heap_block::kind::used, at + header, last ? in.end : next + word);
      at = next;
    }
    if (at != first) return;  // it began like a heap; the other place is for another version
  }
}

void heap_blocks::locate(std::span<const std::uintptr_t> addresses,
                         const std::function<void(std::size_t, const heap_block&)>& found) const {
  seeker seek{addresses, found};
  while (!seek.done()) {
    const std::uintptr_t address = addresses[seek.next];
    if (const heap in = find_heap(address); in.begin != 0) {
      walk(in, seek);
      seek.leave_heap();
      seek.give(heap_block::kind::unknown, in.end, in.end);  // what the walk did not get to
      continue;
    }
    found(seek.next, find_mapped_block(address));
    ++seek.next;
  }
}

}  // namespace molt::loader
