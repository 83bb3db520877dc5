// The store's state as 1.x has it. Frozen: later versions read it when they upgrade from 1.x and write it when they go
// back.
#pragma once

#include "../common/table.hpp"

#include <string>

namespace kv::v1 {

struct state {
  table<std::string> keys;
};

}  // namespace kv::v1
