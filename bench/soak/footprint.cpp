#include "bench/soak/footprint.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>

#include <malloc.h>
#include <unistd.h>

namespace soak {
namespace {

struct measure {
  const char* name;
  double footprint::*value;
  double share;     // of the beginning that may be added,
  double absolute;  // or this much, if that is more
};
constexpr double mib = 1024.0 * 1024.0;
constexpr std::array tolerances{
    measure{"resident memory, bytes", &footprint::rss_bytes, 0.02, 16 * mib},
    measure{"heap in use, bytes", &footprint::heap_bytes, 0.01, 8 * mib},
    measure{"open files", &footprint::files, 0, 1},
    measure{"mappings", &footprint::mappings, 0.05, 32},
    measure{"threads", &footprint::threads, 0, 4},
};

double entries_of(const char* folder) {
  return static_cast<double>(std::distance(std::filesystem::directory_iterator{folder}, {}));
}

double lines_of(const char* file) {
  std::ifstream in{file};
  return static_cast<double>(std::count(std::istreambuf_iterator<char>{in}, {}, '\n'));
}

/// Least squares over the rounds from `begin` on: how much higher it is at the last than at the first.
double line_growth(const std::vector<footprint>& rounds, std::size_t begin, double footprint::*value) {
  const auto count = static_cast<double>(rounds.size() - begin);
  const double middle = (count - 1) / 2;
  double average = 0;
  for (auto n = begin; n < rounds.size(); ++n) average += rounds[n].*value / count;
  double over = 0;
  double under = 0;
  for (auto n = begin; n < rounds.size(); ++n) {
    const double x = static_cast<double>(n - begin) - middle;
    over += x * (rounds[n].*value - average);
    under += x * x;
  }
  return under == 0 ? 0 : over / under * (count - 1);
}

}  // namespace

footprint footprint::now(bool with_heap) {
  footprint made;
  std::ifstream statm{"/proc/self/statm"};
  double pages = 0;
  double resident = 0;
  statm >> pages >> resident;
  made.rss_bytes = resident * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (!with_heap) return made;
  const auto heap = mallinfo2();
  made.heap_bytes = static_cast<double>(heap.uordblks + heap.hblkhd);
  made.files = entries_of("/proc/self/fd");
  made.mappings = lines_of("/proc/self/maps");
  made.threads = entries_of("/proc/self/task");
  return made;
}

void footprints::end_round(footprint now) {
  samples_.push_back(now.rss_bytes);
  std::sort(samples_.begin(), samples_.end());
  now.rss_bytes = samples_[samples_.size() / 2];
  samples_.clear();
  rounds_.push_back(now);
}

std::vector<footprints::trend> footprints::trends() const {
  const auto begin = std::max<std::size_t>(1, rounds_.size() / 4);
  std::vector<trend> all;
  for (const auto& each : tolerances) {
    const double first = rounds_[begin].*each.value;
    all.push_back({each.name, first, rounds_.back().*each.value, line_growth(rounds_, begin, each.value),
                   std::max(each.absolute, each.share * first)});
  }
  return all;
}

void footprints::judge(verdict& judge) const {
  if (rounds_.size() < rounds_min)
    return judge.fail(
        "%zu rounds of releases were done, and memory cannot be judged by fewer than %zu: give more "
        "--seconds",
        rounds_.size(), rounds_min);
  for (const auto& each : trends())
    if (each.end - each.beginning > each.tolerance || each.line > each.tolerance)
      judge.fail("%s grew from %.0f to %.0f (by a straight line: %.0f), and may grow by %.0f", each.name,
                 each.beginning, each.end, each.line, each.tolerance);
}

}  // namespace soak
