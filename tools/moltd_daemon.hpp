// moltd: keeps one molt-node alive on the right release.
//
//   node state   event                                next
//   down         a release is to run                  starting     store: transition journalled before
//   down         the control socket asks for one      starting
//   starting     node.sock answers with our pid       running      a start under way is done
//   starting     ended, or not ready in time          backing_off  (the node is killed first)
//   running      ended                                backing_off  store: transition and probation end; permanent next
//   backing_off  the delay is over                    starting
//   backing_off  more than `intensity` in `period`    down         attention set: an operator must decide; sockets closed
//   any          SIGTERM, SIGINT                      stopping     the node gets SIGTERM, later SIGKILL
//   stopping     ended                                (moltd ends)
//
// A moltd that finds a node answering at start adopts it (running), with its listening sockets, and ends a transition that an
// earlier moltd began by what the node says it runs; what that one asked for and has not begun yet, the node then refuses. A commit whose outcome nobody knows likewise: moltd_commit.cpp.
//
// What the store cannot be told, because its disk is full, is kept and tried again until it is written: moltd_outcomes.cpp.
//
// Invariants: no plugin is ever loaded here; one operation changes the release at a time; the store knows of a transition before
// the node does; none begins while the end of the last is not written down; while a node runs or is to be started again, moltd holds the listening sockets of its release; while none is, it
// holds no listening socket, so that clients are refused.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "node/crash_folder.hpp"
#include "node/fd_channel.hpp"
#include "node/http_server.hpp"
#include "releases/store.hpp"
#include "tools/moltd_node_process.hpp"

#include <boost/json/object.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::daemon {

