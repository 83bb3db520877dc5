// One upgrade or rollback of a running process, from plan to commit or back.
//
//   phase        event                                  next             a message is begun by
//   prepared     the plan has a problem                 refused          old code
//   prepared     lazy: one store                        migrating        new code, each server migrated before it
//   prepared     atomic: everything came to rest        migrating        none: all queue (transaction_atomic.cpp)
//                not in time                            rolled_back      old code
//   migrating    every server moved                     converting       new code
//   converting   every entry of evolving containers is  done             new code, in slices between two messages
//   converting   a hook threw, or cancelled             as migrating
//   migrating    one failed, policy rollback            rolling_back     (atomic: everything reverted at rest; so
//                                                                        too when switch_timeout has passed)
//   migrating    one failed, policy quarantine          needs_attention  new code; the failed ones old code
//   rolling_back every moved server is back             rolled_back      old code
//   rolling_back a way back is missing, lossy or fails  needs_attention  as the report names them;
//                                                                        none has gone back where states are kept,
//                                                                        or hooks use others
//
// Invariants: in every final phase every server answers, with its whole state, on one of the two releases; refused and
// rolled_back leave the release that was running; nothing lossy happens that the operator did not accept, and that goes
// for what happened since a state was kept; the images of the release that was left stay mapped until commit. Servers
// of settings::types_leaving stay on old code throughout; the caller ends them.
#pragma once

#include "base/result.hpp"
#include "server/runtime.hpp"
#include "upgrade/bound_release.hpp"
#include "upgrade/handed_states.hpp"
#include "upgrade/hook_watch.hpp"
#include "upgrade/plan.hpp"
#include "upgrade/rehearsal.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::upgrade {

enum class mode { lazy, atomic };
enum class failure_policy { rollback, quarantine };

enum class phase { idle, prepared, migrating, converting, rolling_back, done, rolled_back, refused, needs_attention };
[[nodiscard]] std::string_view to_string(phase) noexcept;
[[nodiscard]] std::string_view to_string(mode) noexcept;

struct settings {
  upgrade::mode mode = mode::lazy;
  failure_policy on_failure = failure_policy::rollback;
  std::chrono::nanoseconds hook_timeout = std::chrono::seconds{5};  ///< per server, all its hooks
  std::size_t hook_memory_max = 0;                                  ///< as in transformation_settings
  /// Atomic: for coming to rest and migrating. When it has passed, all goes back at rest, after the hooks that run
  /// then.
  std::chrono::nanoseconds switch_timeout = std::chrono::seconds{5};
  bool one_way = false;
  /// Up: what each server was when it migrated is kept until commit or rollback (kept_states.hpp).
  bool keep_states = false;
  std::size_t keep_bytes_max = migration::archive_size_max;  ///< of all together; a server beyond it fails
  /// Down: servers whose hooks fail or are missing become again what was kept of them, if `accept_loss` has a
  /// since=... that covers it. In mode atomic, whatever `mode` says.
  bool from_kept = false;
  std::vector<std::string> accept_loss;
  std::vector<std::string> types_in_use;  ///< beside those with living servers: supervised children, listeners
  /// Types that the next release lacks and whose servers the caller ends after the operation, if it is done. They go on
  /// running their old code until then.
  std::vector<std::string> types_leaving;
  servers::arguments arguments;      ///< for the hooks
  std::uint64_t sweep_rate_max = 0;  ///< servers per second migrated in the background; 0: as fast as it goes
  unsigned atomic_threads = 0;       ///< 0: one per core
  unsigned hook_threads = 0;         ///< that run parts of one hook at once, if it lets them; 0: one per core
  /// The servers that the next release starts under their own names, in `switched`; a hook can give states to these.
  std::optional<started_servers> starts{};
  /// Those of the release that is left, which run or are started in `going_back`.
  std::optional<started_servers> starts_back{};
  /// After a rollback: to wait until nothing uses the images that were left, and unload them. 0: collect() does it
  /// later; until then messages of the version that was left are still understood.
  std::chrono::nanoseconds collect_timeout = std::chrono::milliseconds{200};
  /// Called on the upgrade's thread, before the first and after the last store of the release: for supervision and
  /// listeners. If the first returns an error, nothing is changed and the upgrade is refused.
  std::function<result<void>(const plan&)> before_switch;
  std::function<void(phase)> after;
  /// Called on the same thread right after the store that makes the next release current (atomic: when everything runs
  /// again), before the background looks at any server: to start what the release adds. An error: everything goes back.
  std::function<result<void>()> switched;
  /// Called if `switched` had no error and everything goes back, before the store that does it: to end what was added.
  std::function<void()> going_back;
  /// Asked now and then while migrating, by several threads at once; true: roll back.
  std::function<bool()> cancelled;
  /// Before servers go down to a release that does not know their evolving containers: to convert the entries back in
  /// slices, while they answer. When it has passed, what is left is converted while each server's callers wait.
  std::chrono::nanoseconds convert_back_timeout = std::chrono::minutes{1};
  /// Called on a thread of its own when the hooks of a server are over hook_timeout and still run, again at growing
  /// intervals (hook_watchdog), and once when they have ended. Must not throw.
  hook_watchdog::teller hook_is_late{};
};

