#include "server/engine.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace molt::servers {

namespace {

constexpr unsigned direct_looks = 20;
constexpr unsigned direct_pauses_max = 64;  // somewhat under a microsecond

void count_handled(cell& held) noexcept {
  held.handled.store(held.handled.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

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
  const activity here{*this, me, deadline_in(limit)};
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
  if (find_arrival(*held.type.load(std::memory_order_relaxed), message)
          .defers()) {  // may answer later: needs an envelope
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
  const molt_handler* const handler = held.type.load(std::memory_order_relaxed)->find(message.key);
  if (handler == nullptr) [[unlikely]]
    return handle_converted(me, here, message, payload, reply, error, ended);
  const int status = handler->handle(&here.context, state_of(held), payload, reply, error);
  if (status != MOLT_OK) [[unlikely]]
    return finish_handled(me, here, status, error, ended);
  return status;
}

int engine::finish_handled(thread_record& me, activation& here, int status, molt_text* error, bool& ended) {
  cell& held = running(here);
  if (status == MOLT_OK) return status;
  const std::string why{text_of(*error)};
  if (std::exchange(me.not_converted, 0) == here.context.self.bits) {
    log(MOLT_LOG_WARNING, &held, why);
    return MOLT_SERVER_FAILED;  // the server goes on
  }
  ended = true;
  tell_failure(me, held, why);
  end_server(me, held, true, why);
  set_text(error, why);
  return MOLT_SERVER_FAILED;
}

// ---- Running what waits

bool engine::run_envelope(thread_record& me, cell& held, envelope* oldest) {
  if (oldest->generation != word::generation(held.word.load(std::memory_order_relaxed))) [[unlikely]] {
    reject(me, oldest, MOLT_NO_SUCH_SERVER, "the server has ended");
    return true;
  }
  if (oldest->is_call != 0) return run_call(me, held, *static_cast<call_envelope*>(oldest));
  adopt_if_behind(held);
  bool ended = false;
  {
    frame here{*this, me, held};
    me.scratch.size = 0;
    const int status = handle_or_watch(me, here, *oldest->message, oldest->payload(), nullptr, ended, nullptr);
    if (status != MOLT_OK && status != MOLT_SERVER_FAILED) log(MOLT_LOG_WARNING, &held, text_of(me.scratch));
  }
  destroy_cast(me, oldest);
  return !ended;
}

bool engine::run_call(thread_record& me, cell& held, call_envelope& call) {
  adopt_if_behind(held);
  if (const arrival how = find_arrival(*held.type.load(std::memory_order_relaxed), *call.message); how.defers())
    return run_deferrable(me, held, how, call);
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
  finish_call(me, call, status, status != MOLT_OK ? text_of(me.scratch) : std::string_view{});
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

// ---- Connections

int engine::deliver(molt_ref to, const char* data, std::size_t size, std::size_t& consumed, molt_text* error) {
  thread_record& me = this_thread();
  consumed = 0;
  const auto deadline = deadline_in(options_.call_timeout.count());
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
      observation watched{*this, *held, {data, size}};
      status = type.handle_data(&here.context, state_of(*held), data, size, &consumed, error);
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
