// What is written on the board of a rehearsal, read by who did not write it: the copy may have ended in the middle, or
// damaged it.
#include "upgrade/rehearsal.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>
#include <type_traits>

namespace molt::upgrade {

static_assert(std::is_trivially_copyable_v<rehearsal_board> && std::is_standard_layout_v<rehearsal_board>);

std::uint64_t checksum_of(const rehearsal_board& board) noexcept {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(&board);
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (std::size_t n = 0; n < offsetof(rehearsal_board, checksum); ++n) hash = (hash ^ bytes[n]) * 0x100000001b3U;
  return hash;
}

namespace {

/// Text of the board as it may be shown.
template <std::size_t Room>
std::string shown(const board_text<Room>& text) {
  std::string made{text.get()};
  for (char& c : made)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return made;
}

rehearsal_stage stage_of(std::uint32_t number) noexcept {
  return number <= static_cast<std::uint32_t>(rehearsal_stage::finished) ? static_cast<rehearsal_stage>(number)
                                                                         : rehearsal_stage::starting;
}

std::chrono::nanoseconds time_of(std::int64_t ns) noexcept {
  return std::chrono::nanoseconds{std::max<std::int64_t>(ns, 0)};
}

rehearsed_type read_type(const rehearsal_board::type_entry& from) {
  rehearsed_type made;
  made.type = shown(from.type);
  made.way = from.way <= static_cast<std::uint32_t>(migration::way::archive) ? static_cast<migration::way>(from.way)
                                                                             : migration::way::archive;
  made.steps = shown(from.steps);
  made.servers = from.servers;
  made.failed = std::min(from.failed, from.servers);
  made.largest = time_of(from.largest_ns);
  made.median = std::min(from.times.quantile(0.5), made.largest);
  made.p99 = std::min(from.times.quantile(0.99), made.largest);
  made.largest_back = time_of(from.largest_back_ns);
  made.total = time_of(from.total_ns);
  made.undo = time_of(from.undo_ns);
  double memory = static_cast<double>(from.memory_of_large);
  if (from.memory_samples != 0)
    memory += static_cast<double>(from.memory_sampled) / static_cast<double>(from.memory_samples) *
              static_cast<double>(from.servers - std::min(from.large, from.servers));
  made.memory_added = static_cast<std::int64_t>(std::clamp(memory, -1e18, 1e18));
  return made;
}

}  // namespace

std::string_view to_string(rehearsal_stage stage) noexcept {
  switch (stage) {
    case rehearsal_stage::starting:
      return "starting";
    case rehearsal_stage::loading:
      return "loading";
    case rehearsal_stage::archiving:
      return "archiving";
    case rehearsal_stage::migrating:
      return "migrating";
    case rehearsal_stage::going_back:
      return "going_back";
    case rehearsal_stage::comparing:
      return "comparing";
    case rehearsal_stage::replaying:
      return "replaying";
    case rehearsal_stage::finished:
      return "finished";
  }
  return "starting";
}

void duration_counts::add(std::chrono::nanoseconds time) noexcept {
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 1));
  const auto doubling = static_cast<std::size_t>(std::bit_width(ns) - 1);
  const auto step = doubling < 3 ? (ns << (3 - doubling)) & 7U : (ns >> (doubling - 3)) & 7U;
  auto& count = counts[std::min(doubling * steps + step, counts.size() - 1)];
  if (count != std::numeric_limits<std::uint32_t>::max()) ++count;
}

void duration_counts::add(const duration_counts& other) noexcept {
  for (std::size_t n = 0; n < counts.size(); ++n) counts[n] += other.counts[n];
}

std::chrono::nanoseconds duration_counts::quantile(double share) const noexcept {
  std::uint64_t all = 0;
  for (const auto count : counts) all += count;
  if (all == 0) return std::chrono::nanoseconds{0};
  const auto wanted = std::max(1.0, share * static_cast<double>(all));
  std::uint64_t seen = 0;
  for (std::size_t n = 0; n < counts.size(); ++n) {
    seen += counts[n];
    if (static_cast<double>(seen) < wanted) continue;
    const auto next = n + 1;  // the upper end of its step
    const std::uint64_t whole = (steps + next % steps) << (next / steps);
    return std::chrono::nanoseconds{whole / steps};
  }
  return std::chrono::nanoseconds{0};
}

namespace {

/// Of what a damaged board may hold.
std::int64_t sum_or_most(std::int64_t a, std::int64_t b) noexcept {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
}

}  // namespace

std::chrono::nanoseconds predict_rest(const rehearsal_findings& found, unsigned threads) noexcept {
  const auto shared = sum_or_most(found.total.count(), found.undo.count()) / std::max(1U, threads);
  return std::chrono::nanoseconds{sum_or_most(shared, found.largest.count())};
}

rehearsal_findings read_board(const rehearsal_board& board) {
  rehearsal_findings found;
  found.stage = stage_of(board.stage);
  const bool finished = found.stage == rehearsal_stage::finished;
  found.damaged = finished && board.checksum != checksum_of(board);
  if (!finished) {
    found.server = shown(board.server);
    found.type = shown(board.type);
    found.step = shown(board.step);
  }
  found.load_error = shown(board.load_error);
  found.visited = board.visited;
  found.unchanged = std::min(board.unchanged, board.visited);
  found.failed = board.failed;
  duration_counts all{};
  for (std::size_t n = 0; n < std::min<std::size_t>(board.types, rehearsal_types_max); ++n) {
    found.types.push_back(read_type(board.type_of[n]));
    all.add(board.type_of[n].times);
    const auto& type = found.types.back();
    found.largest = std::max(found.largest, type.largest);
    found.total = std::chrono::nanoseconds{sum_or_most(found.total.count(), type.total.count())};
    found.undo = std::chrono::nanoseconds{sum_or_most(found.undo.count(), type.undo.count())};
    found.memory_added = sum_or_most(found.memory_added, type.memory_added);
  }
  found.median = std::min(all.quantile(0.5), found.largest);
  found.p99 = std::min(all.quantile(0.99), found.largest);
  for (std::size_t n = 0; n < std::min<std::size_t>(board.failed, rehearsal_failures_max); ++n) {
    const auto& from = board.failure[n];
    found.failures.push_back(
        {shown(from.server), shown(from.type), stage_of(from.stage), shown(from.hook), shown(from.error)});
  }
  found.replay = {board.replayed_servers, board.replayed, board.not_replayed, board.differed, {}};
  for (std::size_t n = 0; n < std::min<std::size_t>(board.differed, rehearsal_differences_max); ++n)
    found.replay.differences.push_back(
        {shown(board.difference[n].server), shown(board.difference[n].message), shown(board.difference[n].text)});
  for (std::size_t n = 0; n < std::min<std::size_t>(board.notes, rehearsal_notes_max); ++n)
    found.notes.push_back(shown(board.note[n]));
  return found;
}

}  // namespace molt::upgrade
