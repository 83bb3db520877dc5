// The server that a worker runs next: what a handler casts to an idle server is handled by the same worker right after,
// without a queue. The protocol stands atop `handoff` in thread_record.hpp. Compiled without frame pointers, as
// engine_direct.cpp is: what is saved for each message counts.
#include "server/engine.hpp"

namespace molt::servers {

namespace {

constexpr unsigned handoffs_in_a_row = 64;

}  // namespace

inline bool engine::is_free_for_handoff(const cell& receiver, molt_ref to) noexcept {
  return receiver.head.load(std::memory_order_relaxed) == mailbox::empty &&
         receiver.word.load(std::memory_order_relaxed) == word::idle(to);
}

// The handler is looked up here, as what follows the compare-exchange waits for it. Types live at least as long as any
// activation that may have met them; that this one is still of the current release is seen when its turn comes.
inline bool engine::begin_handoff(thread_record& me, cell& receiver, molt_ref to, envelope* queued,
                                  const molt_message& message) {
  const server_type* const type = receiver.type.load(std::memory_order_acquire);
  const auto handle = type != nullptr ? type->find_direct(message) : nullptr;
  auto expected = word::idle(to);
  if (!receiver.word.compare_exchange_strong(expected, word::held(to, me.id), std::memory_order_acquire,
                                             std::memory_order_relaxed)) [[unlikely]]
    return false;
  if (receiver.pending != nullptr) [[unlikely]] {  // somebody came and went meanwhile, and has left messages
    leave_mailbox(me, receiver);
    return false;
  }
  receiver.pending = queued;
  receiver.pending_count.store(1, std::memory_order_relaxed);
  me.handoff.last = queued;
  me.handoff.only = handle;
  me.handoff.put(receiver);
  pool_.attend_handoff();
  return true;
}

// As plugins are given it: in a handler, the thread has a record. A worker of one runtime may handle a message of
// another.
int engine::cast_from_handler(molt_context* from, molt_ref to, const molt_message* message, void* payload) {
  thread_record& me = *detail::current_record;
  engine& self = *static_cast<const host_of_engine*>(from->host)->owner;
  if (!me.is_worker || me.owner.load(std::memory_order_relaxed) != &self || !self.registry_.is_slot(slot_of(to)))
    return self.cast(to, *message, payload);
  cell& receiver = self.registry_.at(slot_of(to));
  if (me.handoff.server() != nullptr || !is_free_for_handoff(receiver, to)) return self.cast(to, *message, payload);
  envelope* const made = make_cast(me, *message, generation_of(to), payload);
  if (made == nullptr) [[unlikely]]
    return message->payload->move != nullptr ? MOLT_OVERLOADED : MOLT_REFUSED;
  return self.begin_handoff(me, receiver, to, made, *message) ? MOLT_OK : self.push_cast(me, to, made);
}

bool engine::hand_off(thread_record& me, cell& receiver, molt_ref to, envelope* message) {
  const cell* const waiting = me.handoff.server();
  if (waiting == nullptr)
    return is_free_for_handoff(receiver, to) && begin_handoff(me, receiver, to, message, *message->message);
  if (waiting != &receiver || message->generation != generation_of(to)) return false;
  const auto count = receiver.pending_count.load(std::memory_order_relaxed);
  if (count >= options_.mailbox_max || me.handoff.take() == nullptr) return false;
  me.handoff.last->next = message;
  me.handoff.last = message;
  me.handoff.only = nullptr;
  receiver.pending_count.store(count + 1, std::memory_order_relaxed);
  note_queue(receiver, count + 1);
  me.handoff.put(receiver);
  return true;
}

void engine::let_go_handoff(thread_record& me) {
  if (cell* const held = me.handoff.take()) leave_mailbox(me, *held);
}

bool engine::rescue_handoff(thread_record& from) {
  cell* const held = from.handoff.take_away();
  if (held == nullptr) return false;
  leave_mailbox(this_thread(), *held);
  return true;
}

// Until the worker itself takes the next one it looks at nothing but `taken_away`: what stands there stays until then.
cell* handoff::take_away() {
  std::lock_guard lock{mutex_};
  const auto before = taken_away_.exchange(contested, std::memory_order_seq_cst);
  fence::heavy();
  const auto seen = word_.load(std::memory_order_seq_cst);
  cell* const held = server_of(seen);
  if (held != nullptr) word_.store(seen & ~server_bits, std::memory_order_seq_cst);
  taken_away_.store(held != nullptr ? seen : before, std::memory_order_seq_cst);
  return held;
}

bool handoff::was_taken_away(std::uint64_t seen) {
  std::lock_guard lock{mutex_};
  return taken_away_.exchange(0, std::memory_order_seq_cst) == seen;
}

void engine::turn(cell& due) {
  thread_record& me = this_thread();
  activity here{*this, me};
  me.wanted.store(false, std::memory_order_relaxed);
  run_turn(me, due);
  for (unsigned run = 0; run < handoffs_in_a_row && !gate_.closing(); ++run) {
    cell* const held = me.handoff.take();
    if (held == nullptr) return;
    run_next(me, *held);
    if (run + 1 == handoffs_in_a_row && !pool_.has_other_work(me)) run = 0;
  }
  let_go_handoff(me);
}

// Mostly a single cast to a server of the current release, about which nobody wants anything.
void engine::run_next(thread_record& me, cell& held) {
  const auto handle = me.handoff.only;
  envelope* const message = me.handoff.last;
  if (handle == nullptr || held.seen.load(std::memory_order_relaxed) != current_.load(std::memory_order_acquire) ||
      held.attention.load(std::memory_order_acquire) != 0) [[unlikely]] {
    if (drain(me, held, messages_per_turn, nullptr)) leave_mailbox(me, held);
    return;
  }
  held.pending = nullptr;
  held.pending_count.store(0, std::memory_order_relaxed);
  const molt_ref self = ref_of(held);
  bool ended = false;
  {
    frame here{*this, me, self};
    if (handle(&here.context, state_of(held), payload_of_cast(message), nullptr, &me.scratch) != MOLT_OK) [[unlikely]]
      finish_handled(me, here, MOLT_THREW, &me.scratch, ended);
  }
  destroy_cast(me, message);
  if (ended) [[unlikely]]
    return;
  held.handled.store(held.handled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (held.pending == nullptr && held.head.load(std::memory_order_acquire) == mailbox::empty) [[likely]]
    leave(me, held, word::idle(self));
  else
    leave_mailbox(me, held);
}

}  // namespace molt::servers
