// What was measured, of molt and its peers, and how: in turns, so that what else the machine does meets all of them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace measuring {

struct result {
  std::string name;
  std::string unit;
  std::map<std::string, std::vector<double>> runs;  ///< by who; molt's own under ""
};

/// `work` does `count` things and returns how many seconds it took.
struct candidate {
  std::int64_t count;
  std::function<double(std::int64_t)> work;
};
using candidates = std::map<std::string, candidate>;

enum class unit { ns_each, per_second, mb_per_second };  ///< the last: a candidate's count is bytes

/// Each candidate in turn, `runs` times.
result measure(const std::string& name, unit, int runs, const candidates&);

/// The medians as one line of JSON.
void print(std::FILE*, const std::vector<result>&);

/// Whether only to see that everything works: seconds instead of minutes.
bool smoke();
/// Whether to leave out the peers: for profiles.
bool alone();
inline std::int64_t scaled(std::int64_t count, std::int64_t by = 1000) { return smoke() ? count / by : count; }

}  // namespace measuring
