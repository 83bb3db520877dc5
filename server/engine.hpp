// The runtime's inside: what the parts (cells, gate, pool, timers, deferred calls, registry) do together.
//
//   engine_direct.cpp     the call to an idle server
//   engine_call.cpp       other calls, running messages, connections
//   engine_convert.cpp    messages and replies of another version, deferred replies
//   engine_mailbox.cpp    casts, draining mailboxes, leaving a server
//   engine_next.cpp       the cast to an idle server that its sender's worker runs next
//   engine_wait.cpp       waiting for a reply, helping, deadlocks, holding a server
//   engine_lifecycle.cpp  starting and ending servers, exit events
//   engine_signals.cpp    what servers do beside messages: continue, stop, watch each other, offload
//   engine_upgrade.cpp    the switch, sweep, suspend, rest, retire
//   engine_tend.cpp       work on states between messages, in slices
//   engine_host.cpp       the functions that plugins are given
//   engine_introspection.cpp  state, status and trace of one server
//   engine_children.cpp   what supervisors need beside start and stop
//   engine_images.cpp     what still uses an image
#pragma once

#include "plugin/text.hpp"
#include "server/argument_block.hpp"
#include "server/cell.hpp"
#include "server/deferred.hpp"
#include "server/expected_names.hpp"
#include "server/gate.hpp"
#include "server/offload_pool.hpp"
#include "server/pool.hpp"
#include "server/registry.hpp"
#include "server/relations.hpp"
#include "server/runtime.hpp"
#include "server/thread_record.hpp"
#include "server/timers.hpp"
#include "server/watches.hpp"

#include <array>
#include <atomic>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace molt::servers {

/// One switch. Its release goes when no server can be offered to it any more (forget); itself one sweep later, as until
/// then somebody may compare its address with that of the current one.
struct switch_entry {
  explicit switch_entry(std::shared_ptr<const servers::release> next) noexcept : release{std::move(next)} {}
  std::shared_ptr<const servers::release> release;
  std::unique_ptr<route_cache> routes = std::make_unique<route_cache>();  // through what the release holds; go with it
  std::uint64_t forgotten = 0;  // how many sweeps had begun by then; 0: it is not
};

/// A runtime's functions for plugins; whoever has them has the runtime.
struct host_of_engine : molt_host {
  engine* owner = nullptr;
};

struct engine {
  explicit engine(options);
  ~engine();

  // -- Calls and casts (engine_call.cpp)
  /// Why it failed stands in the thread's `scratch`.
  int call(molt_ref, const molt_message&, void* payload, void* reply, std::int64_t timeout_ns);
  int cast(molt_ref, const molt_message&, void* payload);
  static int cast_from_handler(molt_context*, molt_ref, const molt_message*, void* payload);
  int push_cast(thread_record&, molt_ref, envelope*);  ///< takes over the envelope
  int deliver(molt_ref, const char* data, std::size_t size, std::size_t& consumed, molt_text* error);
  int deliver_once(thread_record&, molt_ref, const char* data, std::size_t size, std::size_t& consumed,
                   molt_text* error, std::int64_t deadline_ns, bool& suspended);
  void turn(cell&);  ///< of the pool
  void run_turn(thread_record&, cell&);

  // The server that a worker runs next (engine_next.cpp).
  bool hand_off(thread_record&, cell& receiver, molt_ref to, envelope*);  ///< false: in the ordinary way
  bool begin_handoff(thread_record&, cell& receiver, molt_ref to, envelope*, const molt_message&);
  static bool is_free_for_handoff(const cell&, molt_ref) noexcept;
  void run_next(thread_record&, cell&);
  void let_go_handoff(thread_record&);  ///< before anything that may take long
  bool rescue_handoff(thread_record& from);

  enum class pushed { no, first, behind };
  pushed push(thread_record&, cell&, envelope*);
  void schedule(cell&);

