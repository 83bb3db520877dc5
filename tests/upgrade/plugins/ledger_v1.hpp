// The ledger's state as 1.x had it, frozen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ledger::v1 {

struct state {
  std::vector<std::int64_t> entries;
  std::string title;
};

}  // namespace ledger::v1
