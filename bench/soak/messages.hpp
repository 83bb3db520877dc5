// What the soak's servers are sent, by the program and by each other: equal in all their versions but for `tick`.
#pragma once

#include <molt/plugin.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace soak {

/// What an account or a worker has seen of its messages.
struct counts {
  std::uint64_t id = 0;
  std::uint64_t calls = 0;      ///< touch
  std::uint64_t bumps = 0;      ///< bump
  std::uint64_t sum = 0;        ///< of what both brought
  std::uint64_t relayed = 0;    ///< relay
  std::uint64_t forwarded = 0;  ///< forward
  std::uint64_t ticks = 0;      ///< tick
  bool whole = false;           ///< the rest of its state is what its id says
};

struct touch {
  using reply = counts;
  std::uint64_t by = 0;
};
/// The counts without counting.
struct audit {
  using reply = counts;
};
struct bump {
  std::uint64_t by = 0;
};

struct relayed {
  std::uint64_t last = 0;  ///< the id of the last one called
  std::string problem;     ///< why a call on the way failed
};
/// Calls each of `on`, the last one first, each on the stack of the one before.
struct relay {
  using reply = relayed;
  std::vector<molt::ref> on;
};
/// Travels through `on` by casts, the last one first. Where it ends, the call is answered that it came from, if any.
struct forward {
  std::vector<molt::ref> on;
  molt::reply_to<std::uint64_t> answer;
};
/// Sends `forward` on its way; the id of the one where it ended.
struct travel {
  using reply = std::uint64_t;
  std::vector<molt::ref> on;
};

/// Starts a timer that sends `tick`; the timer's id, 0 if there is none.
struct arm {
  using reply = std::uint64_t;
  std::int64_t delay_ns = 0;
};
struct disarm {
  using reply = bool;
  std::uint64_t timer = 0;
};
namespace v1 {
struct tick {
  std::uint64_t by = 0;
};
}  // namespace v1

// -- Workers, which are made to fail
struct crash {
  using reply = counts;
};
struct crash_cast {};
struct crash_soon {
  using reply = bool;
  std::int64_t delay_ns = 0;
};
/// Ends without having failed.
struct retire {
  using reply = bool;
};

// -- Wardens
/// Answered after the delay, with the value.
struct hold {
  using reply = std::uint64_t;
  std::int64_t delay_ns = 0;
  std::uint64_t value = 0;
};
struct due {
  std::uint64_t key = 0;
  std::uint64_t value = 0;
};
/// Answered by work off the pool, with the value.
struct compute {
  using reply = std::uint64_t;
  std::uint64_t value = 0;
};
struct computed {
  std::uint64_t key = 0;
  std::uint64_t value = 0;
};
/// Monitors that server.
struct watch {
  using reply = bool;
  molt::ref who;
};
struct beat {};
struct warden_counts {
  std::uint64_t downs = 0;
  std::uint64_t strays = 0;    ///< downs that no monitor stands for
  std::uint64_t monitors = 0;  ///< that have not fired
  std::uint64_t pending = 0;   ///< calls not answered yet
  std::uint64_t unsent = 0;    ///< answers that nobody waited for any more
  std::uint64_t beats = 0;
};
struct tally {
  using reply = warden_counts;
};

}  // namespace soak
