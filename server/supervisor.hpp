// Supervision: servers that are started in order, started again when they end, and stopped in reverse order, in a tree
// of supervisors.
//
//   child     event                                                next
//   (none)    start(), start_child(), an update adds it            starting
//   starting  init returned                                        running
//             init wants no server to run (molt::ignored)          stopped; temporary: (none)
//             init failed: at the start of its supervisor          stopped; the supervisor's start fails
//             init failed: at a restart                            counts as a restart, starting
//   running   ended, permanent                                     starting, by its supervisor's strategy
//             ended by a failure, transient                        starting, by its supervisor's strategy
//             ended otherwise, transient                           stopped
//             ended, temporary                                     (none)
//             terminate_child(), its supervisor stops              stopped; temporary: (none)
//             an update no longer has it                           leaving
//   stopped   restart_child(), its supervisor is started again     starting
//             delete_child()                                       (none)
//   leaving   finish_update()                                      (none), once it has handled what was queued
//             undo_update()                                        running; starting if it ended meanwhile
//
//   supervisor   event                                             next
//   stopped      started                                           running: its children, in order
//   running      more than `intensity` restarts within `period`    stopped: it has given up and is, to its own
//                                                                  supervisor, a child that failed; the root: gave_up
//                its supervisor stops or restarts it               stopped
//                a significant child ended and is not started      stopped, as a child that ended without a failure;
//                again: any, or the last one that ran              the root: gave_up
//
// What a failed child's supervisor starts again: one_for_one and dynamic that child; one_for_all all children;
// rest_for_one it and those that were started after it. Others than the failed one are stopped first, in reverse order.
//
// An update moves the tree to that of another release in two steps, around the switch: begin_update starts what is new,
// finish_update drains and stops what is gone; undo_update in its place leaves the tree of before. A child under the
// same name with the same type stays what it is, wherever in the tree it now stands.
//
// Invariants: restarts happen on the supervisor's own thread, never inside a handler; a child's name leads to its
// newest incarnation; a supervisor that has given up or is stopped starts nothing any more; questions (which_children,
// children, ...) and start_child of a dynamic supervisor never wait for a child's code other than that child's init.
#pragma once

#include "base/result.hpp"
#include "server/runtime.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

/// When a child that ended is started again: always; only after a failure; never.
enum class restart { permanent, transient, temporary };

/// Which children are started again when one fails. dynamic: OTP's simple_one_for_one; its children, all made after one
/// model, are started while it runs.
enum class strategy { one_for_one, one_for_all, rest_for_one, dynamic };
[[nodiscard]] std::string_view to_string(strategy) noexcept;

/// Whether a supervisor shuts down by itself once significant children have ended by themselves, and are not started
/// again: never; with any of them; with the last of them that ran. OTP's auto_shutdown.
enum class auto_shutdown { never, any_significant, all_significant };
[[nodiscard]] std::string_view to_string(auto_shutdown) noexcept;

/// For child_spec::shutdown. Brutal: a running handler is not waited for, nor in the way of the next incarnation: the
/// child loses its name at once and ends when its handler returns. The same happens after a shutdown that took too
/// long.
inline constexpr std::chrono::milliseconds shutdown_brutal{0};
inline constexpr std::chrono::milliseconds shutdown_infinity = std::chrono::milliseconds::max();

inline constexpr std::size_t supervisors_depth_max = 32;            ///< supervisors below each other
inline constexpr std::size_t dynamic_children_default = 1'000'000;  ///< of one supervisor, unless it says otherwise
/// What the root is called where a supervisor is named; "" is the same.
inline constexpr std::string_view root_supervisor = "root";

struct supervisor_spec;

/// A server, or a supervisor below another.
struct child_spec {
  std::string name;  ///< unique in the tree; a server is registered under it
  std::string type;  ///< empty for a supervisor
  servers::arguments arguments;
  servers::restart restart = restart::permanent;
  std::chrono::milliseconds shutdown{5000};  ///< how long a stop waits for the handler; a supervisor's children have it
  std::shared_ptr<const supervisor_spec> supervisor{};  ///< not null: a supervisor
  bool significant = false;  ///< transient or temporary, below a supervisor whose auto_shutdown is not never

  friend bool operator==(const child_spec&, const child_spec&);
};

struct supervisor_spec {
  unsigned intensity = 1;  ///< more restarts than this within `period` are given up on
  std::chrono::milliseconds period{5000};
  std::vector<child_spec> children;  ///< started in this order; empty if dynamic
  servers::strategy strategy = strategy::one_for_one;
  child_spec model{};  ///< dynamic: what every child is, but for its name and further arguments
  std::size_t children_max = dynamic_children_default;  ///< dynamic: further ones are out_of_bounds
  servers::auto_shutdown auto_shutdown = auto_shutdown::never;

  friend bool operator==(const supervisor_spec&, const supervisor_spec&) = default;
};

