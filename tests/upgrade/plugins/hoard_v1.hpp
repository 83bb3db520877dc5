// The hoard's state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace hoard::v1 {

struct entry {
  std::int64_t hits = 0;
  std::string name;
};
struct hour {
  std::int64_t hits = 0;
};
struct state {
  std::string title;
  std::unordered_map<std::uint64_t, entry> live;
  std::vector<hour> hours = std::vector<hour>(1000);
  std::unordered_set<std::uint64_t> seen;
};

}  // namespace hoard::v1