  /// Runs one message on a server that the thread holds. `ended` says that the server is gone and no longer held.
  int handle(thread_record&, activation&, const molt_message&, void* payload, void* reply, molt_text* error,
             bool& ended);
  int handle_converted(thread_record&, activation&, const molt_message&, void* payload, void* reply, molt_text* error,
                       bool& ended);
  int finish_handled(thread_record&, activation&, int status, molt_text* error, bool& ended);
  /// The same, recorded if the server is watched; `caller` is the activation that calls directly, if any.
  int handle_or_watch(thread_record& me, activation& here, const molt_message& message, void* payload, void* reply,
                      bool& ended, const activation* caller) {
    if (running(here).type.load(std::memory_order_relaxed)->watched()) [[unlikely]]
      return handle_watched(me, here, message, payload, reply, ended, caller);
    return handle(me, here, message, payload, reply, &me.scratch, ended);
  }
  int handle_watched(thread_record&, activation&, const molt_message&, void* payload, void* reply, bool& ended,
                     const activation* caller);
  /// What takes a message: a handler of its own, or one by a route. Without a handler the route says why, or is null:
  /// there is no memory.
  struct arrival {
    const molt_handler* handler = nullptr;
    const message_route* route = nullptr;
    [[nodiscard]] bool defers() const noexcept { return handler != nullptr && handler->flags != 0; }
  };
  arrival find_arrival(const server_type&, const molt_message&);
  /// Null: there is no memory. The route stays for as long as the activation in which it was looked for.
  const message_route* find_route(const server_type&, const molt_message&, const molt_schema* answered = nullptr);
  int refuse_unknown(const cell& held, const molt_message&, const message_route*, molt_text* error);
  /// Handles what waits until `own` is handled, `most` messages are, or nothing waits. False: the server ended.
  bool drain(thread_record&, cell&, unsigned most, call_envelope* own);
  bool run_cast(thread_record&, draining&, envelope*);
  bool run_envelope(thread_record&, cell&, envelope*);
  bool run_call(thread_record&, cell&, call_envelope&);
  bool run_deferrable(thread_record&, cell&, const arrival&, call_envelope&);
  /// The server goes on, the call fails with the text, and nobody was told of it.
  void fail_deferred(thread_record&, std::uint64_t token, int status, std::string_view text);
  int reply(std::uint64_t token, const molt_schema&, void* value);
  void finish_call(thread_record&, call_envelope&, int status, std::string_view text);
  int call_otherwise(molt_ref, const molt_message&, void* payload, void* reply, std::int64_t timeout_ns);
  static void await_idle(const thread_record&, const cell& wanted, molt_ref to);
  int call_held(thread_record&, molt_ref, const molt_message&, void* payload, void* reply, std::int64_t timeout_ns);
  int direct_behind(const molt_message&, void* payload, void* reply, std::int64_t timeout_ns);
  int direct_failed();
  int direct_attend();
  int direct_left();
  void leave_direct(thread_record&, std::uint64_t outside);
  static int direct_not(const molt_message&, void* payload, void* reply, std::int64_t timeout_ns);
  static engine& of(const activation& each) noexcept {
    return *static_cast<const host_of_engine*>(each.context.host)->owner;
  }
  void leave_root(thread_record& me) {
    gate_.leave(me);
    if (me.has_exits) [[unlikely]]
      tell_exits(me);
  }
  void reject(thread_record&, envelope*, int status, std::string_view text);
  envelope* next_message(cell&);
  static envelope* next_message(draining&);
  static void take_all(cell&);
  static std::pair<envelope*, std::uint32_t> take_pushed(cell&);
  static void give_back(const draining&);
  void linger(thread_record&, const draining&);

  /// After a direct call: a plain store.
  void leave(thread_record& me, cell& held, std::uint64_t idle) {
    held.word.store(idle, fence::fast_store);
    fence::light();
    if (held.attention.load(fence::fast_load) != 0) [[unlikely]]
      attend(me, held);
  }
  void leave_mailbox(thread_record&, cell&);  ///< after anything else
  void attend(thread_record&, cell&);
  [[nodiscard]] static bool is_to_end(const cell& held) noexcept {
    return (held.attention.load(std::memory_order_acquire) & attention::stop) != 0;
  }
  bool end_as_asked(thread_record&, cell& held);  ///< true: it has ended, and is not held any more
  void want(cell&, std::uint8_t what);            ///< of attention::; heavy

