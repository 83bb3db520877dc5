// The states of 2.x, which has two servers.
#pragma once

#include "site_v1.hpp"

namespace site::v2 {

struct state {
  std::map<std::uint64_t, v1::session> live;
  std::map<std::string, std::int64_t> unsent;  // counted, but metrics did not run
};

struct metrics_state {
  std::map<std::string, std::int64_t> pages;
};

}  // namespace site::v2
