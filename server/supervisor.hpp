// One_for_one supervision: children of a runtime that are started in order, restarted when they end, stopped in reverse
// order.
//
//   child state   event                                        next
//   starting      init returned                                running
//                 init failed                                  at start: all started are stopped, start() fails;
//                                                              at a restart: counts as a restart, tried again
//   running       ended, permanent                             starting
//                 ended by a failure, transient                starting
//                 ended otherwise                              removed (temporary) or stopped (transient)
//   any           more than `intensity` restarts in `period`   every child is stopped, the supervisor has given up
//
// Invariants: restarts happen on the supervisor's own thread, never inside a handler; a child's name leads to its
// newest incarnation; a supervisor that has given up or is stopped starts nothing any more.
#pragma once

#include "base/result.hpp"
#include "server/runtime.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

/// When a child that ended is started again: always; only after a failure; never.
enum class restart { permanent, transient, temporary };

struct child_spec {
  std::string name;  ///< registered under it; unique
  std::string type;
  servers::arguments arguments;
  servers::restart restart = restart::permanent;
  std::chrono::milliseconds shutdown{5000};  ///< how long a stop waits for the running handler

  friend bool operator==(const child_spec&, const child_spec&) = default;
};

struct supervisor_spec {
  unsigned intensity = 1;  ///< more restarts than this within `period` are given up on
  std::chrono::milliseconds period{5000};
  std::vector<child_spec> children;  ///< started in this order
};

struct child_info {
  std::string name;
  std::string type;
  molt_ref ref{};  ///< 0 while it does not run
  unsigned restarts = 0;
};

/// Threading: any thread but a handler's; calls wait for each other.
/// Ownership: borrows the runtime, which outlives it. The runtime's on_exit belongs to the supervisor's owner, who
/// passes the events on to `child_ended`.
class supervisor {
 public:
  /// `gave_up` is told why, on the supervisor's thread, after all children are stopped.
  supervisor(runtime&, std::function<void(std::string_view why)> gave_up);
  ~supervisor();  ///< as `stop`
  supervisor(const supervisor&) = delete;
  supervisor& operator=(const supervisor&) = delete;

  /// Starts the children in order; when one fails, stops those that were started and returns its error.
  result<void> start(supervisor_spec);
  /// Stops the children in reverse order. Returns once no child runs; the error names the first that did not stop in
  /// time.
  result<void> stop(std::string_view why);
  /// At an upgrade: children that are new are started, those gone are stopped, the rest go on running and get the new
  /// settings. A child whose type differs is stopped and started. Error: a new child failed to start; the others are as
  /// the new spec says.
  result<void> update(supervisor_spec);
  /// To be told of every exit of the runtime; those of strangers are ignored. Any thread, a handler's too; does not
  /// block.
  void child_ended(const exit_event&);
  [[nodiscard]] std::vector<child_info> children() const;

 private:
  class implementation;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace molt::servers
