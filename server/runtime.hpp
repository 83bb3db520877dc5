// The servers of one process: their mailboxes, names, timers, and the release that they run.
//
// The protocols, each with its states and invariants, stand atop: cell.hpp (who may run a server, its mailbox),
// gate.hpp (rest), pool.hpp (who runs what has been cast), deferred.hpp (replies given later), timers.hpp.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "server/clock.hpp"
#include "server/introspection.hpp"
#include "server/message_route.hpp"
#include "server/server_type.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::servers {

class runtime;
struct engine;
struct cell;

/// A server at rest, held by the calling thread: no handler runs, none will begin until it is let go.
class resting_server {
 public:
  [[nodiscard]] molt_ref ref() const noexcept;
  [[nodiscard]] std::string name() const;  ///< empty if unnamed
  [[nodiscard]] const server_type& type() const noexcept;
  [[nodiscard]] void* state() const noexcept;
  /// Messages in its mailbox.
  [[nodiscard]] std::size_t waiting() const noexcept;
  /// What it was started with, or told last by config_change; valid while it is held.
  [[nodiscard]] molt_arguments arguments() const noexcept;
  /// From here on the server has this type and state; the type must come from server_type::make, the state's memory
  /// from allocate_state. The old state is the caller's to destroy and free_state.
  void become(const server_type&, void* state) noexcept;

 private:
  friend struct engine;
  resting_server(engine& owner, cell& held) noexcept : owner_{&owner}, cell_{&held} {}
  engine* owner_;
  cell* cell_;
};

/// Of a server that `tend` shows: whether it is to be shown again. `insist`: at once, after what waits in its mailbox.
enum class tending { done, again, insist };

/// What the runtime must know of a release; upgrade/ implements it.
class release {
 public:
  release() = default;
  release(const release&) = delete;
  release& operator=(const release&) = delete;
  virtual ~release() = default;

  /// Brings a server to this release, or leaves it wholly as it was. Called once per server for each switch, when the
  /// server is first active after it or by `sweep`, on the thread that is about to run the server; for a server started
  /// after the switch not at all. Must not call, suspend or stop servers. Failures are the implementation's to record.
  virtual void adopt(resting_server&) const noexcept = 0;
  /// The type a new server of that name gets; null if the release has none. The release shares its types as long as it
  /// lives.
  [[nodiscard]] virtual const server_type* find_type(std::string_view name) const noexcept = 0;
  /// How a message that `receiver` has no handler for, to the letter, reaches one of its handlers, and its reply the
  /// caller; with `answered`, only how a reply of that schema reaches who sent the message. Asked once for each. What
  /// it returns lies in images that are mapped as long as the release lives. Must not use servers. Without an own one:
  /// no route.
  [[nodiscard]] virtual message_route find_route(const server_type& receiver, const molt_message& sent,
                                                 const molt_schema* answered) const;
};

/// Where a connection server's output goes; the owner of the socket implements it. Any thread.
class connection_output {
 public:
  virtual ~connection_output() = default;
  virtual int write(const char* data, std::size_t size) noexcept = 0;  ///< molt_status
  virtual void close() noexcept = 0;
  [[nodiscard]] virtual std::size_t pending() const noexcept = 0;
};

struct options {
  unsigned pool_threads = 0;              ///< 0: one per core
  std::size_t servers_max = 1U << 22U;    ///< further starts are refused with out_of_bounds
  std::size_t mailbox_max = 1U << 16U;    ///< messages waiting per server, at most 2^20; further ones are overloaded
  std::size_t timers_max = 1U << 22U;     ///< pending timers; further ones are overloaded
  std::size_t deferred_max = 1U << 16U;   ///< calls whose reply is outstanding; further ones are overloaded
  std::size_t relations_max = 1U << 22U;  ///< monitors, links and memberships; further ones are overloaded
  unsigned offload_threads = 8;           ///< for work that blocks, started when needed
  std::size_t offload_max = 1U << 14U;    ///< jobs waiting for such a thread; further ones are overloaded
  unsigned nesting_max = 64;              ///< handlers on one stack; deeper calls go through the pool
  std::chrono::nanoseconds call_timeout = std::chrono::seconds{5};
  /// For a server that is about to be started, by a handler that looks its name up. Shorter than call_timeout, so that
  /// who waits in vain still answers.
  std::chrono::nanoseconds expected_name_wait = std::chrono::seconds{1};
  servers::clock* clock = nullptr;  ///< null: the machine's; otherwise outlives the runtime
  /// Where servers' and the runtime's own log lines go (level MOLT_LOG_...; `from` names the server, empty for the
  /// runtime); empty: nowhere. Any thread, must not throw.
  std::function<void(int level, std::string_view from, std::string_view text)> log;
};

