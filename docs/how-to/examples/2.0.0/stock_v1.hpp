// The state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shop::stock::v1 {

struct entry {
  std::string name;
  std::int64_t pieces = 0;
};
struct state {
  std::vector<entry> entries;
};

}  // namespace shop::stock::v1
