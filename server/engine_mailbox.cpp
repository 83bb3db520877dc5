// Mailboxes: who puts messages there, who runs what waits, and what is seen to when a server is left. The protocol
// stands atop cell.hpp, that of the handoff and of draining in thread_record.hpp.
#include "server/engine.hpp"

#include <algorithm>
#include <utility>

namespace molt::servers {

namespace {

constexpr unsigned worker_spins = 64;
constexpr unsigned push_pauses_min = 16;
constexpr unsigned push_pauses_max = 256;    // a few microseconds
constexpr unsigned lingers_after = 16;       // messages handled in a row
constexpr std::uint32_t lingers_below = 64;  // messages taken at once
constexpr unsigned lingering_looks = 3;
constexpr unsigned lingering_pauses = 100;  // about a microsecond
constexpr std::uint32_t counts_every = 64;  // messages, between two updates of what others see of a mailbox

}  // namespace

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
  const auto how = push(me, receiver, message);
  if (how == pushed::no) [[unlikely]] {
    destroy_cast(me, message);
    return MOLT_OVERLOADED;
  }
  if (how == pushed::first) schedule(receiver);
  return MOLT_OK;
}

// Two that push at once take the cell's line from each other for every message. Who loses steps back for long enough
// that the other gets many through.
engine::pushed engine::push(thread_record& me, cell& receiver, envelope* message) {
  me.pushed.pass(*message);
  auto seen = receiver.head.load(std::memory_order_acquire);
  for (unsigned pauses = push_pauses_min;;) {
    const std::size_t count = mailbox::count(seen);
    if (count + receiver.pending_count.load(std::memory_order_relaxed) >= options_.mailbox_max) [[unlikely]]
      return pushed::no;
    message->next = mailbox::top(seen);
    if (receiver.head.compare_exchange_strong(seen, mailbox::make(message, count + 1), std::memory_order_acq_rel,
                                              std::memory_order_acquire)) {
      note_queue(receiver, count + 1 + receiver.pending_count.load(std::memory_order_relaxed));
      return seen == mailbox::empty ? pushed::first : pushed::behind;
    }
    for (unsigned i = 0; i < pauses; ++i) fence::spin_pause();
    pauses = std::min(pauses * 2, push_pauses_max);
    __builtin_prefetch(&receiver.head, 1);
    seen = receiver.head.load(std::memory_order_acquire);
  }
}

void engine::schedule(cell& ready) {
  if (ready.scheduled.exchange(1, std::memory_order_acq_rel) == 0) pool_.push(ready);
}

// ---- Running what waits

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

// Newest first becomes oldest first, and what leads back leads forward.
std::pair<envelope*, std::uint32_t> engine::take_pushed(cell& held) {
  if (!mailbox::has_messages(held.head.load(std::memory_order_relaxed))) return {nullptr, 0};
  const auto taken = held.head.exchange(mailbox::attended, std::memory_order_acq_rel);
  envelope* newest = mailbox::top(taken);
  envelope* oldest = nullptr;
  envelope_trail passed;
  while (newest != nullptr) {
    envelope* const next = newest->next;
    newest->fetch_ahead();
    newest->next = oldest;
    passed.pass(*newest);
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
  oldest->fetch_ahead();
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
    batch.state = state_of(*batch.held);
  }
  const auto handle_directly = batch.type->find_direct(*oldest->message);
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

}  // namespace molt::servers
