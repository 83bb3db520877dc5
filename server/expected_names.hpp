// Names that servers are about to be started under. A handler that looks one of them up waits for it: code of a release
// that adds a server never finds it missing, though some milliseconds lie between the switch and its start.
//
//   name        event                                      a handler that looks it up
//   expected    expect()                                   waits, for options::expected_name_wait at most
//   there       a server has it, whose init may still run  goes on with the server; what it sends there waits for init
//   (none)      nobody expects it any more                 goes on without
//
// Invariants: the thread that expects names never waits for them, nor do handlers that it runs: it starts the servers.
#pragma once

#include "plugin/abi.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace molt::servers {

/// Threading: any thread; one expects at a time.
class expected_names {
 public:
  explicit expected_names(std::chrono::nanoseconds wait) : wait_{wait} {}
  /// From now on, by this thread, until forget().
  void expect(const std::vector<std::string>& names);
  void forget() noexcept;
  /// A server has got a name.
  void named() noexcept;

  /// Whether `await` may wait.
  [[nodiscard]] bool any() const noexcept { return any_.load(std::memory_order_acquire); }
  /// Looks until somebody has the name, nobody expects it any more, or the time is over.
  [[nodiscard]] molt_ref await(std::string_view name, const std::function<molt_ref()>& look);

 private:
  const std::chrono::nanoseconds wait_;
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string, std::less<>> names_;  // guarded by mutex_, as is
  std::thread::id by_;
};

}  // namespace molt::servers
