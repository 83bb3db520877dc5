#include "server/failure.hpp"

#include "server/engine.hpp"

#include <cxxabi.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <typeinfo>
#include <utility>

namespace molt::servers {

namespace {

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

// ---- Stacks

/// A message while it is handled: tells it from all others of the thread.
struct message_run {
  const activation* in = nullptr;
  std::uint64_t server = 0;
  std::uint64_t handled = 0;  // by the server, before
  friend bool operator==(const message_run&, const message_run&) = default;
};

message_run run_of(const thread_record& me, const activation& in) noexcept {
  return {&in, in.context.self.bits, handled_by(me, engine::of(in).running(in))};
}

struct noted_throw {
  const void* object = nullptr;  // an address, never looked at
  message_run run;
  std::size_t count = 0;
  std::array<std::uintptr_t, failure_frames_max> stack{};
};

struct recent_throws {
  std::array<noted_throw, failure_throws_max> all;
  std::size_t next = 0;  // where the next one goes
};

// Made when a server's function throws for the first time on this thread.
thread_local std::unique_ptr<recent_throws> throws;

/// The frames from the throw outwards, as far as the activation: who called the server is found at the catch, too.
struct throw_walk {
  std::uintptr_t thrower;
  std::uintptr_t end;  // the activation's address: it lies on this stack
  noted_throw* to;
  std::size_t own = 0;  // frames seen before the thrower's
  bool begun = false;
};
constexpr std::size_t own_frames_max = 8;

_Unwind_Reason_Code add_thrown(_Unwind_Context* at, void* with) {
  auto& walk = *static_cast<throw_walk*>(with);
  const auto address = static_cast<std::uintptr_t>(_Unwind_GetIP(at));
  if (!walk.begun && address != walk.thrower) return ++walk.own < own_frames_max ? _URC_NO_REASON : _URC_END_OF_STACK;
  walk.begun = true;
  noted_throw& to = *walk.to;
  if (address == 0 || to.count == to.stack.size() || _Unwind_GetCFA(at) >= walk.end) return _URC_END_OF_STACK;
  to.stack[to.count++] = address;
  return _URC_NO_REASON;
}

/// The frames at the catch; behind those of a throw only the ones that called the server.
struct catch_walk {
  std::uintptr_t begin;
  std::vector<std::uintptr_t>* to;
};

_Unwind_Reason_Code add_caught(_Unwind_Context* at, void* with) {
  const auto& walk = *static_cast<catch_walk*>(with);
  const auto address = static_cast<std::uintptr_t>(_Unwind_GetIP(at));
  if (address == 0 || walk.to->size() >= failure_frames_max) return _URC_END_OF_STACK;
  if (_Unwind_GetCFA(at) >= walk.begin) walk.to->push_back(address);
  return _URC_NO_REASON;
}

/// Where the exception that is being handled was thrown; null if that is not known.
const noted_throw* throw_of_current(const message_run& run) noexcept {
  const std::exception_ptr current = std::current_exception();
  const void* object = nullptr;
  static_assert(sizeof current == sizeof object, "the C++ ABI's exception_ptr points to the thrown object");
  std::memcpy(&object, static_cast<const void*>(&current), sizeof object);
  if (object == nullptr || throws == nullptr) return nullptr;
  for (const noted_throw& each : throws->all)
    if (each.object == object && each.run == run && each.count != 0) return &each;
  return nullptr;
}

}  // namespace

void note_exception_made(const void* object) noexcept {
  if (detail::current_record == nullptr || detail::current_record->top() == nullptr || throws == nullptr) return;
  for (noted_throw& each : throws->all)
    if (each.object == object) each.object = nullptr;
}

void note_throw(const void* object, const void* thrower) noexcept {
  const thread_record* const me = detail::current_record;
  const activation* const in = me != nullptr ? me->top() : nullptr;
  if (in == nullptr) return;
  if (throws == nullptr) throws.reset(new (std::nothrow) recent_throws);
  if (throws == nullptr) return;
  note_exception_made(object);  // thrown before, and caught: at most one of each address
  noted_throw& noted = throws->all[throws->next++ % failure_throws_max];
  noted.object = object;
  noted.run = run_of(*me, *in);
  noted.count = 0;
  throw_walk walk{reinterpret_cast<std::uintptr_t>(thrower), reinterpret_cast<std::uintptr_t>(in), &noted};
  _Unwind_Backtrace(&add_thrown, &walk);
}

void note_thrown(molt_context* context, const char* in) noexcept {
  try {
    auto noted = std::make_unique<thrown_exception>();
    noted->server = context->self;
    noted->in = in != nullptr ? in : "";
    if (const std::type_info* const type = abi::__cxa_current_exception_type(); type != nullptr)
      noted->exception = type->name();
    noted->stack.reserve(failure_frames_max);
    thread_record& me = this_thread();
    const activation* const top = me.top();
    catch_walk walk{0, &noted->stack};
    const noted_throw* const thrown =
        top != nullptr && &top->context == context ? throw_of_current(run_of(me, *top)) : nullptr;
    if (thrown != nullptr) {
      noted->stack.assign(thrown->stack.begin(), thrown->stack.begin() + static_cast<std::ptrdiff_t>(thrown->count));
      noted->stack_from_throw = true;
      walk.begin = reinterpret_cast<std::uintptr_t>(top);
    }
    _Unwind_Backtrace(&add_caught, &walk);
    me.thrown = std::move(noted);
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
  const server_type& type_now = *held.type.load(std::memory_order_relaxed);
  told.type = &type_now.original();  // which can be shared
  told.why = why;
  told.state = state_of(held);
  told.handled = handled_by(me, held);
  if (thrown != nullptr && thrown->server.bits == told.ref.bits) {
    told.in = thrown->in;
    told.exception = thrown->exception;
    told.stack = thrown->stack;
    told.stack_from_throw = thrown->stack_from_throw;
  }
  if (told.in == "init()") told.state = nullptr;
  if (const auto record = type_now.watched() ? watches_.find(told.ref) : nullptr;
      record != nullptr && record->kept().messages != 0) {
    told.recorded = true;
    told.last = record->last_messages();
    for (auto& each : told.last) {
      each.payload = {};
      each.has_payload = false;
    }
  }
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

void visit_last_messages(const running_server& of, void (*visit)(const recorded_message&, void*), void* with,
                         std::size_t most) noexcept {
  if (of.record != nullptr) of.record->try_visit(visit, with, most);
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
    if (found.type->watched()) found.record = const_cast<engine&>(owner).watches_.try_find(found.ref);
    visit(found, with);
  }
}

}  // namespace molt::servers
