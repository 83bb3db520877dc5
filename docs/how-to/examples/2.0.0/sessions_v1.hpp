// The state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace sessions::v1 {

struct session {
  std::string user;
  std::int64_t hits = 0;
};
struct state {
  std::unordered_map<std::uint64_t, session> live;
};

}  // namespace sessions::v1