  // -- Waiting (engine_wait.cpp)
  int call_waiting(thread_record&, cell&, molt_ref, const molt_message&, void* payload, void* reply,
                   std::int64_t timeout_ns, molt_text* error);
  int wait_for(thread_record&, cell&, call_envelope&, bool first, std::int64_t deadline_ns, molt_text* error);
  /// Runs what waits before the call, until the deadline and a turn's worth at most.
  void try_help(thread_record&, cell&, call_envelope&, std::int64_t deadline_ns);
  bool park(thread_record&, cell&, call_envelope&, std::int64_t deadline_ns, std::string& cycle);
  int give_up(thread_record&, call_envelope&, int status, std::string_view text, molt_text* error);
  int take_reply(thread_record&, call_envelope&, void* reply, molt_text* error);
  [[nodiscard]] bool on_own_stack(const thread_record&, const cell&) const noexcept;
  /// Registers the wait, or says in `cycle` which servers wait for each other.
  bool begin_wait(thread_record&, cell&, call_envelope&, std::string& cycle);
  void end_wait(thread_record&);
  /// Its name, or its type and the reference that commands take.
  std::string describe(const cell&) const;
  std::string describe_cycle(const thread_record&, const cell& closing, const std::vector<const cell*>& between) const;
  /// Holds a server, waiting for its holder. MOLT_OK, MOLT_TIMEOUT, MOLT_NO_SUCH_SERVER; MOLT_REFUSED if it is
  /// suspended and that is not wanted.
  int acquire(thread_record&, cell&, std::uint32_t generation, std::int64_t deadline_ns, bool suspended_too);
  static int try_acquire(thread_record&, cell&, std::uint32_t generation, bool suspended_too);
  /// The same for who has a reference; why not, in words: no_such_server, would_deadlock, timeout; busy if suspended.
  result<cell*> hold(thread_record&, molt_ref, std::int64_t deadline_ns, bool suspended_too);
  static error no_such_server();
  bool hand_over(cell&);  ///< a held server to one who waits in acquire; false if nobody does
  void wake_acquirers();

  // -- Servers (engine_lifecycle.cpp)
  result<molt_ref> start(std::string_view type, std::string_view name, const molt_arguments&, connection_output*);
  result<molt_ref> start_held(thread_record&, cell&, const server_type&, std::string_view name, const molt_arguments&,
                              connection_output*, const switch_entry&);
  result<void> stop(molt_ref, std::string_view why, std::int64_t timeout_ns);
  /// Ends a server that the thread holds; afterwards the thread does not.
  void end_server(thread_record&, cell&, bool failed, std::string_view why);
  /// True: relations concern the server that was here.
  bool free_cell(thread_record&, cell&, int status, std::string_view text);
  void drain_dead(thread_record&, cell&, int status, std::string_view text);
  void tell_exits(thread_record&);
  void stop_all();
  void request_stop(molt_ref, std::string_view why, bool failed = false);
  bool take_stop_reason(molt_ref, std::string& why, bool& failed);
  result<void> change_config(molt_ref, const molt_arguments&, std::int64_t timeout_ns);
  result<void> change_held(thread_record&, cell&, const molt_arguments&);
  [[nodiscard]] molt_ref ref_of(const cell& server) const noexcept {
    const auto generation = word::generation(server.word.load(std::memory_order_relaxed));
    return {(std::uint64_t{generation} << 32U) | registry_.slot_of(server)};
  }
  [[nodiscard]] cell& running(const activation& each) const noexcept {
    return registry_.at(slot_of(each.context.self));
  }
  cell* find(molt_ref) const noexcept;  ///< null if stale
  void keep(const server_type&);
  void log(int level, const cell* from, std::string_view text) const;
  void tell_failure(thread_record&, cell& held, std::string_view why);  ///< on_failure, before it ends (failure.cpp)

  // -- For supervisors (engine_children.cpp)
  result<void> drain_and_stop(molt_ref, std::string_view why, std::int64_t timeout_ns);
  void kill(molt_ref, std::string_view why);
  result<molt_ref> start_child(std::string_view supervisor, std::string_view name, const molt_arguments&);
  int take_given(const cell& held, const molt_schema& as, void* storage, molt_text* error);

