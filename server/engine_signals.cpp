// What servers do beside messages: continue, stop themselves, watch each other, join groups, have work done elsewhere.
#include "server/engine.hpp"
#include "server/growing_sink.hpp"

#include "plugin/archive.hpp"
#include "plugin/schema.hpp"
#include "plugin/types.hpp"

#include <algorithm>
#include <utility>

namespace molt::servers {

namespace {

constexpr std::size_t continuations_max = 64;  // functions on one stack that continue more than once

bool handles(const server_type* type, const molt_message& message) noexcept {
  return type != nullptr && type->find(message.key) != nullptr;
}

}  // namespace

// ---- Of the running server itself

// A call runs directly only into an empty mailbox. An attended one makes it queue, and whoever then comes to hold the
// server, be it that caller, begins with `pending` and heeds `attention`. The holder has set that before.
void engine::divert(cell& held) {
  auto seen = mailbox::empty;
  held.head.compare_exchange_strong(seen, mailbox::attended, std::memory_order_acq_rel);
}

int engine::continue_with(molt_ref self, const molt_message& message, void* payload) {
  thread_record& me = this_thread();
  cell& held = registry_.at(slot_of(self));
  if (message.payload->move == nullptr) return MOLT_REFUSED;
  envelope* const made = make_cast(me, message, generation_of(self), payload);
  if (made == nullptr) return MOLT_OVERLOADED;
  if (draining* const batch = me.drains; batch != nullptr && batch->held == &held) {
    envelope*& before = batch->continued != nullptr ? batch->continued->next : batch->pending;
    made->next = std::exchange(before, made);
    batch->continued = made;
    ++batch->count;
    return MOLT_OK;
  }
  const auto handled = held.handled.load(std::memory_order_relaxed);
  auto mine = std::find_if(me.continuations.begin(), me.continuations.end(),
                           [&](const auto& each) { return each.runtime == number_ && each.server.bits == self.bits; });
  if (mine != me.continuations.end() && mine->handled == handled) {
    made->next = std::exchange(mine->last->next, made);
    mine->last = made;
  } else {
    made->next = std::exchange(held.pending, made);
    if (mine == me.continuations.end() && me.continuations.size() == continuations_max) mine = me.continuations.begin();
    if (mine != me.continuations.end())
      *mine = {number_, self, handled, made};
    else
      me.continuations.push_back({number_, self, handled, made});
  }
  held.pending_count.store(held.pending_count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  held.attention.fetch_or(attention::schedule, std::memory_order_seq_cst);
  divert(held);
  return MOLT_OK;
}

void engine::stop_self(molt_ref self, std::string_view why) {
  cell& held = registry_.at(slot_of(self));
  {
    std::lock_guard lock{stop_reasons_mutex_};
    stop_reasons_.emplace(self.bits, stop_reason{std::string{why}, false});
  }
  held.attention.fetch_or(attention::stop, std::memory_order_seq_cst);
  this_thread().wanted.store(true, std::memory_order_relaxed);
  divert(held);
}

// ---- Watching others

// Either this thread sees that the server has ended, or whoever ends it sees the mark: both store first and look then.
bool engine::mark_related(molt_ref server) {
  const auto slot = slot_of(server);
  if (!registry_.is_slot(slot)) return false;
  cell& marked = registry_.at(slot);
  marked.related.exchange(1, std::memory_order_seq_cst);
  const auto seen = marked.word.load(std::memory_order_seq_cst);
  return word::generation(seen) == generation_of(server) && word::now(seen) != condition::free;
}

std::uint64_t engine::monitor(molt_ref self, molt_ref target) {
  if (self.bits == target.bits) return 0;
  mark_related(self);
  const std::uint64_t id = relations_.monitor(self, target);
  if (id == 0) return 0;
  if (!mark_related(target) && relations_.demonitor(self, id))
    send_down(this_thread(), self, id, {target, {}, {}, false, "there is no such server"});
  return id;
}

int engine::link(molt_ref self, molt_ref other) {
  if (self.bits == other.bits) return MOLT_REFUSED;
  mark_related(self);
  if (!relations_.link(self, other)) return MOLT_OVERLOADED;
  // If the link is gone already, the other one's end has seen it, and tells this server.
  if (!mark_related(other) && relations_.unlink(self, other)) return MOLT_NO_SUCH_SERVER;
  return MOLT_OK;
}

int engine::join(molt_ref self, std::string_view group) {
  mark_related(self);
  return relations_.join(self, group) ? MOLT_OK : MOLT_OUT_OF_BOUNDS;
}

void engine::part(thread_record& me, exit_event gone) {
  me.departures.push_back(std::move(gone));
  if (me.departing) return;  // a server that fails with another: seen to after that one
  me.departing = true;
  while (!me.departures.empty()) {
    const exit_event each = std::move(me.departures.back());
    me.departures.pop_back();
    const auto parted = relations_.part(each.ref);
    for (const auto& [watcher, id] : parted.watchers) send_down(me, watcher, id, each);
    for (const molt_ref linked : parted.linked) signal_exit(me, linked, each);
  }
  me.departing = false;
}

void engine::send_down(thread_record& me, molt_ref watcher, std::uint64_t monitor, const exit_event& gone) {
  send_signal(me, watcher, down{ref{gone.ref.bits}, gone.name, gone.why, gone.failed, {monitor}});
}

void engine::signal_exit(thread_record& me, molt_ref linked, const exit_event& gone) {
  const cell* const receiver = find(linked);
  if (receiver == nullptr) return;
  if (handles(receiver->type.load(std::memory_order_acquire), message_of<exit_signal>()))
    send_signal(me, linked, exit_signal{ref{gone.ref.bits}, gone.name, gone.why, gone.failed});
  else if (gone.failed)
    request_stop(linked, gone.why, true);
}

// The message's description lies in the host's image: no plugin's retirement waits for it.
template <class M>
void engine::send_signal(thread_record& me, molt_ref to, M&& signal) {
  if (envelope* const made = make_cast(me, message_of<std::remove_cvref_t<M>>(), generation_of(to), &signal))
    push_signal(me, to, made);
}

void engine::push_signal(thread_record& me, molt_ref to, envelope* message) {
  if (find(to) == nullptr) {
    destroy_cast(me, message);
    return;
  }
  cell& receiver = registry_.at(slot_of(to));
  auto seen = receiver.head.load(std::memory_order_acquire);
  do {
    message->next = mailbox::top(seen);
  } while (!receiver.head.compare_exchange_weak(seen, mailbox::make(message, mailbox::count(seen) + 1),
                                                std::memory_order_acq_rel, std::memory_order_acquire));
  if (seen == mailbox::empty) schedule(receiver);
}

// ---- Copies of a periodic timer's message

envelope* engine::copy_cast(thread_record& me, envelope& original) {
  const molt_message& message = *original.message;
  envelope* const made = make_empty_cast(me, message, original.generation);
  if (made == nullptr) return nullptr;
  text_buffer text;
  growing_sink to;
  int status = message.payload->save(original.payload(), &to, &text);
  molt_source from = to.written();
  if (status == MOLT_OK) status = message.payload->load(made->payload(), &from, &text);
  if (status == MOLT_OK) return made;
  free_envelope(me, made);
  log(MOLT_LOG_ERROR, nullptr,
      "a periodic timer ends, as its message " + std::string{message.name} +
          " cannot be copied: " + std::string{text_of(text)});
  return nullptr;
}

// ---- Work that blocks

int engine::offload(molt_ref self, const molt_work& work, void* object) {
  const server_type* const type = registry_.at(slot_of(self)).type.load(std::memory_order_relaxed);
  return offloads_.submit(work, object, self, type->shared_from_this());
}

void engine::run_offloaded(offloaded_job& job) {
  thread_record& me = this_thread();
  const molt_message& message = *job.work->message;
  text_buffer text;
  envelope* const made = make_empty_cast(me, message, generation_of(job.to));
  const int status = made != nullptr ? job.work->run(job.object, made->payload(), &text) : MOLT_OVERLOADED;
  const activity here{*this, me, 0, activity::how::regardless};
  if (status == MOLT_OK) {
    push_signal(me, job.to, made);
    return;
  }
  if (made != nullptr) free_envelope(me, made);
  const std::string why{made != nullptr ? text_of(text) : std::string_view{"no memory"}};
  const cell* const receiver = find(job.to);
  if (receiver == nullptr) return;
  if (handles(receiver->type.load(std::memory_order_acquire), message_of<offload_failed>()))
    send_signal(me, job.to, offload_failed{message.name, why});
  else
    log(MOLT_LOG_WARNING, receiver, std::string{"offloaded work for the message "} + message.name + " threw: " + why);
}

}  // namespace molt::servers
