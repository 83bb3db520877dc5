#include "server/engine.hpp"
#include "server/futex.hpp"

#include <algorithm>
#include <thread>

namespace molt::servers {

namespace {

constexpr unsigned call_spins = 200;
constexpr unsigned acquire_spins = 200;
// A handler that waits looks this often whether it can run the other server itself: it need not rely on the pool, whose
// turns may be held back by a gate that waits for this very handler.
constexpr std::int64_t help_every_ns = 1'000'000;
constexpr std::int64_t manual_clock_slice_ns = 1'000'000;
constexpr unsigned chain_max = 4096;

}  // namespace

// ---- Calls that wait

int engine::call_waiting(thread_record& me, cell& wanted, molt_ref to, const molt_message& message, void* payload,
                         void* reply, std::int64_t timeout_ns, molt_text* error) {
  const auto seen = wanted.word.load(std::memory_order_acquire);
  if (word::generation(seen) != generation_of(to) || word::now(seen) == condition::free) {
    set_text(error, "the reference leads to no server");
    return MOLT_NO_SUCH_SERVER;
  }
  if (on_own_stack(me, wanted)) {
    set_text(error, "the call would wait for itself: " + describe_cycle(me, wanted, {}));
    return MOLT_WOULD_DEADLOCK;
  }
  const auto limit = timeout_ns > 0 ? timeout_ns : options_.call_timeout.count();
  const auto deadline = deadline_in(limit, clock_.monotonic_ns());
  call_envelope* const call = make_call(me, message, generation_of(to), payload, reply);
  if (call == nullptr) return MOLT_OVERLOADED;
  const auto how = push(me, wanted, call);
  if (how == pushed::no) {
    release_call(me, call);
    release_call(me, call);
    set_text(error, describe(wanted) + " has too many messages waiting");
    return MOLT_OVERLOADED;
  }
  const int status = wait_for(me, wanted, *call, how == pushed::first, deadline, error);
  return status == MOLT_OK ? take_reply(me, *call, reply, error) : status;
}

// MOLT_OK: the call is done, well or not. Anything else: given up, and the envelope is not the caller's any more.
int engine::wait_for(thread_record& me, cell& wanted, call_envelope& call, bool first, std::int64_t deadline_ns,
                     molt_text* error) {
  const bool may_help = me.depth() < options_.nesting_max;
  for (unsigned i = 0; i < call_spins; ++i) {
    if (call.current() == call_state::done) return MOLT_OK;
    if (may_help) try_help(me, wanted, call, deadline_ns);
    fence::spin_pause();
  }
  if (call.current() == call_state::done) return MOLT_OK;
  if (first) schedule(wanted);  // this thread pushed onto an empty mailbox, and has promised to see to it
  std::string cycle;
  if (park(me, wanted, call, deadline_ns, cycle)) return MOLT_OK;
  if (!cycle.empty()) return give_up(me, call, MOLT_WOULD_DEADLOCK, "the call would wait for itself: " + cycle, error);
  return give_up(me, call, MOLT_TIMEOUT, "no reply in time from " + describe(wanted), error);
}

void engine::try_help(thread_record& me, cell& wanted, call_envelope& call, std::int64_t deadline_ns) {
  auto seen = wanted.word.load(std::memory_order_acquire);
  if (word::now(seen) != condition::idle || call.current() != call_state::queued ||
      clock_.monotonic_ns() >= deadline_ns)
    return;
  if (!wanted.word.compare_exchange_strong(seen, word::make(word::generation(seen), condition::held, me.id),
                                           std::memory_order_acquire))
    return;
  // Only up to the own call: what comes after it may need a server on this stack. Nor for ever: what stands before it
  // may be followed by more of its kind without end (continue_with). The pool goes on with what is left.
  bool lives = true;
  for (unsigned handled = 0; lives && handled < messages_per_turn; ++handled) {
    lives = drain(me, wanted, 1, &call);
    if (!lives || call.current() != call_state::queued || clock_.monotonic_ns() >= deadline_ns) break;
  }
  if (lives) leave_mailbox(me, wanted);
  let_go_handoff(me);  // this thread is about to wait
}

// True: done. False: the deadline passed, or `cycle` says who waits for whom.
bool engine::park(thread_record& me, cell& wanted, call_envelope& call, std::int64_t deadline_ns, std::string& cycle) {
  if (!begin_wait(me, wanted, call, cycle)) return false;
  const bool root = me.depth() == 0;
  const bool worker = me.is_worker && !root;
  const bool may_help = !root && me.depth() < options_.nesting_max;
  if (root) gate_.leave(me);  // runs no handler while it waits
  if (worker) pool_.blocking_begin(me);
  bool done = false;
  for (;;) {
    auto seen = call.state.load(std::memory_order_acquire);
    done = static_cast<call_state>(seen & call_state_mask) == call_state::done;
    const auto left = deadline_ns - clock_.monotonic_ns();
    if (done || left <= 0) break;
    if ((seen & call_parked) == 0 && !call.state.compare_exchange_strong(seen, seen | call_parked)) continue;
    auto limit = root ? left : std::min(left, help_every_ns);
    if (!clock_.is_steady()) limit = std::min(limit, manual_clock_slice_ns);
    futex::wait(call.state, seen | call_parked, limit);
    if (!may_help || call.current() != call_state::queued) continue;
    if (word::now(wanted.word.load(std::memory_order_acquire)) != condition::idle) continue;
    if (worker) pool_.blocking_end(me);
    end_wait(me);
    try_help(me, wanted, call, deadline_ns);
    const bool waits = begin_wait(me, wanted, call, cycle);
    if (worker) pool_.blocking_begin(me);
    if (!waits) break;
  }
  if (worker) pool_.blocking_end(me);
  if (root) gate_.enter_regardless(me);
  end_wait(me);
  return done;
}

int engine::give_up(thread_record& me, call_envelope& call, int status, std::string_view text, molt_text* error) {
  for (;;) {
    const auto now = call.current();
    if (now == call_state::done) return MOLT_OK;
    if (now == call_state::queued && call.advance(call_state::queued, call_state::withdrawn)) break;
    const bool deferred = now == call_state::deferred;
    const bool abandonable =
        deferred || (!call.borrowed && (now == call_state::running || now == call_state::deferring));
    if (abandonable && call.advance(now, call_state::abandoned)) {
      if (now != call_state::running)
        if (call_envelope* const held = deferred_.take(call.token)) release_call(me, held);
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds{20});  // being answered, or its payload is in use
  }
  release_call(me, &call);
  set_text(error, text);
  return status;
}

int engine::take_reply(thread_record& me, call_envelope& call, void* reply, molt_text* error) {
  const int status = call.status;
  const molt_schema* const schema = call.message->reply;
  if (status != MOLT_OK) {
    set_text(error, call.text);
  } else if (schema != nullptr && !call.reply_borrowed) {
    schema->move(reply, call.reply_at);
    schema->destroy(call.reply_at);
  }
  release_call(me, &call);
  return status;
}

// ---- Deadlocks

bool engine::on_own_stack(const thread_record& me, const cell& wanted) const noexcept {
  for (const activation* each = me.top(); each != nullptr; each = each->outer())
    if (&running(*each) == &wanted) return true;
  return false;
}

// Threads wait for servers, servers are held by threads. A cycle closes with the last wait in it; waits are registered
// one at a time, so whoever registers that one sees the whole cycle.
bool engine::begin_wait(thread_record& me, cell& wanted, call_envelope& call, std::string& cycle) {
  std::lock_guard lock{waits_mutex_};
  me.waiting_on = &wanted;
  me.waiting_for = &call;
  if (me.depth() == 0) return true;  // holds nothing that others wait for
  std::vector<const cell*> between;
  const cell* at = &wanted;
  for (unsigned steps = 0; steps < chain_max; ++steps) {
    const auto seen = at->word.load(std::memory_order_acquire);
    if (word::now(seen) != condition::held) return true;
    if (word::thread(seen) == me.id) {
      if (!on_own_stack(me, *at)) return true;
      cycle = describe_cycle(me, *at, between);
      me.waiting_on = nullptr;
      me.waiting_for = nullptr;
      return false;
    }
    const thread_record& holder = record_of(word::thread(seen));
    if (holder.waiting_on == nullptr) return true;
    const auto state = holder.waiting_for->current();
    if (state != call_state::queued && state != call_state::running && state != call_state::deferring) return true;
    // Everything that the holder runs above `at` waits too.
    std::vector<const cell*> stack;
    for (const activation* each = holder.top(); each != nullptr; each = each->outer()) {
      stack.push_back(&running(*each));
      if (stack.back() == at) break;
    }
    between.insert(between.end(), stack.rbegin(), stack.rend());
    at = holder.waiting_on;
  }
  return true;
}

void engine::end_wait(thread_record& me) {
  std::lock_guard lock{waits_mutex_};
  me.waiting_on = nullptr;
  me.waiting_for = nullptr;
}

std::string engine::describe(const cell& server) const {
  if (auto name = registry_.name_of(server); !name.empty()) return name;
  const server_type* const type = server.type.load(std::memory_order_relaxed);
  const std::string kind = type != nullptr ? std::string{type->name()} : std::string{"server"};
  return kind + " " + std::to_string(ref_of(server).bits);
}

std::string engine::describe_cycle(const thread_record& me, const cell& closing,
                                   const std::vector<const cell*>& between) const {
  std::vector<const cell*> own;
  for (const activation* each = me.top(); each != nullptr; each = each->outer()) {
    own.push_back(&running(*each));
    if (own.back() == &closing) break;
  }
  std::string text;
  for (auto each = own.rbegin(); each != own.rend(); ++each) text += describe(**each) + " -> ";
  for (const cell* const each : between) text += describe(*each) + " -> ";
  return text + describe(closing);
}

// ---- Holding a server

int engine::try_acquire(thread_record& me, cell& wanted, std::uint32_t generation, bool suspended_too) {
  auto seen = wanted.word.load(std::memory_order_acquire);
  for (;;) {
    const auto now = word::now(seen);
    if (word::generation(seen) != generation || now == condition::free) return MOLT_NO_SUCH_SERVER;
    if (now == condition::suspended && !suspended_too) return MOLT_REFUSED;
    if (now == condition::held) return MOLT_TIMEOUT;
    if (wanted.word.compare_exchange_weak(seen, word::make(generation, condition::held, me.id),
                                          std::memory_order_acquire))
      return MOLT_OK;
  }
}

int engine::acquire(thread_record& me, cell& wanted, std::uint32_t generation, std::int64_t deadline_ns,
                    bool suspended_too) {
  let_go_handoff(me);
  for (unsigned i = 0; i < acquire_spins; ++i) {
    const int status = try_acquire(me, wanted, generation, suspended_too);
    if (status != MOLT_TIMEOUT) return status;
    fence::spin_pause();
  }
  acquirer mine{&wanted, me.id};
  std::unique_lock lock{acquirers_mutex_};
  acquirers_.push_back(&mine);
  int status = MOLT_TIMEOUT;
  while (!mine.granted) {
    // As with messages: either the holder sees this when leaving, or this sees that it has left.
    want(wanted, attention::hand_over);
    status = try_acquire(me, wanted, generation, suspended_too);
    const auto left = deadline_ns - steady_ns();
    if (status != MOLT_TIMEOUT || left <= 0) break;
    acquirers_changed_.wait_for(lock, std::chrono::nanoseconds{std::min<std::int64_t>(left, 1'000'000'000)});
  }
  if (mine.granted) return MOLT_OK;  // hand_over has removed it from the list
  acquirers_.remove(&mine);
  return status;
}

result<cell*> engine::hold(thread_record& me, molt_ref ref, std::int64_t deadline_ns, bool suspended_too) {
  cell* const wanted = find(ref);
  if (wanted == nullptr) return no_such_server();
  if (on_own_stack(me, *wanted))
    return error{reason::would_deadlock, describe(*wanted) + " is running on this very thread"};
  switch (acquire(me, *wanted, generation_of(ref), deadline_ns, suspended_too)) {
    case MOLT_OK:
      return wanted;
    case MOLT_NO_SUCH_SERVER:
      return no_such_server();
    case MOLT_REFUSED:
      return error{reason::busy, describe(*wanted) + " is suspended"};
    default:
      return error{reason::timeout, describe(*wanted) + " is still handling a message"};
  }
}

error engine::no_such_server() { return {reason::no_such_server, "the reference leads to no server"}; }

bool engine::hand_over(cell& held) {
  std::lock_guard lock{acquirers_mutex_};
  acquirer* chosen = nullptr;
  bool others = false;
  for (acquirer* const each : acquirers_) {
    if (each->wanted != &held) continue;
    if (chosen == nullptr)
      chosen = each;
    else
      others = true;
  }
  if (chosen == nullptr) return false;
  if (others) held.attention.fetch_or(attention::hand_over, std::memory_order_seq_cst);
  acquirers_.remove(chosen);
  const auto generation = word::generation(held.word.load(std::memory_order_relaxed));
  chosen->granted = true;
  held.word.store(word::make(generation, condition::held, chosen->thread), std::memory_order_release);
  acquirers_changed_.notify_all();
  return true;
}

void engine::wake_acquirers() {
  std::lock_guard lock{acquirers_mutex_};
  acquirers_changed_.notify_all();
}

}  // namespace molt::servers
