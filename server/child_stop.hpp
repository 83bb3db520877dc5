// Stopping one supervised server within its shutdown time.
#pragma once

#include "server/supervisor.hpp"

#include <algorithm>
#include <chrono>

namespace molt::servers {

/// What infinity comes to.
inline constexpr std::chrono::hours shutdown_longest{24 * 365};

inline std::chrono::steady_clock::time_point deadline_after(std::chrono::milliseconds shutdown) {
  return std::chrono::steady_clock::now() + std::min<std::chrono::milliseconds>(shutdown, shutdown_longest);
}

inline std::chrono::nanoseconds time_until(std::chrono::steady_clock::time_point deadline) {
  return std::max<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now(), std::chrono::nanoseconds{0});
}

/// `drained`: once it has handled what waits. A server that takes longer is killed; error: timeout, unless brutal.
inline result<void> stop_child_server(runtime& of, molt_ref ref, std::string_view why,
                                      std::chrono::milliseconds shutdown, bool drained) {
  const auto left = time_until(deadline_after(shutdown));
  auto stopped = drained ? of.drain_and_stop(ref, why, left) : of.stop(ref, why, left);
  if (stopped || stopped.error().why() == reason::no_such_server) return ok();
  of.kill(ref, why);  // if it is still there
  if (shutdown == shutdown_brutal) return ok();
  return stopped;
}

}  // namespace molt::servers
