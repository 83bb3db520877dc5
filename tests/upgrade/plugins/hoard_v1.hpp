// The hoard's state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace hoard::v1 {

struct entry {
  std::int64_t hits = 0;
  std::string name;
};
struct state {
  std::string title;
  std::unordered_map<std::uint64_t, entry> live;
};

}  // namespace hoard::v1
