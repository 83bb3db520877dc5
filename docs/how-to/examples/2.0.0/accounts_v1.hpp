// The state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace shop::accounts::v1 {

struct account {
  std::string name;
  std::int64_t orders = 0;
};
struct state {
  std::map<std::uint64_t, account> all;
};

}  // namespace shop::accounts::v1
