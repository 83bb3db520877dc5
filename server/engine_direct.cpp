// The call to an idle server: its handler runs on the calling thread.
//
// This is the path that everything else is measured against, and its cost is counted in stores: the compare-exchange
// that takes the server waits for all of them to reach the cache. So everything unusual is left to calls that come
// last, the activation holds no more than its callee cannot find otherwise, and what is needed after the handler, or in
// the unlikely case, is found again rather than kept in registers that would have to be saved first: the activation
// through the thread's record, the server in the activation. Three registers are saved; with a million servers each one
// more was seen in the figures. This file is compiled without frame pointers.
#include "server/engine.hpp"

namespace molt::servers {

namespace {
/// As word::idle, without the mask that the compiler would keep from the first use to the second.
std::uint64_t idle_again(molt_ref server) noexcept {
  std::uint64_t generation = generation_of(server);
  asm("" : "+r"(generation));
  return (generation << 32U) + static_cast<std::uint64_t>(condition::idle);
}
}  // namespace

int engine::call(molt_ref to, const molt_message& message, void* payload, void* reply, std::int64_t timeout_ns) {
  thread_record* const me = detail::current_record;
  if (me == nullptr || me->owner.load(std::memory_order_relaxed) != this || !registry_.is_slot(slot_of(to)))
      [[unlikely]]
    return call_otherwise(to, message, payload, reply, timeout_ns);
  activation here;
  here.context = {&host_, to};
  here.outside = me->active.load(std::memory_order_relaxed);
  if (active::handlers(here.outside) >= direct_nesting_max_) [[unlikely]]
    return call_otherwise(to, message, payload, reply, timeout_ns);

  // The gate is for the root alone, but that it is closing is rare enough.
  me->active.store(active::with(here.outside, here), fence::fast_store);
  fence::free_light();
  // The handler is looked up before the server is held, as what follows the compare-exchange waits for it. Types live
  // at least as long as any activation that may have met them.
  cell& wanted = registry_.at(slot_of(to));
  const switch_entry* const seen = wanted.seen.load(std::memory_order_acquire);
  const server_type* const type = wanted.type.load(std::memory_order_acquire);
  if (type == nullptr) [[unlikely]]
    return direct_not(message, payload, reply, timeout_ns);
  const auto handle_directly = type->find_direct(message);
  auto expected = word::idle(to);
  if (gate_.closing() || handle_directly == nullptr || wanted.head.load(std::memory_order_acquire) != mailbox::empty ||
      !wanted.word.compare_exchange_strong(expected, word::held(to, me->id), std::memory_order_acquire,
                                           std::memory_order_relaxed)) [[unlikely]]
    return direct_not(message, payload, reply, timeout_ns);
  if (seen != current_.load(std::memory_order_acquire)) [[unlikely]]
    return direct_behind(message, payload, reply, timeout_ns);
  if (handle_directly(&me->top()->context, state_of(wanted), payload, reply, &me->scratch) != MOLT_OK) [[unlikely]]
    return direct_failed();
  wanted.handled.store(wanted.handled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  wanted.word.store(idle_again(here.context.self), fence::fast_store);
  fence::free_light();
  if (wanted.attention.load(fence::fast_load) != 0) [[unlikely]]
    return direct_attend();
  if (active::is_inside(here.outside)) {
    me->active.store(here.outside, fence::fast_store);
    return MOLT_OK;
  }
  me->active.store(here.outside + active::one_leaving, fence::fast_store);
  fence::free_light();
  if (gate_.closing() || me->has_exits) [[unlikely]]
    return direct_left();
  return MOLT_OK;
}

int engine::direct_not(const molt_message& message, void* payload, void* reply, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const activation& here = *me.top();
  me.active.store(here.outside, fence::fast_store);
  return of(here).call_otherwise(here.context.self, message, payload, reply, timeout_ns);
}

int engine::direct_attend() {
  thread_record& me = this_thread();
  const activation& here = *me.top();
  attend(me, running(here));
  leave_direct(me, here.outside);
  return MOLT_OK;
}

int engine::direct_left() {
  gate_.has_left();
  if (thread_record& me = this_thread(); me.has_exits) tell_exits(me);
  return MOLT_OK;
}

void engine::leave_direct(thread_record& me, std::uint64_t outside) {
  if (active::is_inside(outside)) {
    me.active.store(outside, fence::fast_store);
  } else {
    leave_root(me);
  }
}

// The server has been taken, and must first be brought to the current release.
int engine::direct_behind(const molt_message& message, void* payload, void* reply, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const activation& here = *me.top();
  me.scratch.size = 0;
  const std::uint64_t outside = here.outside;
  const bool root = !active::is_inside(outside);
  // From here on as if the gate had been entered first.
  me.active.store(root ? outside | active::inside : outside, fence::fast_store);
  const int status = call_held(me, here.context.self, message, payload, reply, timeout_ns);
  if (root) leave_root(me);
  return status;
}

int engine::direct_failed() {
  thread_record& me = this_thread();
  activation& here = *me.top();
  bool ended = false;
  const int status = finish_handled(me, here, MOLT_THREW, &me.scratch, ended);
  if (!ended) {  // an entry of its state could not be converted
    cell& held = running(here);
    held.handled.store(held.handled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    leave(me, held, word::idle(here.context.self));
  }
  leave_direct(me, here.outside);
  return status;
}

}  // namespace molt::servers
