#include "server/failure.hpp"

#include "server/engine.hpp"

#include <cxxabi.h>
#include <unwind.h>

#include <algorithm>
#include <typeinfo>
#include <utility>

namespace molt::servers {

namespace {

_Unwind_Reason_Code add_frame(_Unwind_Context* at, void* to) {
  auto& frames = *static_cast<std::vector<std::uintptr_t>*>(to);
  const auto address = static_cast<std::uintptr_t>(_Unwind_GetIP(at));
  if (address == 0 || frames.size() == failure_frames_max) return _URC_END_OF_STACK;
  frames.push_back(address);
  return _URC_NO_REASON;
}

/// The messages that the thread has taken of a server that it is draining; null: it is not.
const draining* batch_of(const thread_record& me, const cell& held) noexcept {
  const draining* batch = me.drains;
  while (batch != nullptr && batch->held != &held) batch = batch->outer;
  return batch;
}

std::size_t queue_length(const thread_record& me, const cell& held) noexcept {
  const draining* const batch = batch_of(me, held);
  return mailbox::count(held.head.load(std::memory_order_relaxed)) +
         (batch != nullptr ? batch->count : held.pending_count.load(std::memory_order_relaxed));
}

std::uint64_t handled_by(const thread_record& me, const cell& held) noexcept {
  const draining* const batch = batch_of(me, held);
  return held.handled.load(std::memory_order_relaxed) + (batch != nullptr ? batch->handled : 0);
}

}  // namespace

void note_thrown(molt_context* context, const char* in) noexcept {
  try {
    auto noted = std::make_unique<thrown_exception>();
    noted->server = context->self;
    noted->in = in != nullptr ? in : "";
    if (const std::type_info* const type = abi::__cxa_current_exception_type(); type != nullptr)
      noted->exception = type->name();
    noted->stack.reserve(failure_frames_max);
    _Unwind_Backtrace(&add_frame, &noted->stack);
    this_thread().thrown = std::move(noted);
  } catch (...) {
    this_thread().thrown.reset();  // no memory for a report
  }
}

void engine::tell_failure(thread_record& me, cell& held, std::string_view why) {
  const auto thrown = std::move(me.thrown);
  if (!on_failure_) return;
  server_failure told;
  told.ref = ref_of(held);
  told.name = registry_.name_of(held);
  told.type = held.type.load(std::memory_order_relaxed);
  told.why = why;
  told.state = held.state;
  told.handled = handled_by(me, held);
  if (thrown != nullptr && thrown->server.bits == told.ref.bits) {
    told.in = thrown->in;
    told.exception = thrown->exception;
    told.stack = thrown->stack;
  }
  if (told.in == "init()") told.state = nullptr;
  told.queued = queue_length(me, held);
  take_all(held);
  const auto add_waiting = [&](const envelope* first) {
    for (; first != nullptr && told.waiting.size() < failure_messages_max; first = first->next)
      told.waiting.emplace_back(first->message->name);
  };
  if (const draining* const batch = batch_of(me, held)) add_waiting(batch->pending);
  add_waiting(held.pending);
  for (const activation* each = me.top(); each != nullptr && told.callers.size() < failure_callers_max;
       each = each->outer()) {
    if (each->context.self.bits == told.ref.bits) continue;
    const cell& outer = of(*each).running(*each);
    const server_type* const type = outer.type.load(std::memory_order_relaxed);
    if (type == nullptr) continue;
    told.callers.push_back({each->context.self, of(*each).registry_.name_of(outer), std::string{type->name()},
                            std::string{type->version()}});
  }
  on_failure_(told);
}

void visit_running(void (*visit)(const running_server&, void*), void* with, std::size_t most) noexcept {
  const thread_record* const me = detail::current_record;
  if (me == nullptr) return;
  for (const activation* each = me->top(); each != nullptr && most != 0; each = each->outer(), --most) {
    const engine& owner = engine::of(*each);
    const cell& held = owner.running(*each);
    running_server found;
    found.ref = each->context.self;
    found.type = held.type.load(std::memory_order_relaxed);
    if (found.type == nullptr) continue;
    found.name = owner.registry_.detail(held).name;
    found.queued = queue_length(*me, held);
    found.handled = handled_by(*me, held);
    visit(found, with);
  }
}

}  // namespace molt::servers
