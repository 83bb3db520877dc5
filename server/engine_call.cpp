#include "server/engine.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <thread>

namespace molt::servers {

namespace {

constexpr unsigned worker_spins = 64;
constexpr unsigned direct_looks = 20;
constexpr unsigned direct_pauses_max = 64;  // somewhat under a microsecond
constexpr unsigned handoffs_in_a_row = 64;
constexpr unsigned lingers_after = 16;       // messages handled in a row
constexpr std::uint32_t lingers_below = 64;  // messages taken at once
constexpr unsigned lingering_looks = 3;
constexpr unsigned lingering_pauses = 100;  // about a microsecond
constexpr std::uintptr_t steps_ahead = 6;
constexpr std::uint32_t counts_every = 64;  // messages, between two updates of what others see of a mailbox

std::int64_t deadline_after(std::int64_t limit_ns) noexcept {
  const auto now = steady_ns();
  return limit_ns < std::numeric_limits<std::int64_t>::max() - now ? now + limit_ns
                                                                   : std::numeric_limits<std::int64_t>::max();
}

void count_handled(cell& held) noexcept {
  held.handled.store(held.handled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

void set_text(molt_text* to, std::string_view text) noexcept {
  if (to == nullptr) return;
  to->size = static_cast<std::uint32_t>(std::min<std::size_t>(text.size(), MOLT_TEXT_CAPACITY));
  std::memcpy(to->data, text.data(), to->size);
}

std::string_view view(const molt_text& text) noexcept {
  return {text.data, std::min<std::size_t>(text.size, MOLT_TEXT_CAPACITY)};
}

// ---- Calls

// The thread holds no server that it did not hold before.
int engine::call_otherwise(molt_ref to, const molt_message& message, void* payload, void* reply,
                           std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  me.scratch.size = 0;
  let_go_handoff(me);  // it may be what this call is to, or waits for
  const auto slot = slot_of(to);
  if (!registry_.is_slot(slot)) {
    set_text(&me.scratch, "the reference leads to no server");
    return MOLT_NO_SUCH_SERVER;
  }
  const auto limit = timeout_ns > 0 ? timeout_ns : options_.call_timeout.count();
  const activity here{*this, me, deadline_after(limit)};
  if (!here.entered()) {
    set_text(&me.scratch, "everything was at rest until the deadline");
    return MOLT_TIMEOUT;
  }
  cell& wanted = registry_.at(slot);
  await_idle(me, wanted, to);
  auto expected = word::make(generation_of(to), condition::idle);
  const bool held = wanted.head.load(std::memory_order_acquire) == mailbox::empty &&
                    me.depth() < options_.nesting_max &&
                    wanted.word.compare_exchange_strong(expected, word::make(generation_of(to), condition::held, me.id),
                                                        std::memory_order_acquire, std::memory_order_relaxed);
  if (held) return call_held(me, to, message, payload, reply, timeout_ns);
  return call_waiting(me, wanted, to, message, payload, reply, timeout_ns, &me.scratch);
}

// Most handlers are shorter than the way through a mailbox. Looks less and less often: each look takes the server's
// cell from the processor that runs it. Only while nobody stands in the mailbox: who waits there comes first.
void engine::await_idle(const thread_record& me, const cell& wanted, molt_ref to) {
  unsigned pauses = 1;
  for (unsigned looks = 0; looks < direct_looks; ++looks) {
    const auto seen = wanted.word.load(std::memory_order_relaxed);
    if (word::now(seen) != condition::held || word::generation(seen) != generation_of(to) ||
        word::thread(seen) == me.id || wanted.head.load(std::memory_order_relaxed) != mailbox::empty)
      return;
    for (unsigned i = 0; i < pauses; ++i) fence::spin_pause();
    pauses = std::min(pauses * 2, direct_pauses_max);
  }
}

// A server just held, that must first be brought to the current release, or whose message is not an ordinary one.
int engine::call_held(thread_record& me, molt_ref to, const molt_message& message, void* payload, void* reply,
                      std::int64_t timeout_ns) {
  cell& held = registry_.at(slot_of(to));
  const auto idle = word::make(generation_of(to), condition::idle);
  adopt_if_behind(held);
  const molt_handler* const handler = held.type.load(std::memory_order_relaxed)->find(message.key);
  if (handler != nullptr && handler->flags != 0) {  // may answer later: needs an envelope
    leave(me, held, idle);
    return call_waiting(me, held, to, message, payload, reply, timeout_ns, &me.scratch);
  }
  bool ended = false;
  int status = MOLT_OK;
  {
    frame here{*this, me, held};
    status = handle_or_watch(me, here, message, payload, reply, ended, here.outer());
  }
  if (!ended) {
    count_handled(held);
    leave(me, held, idle);
  }
  return status;
}

int engine::handle(thread_record& me, activation& here, const molt_message& message, void* payload, void* reply,
                   molt_text* error, bool& ended) {
  cell& held = running(here);
  adopt_if_behind(held);
  const molt_handler* const handler = held.type.load(std::memory_order_relaxed)->find(message.key);
  if (handler == nullptr) [[unlikely]]
    return handle_converted(me, here, message, payload, reply, error, ended);
  const int status = handler->handle(&here.context, held.state, payload, reply, error);
  if (status != MOLT_OK) [[unlikely]]
    return finish_handled(me, here, status, error, ended);
  return status;
}

int engine::finish_handled(thread_record& me, activation& here, int status, molt_text* error, bool& ended) {
  cell& held = running(here);
  if (status == MOLT_OK) return status;
  const std::string why{view(*error)};
  ended = true;
  tell_failure(me, held, why);
  end_server(me, held, true, why);
  set_text(error, why);
  return MOLT_SERVER_FAILED;
}

// A message of another version: through an edge into storage of its own.
int engine::handle_converted(thread_record& me, activation& here, const molt_message& message, void* payload,
                             void* reply, molt_text* error, bool& ended) {
  cell& held = running(here);
  const server_type& type = *held.type.load(std::memory_order_relaxed);
  const auto [handler, edge] = find_conversion(type, message);
  if (handler == nullptr || handler->flags != 0) {
    unknown_.fetch_add(1, std::memory_order_relaxed);
    const std::string text = describe(held) + " (" + std::string{type.name()} + " " + std::string{type.version()} +
                             ") handles no such message: " + message.name;
    set_text(error, text);
    return MOLT_UNKNOWN_MESSAGE;
  }
  const molt_schema& wanted = *handler->message->payload;
  void* const storage = allocate_state(wanted);
  const std::string version{type.version()};
  const molt_change change{"", version.c_str(), {nullptr, 0}};
  int status = edge->apply(payload, storage, &change, error);
  if (status == MOLT_OK) {
    status = handler->handle(&here.context, held.state, storage, reply, error);
    wanted.destroy(storage);
    status = finish_handled(me, here, status, error, ended);
  } else {
    unknown_.fetch_add(1, std::memory_order_relaxed);
    status = MOLT_UNKNOWN_MESSAGE;
  }
  free_state(storage, wanted);
  return status;
}

// The edge may stand in the receiver's type or, when the receiver is older than the sender, in a newer type of the same
// name.
server_type::conversion engine::find_conversion(const server_type& type, const molt_message& message) {
  if (const auto found = type.find_conversion(message); found.handler != nullptr) return found;
  std::lock_guard lock{types_mutex_};
  for (const auto& [each, shared] : types_) {
    if (each == &type || each->name() != type.name()) continue;
    if (const auto found = type.find_conversion(message, *each); found.handler != nullptr) return found;
  }
  return {};
}

// ---- Casts

int engine::cast(molt_ref to, const molt_message& message, void* payload) {
  thread_record& me = this_thread();
  const auto slot = slot_of(to);
  if (!registry_.is_slot(slot)) return MOLT_NO_SUCH_SERVER;
  const auto seen = registry_.at(slot).word.load(std::memory_order_acquire);
  if (word::generation(seen) != generation_of(to) || word::now(seen) == condition::free) return MOLT_NO_SUCH_SERVER;
  const bool root = !gate_.inside(me);
  if (root) gate_.enter_regardless(me);  // no handler runs here, but whose message this is must not vanish meanwhile
  int status = MOLT_REFUSED;
  if (envelope* const made = make_cast(me, message, generation_of(to), payload)) [[likely]]
    status = push_cast(me, to, made);
  else if (message.payload->move != nullptr)
    status = MOLT_OVERLOADED;
  if (root) gate_.leave(me);
  return status;
}

int engine::push_cast(thread_record& me, molt_ref to, envelope* message) {
  cell& receiver = registry_.at(slot_of(to));
  if (me.is_worker && hand_off(me, receiver, to, message)) return MOLT_OK;
  const auto how = push(receiver, message);
  if (how == pushed::no) [[unlikely]] {
    destroy_cast(me, message);
    return MOLT_OVERLOADED;
  }
  if (how == pushed::first) schedule(receiver);
  return MOLT_OK;
}

bool engine::hand_off(thread_record& me, cell& receiver, molt_ref to, envelope* message) {
  cell* const waiting = me.handoff.server.load(std::memory_order_relaxed);
  if (waiting == nullptr) {
    auto expected = word::idle(to);
    if (receiver.head.load(std::memory_order_relaxed) != mailbox::empty ||
        receiver.word.load(std::memory_order_relaxed) != expected ||
        !receiver.word.compare_exchange_strong(expected, word::held(to, me.id), std::memory_order_acquire,
                                               std::memory_order_relaxed))
      return false;
    if (receiver.pending != nullptr) {  // somebody came and went between the two looks, and has left messages
      leave_mailbox(me, receiver);
      return false;
    }
    receiver.pending = message;
    receiver.pending_count.store(1, std::memory_order_relaxed);
    me.handoff.last = message;
    put_handoff(me, receiver);
    pool_.attend_handoff();
    return true;
  }
  if (waiting != &receiver || message->generation != generation_of(to)) return false;
  const auto count = receiver.pending_count.load(std::memory_order_relaxed);
  if (count >= options_.mailbox_max || take_handoff(me) == nullptr) return false;
  me.handoff.last->next = message;
  me.handoff.last = message;
  receiver.pending_count.store(count + 1, std::memory_order_relaxed);
  note_queue(receiver, count + 1);
  put_handoff(me, receiver);
  return true;
}

void engine::put_handoff(thread_record& me, cell& held) {
  me.handoff.count.store(me.handoff.count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  me.handoff.server.store(&held, fence::fast_store);
}

cell* engine::take_handoff(thread_record& me) {
  handoff& mine = me.handoff;
  cell* const held = mine.server.load(std::memory_order_relaxed);
  if (held == nullptr) return nullptr;
  mine.server.store(nullptr, fence::fast_store);
  fence::light();
  if (!mine.contested.load(fence::fast_load)) [[likely]]
    return held;
  std::lock_guard lock{mine.mutex};
  return std::exchange(mine.taken_away, nullptr) == held ? nullptr : held;
}

void engine::let_go_handoff(thread_record& me) {
  if (cell* const held = take_handoff(me)) leave_mailbox(me, *held);
}

// True: the server is to be run by anyone now.
bool engine::rescue_handoff(thread_record& from) {
  handoff& theirs = from.handoff;
  cell* held = nullptr;
  {
    std::lock_guard lock{theirs.mutex};
    theirs.contested.store(true, std::memory_order_seq_cst);
    fence::heavy();
    held = theirs.server.load(std::memory_order_seq_cst);
    if (held != nullptr) {
      theirs.taken_away = held;
      theirs.server.store(nullptr, std::memory_order_seq_cst);
    }
    theirs.contested.store(false, std::memory_order_seq_cst);
  }
  if (held == nullptr) return false;
  leave_mailbox(this_thread(), *held);
  return true;
}

engine::pushed engine::push(cell& receiver, envelope* message) {
  auto seen = receiver.head.load(std::memory_order_acquire);
  for (;;) {
    const std::size_t count = mailbox::count(seen);
    if (count + receiver.pending_count.load(std::memory_order_relaxed) >= options_.mailbox_max) [[unlikely]]
      return pushed::no;
    message->next = mailbox::top(seen);
    if (receiver.head.compare_exchange_weak(seen, mailbox::make(message, count + 1), std::memory_order_acq_rel,
                                            std::memory_order_acquire)) {
      note_queue(receiver, count + 1 + receiver.pending_count.load(std::memory_order_relaxed));
      return seen == mailbox::empty ? pushed::first : pushed::behind;
    }
  }
}

void engine::schedule(cell& ready) {
  if (ready.scheduled.exchange(1, std::memory_order_acq_rel) == 0) pool_.push(ready);
}

// ---- Running what waits

void engine::turn(cell& due) {
  thread_record& me = this_thread();
  activity here{*this, me};
  me.wanted.store(false, std::memory_order_relaxed);
  run_turn(me, due);
  for (unsigned run = 0; run < handoffs_in_a_row && !gate_.closing(); ++run) {
    cell* const held = take_handoff(me);
    if (held == nullptr) return;
    if (drain(me, *held, messages_per_turn, nullptr)) leave_mailbox(me, *held);
    if (run + 1 == handoffs_in_a_row && !pool_.has_other_work(me)) run = 0;
  }
  let_go_handoff(me);
}

void engine::run_turn(thread_record& me, cell& due) {
  // From here on whoever pushes first schedules again; an exchange, so that what was pushed before is seen.
  due.scheduled.exchange(0, std::memory_order_acq_rel);
  bool told = false;
  for (unsigned spins = 0;;) {
    auto seen = due.word.load(std::memory_order_acquire);
    const auto now = word::now(seen);
    if (now == condition::suspended) return;
    if (now != condition::held) {
      if (!due.word.compare_exchange_weak(seen, word::make(word::generation(seen), condition::held, me.id),
                                          std::memory_order_acquire))
        continue;
      if (now == condition::free) {
        due.attention.store(0, std::memory_order_seq_cst);
        drain_dead(me, due, MOLT_NO_SUCH_SERVER, "the server has ended");
        due.word.store(word::make(word::generation(seen), condition::free), fence::fast_store);
        fence::light();
        if (due.attention.load(fence::fast_load) == 0) return;
        continue;
      }
      if (drain(me, due, messages_per_turn, nullptr)) leave_mailbox(me, due);
      return;
    }
    if (++spins < worker_spins) {
      fence::spin_pause();
    } else if (!told) {
      want(due, attention::schedule);
      told = true;
    } else {
      return;  // its holder sees `attention`, or looks at the mailbox anyway
    }
  }
}

// Messages lie in another thread's cache, and mostly at regular distances, as they come from one stock in order: what
// would follow some steps beyond is asked for ahead. An address that leads nowhere does no harm.
inline void fetch_beyond(const envelope* one, const envelope* next) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(next);
  const auto distance = at - reinterpret_cast<std::uintptr_t>(one);
  __builtin_prefetch(reinterpret_cast<const void*>(at + steps_ahead * distance));
}

// Newest first becomes oldest first.
std::pair<envelope*, std::uint32_t> engine::take_pushed(cell& held) {
  if (!mailbox::has_messages(held.head.load(std::memory_order_relaxed))) return {nullptr, 0};
  const auto taken = held.head.exchange(mailbox::attended, std::memory_order_acq_rel);
  envelope* newest = mailbox::top(taken);
  envelope* oldest = nullptr;
  while (newest != nullptr) {
    envelope* const next = newest->next;
    fetch_beyond(newest, next);
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return {oldest, static_cast<std::uint32_t>(mailbox::count(taken))};
}

void engine::take_all(cell& held) {
  const auto [oldest, count] = take_pushed(held);
  if (oldest == nullptr) return;
  held.pending_count.store(held.pending_count.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  if (held.pending == nullptr) {
    held.pending = oldest;
  } else {
    envelope* last = held.pending;
    while (last->next != nullptr) last = last->next;
    last->next = oldest;
  }
}

envelope* engine::next_message(cell& held) {
  if (held.pending == nullptr) take_all(held);
  envelope* const oldest = held.pending;
  if (oldest == nullptr) return nullptr;
  held.pending = oldest->next;
  __builtin_prefetch(held.pending);
  held.pending_count.store(held.pending_count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  return oldest;
}

envelope* engine::next_message(draining& batch) {
  if (batch.pending == nullptr) {
    const auto [oldest, count] = take_pushed(*batch.held);
    if (oldest == nullptr) return nullptr;
    batch.pending = oldest;
    batch.count = count;
    batch.taken = count;
    batch.held->pending_count.store(count, std::memory_order_relaxed);
  } else if (batch.count % counts_every == 0) {
    batch.held->pending_count.store(batch.count, std::memory_order_relaxed);
  }
  envelope* const oldest = batch.pending;
  batch.pending = oldest->next;
  --batch.count;
  fetch_beyond(oldest, batch.pending);
  return oldest;
}

// Whoever has sent many messages is sending the next one now. To leave and be called again costs both sides more than
// to wait for it, and each look moves the cell between two processors: one look for a hundred messages lets five times
// as many through as one look for each.
void engine::linger(thread_record& me, const draining& batch) {
  if (batch.taken >= lingers_below || !me.is_worker) return;
  for (unsigned looks = 0; looks < lingering_looks; ++looks) {
    if (gate_.closing() || pool_.has_other_work(me)) return;
    for (unsigned i = 0; i < lingering_pauses; ++i) fence::spin_pause();
    if (mailbox::has_messages(batch.held->head.load(std::memory_order_relaxed))) return;
  }
}

void engine::give_back(const draining& batch) {
  cell& held = *batch.held;
  held.pending = batch.pending;
  held.pending_count.store(batch.count, std::memory_order_relaxed);
  held.handled.store(held.handled.load(std::memory_order_relaxed) + batch.handled, std::memory_order_relaxed);
}

bool engine::drain(thread_record& me, cell& held, unsigned most, call_envelope* own) {
  constexpr auto leave_for = attention::stop | attention::hand_over;
  draining batch{.held = &held,
                 .self = ref_of(held),
                 .pending = held.pending,
                 .count = held.pending_count.load(std::memory_order_relaxed),
                 .outer = me.drains};
  me.drains = &batch;
  bool look = true;  // at what is wanted; later only when told to
  bool lives = true;
  for (unsigned run = 0;; ++run) {
    if (run == most) {
      if (own != nullptr || !me.is_worker || gate_.closing() || pool_.has_other_work(me)) break;
      run = lingers_after;  // nothing else waits for this thread
    }
    if (look && (held.attention.load(std::memory_order_acquire) & leave_for) != 0) break;
    if (batch.pending == nullptr && own == nullptr && run >= lingers_after) linger(me, batch);
    envelope* const oldest = next_message(batch);
    if (oldest == nullptr) break;
    batch.continued = nullptr;
    lives = run_cast(me, batch, oldest);
    if (!lives) break;
    ++batch.handled;
    if (own != nullptr && own->current() != call_state::queued) break;
    look = me.wanted.load(std::memory_order_acquire);
  }
  me.drains = batch.outer;
  if (lives) give_back(batch);
  return lives;
}

// A cast that the server has a handler for, which is most of what is drained: without a look at the cell.
bool engine::run_cast(thread_record& me, draining& batch, envelope* oldest) {
  if (batch.seen != current_.load(std::memory_order_acquire)) [[unlikely]] {
    adopt_if_behind(*batch.held);
    batch.seen = batch.held->seen.load(std::memory_order_relaxed);
    batch.type = batch.held->type.load(std::memory_order_relaxed);
    batch.state = batch.held->state;
  }
  const auto handle_directly = batch.type->find_direct(oldest->message->key);
  if (oldest->is_call != 0 || oldest->generation != generation_of(batch.self) || handle_directly == nullptr)
      [[unlikely]]
    return run_envelope(me, *batch.held, oldest);
  bool ended = false;
  {
    frame here{*this, me, batch.self};
    if (handle_directly(&here.context, batch.state, oldest->payload(), nullptr, &me.scratch) != MOLT_OK) [[unlikely]]
      finish_handled(me, here, MOLT_THREW, &me.scratch, ended);
  }
  destroy_cast(me, oldest);
  return !ended;
}

bool engine::run_envelope(thread_record& me, cell& held, envelope* oldest) {
  if (oldest->generation != word::generation(held.word.load(std::memory_order_relaxed))) [[unlikely]] {
    reject(me, oldest, MOLT_NO_SUCH_SERVER, "the server has ended");
    return true;
  }
  if (oldest->is_call != 0) return run_call(me, held, *static_cast<call_envelope*>(oldest));
  bool ended = false;
  {
    frame here{*this, me, held};
    me.scratch.size = 0;
    const int status = handle_or_watch(me, here, *oldest->message, oldest->payload(), nullptr, ended, nullptr);
    if (status == MOLT_UNKNOWN_MESSAGE) log(MOLT_LOG_WARNING, &held, view(me.scratch));
  }
  destroy_cast(me, oldest);
  return !ended;
}

bool engine::run_call(thread_record& me, cell& held, call_envelope& call) {
  adopt_if_behind(held);
  const molt_handler* const handler = held.type.load(std::memory_order_relaxed)->find(call.message->key);
  if (handler != nullptr && (handler->flags & MOLT_HANDLER_DEFERS) != 0)
    return run_deferrable(me, held, *handler, call);
  if (!call.advance(call_state::queued, call_state::running)) {
    release_call(me, &call);  // withdrawn
    return true;
  }
  bool ended = false;
  int status = MOLT_OK;
  {
    frame here{*this, me, held};
    me.scratch.size = 0;
    status = handle_or_watch(me, here, *call.message, call.payload_at, call.reply_at, ended, nullptr);
  }
  finish_call(me, call, status, status != MOLT_OK ? view(me.scratch) : std::string_view{});
  return !ended;
}

void engine::finish_call(thread_record& me, call_envelope& call, int status, std::string_view text) {
  call.status = status;
  if (!text.empty()) call.text = text;
  if (!call.finish()) {
    late_replies_.fetch_add(1, std::memory_order_relaxed);
    if (status == MOLT_OK && call.message->reply != nullptr) call.message->reply->destroy(call.reply_at);
  }
  release_call(me, &call);
}

bool engine::run_deferrable(thread_record& me, cell& held, const molt_handler& handler, call_envelope& call) {
  call.token = deferred_.hold(call, ref_of(held));  // takes over this side's reference
  if (call.token == 0) {
    if (call.advance(call_state::queued, call_state::running))
      finish_call(me, call, MOLT_OVERLOADED, "too many replies are outstanding");
    else
      release_call(me, &call);
    return true;
  }
  if (!call.advance(call_state::queued, call_state::deferring)) {
    if (call_envelope* const back = deferred_.take(call.token)) release_call(me, back);
    return true;
  }
  const std::uint64_t token = call.token;
  call.references.fetch_add(1, std::memory_order_relaxed);  // it may be answered before the handler returns
  held.has_deferred = true;
  bool ended = false;
  {
    frame here{*this, me, held, token};
    me.scratch.size = 0;
    observation watched{*this, held, message_kind::call, call.message->name};
    int status = handler.handle(&here.context, held.state, call.payload_at, nullptr, &me.scratch);
    watched.done(status);
    if (status == MOLT_OK) {
      call.advance(call_state::deferring, call_state::deferred);
    } else {
      const std::string why{view(me.scratch)};
      if (call_envelope* const unanswered = deferred_.take(token)) {
        unanswered->status = MOLT_SERVER_FAILED;
        finish_call(me, *unanswered, MOLT_SERVER_FAILED, why);
      }
      status = finish_handled(me, here, status, &me.scratch, ended);
    }
  }
  release_call(me, &call);
  return !ended;
}

int engine::reply(std::uint64_t token, const molt_schema& schema, void* value) {
  thread_record& me = this_thread();
  call_envelope* const call = deferred_.take(token, &schema);
  if (call == nullptr || (!call->advance(call_state::deferring, call_state::replying) &&
                          !call->advance(call_state::deferred, call_state::replying))) {
    late_replies_.fetch_add(1, std::memory_order_relaxed);
    if (call != nullptr) release_call(me, call);
    return MOLT_NOT_FOUND;
  }
  if (schema.move == nullptr) {
    finish_call(me, *call, MOLT_SERVER_FAILED, "a deferred reply must be movable without throwing");
    return MOLT_REFUSED;
  }
  schema.move(call->reply_at, value);
  finish_call(me, *call, MOLT_OK, {});
  return MOLT_OK;
}

void engine::reject(thread_record& me, envelope* refused, int status, std::string_view text) {
  if (refused->is_call == 0) {
    destroy_cast(me, refused);
    return;
  }
  auto* const call = static_cast<call_envelope*>(refused);
  if (call->advance(call_state::queued, call_state::running))
    finish_call(me, *call, status, text);
  else
    release_call(me, call);
}

// ---- Leaving

void engine::leave_mailbox(thread_record& me, cell& held) {
  if (is_to_end(held) && end_as_asked(me, held)) return;
  const auto idle = word::make(word::generation(held.word.load(std::memory_order_relaxed)), condition::idle);
  if (held.pending == nullptr) {
    auto seen = held.head.load(std::memory_order_acquire);
    if (seen == mailbox::empty || (seen == mailbox::attended && held.head.compare_exchange_strong(
                                                                    seen, mailbox::empty, std::memory_order_acq_rel))) {
      leave(me, held, idle);
      return;
    }
  }
  // What is pending was taken from there, or handed over: either way calls must see that something waits.
  auto nothing = mailbox::empty;
  held.head.compare_exchange_strong(nothing, mailbox::attended, std::memory_order_acq_rel);
  held.word.store(idle, fence::fast_store);
  fence::light();
  schedule(held);
  if (held.attention.load(fence::fast_load) != 0) attend(me, held);
}

bool engine::end_as_asked(thread_record& me, cell& held) {
  std::string why;
  bool failed = false;
  if (!take_stop_reason(ref_of(held), why, failed)) return false;
  end_server(me, held, failed, why);
  return true;
}

// Who holds the server sees it when leaving, and before the next message: whoever took it after this begins by looking.
void engine::want(cell& of, std::uint8_t what) {
  of.attention.fetch_or(what, std::memory_order_seq_cst);
  fence::heavy();
  const auto seen = of.word.load(std::memory_order_seq_cst);
  if (what != attention::schedule && word::now(seen) == condition::held && word::thread(seen) != 0)
    record_of(word::thread(seen)).wanted.store(true, std::memory_order_seq_cst);
}

void engine::attend(thread_record& me, cell& left) {
  auto seen = left.word.load(std::memory_order_acquire);
  // If somebody else holds it by now, that one attends.
  if (word::now(seen) != condition::idle ||
      !left.word.compare_exchange_strong(seen, word::make(word::generation(seen), condition::held, me.id),
                                         std::memory_order_acquire))
    return;
  const auto wanted = left.attention.exchange(0, std::memory_order_seq_cst);
  if ((wanted & attention::stop) != 0 && end_as_asked(me, left)) return;
  if ((wanted & attention::hand_over) != 0) {
    left.attention.fetch_or(wanted & attention::schedule, std::memory_order_seq_cst);
    if (hand_over(left)) return;
  }
  leave_mailbox(me, left);
}

// ---- Connections

int engine::deliver(molt_ref to, const char* data, std::size_t size, std::size_t& consumed, molt_text* error) {
  thread_record& me = this_thread();
  consumed = 0;
  const auto deadline = steady_ns() + options_.call_timeout.count();
  for (;;) {
    bool suspended = false;
    const int status =
        deliver_once(me, to, data, size, consumed, error != nullptr ? error : &me.scratch, deadline, suspended);
    if (!suspended) return status;
    if (steady_ns() >= deadline) return MOLT_TIMEOUT;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});  // outside of the gate
  }
}

int engine::deliver_once(thread_record& me, molt_ref to, const char* data, std::size_t size, std::size_t& consumed,
                         molt_text* error, std::int64_t deadline_ns, bool& suspended) {
  activity root{*this, me, deadline_ns};
  if (!root.entered()) return MOLT_TIMEOUT;
  cell* const held = find(to);
  if (held == nullptr) return MOLT_NO_SUCH_SERVER;
  if (on_own_stack(me, *held)) return MOLT_WOULD_DEADLOCK;
  int status = acquire(me, *held, generation_of(to), deadline_ns, false);
  suspended = status == MOLT_REFUSED;
  if (status != MOLT_OK) return status;
  // What the server wants handled before anything else (continue_with) stands first; it may also want to end.
  if (held->pending != nullptr && !drain(me, *held, messages_per_turn, nullptr)) return MOLT_NO_SUCH_SERVER;
  if (is_to_end(*held) && end_as_asked(me, *held)) return MOLT_NO_SUCH_SERVER;
  bool ended = false;
  {
    frame here{*this, me, *held};
    adopt_if_behind(*held);
    const molt_server_type& type = held->type.load(std::memory_order_relaxed)->abi();
    if (type.handle_data != nullptr) {
      observation watched{*this, *held, message_kind::data, "data"};
      status = type.handle_data(&here.context, held->state, data, size, &consumed, error);
      watched.done(status);
      consumed = std::min(consumed, size);
      status = finish_handled(me, here, status, error, ended);
    } else {
      set_text(error, describe(*held) + " is not a connection");
      status = MOLT_UNKNOWN_MESSAGE;
    }
  }
  if (!ended) {
    count_handled(*held);
    leave_mailbox(me, *held);
  }
  return status;
}

}  // namespace molt::servers