  // -- Signals (engine_signals.cpp). Those of a server are for the thread that holds it.
  int continue_with(molt_ref self, const molt_message&, void* payload);
  void stop_self(molt_ref self, std::string_view why);
  static void divert(cell& held);  ///< until it is left, no call runs directly
  std::uint64_t monitor(molt_ref self, molt_ref target);
  int link(molt_ref self, molt_ref other);
  int join(molt_ref self, std::string_view group);
  int offload(molt_ref self, const molt_work&, void* work);
  void run_offloaded(offloaded_job&);
  /// Sets cell::related; false if the server has ended.
  bool mark_related(molt_ref);
  /// Tells those whom relations tie to a server that has ended.
  void part(thread_record&, exit_event);
  void send_down(thread_record&, molt_ref watcher, std::uint64_t monitor, const exit_event&);
  void signal_exit(thread_record&, molt_ref linked, const exit_event&);
  /// Sends what the host makes: not bounded by the mailbox, as relations and offloaded jobs are bounded themselves.
  template <class M>
  void send_signal(thread_record&, molt_ref to, M&&);
  void push_signal(thread_record&, molt_ref to, envelope*);  ///< takes over the envelope
  /// Null if there is no memory, or the plugin's code threw.
  envelope* copy_cast(thread_record&, envelope&);

  // -- Upgrades (engine_upgrade.cpp)
  void switch_to(std::shared_ptr<const servers::release>);
  /// The server must be held.
  void adopt(cell&);
  void adopt_if_behind(cell& held) {
    if (held.seen.load(std::memory_order_relaxed) != current_.load(std::memory_order_acquire)) [[unlikely]]
      adopt(held);
  }
  std::size_t sweep(const std::function<bool()>& keep_going);
  void tend(const std::function<bool(const server_type&)>& wanted, const std::function<tending(resting_server&)>& look,
            const std::function<bool()>& keep_going, unsigned callers_share);  // engine_tend.cpp
  struct tended {
    molt_ref ref;
    unsigned vain = 0;          // looks that found it held
    std::uint64_t handled = 0;  // messages, when it was last held here
    bool called = true;         // since then
  };
  tending tend_one(thread_record&, tended&, const std::function<tending(resting_server&)>& look);
  bool offer(thread_record&, cell&, std::size_t& offered);
  void put_back_suspended(cell&);
  class counted_sweep;
  std::vector<switch_entry*> old_releases();
  void forget(const std::vector<switch_entry*>&, std::uint64_t sweep);
  result<void> suspend(molt_ref, std::int64_t timeout_ns);
  result<void> resume(molt_ref);
  void for_each(unsigned part, unsigned parts, const std::function<void(resting_server&)>&);
  bool visit(molt_ref, const std::function<void(resting_server&)>&);
  int fork_at_rest();
  result<void> retire(const server_type&, std::int64_t timeout_ns);
  [[nodiscard]] std::vector<image_uses> uses(std::span<const image_range>);  // engine_images.cpp
  void count_mailbox(thread_record&, cell&, std::span<const image_range>, std::vector<image_uses>&);
  std::string who_has(const server_type&);
  std::string what_waits(thread_record&, const server_type&);
  std::string move_mailbox_off(thread_record&, cell&, const image_range&);
  bool move_off(thread_record&, envelope*&, const server_type* receiver, const image_range&);

  // -- Introspection (engine_introspection.cpp, but for servers() and stats())
  [[nodiscard]] std::vector<server_info> servers() const;
  [[nodiscard]] server_info info_of(const cell&, std::uint64_t word, const server_type&) const;
  [[nodiscard]] std::uint32_t seconds_now() const noexcept;
  /// A longer queue than there has been.
  void note_queue(const cell& receiver, std::size_t length) noexcept {
    if (length > kept::queued_most(registry_.detail(receiver))) [[unlikely]]
      raise_queue_mark(receiver, length);
  }
  void raise_queue_mark(const cell&, std::size_t length) noexcept;
  result<server_status> status(molt_ref, bool measure, std::int64_t timeout_ns);
  result<state_copy> get_state(molt_ref, std::size_t bytes_max, std::int64_t timeout_ns);
  result<void> replace_state(molt_ref, const server_type& as, std::string_view archive, std::int64_t timeout_ns);
  result<void> watch(molt_ref, std::int64_t lasts_ns, std::int64_t timeout_ns);
  result<void> unwatch(molt_ref);
  result<trace_page> trace(molt_ref, std::uint64_t after);
  result<void> record(molt_ref, recording, std::int64_t timeout_ns);
  result<void> record_held(cell&, recording);
  void record_from_start(cell&, std::string_view name);  ///< a server that starts, if that is wanted of its name
  result<std::vector<recorded_message>> last_messages(molt_ref);
  static void set_watched(cell& held, bool watched);
  [[nodiscard]] statistics stats() const;

