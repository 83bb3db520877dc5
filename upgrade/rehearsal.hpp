// The whole migration, there and back, one server after the other, in a copy of the process (node/rehearsal.hpp makes
// it): by the same bound_release as in an upgrade, so that what fails there fails here first.
//
//   stage       for each server whose type has other code in the next release
//   archiving   its state is written, to be compared with
//   migrating   it is brought to the next release, self_check included; this is what is timed. Then the entries of
//               evolving containers are converted, to see that they can be
//   going_back  it is brought back along the down edges, whatever they declare to lose; not if the release is one-way
//   comparing   its state is written again: the same, but for losses that were declared
//   replaying   if asked for: the messages recorded of it are handled again (replay.hpp) by the running version before
//               it migrates, and by the next one afterwards, each on a copy of its state, and the replies compared
//
// Where hooks use the states of other servers, these are as in the process that was copied; on the way back they read
// what was given on the way there, and what they give back is compared with the server that it would be for.
//
// What is found goes to a board in memory that both processes share, as it is found: if the copy dies, the board says
// at what. A hook that writes where it should not may have written on the board too, so the reader believes nothing:
// every count and length is bounded, every number in its range, and a finished board has a checksum.
#pragma once

#include "server/runtime.hpp"
#include "upgrade/bound_release.hpp"
#include "upgrade/plan.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace molt::upgrade {

inline constexpr std::size_t rehearsal_types_max = 128;     ///< further ones are counted together
inline constexpr std::size_t rehearsal_failures_max = 100;  ///< listed; the rehearsal ends at ten times as many
inline constexpr std::size_t rehearsal_notes_max = 32;
inline constexpr std::size_t rehearsal_differences_max = 64;  ///< of replies, listed

enum class rehearsal_stage : std::uint32_t {
  starting,
  loading,
  archiving,
  migrating,
  going_back,
  comparing,
  replaying,
  finished
};
[[nodiscard]] std::string_view to_string(rehearsal_stage) noexcept;

// ---- The board

/// Text cut to fit.
template <std::size_t Room>
struct board_text {
  std::uint32_t size;
  std::array<char, Room> data;

  void set(std::string_view text) noexcept {
    size = static_cast<std::uint32_t>(text.size() < Room ? text.size() : Room);
    for (std::uint32_t n = 0; n < size; ++n) data[n] = text[n];
  }
  [[nodiscard]] std::string_view get() const noexcept { return {data.data(), size < Room ? size : Room}; }
};

/// How many migrations took how long: eight steps to a doubling, so that a quantile is at most an eighth too high.
struct duration_counts {
  static constexpr std::size_t steps = 8;
  std::array<std::uint32_t, 48 * steps> counts;

  void add(std::chrono::nanoseconds) noexcept;
  void add(const duration_counts&) noexcept;
  /// The shortest time that this share of them did not exceed; zero if there is none.
  [[nodiscard]] std::chrono::nanoseconds quantile(double share) const noexcept;
};

struct rehearsal_board {
  struct type_entry {
    board_text<120> type;
    board_text<400> steps;
    std::uint32_t way;
    std::uint64_t servers;
    std::uint64_t failed;
    std::int64_t total_ns;
    std::int64_t largest_ns;
    std::int64_t largest_back_ns;
    std::int64_t undo_ns;  ///< of archives beside, which mode atomic needs to go back and mode lazy does not
    std::uint64_t memory_samples;
    std::int64_t memory_sampled;  ///< bytes that so many servers had more afterwards
    std::int64_t memory_of_large;
    std::uint64_t large;  ///< servers that are in memory_of_large
    duration_counts times;
  };
  struct failure_entry {
    board_text<160> server;
    board_text<120> type;
    board_text<200> hook;
    board_text<700> error;
    std::uint32_t stage;
  };

  struct difference_entry {
    board_text<160> server;
    board_text<120> message;
    board_text<500> text;
  };

