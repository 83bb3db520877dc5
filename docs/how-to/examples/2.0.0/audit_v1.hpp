// The state as 1.x had it, frozen.
#pragma once

#include <string>
#include <vector>

namespace shop::audit::v1 {

struct state {
  std::vector<std::string> lines;
};

}  // namespace shop::audit::v1
