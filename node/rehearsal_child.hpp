// Inside of rehearsal.hpp: the copy's side.
#pragma once

#include "node/memory_map.hpp"
#include "upgrade/rehearsal.hpp"

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace molt::node::rehearsal {

inline constexpr std::size_t frames_max = 64;
inline constexpr std::size_t images_max = 256;

/// Sent to a copy that is over its time: it writes down where it is and ends.
inline constexpr int tell_where_signal = 3;  // SIGQUIT

/// What the copy writes about its own end. Its reader believes nothing of it.
struct last_words {
  struct image {
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t file_offset;
    std::uint32_t id_size;
    std::array<unsigned char, build_id_max> id;
    upgrade::board_text<200> path;
  };
  std::int32_t signal;
  std::uint64_t address;
  upgrade::board_text<200> text;  ///< what std::terminate was called for
  std::uint32_t frames;
  std::uint32_t images;
  std::array<std::uint64_t, frames_max> frame;  ///< the first is where it was, others are return addresses
  std::array<image, images_max> image_at;
};

struct shared_memory {
  upgrade::rehearsal_board board;
  last_words last;
};

struct child_settings {
  int input = -1;   ///< becomes stdin
  int output = -1;  ///< becomes stdout and stderr
  pid_t parent = 0;
  std::uint64_t processor_seconds = 0;
  std::uint64_t memory = 0;  ///< bytes beyond what is mapped
};

/// Exit statuses of the copy.
inline constexpr int exit_done = 0;
inline constexpr int exit_orphaned = 70;
inline constexpr int exit_told_where = 71;
inline constexpr int exit_by_plugin = 72;

/// In the copy, first of all: to be called once, and `work` then. Does not return.
[[noreturn]] void run_child(shared_memory&, const child_settings&, const std::function<void()>& work) noexcept;

}  // namespace molt::node::rehearsal
