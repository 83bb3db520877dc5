// Inside of image_evidence.hpp: what the copy tells, in memory shared with it, and what it is told.
#pragma once

#include "loader/image_evidence.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

namespace molt::loader::evidence_copy {

/// Its reader believes nothing: the size is looked at again.
template <std::size_t Room>
struct board_text {
  std::uint32_t size = 0;
  char bytes[Room] = {};

  void set(std::string_view text) noexcept {
    size = static_cast<std::uint32_t>(std::min(text.size(), Room));
    std::memcpy(bytes, text.data(), size);
  }
  [[nodiscard]] std::string get() const {
    std::string text{bytes, std::min<std::size_t>(size, Room)};
    for (char& c : text)
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    return text;
  }
};

inline constexpr std::size_t pointees_max = 4;

struct board_holder {
  std::uint64_t at;
  std::uint64_t size;
  std::uint32_t place;
  std::uint32_t steps;
  std::uint32_t pointees;
  std::array<std::uint64_t, pointees_max> pointee;
  board_text<160> where;
  board_text<160> server;
  board_text<320> beside;
};

struct board_image {
  std::uint32_t looked;  ///< 1: what stands here is all there is
  std::uint64_t words;
  std::uint64_t words_on_stacks;
  board_text<256> still_mapped;
  std::uint32_t holders;
  std::array<board_holder, holders_listed_max> holder;
};

enum class stage : std::uint32_t { beginning, closing, scanning, naming, done };

struct board {
  std::atomic<stage> now;
  std::atomic<std::uint32_t> image;  ///< being closed
  std::uint64_t scanned_bytes;
  std::int64_t scan_ns;
  board_text<200> failure;
  std::array<board_image, evidence_images_max> images;
};

/// Where a thread's stack stood when it was copied.
struct stack_end {
  int thread = 0;
  std::string name;
  std::uintptr_t pointer = 0;  ///< 0: it ran, nobody knows
  std::uintptr_t inside = 0;   ///< an address in its stack, if one was ever seen
};

struct told {
  board* to = nullptr;
  pid_t parent = 0;
  std::vector<const plugin_image*> images;
  std::vector<hidden_range> ranges;
  std::vector<stack_end> stacks;
  bool all_stacks_known = false;  ///< every thread there is stands on one of them
};

/// In the copy. Does not return.
[[noreturn]] void work(told&, const memory_facts&) noexcept;

inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 73;

}  // namespace molt::loader::evidence_copy