using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct options {
  std::filesystem::path store_folder;
  std::filesystem::path runtime_folder;
  std::filesystem::path node_program;
  std::string first_release;             ///< package, folder or id: installed and started when nothing is permanent yet
  std::vector<std::string> node_arguments;
  std::size_t intensity = 5;             ///< more ends than this within `period`: moltd gives up
  milliseconds period{30'000};
  milliseconds start_timeout{60'000};    ///< until node.sock answers
  milliseconds stop_timeout{15'000};     ///< between SIGTERM and SIGKILL
};

enum class node_state { down, starting, running, backing_off, stopping };
[[nodiscard]] std::string_view to_string(node_state) noexcept;

/// Threading: run() on one thread; answer() on any, several at once.
class daemon {
 public:
  /// Opens the store, adopts a living node or decides what to start, and begins to answer on control.sock.
  /// Errors: those of store::open and http_server::listen, and of installing the first release.
  static result<std::unique_ptr<daemon>> start(options);
  daemon(const daemon&) = delete;
  daemon& operator=(const daemon&) = delete;
  ~daemon();

  /// Supervises until `signals` (a signalfd) is readable; then stops the node and returns.
  void run(int signals);

  [[nodiscard]] node::http_response answer(const node::http_request&);

 private:
  struct held_listener {
    releases::listen_address address;
    unique_fd fd;
  };
  using listeners = std::map<std::string, held_listener, std::less<>>;
  struct change {
    releases::transition_kind kind{};
    std::string from;
    std::string to;
    boost::json::object body;  ///< for the node, without the release
    bool rehearse = false;
    boost::json::object rehearsal;  ///< the one that passed
  };
  /// Of an upgrade that is being rehearsed.
  struct rehearsed_upgrade {
    std::string from;
    std::string to;
    bool told_to_go_back = false;
    bool went_back = false;  ///< when it has ended
  };

  /// Where an installed release lies, and what must lie there.
  struct release_place {
    std::filesystem::path folder;
    std::string contents;  ///< SHA-256 of its molt-contents; empty: the store does not know it
  };

  daemon(options, releases::store);

  // moltd_daemon.cpp: starting, watching and ending the node. Those that take a lock say so by their argument.
  using lock = std::unique_lock<std::mutex>;
  result<void> decide_what_to_run();
  result<bool> adopt_running_node();
  [[nodiscard]] result<std::optional<std::uint64_t>> adopt_node() const;
  result<void> install_first_release();
  result<void> check_boot_release();
  void tick();
  void spawn_node();
  result<void> try_spawn(const lock&, const std::string& release);
  void look_whether_ready();
  void resolve_adopted();
  void look_whether_committed();
  void node_has_ended();
  void give_up_or_back_off(const lock&, const std::string& why);
  void begin_stop();
  [[nodiscard]] milliseconds next_tick() const;
  void set_state(const lock&, node_state);
  void note_attention(const lock&, const std::string& text);
  void wake() const noexcept;

  // moltd_changes.cpp: what the control socket changes.
  node::http_response post_release(const boost::json::object&);
  node::http_response delete_release(std::string_view id);
  node::http_response post_plan(boost::json::object);
  node::http_response post_upgrade(boost::json::object);
  node::http_response post_rollback(boost::json::object);
  node::http_response run_change(change&);
  node::http_response change_cold(change&);
  node::http_response start_again(lock&, const change&);
  node::http_response change_live(change&);
  node::http_response conclude(const change&, const node::http_response& from_node, listeners candidate);
  node::http_response await_resolution(const change&);
  [[nodiscard]] node::http_response stopped_meanwhile(const lock&, const change&, std::string_view ended) const;
  [[nodiscard]] node::http_response node_stops(const lock&, const change&, std::string_view ended) const;
  [[nodiscard]] std::optional<error> in_the_way_of_change(const lock&);
  result<node::http_response> ask_node(std::string_view method, std::string_view target, std::string_view body,
                                       milliseconds timeout, const std::function<bool()>& given_up = {}) const;
  result<listeners> listeners_for(const lock&, const std::string& release) const;
  [[nodiscard]] release_place place_of(const lock&, const std::string& release) const;
  static result<void> verify(const release_place&);
  static void name_release(boost::json::object& body, const release_place&);

  // moltd_commit.cpp: the end of probation.
  node::http_response post_commit();
  node::http_response conclude_commit(const std::string& release, const node::http_response& from_node);
  result<void> settle_commit(const lock&, const std::string& node_committed);

  // moltd_cancel.cpp: a rollback in the middle of an upgrade.
  std::optional<node::http_response> cancel_upgrade_under_way();
  std::optional<node::http_response> cancel_rehearsal_under_way();

  // moltd_outcomes.cpp: what the store must be told, now or as soon as it can be written.
  struct unwritten {
    std::string what;  ///< "the end of the upgrade from kv-1.0.0 to kv-2.0.0 (done)"
    std::function<result<void>()> write;
  };
  /// `write` is called under the lock until it succeeds. Error: it has not yet; what is owed, and what to do about it.
  result<void> write_down(const lock&, std::string what, std::function<result<void>()> write);
  result<void> write_what_is_owed(const lock&);
  result<void> end_transition(const lock&, releases::transition_outcome, const std::string& detail,
                              const std::string& runs = {});
  result<void> settle_by(const lock&, const std::string& node_runs);
  void end_with_the_node(const lock&, const std::string& why);
  [[nodiscard]] error what_is_owed(const lock&) const;
  [[nodiscard]] std::string what_to_do_about_the_store() const;
  [[nodiscard]] node::http_response not_written_down(const std::string& message, const error& owed) const;

  // moltd_rehearsal.cpp: an upgrade in a copy of the node, for its own sake and before each upgrade.
  node::http_response post_rehearse(boost::json::object, const std::function<bool()>& client_gone);
  std::optional<node::http_response> rehearse_first(lock&, change&);
  std::optional<node::http_response> rehearse(change&, const release_place&) const;
  result<node::http_response> ask_for_rehearsal(boost::json::object body, const release_place&,
                                                const std::function<bool()>& given_up) const;

  // moltd_api.cpp: what the control socket asks.
  node::http_response dispatch(const node::http_request&);
  node::http_response get_status();
  [[nodiscard]] boost::json::object release_now(const lock&, const boost::json::object& node_status) const;
  node::http_response get_releases();
  node::http_response get_history();
  node::http_response get_crashes(std::string_view id);
  void take_crash_reports();
  node::http_response forward(const node::http_request&, milliseconds timeout) const;

  // Constant after construction
  const options options_;
  const std::string node_socket_;
  const std::string node_fd_socket_;
  const node::crash_folder crashes_;
  unique_fd wake_;

  std::mutex changing_;    ///< held by the one operation that changes the release
  std::mutex installing_;  ///< held by the one that stages
  bool node_ended_ = false;  ///< the loop's: a report may be there
  mutable std::mutex mutex_;
  std::condition_variable changed_;  ///< node state or transition
  // Guarded by mutex_
  releases::store store_;
  std::optional<node_process> process_;
  node_state state_ = node_state::down;
  bool wanted_ = false;           ///< a node should run; false after giving up
  bool adopted_mid_change_ = false;
  std::optional<std::uint64_t> adoption_;  ///< what the node wants to hear with a change; none: it is an older one
  bool commit_open_ = false;  ///< the node may commit, or have committed, what the store has in probation
  std::shared_ptr<rehearsed_upgrade> rehearsed_;  ///< null: no upgrade is being rehearsed
  std::string cold_target_;       ///< what to start instead of the boot release: a start, upgrade or rollback without a node
  listeners listeners_;
  std::deque<clock::time_point> ends_;  ///< of nodes, within the period
  std::size_t restarts_ = 0;
  std::deque<unwritten> unwritten_;  ///< in the order in which it happened; few: no change begins before it is empty
  std::string unwritten_why_;
  clock::time_point retry_at_;
  milliseconds retry_delay_{0};
  clock::time_point deadline_;  ///< starting: until ready; backing_off: until the next start; stopping: until SIGKILL

  std::unique_ptr<node::http_server> control_;  ///< last: its handlers use everything above
};

}  // namespace molt::daemon