  static inline std::atomic<std::uint64_t> engines_made{0};
  const std::uint64_t number_ = engines_made.fetch_add(1, std::memory_order_relaxed);
  const options options_;
  const unsigned direct_nesting_max_;  // handlers on one stack that may call directly
  servers::clock& clock_;
  registry registry_;
  expected_names expected_names_{options_.expected_name_wait};
  gate gate_{*this};
  host_of_engine host_{};
  std::atomic<const switch_entry*> current_;
  timers timers_;
  deferred_calls deferred_;
  relations relations_;
  watches watches_;
  argument_blocks argument_blocks_;
  offload_pool offloads_;
  pool pool_;

  std::mutex switches_mutex_;
  std::list<switch_entry> switches_;
  std::uint64_t sweeps_begun_ = 0;    // under switches_mutex_
  std::uint64_t sweeps_running_ = 0;  // likewise
  mutable std::mutex types_mutex_;
  std::unordered_map<const server_type*, std::shared_ptr<const server_type>> types_;
  std::atomic<const server_type*> last_kept_{nullptr};

  std::mutex waits_mutex_;  // who waits for whom

  struct acquirer {
    const cell* wanted;
    std::uint32_t thread;
    bool granted = false;
  };
  std::mutex acquirers_mutex_;
  std::condition_variable acquirers_changed_;
  std::list<acquirer*> acquirers_;

  std::function<void(const exit_event&)> on_exit_;
  std::function<void(const server_failure&)> on_failure_;
  std::mutex child_starter_mutex_;
  std::shared_ptr<child_starter> child_starter_;
  std::shared_ptr<state_giver> state_giver_;  // the same mutex
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> live_{0};
  std::atomic<std::uint64_t> started_{0};
  std::atomic<std::uint64_t> ended_{0};
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> unknown_{0};
  std::atomic<std::uint64_t> late_replies_{0};
  std::mutex stop_reasons_mutex_;
  struct stop_reason {
    std::string why;
    bool failed = false;
  };
  std::unordered_map<std::uint64_t, stop_reason> stop_reasons_;  // by reference, of servers whose attention says stop
};

/// A thread's root or nested activation; leaves the gate and tells exits when it is the root.
class activity {
 public:
  enum class how { wait, regardless };
  /// `entered()` is false if the gate stayed closed until the deadline.
  activity(engine& owner, thread_record& me, std::int64_t deadline_ns = INT64_MAX, how way = how::wait)
      : owner_{owner}, me_{me}, root_{!owner.gate_.inside(me)} {
    if (!root_) return;
    if (way == how::regardless)
      owner.gate_.enter_regardless(me);
    else
      entered_ = owner.gate_.enter(me, deadline_ns);
  }
  ~activity() {
    if (!root_ || !entered_) return;
    owner_.gate_.leave(me_);
    if (me_.has_exits) owner_.tell_exits(me_);
  }
  activity(const activity&) = delete;
  activity& operator=(const activity&) = delete;
  [[nodiscard]] bool entered() const noexcept { return entered_; }

 private:
  engine& owner_;
  thread_record& me_;
  bool root_;
  bool entered_ = true;
};

/// A handler's place on its thread's stack.
class frame : public activation {
 public:
  /// `token` other than 0: the handler may answer later.
  frame(engine& of, thread_record& me, cell& held, std::uint64_t token = 0) noexcept
      : frame{of, me, of.ref_of(held), token} {}
  frame(engine& of, thread_record& me, molt_ref self, std::uint64_t token = 0) noexcept
      : activation{{&of.host_, self}, me.active.load(std::memory_order_relaxed), token}, me_{me} {
    me.active.store(active::with(outside, *this) | (token != 0 ? active::may_defer : 0), fence::fast_store);
  }
  ~frame() { me_.active.store(outside, fence::fast_store); }
  frame(const frame&) = delete;
  frame& operator=(const frame&) = delete;

 private:
  thread_record& me_;
};

host_of_engine make_host(engine&) noexcept;

inline constexpr unsigned messages_per_turn = 128;

}  // namespace molt::servers
