// What the desk's versions differ in: messages, replies, and a state that owes replies. Each version keeps those before
// it.
#pragma once

#include <molt/plugin.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace desk {

namespace v1 {
struct touch {
  using reply = std::int64_t;
  std::int64_t by = 1;
};
struct ask {
  using reply = std::int64_t;
  std::int64_t of = 0;
};
struct tell {
  std::string text;
};
struct waiter {
  molt::reply_to<std::int64_t> token;
  std::int64_t of = 0;
};
struct state {
  std::vector<std::string> told;
  std::vector<waiter> waiting;
};
}  // namespace v1

namespace v2 {
struct total {
  std::int64_t sum = 0;
  std::string by;
};
struct touch {
  using reply = total;
  std::int64_t by = 1;
  std::string who;
};
struct ask {
  using reply = total;
  std::int64_t of = 0;
  std::string who;
};
struct tell {
  std::string text;
  std::int64_t at = 0;
};
struct waiter {
  molt::reply_to<total> token;
  std::int64_t of = 0;
};
struct state {
  std::vector<std::string> told;
  std::vector<waiter> waiting;
};
}  // namespace v2

namespace v3 {
struct total {
  std::uint32_t touches = 0;
  std::int64_t sum = 0;
  std::string by;
};
struct touch {
  using reply = total;
  std::string who;
  std::int64_t by = 1;
  std::uint32_t weight = 0;
};
struct ask {
  using reply = total;
  std::string who;
  std::int64_t of = 0;
};
struct tell {
  std::int64_t at = 0;
  std::string text;
  bool aloud = false;
};
struct waiter {
  molt::reply_to<total> token;
  std::int64_t of = 0;
};
struct state {
  std::vector<std::string> told;
  std::vector<waiter> waiting;
};
}  // namespace v3

// The same in all versions.

/// Answers what has been asked.
struct answer {};
struct heard {
  using reply = std::vector<std::string>;
};
/// Makes the desk send itself `tell`, by one of the ways there are.
struct send {
  enum class by : std::int32_t { timer, period, continuation, group, offload };
  by how = by::timer;
  std::int64_t ms = 0;
};

}  // namespace desk
