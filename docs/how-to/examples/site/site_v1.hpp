// The state of site.sessions as 1.x had it, frozen; 3.x has it again.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace site::v1 {

struct session {
  std::string user;
  std::int64_t hits = 0;
};

struct state {
  std::map<std::uint64_t, session> live;
  std::map<std::string, std::int64_t> pages;
};

}  // namespace site::v1