/// How many threads mode atomic migrates with.
[[nodiscard]] unsigned atomic_threads(const settings&) noexcept;

struct report {
  phase result = phase::refused;  ///< done, rolled_back, refused or needs_attention
  std::string from;
  std::string to;
  direction going = direction::up;
  upgrade::mode mode = mode::lazy;
  upgrade::plan plan;
  std::vector<type_count> types;  ///< servers moved, by type and way
  std::uint64_t servers_migrated = 0;
  std::uint64_t servers_failed = 0;
  std::vector<server_failure> failures;      ///< at most failures_listed_max
  std::vector<server_restoration> restored;  ///< from what was kept; at most failures_listed_max
  std::uint64_t servers_restored = 0;
  std::vector<std::string> problems;  ///< why it was refused, or what needs attention
  std::vector<std::string> notes;
  bool cancelled = false;          ///< rolled back because settings::cancelled said so
  std::uint64_t entries_left = 0;  ///< of evolving containers, not converted: they are when touched
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds at_rest{0};            ///< from asking everything to rest until it ran again
  std::chrono::nanoseconds reverting{0};          ///< of which, going back
  std::chrono::nanoseconds largest_migration{0};  ///< of one server

  [[nodiscard]] migration::way way() const noexcept;  ///< the most expensive one used or tried
};

struct first_moved;

/// Switches a runtime between releases, one at a time.
///
/// Threading: any thread; a second operation while one is under way is refused as busy. Ownership: borrows the runtime.
class switcher {
 public:
  explicit switcher(servers::runtime&);
  switcher(const switcher&) = delete;
  switcher& operator=(const switcher&) = delete;
  ~switcher();

  /// Makes a first release current. `parents`: what rollback() goes back to, the nearest last.
  void start(release_content current, std::vector<release_content> parents = {});

  /// Goes up to `next`, or leaves everything as it was. After done the release that was left is the nearest parent.
  /// Errors: busy; invalid_argument (no release was started). Everything else is in the report.
  [[nodiscard]] result<report> upgrade(release_content next, const settings&);
  /// Goes down to the nearest parent, keeping what happened since. Errors: busy; not_found (no parent).
  [[nodiscard]] result<report> rollback(const settings&);
  /// The same to a parent that a commit or a restart let go of, loaded anew; what did not get there is let go of again.
  /// Errors: busy; invalid_argument (there is a parent in memory).
  [[nodiscard]] result<report> rollback_to(release_content parent, const settings&);
  /// Who gets the leases of images that are not needed any more, instead of loader::unload; set before the first
  /// operation. Whoever looks at what is loaded may have another for a moment. What it says of an image goes into the
  /// reports of commit() and collect().
  using retire_function = std::function<loader::unload_report(loader::lease)>;
  void retire_images_with(retire_function retire) { retire_ = std::move(retire); }

  /// The plan that upgrade() or rollback() would follow.
  [[nodiscard]] result<plan> plan_upgrade(const release_content& next, const settings&) const;
  [[nodiscard]] result<plan> plan_rollback(const settings&) const;

  /// What a copy of this process needs to rehearse the upgrade that `planned` is the plan of.
  [[nodiscard]] rehearsal_task task_for_rehearsal(const settings&, const plan& planned) const;

  /// Forgets the parents and lets go of every image that is not the current release's, each unload verified, or given
  /// to retire_images_with. Without that an image whose loaded_plugin somebody else still holds stays, and its report
  /// says so. Errors: busy (another operation, or something in the runtime still uses a parent's image: the text names
  /// it; then the parents stay and rollback is still possible).
  [[nodiscard]] result<std::vector<loader::unload_report>> commit(std::chrono::nanoseconds timeout);
  /// The same for images that are neither the current release's nor a parent's: what a rollback left behind.
  [[nodiscard]] result<std::vector<loader::unload_report>> collect(std::chrono::nanoseconds timeout);

