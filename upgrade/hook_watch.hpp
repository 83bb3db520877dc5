// Which servers' hooks run right now, and which of them are over their time.
//
// A hook cannot be interrupted: one that runs over hook_timeout is undone when it returns. So that it is named before
// that, and also if it never returns, whoever runs the hooks of a server is listed as long as they run.
//
//   run      event                                        next
//   (none)   a server is about to be migrated by hooks    listed   by the thread that holds the server
//   listed   the time of its hooks begins                 timed    (transformation)
//   timed    hook_timeout has passed                      late     late() finds it, a hook_watchdog tells of it
//   any      the hooks have ended                         (none)
//
// Each thread has a place, which holds the run that is under way there: to begin and to end one costs a store each and
// no locked instruction, since a million servers are migrated in 0.15 s. Whoever looks at a place says so first and
// makes all threads see it (fence.hpp); a run that ends waits for him then.
//
//   the thread of the run                    whoever looks
//   current = run                            looked_at = true, under the place's mutex
//   ... hooks ...                            fence::heavy()
//   current = none                           current: none, or a run that stays as long as the mutex is held
//   fence::light()                           looked_at = false
//   looked_at? waits for the mutex
//
// Invariants: a place belongs to one thread at a time; places are used again and never freed.
#pragma once

#include "plugin/abi.h"
#include "server/runtime.hpp"
#include "state_migration/migration_path.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace molt::upgrade {

/// The server's name, or "counter.server 4294967327", with its reference, if it has none.
[[nodiscard]] std::string shown_name(const servers::resting_server&);

/// Hooks of one server that still run and are over their time.
struct late_hook {
  std::string server;  ///< as shown_name
  std::string type;
  std::string hook;  ///< path_step::text(), or "self_check"; empty: its old state is being archived
  std::string from_version;
  std::string to_version;
  std::chrono::nanoseconds running{0};
  std::chrono::nanoseconds limit{0};  ///< hook_timeout
  molt_ref ref{};
  std::chrono::steady_clock::time_point begun;  ///< with ref: tells one run from another
};

/// For people: "counter (counter.server): v1::state to state (hook of 2.0.0), 1.0.0 to 2.0.0, has run for 10.0 s;
/// hook_timeout_ms is 5000".
[[nodiscard]] std::string to_text(const late_hook&);

/// Threading: any thread.
class hook_watch {
 public:
  using clock = std::chrono::steady_clock;

  /// The hooks of one server, as long as it lives. Threading: the thread that holds the server.
  class run {
   public:
    /// `watch` null: nobody is to know. The versions' texts are there as long as this is.
    run(hook_watch* watch, const servers::resting_server&, std::chrono::nanoseconds limit, const char* from_version,
        const char* to_version) noexcept;
    run(const run&) = delete;
    run& operator=(const run&) = delete;
    ~run();

    /// When the time of the hooks began; none: not yet.
    std::atomic<clock::time_point>& begun() noexcept { return begun_; }
    [[nodiscard]] const std::atomic<clock::time_point>& begun() const noexcept { return begun_; }
    /// What runs now; null: self_check.
    void step_begins(const migration::path_step* step) noexcept;

   private:
    friend class hook_watch;
    struct place;
    struct place_owner;
    struct look;
    static place* place_of_this_thread() noexcept;
    static place* take_place() noexcept;
    static std::atomic<place*> places;  // all that there are, the newest first
    void tell_if_late(clock::time_point now, std::vector<late_hook>& all) const;

    hook_watch* const watch_;
    const servers::resting_server& server_;
    const std::chrono::nanoseconds limit_;
    const char* const from_version_;
    const char* const to_version_;
    std::atomic<clock::time_point> begun_{};
    std::atomic<const migration::path_step*> step_{nullptr};
    std::atomic<bool> checks_{false};
    place* place_ = nullptr;  // null: not watched
  };

  /// Those that are over their time now, in no order.
  [[nodiscard]] std::vector<late_hook> late() const;
};

/// Tells of each late hook once it is, and again when it has run for twice as long as when it was told of last, but at
/// least every `told_again_max`; and once when it has ended.
///
/// Threading: make and destroy on one thread; `tell` is called on the watchdog's own, and must not throw.
class hook_watchdog {
 public:
  static constexpr std::chrono::minutes told_again_max{10};
  using teller = std::function<void(const late_hook&, bool ended)>;

  /// `limit`: of the hooks that will be watched; it decides how often this looks. Throws std::system_error if there can
  /// be no thread.
  hook_watchdog(const hook_watch&, std::chrono::nanoseconds limit, teller tell);
  hook_watchdog(const hook_watchdog&) = delete;
  hook_watchdog& operator=(const hook_watchdog&) = delete;
  ~hook_watchdog();

 private:
  using key = std::pair<std::uint64_t, std::chrono::steady_clock::time_point>;
  struct told {
    late_hook last;
    std::chrono::nanoseconds again{0};  // when it has run for so long
  };

  void run(std::chrono::nanoseconds pause);
  void look();

  const hook_watch& watch_;
  const teller tell_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;          // guarded by mutex_
  std::map<key, told> known_;  // its thread's
  std::thread thread_;
};

}  // namespace molt::upgrade
