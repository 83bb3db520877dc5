// The rehearsal of an upgrade: the whole migration in a copy of this process, made by fork while everything rests.
//
//   this process                                       the copy
//   brings everything to rest, a few ms at a time      -
//   forks; everything runs again                       closes every descriptor it inherited, sets its limits
//   reads the copy's output, waits                     loads the next release, migrates every server there and back
//   kills it at the time limit, or when nobody wants   writes what it finds to shared memory, ends by _exit
//   the answer any more
//   reads the shared memory, believing nothing
//
// Why the copy cannot hang on a lock that another thread held: it has one thread, which only takes
//   - the runtime's locks of names and of types, and the loader's: the forking thread holds them while it forks, and
//     lets go of them on both sides;
//   - what it makes itself (its releases, their counts);
//   - those of malloc, stdio and the linker, which glibc's fork puts in order. The linker's lists are whole, since the
//     loader's lock was held.
// It never enters the gate, logs, sends, or touches sockets, timers, the pool, supervision or the control API. What a
// plugin's own code locks is the plugin's: should another of its threads (offloaded work) have held such a lock, the
// copy hangs there, is killed at the time limit, and the report shows where.
//
// Why the live process does not notice: memory is copied on write; the copy's descriptors are duplicates, and this
// process takes what it closes out of its epoll sets itself; SIGKILL is all that the copy ever needs. It is niced, has
// limits on processor time and on memory beyond what it copied, is the first to go when the system is out of memory,
// leaves no core file, and dies with the thread that made it.
#pragma once

#include "base/result.hpp"
#include "server/runtime.hpp"
#include "upgrade/rehearsal.hpp"
#include "upgrade/transaction.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::node {

struct rehearsal_limits {
  std::chrono::milliseconds time{60'000};  ///< for the copy, all in all
  std::chrono::milliseconds processor{0};  ///< of the copy, rounded up to seconds; 0: as `time`
  std::size_t memory = 0;                  ///< bytes beyond what it copied; 0: half of what the system has available
  std::chrono::milliseconds rest{5'000};   ///< to find a moment in which no handler runs
};

/// Servers wait at most this long for a handler that runs; then everything goes on, and it is tried again.
inline constexpr std::chrono::milliseconds rest_attempt_max{20};
/// The last bytes that the copy wrote to stdout and stderr.
inline constexpr std::size_t rehearsal_output_max = 4096;

enum class rehearsal_end {
  finished,
  crashed,  ///< a signal that is caught, or another one
  exited,   ///< by itself, too early
  time_limit,
  processor_limit,
  not_begun,  ///< the plan was refused
};
[[nodiscard]] std::string_view to_string(rehearsal_end) noexcept;

/// Of the messages recorded of servers: whether they are handled again by both versions, and whether another reply
/// keeps the rehearsal from passing.
enum class replaying { off, report, strict };

struct rehearsal_report {
  bool passed = false;
  std::string from;
  std::string to;
  rehearsal_end ended = rehearsal_end::not_begun;
  std::string how;                 ///< it ended, if not as it should: one sentence with server, hook and limit
  std::vector<std::string> stack;  ///< there, the innermost frame first
  std::string output;
  std::vector<std::string> problems;  ///< why it did not pass, each one sentence
  std::vector<std::string> notes;
  upgrade::rehearsal_findings findings;
  std::chrono::nanoseconds at_rest{0};
  std::chrono::nanoseconds fork{0};  ///< of which
  std::chrono::nanoseconds total{0};
  std::uint64_t copied_bytes = 0;  ///< resident when it was copied
  upgrade::mode mode = upgrade::mode::lazy;
  replaying replay = replaying::off;
  /// What mode atomic would need at rest, with so many threads, and may take.
  std::chrono::nanoseconds predicted_rest{0};
  unsigned atomic_threads = 0;
  std::chrono::nanoseconds switch_timeout{0};
};

struct rehearsal_request {
  upgrade::rehearsal_task task;
  std::string to;
  upgrade::mode mode = upgrade::mode::lazy;  ///< atomic: does not pass if everything would rest beyond switch_timeout
  unsigned atomic_threads = 1;
  replaying replay = replaying::off;
  std::chrono::nanoseconds switch_timeout = std::chrono::seconds{5};
  /// Called in the copy.
  std::function<result<upgrade::release_content>()> load;
  rehearsal_limits limits;
  std::vector<std::filesystem::path> image_folders;  ///< where files with symbols are, for stacks
  std::function<bool()> given_up;                    ///< asked now and then: nobody waits for the answer; may be empty
};

/// Rehearses. Whatever happens to the copy is in the report. Errors: timeout (no moment without a running handler was
/// found), io (no copy could be made), stopping (given up).
/// Threading: any thread but a handler's; blocks it.
[[nodiscard]] result<rehearsal_report> rehearse(servers::runtime&, const rehearsal_request&);

}  // namespace molt::node
