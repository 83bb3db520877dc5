// What the process takes of the machine, and whether that stays as it is.
//
// Judged are whole rounds, since the versions' states differ in size: the first ones are left out (a quarter of them,
// at least one: the heap's arenas come to their size within two), the next one is the beginning, the last one the end.
// The end may be above the beginning by what `tolerances` says, and so may a straight line through all of them between
// the first and the last.
#pragma once

#include "bench/soak/verdict.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace soak {

struct footprint {
  double rss_bytes = 0;
  double heap_bytes = 0;  ///< given out by malloc
  double files = 0;
  double mappings = 0;
  double threads = 0;

  /// `with_heap` takes milliseconds for which no thread can allocate.
  [[nodiscard]] static footprint now(bool with_heap);
};

inline constexpr std::size_t rounds_min = 3;

/// Threading: one thread.
class footprints {
 public:
  /// While a round goes on.
  void sample(const footprint& now) { samples_.push_back(now.rss_bytes); }
  /// At its end, when 1.0.0 alone is loaded; its resident memory becomes the median of its samples.
  void end_round(footprint);
  [[nodiscard]] std::size_t rounds() const noexcept { return rounds_.size(); }

  struct trend {
    const char* name;
    double beginning;
    double end;
    double line;  ///< growth of the straight line over the judged rounds
    double tolerance;
  };
  /// Needs rounds_min rounds.
  [[nodiscard]] std::vector<trend> trends() const;
  void judge(verdict&) const;

 private:
  std::vector<double> samples_;
  std::vector<footprint> rounds_;
};

}  // namespace soak