  [[nodiscard]] release_content current() const;
  [[nodiscard]] std::vector<release_content> parents() const;
  /// What servers were when they came from the nearest parent; null if nothing is kept.
  [[nodiscard]] std::shared_ptr<const kept_states> kept() const;
  /// What a plan needs to know of it.
  void add_kept(plan_options&, const settings&) const;
  /// For status while one runs.
  [[nodiscard]] phase now() const noexcept { return phase_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t migrated_so_far() const;
  /// Of evolving containers, about: known of those servers that have had a slice.
  [[nodiscard]] std::uint64_t entries_left() const noexcept { return entries_left_.load(std::memory_order_relaxed); }
  /// Hooks that run and are over hook_timeout.
  [[nodiscard]] std::vector<late_hook> late_hooks() const { return watch_->late(); }

 private:
  struct attempt;
  using content_list = std::vector<release_content>;

  [[nodiscard]] result<report> move_to(release_content next, direction, const settings&);
  void run_lazy(attempt&);
  void run_atomic(attempt&);
  [[nodiscard]] bool begin_in(attempt&);
  void settle(attempt&);
  using name_expectation = servers::runtime::name_expectation;
  void expect_added(const attempt&, std::optional<name_expectation>&);
  void roll_back(attempt&);
  // Hooks that use the states of other servers (transaction_others.cpp)
  using rest_guard = servers::runtime::rest_guard;
  struct destination;
  [[nodiscard]] std::shared_ptr<handed_states> hand_states(attempt&, const destination&, const rest_guard&,
                                                           const first_moved&);
  /// Comes to rest, and moves the servers whose hooks use others. False: a hook failed, and is recorded. Error: no
  /// rest.
  [[nodiscard]] result<bool> move_first(attempt&, const destination&, std::shared_ptr<handed_states>&,
                                        std::optional<rest_guard>&, first_moved&,
                                        std::chrono::steady_clock::time_point& asked);
  void revert(const rest_guard&, const bound_release&, first_moved&);
  [[nodiscard]] static bool all_taken(attempt&);
  [[nodiscard]] std::shared_ptr<bound_release> way_back_that_needs_rest(const attempt&) const;
  void roll_back_at_rest(attempt&, std::shared_ptr<bound_release> back);
  void give_back(attempt&, const rest_guard&);
  void quarantine(attempt&);
  /// Offers every server to the release. False: not all of them, as one failed or, on the way to attempt::bound, as it
  /// was cancelled.
  bool sweep(attempt&, const bound_release&, bool stop_at_failure);
  /// Converts the entries of evolving containers; false if it ended early. (transaction_entries.cpp)
  bool convert_entries(attempt&, const bound_release&, bool stop_at_failure);
  void convert_entries_back(const release_content& from, const release_content& to, std::chrono::nanoseconds timeout,
                            const std::function<bool()>& cancelled);
  void conclude(attempt&, phase);
  [[nodiscard]] bool keep_types(attempt&);
  void leave(const release_content&);
  void watch_hooks(attempt&, std::optional<hook_watchdog>&) const;
  void make_current(attempt&);
  void unmake_current(const attempt&, std::shared_ptr<const bound_release> back);
  void resume_quarantined();
  [[nodiscard]] bool has_servers(const servers::server_type&) const;
  [[nodiscard]] result<report> tidy(result<report>, const settings&);
  [[nodiscard]] std::shared_ptr<bound_release> bind(release_content, direction, const settings&,
                                                    std::vector<std::string> accept_loss,
                                                    std::shared_ptr<kept_states> keep) const;
  [[nodiscard]] plan plan_between(const release_content& from, const release_content& to, direction,
                                  const settings&) const;
  void refuse_loss(attempt&);
  [[nodiscard]] content_list everything_loaded() const;
  [[nodiscard]] std::shared_ptr<const bound_release> bound_current() const;
  [[nodiscard]] result<std::vector<loader::unload_report>> let_go(bool parents_too, std::chrono::nanoseconds timeout);
  [[nodiscard]] std::vector<std::shared_ptr<const loaded_plugin>> unneeded_plugins(bool parents_too) const;
  void forget_sources();
  [[nodiscard]] loader::unload_report unload(std::shared_ptr<const loaded_plugin>) const;

  servers::runtime& runtime_;
  const std::shared_ptr<hook_watch> watch_ = std::make_shared<hook_watch>();
  retire_function retire_;
  std::atomic<phase> phase_{phase::idle};
  std::atomic<std::uint64_t> entries_left_{0};
  std::mutex operation_;      // held for one operation
  mutable std::mutex mutex_;  // the members below
  release_content current_;
  std::vector<release_content> parents_;
  std::vector<std::shared_ptr<kept_states>> kept_;  // of each parent's servers; null where nothing is kept
  std::vector<release_content> left_;               // neither current nor parent, perhaps still mapped
  std::shared_ptr<const bound_release> bound_;
  std::shared_ptr<const bound_release> moving_;  // what servers go to, while they do
  std::vector<molt_ref> quarantined_;            // suspended by us
};

}  // namespace molt::upgrade