struct child_info {
  std::string name;
  std::string type;
  molt_ref ref{};          ///< 0 while it does not run, and for a supervisor
  unsigned restarts = 0;   ///< not counted for a dynamic supervisor's children
  std::string supervisor;  ///< the path of the one above it: "root/sessions"
  bool running = false;
  bool is_supervisor = false;
  servers::strategy strategy = strategy::one_for_one;  ///< of a supervisor
  std::size_t children = 0;                            ///< of a supervisor
};

/// As OTP's count_children.
struct child_count {
  std::size_t specs = 0;   ///< children, running or not; a dynamic supervisor has one
  std::size_t active = 0;  ///< that run
  std::size_t supervisors = 0;
  std::size_t workers = 0;  ///< servers; a dynamic supervisor's children
};

/// A child whose arguments an update changed while it goes on running: it has the former ones until it is told.
struct changed_arguments {
  std::string name;
  molt_ref ref{};
  servers::arguments now;
};

/// Threading: any thread but a handler's, unless said otherwise; calls that start or stop wait for each other.
/// Ownership: borrows the runtime, which outlives it. The runtime's on_exit belongs to the supervisor's owner, who
/// passes the events on to `child_ended`; its starts_children belongs to the supervisor.
class supervisor {
 public:
  /// `gave_up` is told why the root gave up or shut down by itself, on the supervisor's thread, after all children are
  /// stopped.
  supervisor(runtime&, std::function<void(std::string_view why)> gave_up);
  ~supervisor();  ///< as `stop`
  supervisor(const supervisor&) = delete;
  supervisor& operator=(const supervisor&) = delete;

  /// Starts the children in order; when one fails, stops those that were started and returns its error. Errors, beside
  /// those of runtime::start: already_exists (it runs), invalid_argument (the spec), out_of_bounds (too deep).
  result<void> start(supervisor_spec);
  /// Stops the children in reverse order. Returns once no child runs, but for those that did not stop in time, of which
  /// the error names the first: they end when their handler returns.
  result<void> stop(std::string_view why);

  // -- The tree of another release
  /// First step: children that are new are started, in order, and supervised. The rest go on running under the new
  /// settings; those that are gone do so too, but are not started again. A child whose type differs is drained, stopped
  /// and started; a dynamic supervisor whose model's type differs is another one. Error: one did not start, or the
  /// spec; then everything is as before.
  result<void> begin_update(supervisor_spec);
  /// Second step: what is gone handles the messages that wait for it, within its shutdown time, and stops, in reverse
  /// order. Returns the children to be told of their arguments. Error: the first that did not stop in time.
  result<void> finish_update(std::vector<changed_arguments>* changed = nullptr);
  /// Instead of the second step: what was new stops, what was gone is back. Error: one that had to be started did not.
  result<void> undo_update();
  /// Both steps.
  result<void> update(supervisor_spec);

  // -- Children at run time; supervisors are meant by name
  /// Adds a child to a supervisor that is not dynamic and starts it, unless the supervisor is stopped. It is kept by
  /// updates as long as its supervisor is, and gone after a restart of that. The reference is 0 where no server runs:
  /// the child is a supervisor, or its init has thrown molt::ignored; then it is there, unless it is temporary. Errors:
  /// not_found, refused (dynamic), invalid_argument (the spec), already_exists (the name), stopping, and those of
  /// runtime::start: then it was not added.
  result<molt_ref> start_child(std::string_view under, child_spec);
  /// A child of a dynamic supervisor, with arguments that replace and follow the model's; registered if `name` is not
  /// empty. The reference is 0 if its init has thrown molt::ignored; then there is no such child. Any thread, a
  /// handler's too. Errors: not_found, refused (not dynamic), stopping, out_of_bounds, and those
  /// of runtime::start.
  result<molt_ref> start_child(std::string_view under, std::string_view name, const arguments& given);
  /// Stops a child; it is not started again by itself. Errors: not_found; timeout: it ends when its handler returns.
  result<void> terminate_child(std::string_view under, std::string_view child);
  /// The same for a child of a dynamic supervisor, which forgets it.
  result<void> terminate_child(std::string_view under, molt_ref child);
  /// Starts a stopped child. Errors: not_found, already_exists (it runs), stopping (its supervisor does not run), and
  /// those of runtime::start.
  result<molt_ref> restart_child(std::string_view under, std::string_view child);
  /// Forgets a stopped child. Errors: not_found, busy (it runs).
  result<void> delete_child(std::string_view under, std::string_view child);

  // -- Questions. Any thread, a handler's too; the answer may be old when it is read
  /// Error: not_found.
  [[nodiscard]] result<std::vector<child_info>> which_children(std::string_view under) const;
  [[nodiscard]] result<child_count> count_children(std::string_view under) const;
  /// The whole tree, each supervisor before its children, without the children of dynamic supervisors.
  [[nodiscard]] std::vector<child_info> children() const;
  /// The path of a server's supervisor, "root/sessions"; empty if it has none.
  [[nodiscard]] std::string supervisor_of(molt_ref) const;

  /// To be told of every exit of the runtime; those of strangers are ignored. Any thread, a handler's too; does not
  /// block.
  void child_ended(const exit_event&);

 private:
  class implementation;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace molt::servers