  std::uint32_t stage;
  std::uint32_t types;
  std::uint64_t visited;
  std::uint64_t unchanged;
  std::uint64_t failed;
  std::uint32_t notes;
  // What is being done.
  board_text<160> server;
  board_text<120> type;
  board_text<200> step;
  board_text<700> load_error;
  std::array<board_text<400>, rehearsal_notes_max> note;
  std::array<type_entry, rehearsal_types_max> type_of;
  std::array<failure_entry, rehearsal_failures_max> failure;
  std::uint64_t replayed_servers;
  std::uint64_t replayed;
  std::uint64_t not_replayed;
  std::uint64_t differed;
  std::array<difference_entry, rehearsal_differences_max> difference;
  std::uint64_t checksum;  ///< of everything before, once finished
};

// ---- In the copy

/// What the copy needs to know, gathered before it is made: afterwards nobody else's locks may be taken.
struct rehearsal_task {
  release_content from;
  std::vector<release_content> loaded;  ///< every release whose servers there may be
  adopt_settings settings;
  std::vector<std::string> losses;  ///< names of all that the way back loses
  bool one_way = false;
  std::shared_ptr<kept_states> keeps{};  ///< null unless the upgrade keeps states
  /// What to replay, by the server's reference, the oldest first.
  std::unordered_map<std::uint64_t, std::vector<servers::recorded_message>> recorded{};
  std::optional<started_servers> starts{};       ///< by the next release, under their own names
  std::optional<started_servers> starts_back{};  ///< by the one that runs
};

/// Migrates every server there and back. Single-threaded; touches of the runtime only its servers.
void rehearse(servers::runtime&, const servers::runtime::rest_guard&, release_content next, const rehearsal_task&,
              rehearsal_board&);

// ---- In the process that was copied

struct rehearsed_type {
  std::string type;
  migration::way way = migration::way::keep;
  std::string steps;
  std::uint64_t servers = 0;
  std::uint64_t failed = 0;
  std::chrono::nanoseconds median{0};
  std::chrono::nanoseconds p99{0};
  std::chrono::nanoseconds largest{0};
  std::chrono::nanoseconds largest_back{0};
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds undo{0};  ///< beside: what mode atomic needs to go back
  std::int64_t memory_added = 0;     ///< bytes, for all its servers; estimated from some
};

struct rehearsal_failure {
  std::string server;
  std::string type;
  rehearsal_stage stage = rehearsal_stage::starting;
  std::string hook;
  std::string error;
};

/// A message that the next version answers in another way.
struct reply_difference {
  std::string server;
  std::string message;
  std::string text;
};

struct replay_findings {
  std::uint64_t servers = 0;
  std::uint64_t messages = 0;  ///< handled again
  std::uint64_t skipped = 0;   ///< without payload, or without handler even in the running version
  std::uint64_t differed = 0;
  std::vector<reply_difference> differences;  ///< at most rehearsal_differences_max
};

struct rehearsal_findings {
  rehearsal_stage stage = rehearsal_stage::starting;
  bool damaged = false;  ///< finished, but the board was written to by something else
  std::string server;    ///< what it was about when it ended, if it did not finish
  std::string type;
  std::string step;
  std::string load_error;
  std::uint64_t visited = 0;
  std::uint64_t unchanged = 0;  ///< their plugin is in both releases
  std::uint64_t failed = 0;
  std::vector<rehearsed_type> types;
  std::vector<rehearsal_failure> failures;  ///< at most rehearsal_failures_max
  std::vector<std::string> notes;
  replay_findings replay;
  // Of all types together:
  std::chrono::nanoseconds median{0};
  std::chrono::nanoseconds p99{0};
  std::chrono::nanoseconds largest{0};
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds undo{0};
  std::int64_t memory_added = 0;
};

/// How long mode atomic would keep everything at rest for migrating: what all servers need, shared out among so many
/// threads, and the largest, which may come last.
[[nodiscard]] std::chrono::nanoseconds predict_rest(const rehearsal_findings&, unsigned threads) noexcept;

/// Over everything before it on the board; written last, so that a board that something else wrote to is known.
[[nodiscard]] std::uint64_t checksum_of(const rehearsal_board&) noexcept;

/// Reads a board as if its writer meant ill.
[[nodiscard]] rehearsal_findings read_board(const rehearsal_board&);

}  // namespace molt::upgrade
