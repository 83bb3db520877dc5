// The state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shop::catalogue::v1 {

struct item {
  std::string label;
  std::int64_t cnt = 0;
};
struct state {
  std::vector<item> list;
};

}  // namespace shop::catalogue::v1