using arguments = std::vector<std::pair<std::string, std::string>>;

/// A server ended: by stop(), by a handler that threw, or with its runtime.
struct exit_event {
  molt_ref ref{};
  std::string name;
  std::string type;
  bool failed = false;
  std::string why;
};

struct server_failure;  // failure.hpp

/// The runtime as a whole.
struct statistics {
  std::size_t servers = 0;
  std::size_t timers_pending = 0;
  std::size_t deferred_pending = 0;
  std::size_t relations = 0;          ///< monitors, links and memberships of groups
  std::size_t offloaded_pending = 0;  ///< waiting or running
  std::uint64_t started = 0;
  std::uint64_t ended = 0;
  std::uint64_t failed = 0;            ///< of those ended, by a handler that threw
  std::uint64_t unknown_messages = 0;  ///< calls and casts that no handler and no edge took
  std::uint64_t late_replies = 0;      ///< replies that nobody waited for any more
};

/// What keeps an image from being let go, by kind.
struct image_uses {
  std::size_t servers = 0;
  std::size_t running = 0;   ///< of these, held by a thread: a handler runs, as a rule
  std::size_t messages = 0;  ///< that wait in mailboxes
  std::size_t timers = 0;
  std::size_t deferred = 0;   ///< replies outstanding
  std::size_t offloaded = 0;  ///< work waiting or running

  [[nodiscard]] bool none() const noexcept { return servers + running + messages + timers + deferred + offloaded == 0; }
};

/// Starts children of dynamic supervisors for plugins; supervisor.hpp implements it. Any thread, a handler's too.
class child_starter {
 public:
  child_starter() = default;
  child_starter(const child_starter&) = delete;
  child_starter& operator=(const child_starter&) = delete;
  virtual ~child_starter() = default;
  /// Errors: not_found, refused, stopping, and those of runtime::start.
  virtual result<molt_ref> start_child(std::string_view supervisor, std::string_view name, const molt_arguments&) = 0;
};

/// Has states for servers that are about to start; upgrade/ implements it.
class state_giver {
 public:
  state_giver() = default;
  state_giver(const state_giver&) = delete;
  state_giver& operator=(const state_giver&) = delete;
  virtual ~state_giver() = default;
  /// Constructs in storage what there is for the server of that name and type, once. Statuses: those of
  /// molt_host::given. Any thread, in the server's init.
  virtual int take(std::string_view name, std::string_view type, const molt_schema& as, void* storage,
                   molt_text* error) noexcept = 0;
};

/// Threading: any thread, unless said otherwise. A handler of one runtime must not use another runtime.
class runtime {
 public:
  explicit runtime(options = {});
  /// Stops every server (terminate, exit_event), newest first, then the threads.
  ~runtime();
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

  // -- The release
  /// The switch: one store. Afterwards no message is begun by a server that has not been offered to `next->adopt`.
  /// Ownership: shares `next` until another release is current and no adopt() of it runs (given back by sweep and
  /// retire).
  void switch_to(std::shared_ptr<const release> next) noexcept;
  [[nodiscard]] std::shared_ptr<const release> current() const;
  /// Offers every server that has not been active since the switch to the current release; returns how many it offered.
  /// Bounded: yields between slices so that callers are not starved. Ends early when `keep_going` returns false.
  /// When it ends by itself, every server has been offered, those too that were busy or suspended.
  std::size_t sweep(const std::function<bool()>& keep_going);

  /// Shows `look` each server whose type `wanted` takes, held by this thread between two of its messages, one server
  /// after the other, each until it has answered `done`. What it does there should take some microseconds: for as long
  /// callers wait; those that have queued are then answered on this thread, and the others are let in for
  /// `callers_share` percent of that, if there have been any. Ends early when `keep_going` returns false. The server is
  /// brought to the current release first; one that handles a message for long is left for the next round, one that is
  /// suspended stays so. `look` must not throw.
  void tend(const std::function<bool(const server_type&)>& wanted, const std::function<tending(resting_server&)>& look,
            const std::function<bool()>& keep_going, unsigned callers_share = 100);

