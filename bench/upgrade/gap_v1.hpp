// The states as 1.x had them, frozen.
#pragma once

#include <cstdint>
#include <unordered_map>

namespace gap::v1 {

struct entry {
  std::int64_t hits = 0;
  std::int64_t last_seen = 0;
};
struct table_state {
  std::unordered_map<std::uint64_t, entry> live;
};
struct item_state {
  std::int64_t hits = 0;
};
struct faulty_state {
  std::int64_t hits = 0;
  std::int64_t broken = 0;
};

}  // namespace gap::v1
