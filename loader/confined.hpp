// Runs a function in a child process that can do nothing but compute and answer.
//
// The child has what its parent had in memory when it was forked, and gives up the rest before the function begins:
// every file descriptor but the one it answers through, the right to gain privileges, all system calls but those of
// memory, writing and ending (a seccomp filter; any other kills it), and processor time, memory and files beyond the
// limits (rlimits). The parent reads at most `answer_bytes`, waits at most `wall`, and then kills.
//
// Under a sanitizer there is no memory limit, since its shadow exceeds any, and no seccomp filter, since its runtime
// makes system calls of its own; the rest holds.
#pragma once

#include "base/result.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace molt::loader {

struct confined_limits {
  std::chrono::seconds processor{10};
  std::chrono::milliseconds wall{20'000};
  std::size_t memory_bytes = std::size_t{2} << 30U;  ///< address space beyond what the parent has
  std::size_t answer_bytes = std::size_t{64} << 20U;
};

/// What `work` returned. `what` is named in errors: "/tmp/libkv.so". `work` must take no lock that another thread of
/// the parent may hold, but malloc's. Errors: corrupt (the child crashed, or did what it may not), timeout (it used up
/// its time), out_of_bounds (its answer is too long), io (there was no child to be had, or the kernel cannot confine
/// one). Threading: any thread.
[[nodiscard]] result<std::string> run_confined(std::string_view what, const std::function<std::string()>& work,
                                               const confined_limits& = {});

}  // namespace molt::loader