  // -- Servers
  /// Starts a server of a type of the current release; returns when init has. The reference is 0 if init wants no
  /// server to run (molt::ignored).
  /// Errors: not_found (no such type), already_exists (the name), hook_failed (init threw), out_of_bounds, refused (by
  /// init, or there is no release yet), stopping.
  result<molt_ref> start(std::string_view type, std::string_view name, const arguments&);
  /// The same with arguments that the caller holds.
  result<molt_ref> start(std::string_view type, std::string_view name, const molt_argument* given, std::size_t count);
  result<molt_ref> start_connection(std::string_view type, connection_output&, const arguments&);
  /// Waits for a running handler, then terminates the server on this thread; its queued calls get no_such_server. A
  /// connection's output is not used any more once stop has returned. Errors: no_such_server, timeout (still running),
  /// would_deadlock.
  result<void> stop(molt_ref, std::string_view why, std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  /// As stop, but handles the messages first that wait when the running handler has returned. No error: it failed
  /// meanwhile. timeout: it is still running, or (and then it has ended) the text says how many messages were refused.
  result<void> drain_and_stop(molt_ref, std::string_view why, std::chrono::nanoseconds timeout);
  /// As request_stop, and its name is free at once: the nearest to OTP's `kill` that there is for C++ code.
  void kill(molt_ref, std::string_view why);
  /// Ends the server after the message that it is handling, if any; does not wait. A stale reference is ignored.
  void request_stop(molt_ref, std::string_view why);
  /// Tells the server its new arguments (config_change, if it has one) at its next update point, on this thread; waits
  /// for a running handler. Errors: no_such_server, timeout (still running), busy (suspended), hook_failed (it threw,
  /// and the server has failed), would_deadlock.
  result<void> change_config(molt_ref, const arguments& now,
                             std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  [[nodiscard]] molt_ref lookup(std::string_view name) const;
  /// As long as it lives, handlers that look up one of these names wait until a server has it
  /// (options::expected_name_wait): for whoever is about to start such servers, on the thread that made this. One at a
  /// time.
  class name_expectation {
   public:
    name_expectation(runtime&, const std::vector<std::string>& names);
    name_expectation(const name_expectation&) = delete;
    name_expectation& operator=(const name_expectation&) = delete;
    ~name_expectation();

   private:
    engine& owner_;
  };
  /// Of a group, in no order.
  [[nodiscard]] std::vector<molt_ref> members(std::string_view group) const;
  /// The server's present type, shared; null if it is gone. Holding it keeps its image mapped.
  [[nodiscard]] std::shared_ptr<const server_type> type_of(molt_ref) const;
  [[nodiscard]] std::vector<server_info> servers() const;
  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] statistics stats() const;

  // -- Messages from outside any server; the statuses are those of molt_host
  /// On MOLT_OK the reply is constructed in reply_storage. The payload may be moved from; it is the caller's to
  /// destroy. timeout <= 0: options::call_timeout. MOLT_THREW: a hook between two versions threw.
  int call(molt_ref to, const molt_message&, void* payload, void* reply_storage, std::chrono::nanoseconds timeout = {});
  /// Why the calling thread's last call failed; valid until it calls again.
  [[nodiscard]] static std::string_view call_failure() noexcept;
  int cast(molt_ref to, const molt_message&, void* payload);
  /// Runs handle_data on this thread; waits for a running handler first. `consumed` is at most `size`. Statuses:
  /// NO_SUCH_SERVER, SERVER_FAILED (and the server is gone), UNKNOWN_MESSAGE (not a connection).
  int deliver(molt_ref connection, const char* data, std::size_t size, std::size_t& consumed, molt_text* error);
  /// A handler of the server's present type, by the message's name; null if there is none. For calls that arrive as
  /// JSON. Hold `type_of` while using it.
  [[nodiscard]] const molt_handler* find_handler(molt_ref, std::string_view message_name) const;

  // -- Rest
  /// Holds one server at its next update point; its messages queue. Errors: timeout, no_such_server, busy (already
  /// suspended), would_deadlock (from its own handler).
  result<void> suspend(molt_ref, std::chrono::nanoseconds timeout);
  result<void> resume(molt_ref);
  /// Brings everything to rest: no handler runs and none begins until the guard is gone. Handlers already begun may
  /// call on and are waited for. Calls and starts from outside wait (within their deadline), casts queue. Errors:
  /// timeout, and then everything runs as before; busy (already at rest).
  class rest_guard;
  result<rest_guard> rest(std::chrono::nanoseconds timeout);
  /// Visits every server. Only while at rest (needs the guard); several threads may visit disjoint parts: thread `part`
  /// of `parts`.
  void for_each(const rest_guard&, unsigned part, unsigned parts, const std::function<void(resting_server&)>&);
  /// Visits one server. Only while at rest, with nobody else visiting it. False: it has ended, or is being visited.
  bool visit(const rest_guard&, molt_ref, const std::function<void(resting_server&)>&);
  /// fork(), with no lock of the runtime held by another thread that for_each and resting_server take. Returns what
  /// fork does. The copy has this thread alone: of this runtime it may use those two only, and it ends by _exit.
  int fork_at_rest(const rest_guard&);
  /// In the copy: overwrites the memory that is kept for messages to come.
  static void overwrite_free_envelopes(const rest_guard&) noexcept;
  /// For code that never rests: waits until no server has `type` and no message, timer or deferred reply made by its
  /// image is pending and no work of its runs in the background, then forgets it. Waiting messages and timers that the
  /// receiver's present type takes are rewritten to it. Error: busy, with what still uses it.
  result<void> retire(const server_type&, std::chrono::nanoseconds timeout);
  /// Shares the type until it is retired, as for a server of it: resting_server::become to it needs no memory then.
  /// Throws std::bad_alloc.
  void keep(const server_type&);

  /// What needs each of these images: counted now, while everything goes on, so what moves meanwhile may be counted in
  /// neither place. Messages of a server that runs count as its version's. Takes about 5 ms for 1,000,000 servers.
  [[nodiscard]] std::vector<image_uses> uses(std::span<const image_range>);

  // -- Introspection
  // All of these wait for a running handler (an update point) and leave a suspended server suspended. Errors of all:
  // no_such_server, timeout (still running), would_deadlock (from its own handler).
  /// With `measure` the state is written as an archive to count its bytes; it takes as long as an upgrade by archive.
  /// Errors: hook_failed (writing it threw); without `measure` nothing is waited for.
  result<server_status> status(molt_ref, bool measure = false,
                               std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  /// What may be shown of the state: through the type's format_status if it has one. Errors: hook_failed, out_of_bounds
  /// (more than `bytes_max`).
  result<state_copy> get_state(molt_ref, std::size_t bytes_max,
                               std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  /// The server goes on with the state that the archive, written for the state of `as`, holds; or, on any error, with
  /// its own. Errors: corrupt (no such archive), refused (self_check found it broken), incompatible (the server's type
  /// is not `as`, as after an upgrade), out_of_bounds.
  result<void> replace_state(molt_ref, const server_type& as, std::string_view archive,
                             std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  /// From its next message on the server's messages are recorded; that costs each of them about a microsecond, and
  /// servers that are not watched nothing. It ends with as many `unwatch`, with the server, or when nobody has read the
  /// trace for as long as `lasts`. Errors: out_of_bounds (too many servers are watched).
  result<void> watch(molt_ref, std::chrono::nanoseconds lasts = std::chrono::seconds{30},
                     std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  /// Never waits: a busy server is watched no more from its next message on. Errors: not_found (it is not watched).
  result<void> unwatch(molt_ref);
  /// The events numbered higher than `after`, of a server that is or was watched. Never waits. Errors: not_found.
  result<trace_page> trace(molt_ref, std::uint64_t after = 0);

  /// From its next message on the server's last messages are kept, within those bounds, until it ends or `most` says
  /// none; if it has a name, those of each later server of that name, too. That costs each message about a microsecond,
  /// and its payload's archive if that is kept. Errors: out_of_bounds (too many servers are watched or recorded).
  result<void> record(molt_ref, recording most, std::chrono::nanoseconds timeout = std::chrono::seconds{5});
  /// The same for the servers that will start under that name.
  void record_named(const std::string& name, recording most);
  /// Oldest first, with the payloads that are kept. They may be secret: nothing else shows them. Never waits. Errors:
  /// not_found (they are not recorded).
  result<std::vector<recorded_message>> last_messages(molt_ref);

  // -- Events
  /// Called on the thread that ended the server, with no server held. Set once, before the first start.
  void on_exit(std::function<void(const exit_event&)>);
  /// Called on the thread that ran it when a function of a server has thrown, before the server ends, with the server
  /// held: the listener must not use the runtime. Set once, before the first start.
  void on_failure(std::function<void(const server_failure&)>);
  /// Whom plugins' `start_child` asks; null: nobody. Calls under way share the one before.
  void starts_children(std::shared_ptr<child_starter>);
  /// Whom a server's init asks for the state that it was given; null: nobody has any.
  void gives_states(std::shared_ptr<state_giver>);

 private:
  std::unique_ptr<engine> engine_;
};

/// Everything is at rest until this is gone.
class runtime::rest_guard {
 public:
  rest_guard() = default;
  rest_guard(rest_guard&& other) noexcept : owner_{std::exchange(other.owner_, nullptr)} {}
  rest_guard& operator=(rest_guard&& other) noexcept {
    if (this != &other) {
      let_go();
      owner_ = std::exchange(other.owner_, nullptr);
    }
    return *this;
  }
  ~rest_guard() { let_go(); }

 private:
  friend class runtime;
  explicit rest_guard(engine& owner) noexcept : owner_{&owner} {}
  void let_go() noexcept;
  engine* owner_ = nullptr;
};

}  // namespace molt::servers
