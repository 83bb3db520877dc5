// What is called: the same addition as a molt server and as a virtual function, both in one shared object.
#pragma once

#include <molt/plugin.hpp>

#include <atomic>
#include <cstdint>
#include <memory>

namespace counting {

struct state {
  std::int64_t value = 0;
  molt::ref peer;
};
struct add {
  using reply = std::int64_t;
  std::int64_t by = 1;
};
struct bump {
  std::int64_t by = 1;
};
struct meet {
  using reply = std::int64_t;
  molt::ref peer;
};
struct ball {
  std::int64_t left = 0;
};  // cast back and forth until none are left
extern std::atomic<std::int64_t> balls_dropped;

struct ask_peer {
  using reply = std::int64_t;
  std::int64_t times = 0;
};  // calls its peer that often
struct start_timers {
  using reply = std::int64_t;
  std::int64_t count = 0;
};  // that do not fire for hours
struct start_and_cancel {
  using reply = std::int64_t;
  std::int64_t count = 0;
};

class counter {
 public:
  virtual ~counter() = default;
  virtual std::int64_t add(std::int64_t by) = 0;
};
std::unique_ptr<counter> make_counter();

const molt_server_type& server_type();

}  // namespace counting
