#include "server/engine.hpp"
#include "server/growing_sink.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

namespace molt::servers {

namespace {

constexpr unsigned slice = 256;                      // servers visited in one activation
constexpr unsigned fetched_ahead = 8;                // servers whose states are on their way into the cache
constexpr std::int64_t yields_after_ns = 1'000'000;  // each may cost a time slice on a busy machine
constexpr std::chrono::microseconds between_rounds{200};
constexpr std::int64_t grace_slice_ns = 10'000'000;
constexpr unsigned resume_attempts_max = 1000;

}  // namespace

// ---- resting_server

molt_ref resting_server::ref() const noexcept { return owner_->ref_of(*cell_); }
std::string resting_server::name() const { return owner_->registry_.name_of(*cell_); }
const server_type& resting_server::type() const noexcept {
  return cell_->type.load(std::memory_order_relaxed)->original();
}
void* resting_server::state() const noexcept { return state_of(*cell_); }
std::size_t resting_server::waiting() const noexcept {
  return mailbox::count(cell_->head.load(std::memory_order_acquire)) +
         cell_->pending_count.load(std::memory_order_relaxed);
}
molt_arguments resting_server::arguments() const noexcept {
  const auto* const known = kept::arguments(owner_->registry_.detail(*cell_));
  return known != nullptr ? known->view() : molt_arguments{nullptr, 0};
}

void resting_server::become(const server_type& type, void* state) noexcept {
  owner_->keep(type);
  const bool watched = cell_->type.load(std::memory_order_relaxed)->watched();
  cell_->type.store(watched ? &type.watched_twin() : &type, std::memory_order_release);
  cell_->state.store(state, std::memory_order_relaxed);
}

// ---- The switch

void engine::switch_to(std::shared_ptr<const servers::release> next) {
  std::lock_guard lock{switches_mutex_};
  switches_.emplace_back(std::move(next));
  current_.store(&switches_.back(), std::memory_order_seq_cst);
}

void engine::adopt(cell& held) {
  // As long as an activation is under way, the release that is current in it stays alive (forget).
  for (;;) {
    const switch_entry* const entry = current_.load(std::memory_order_seq_cst);
    if (held.seen.load(std::memory_order_relaxed) == entry) return;
    resting_server resting{*this, held};
    entry->release->adopt(resting);
    held.seen.store(entry, std::memory_order_release);  // after the type: engine::call reads them in this order
  }
}

// Offers one server to the current release. False: it is busy, and has not been.
bool engine::offer(thread_record& me, cell& each, std::size_t& offered) {
  const auto seen = each.word.load(std::memory_order_acquire);
  if (word::now(seen) == condition::free ||
      each.seen.load(std::memory_order_relaxed) == current_.load(std::memory_order_seq_cst))
    return true;
  const auto generation = word::generation(seen);
  const bool suspended = word::now(seen) == condition::suspended;
  const int status = try_acquire(me, each, generation, suspended);
  if (status == MOLT_NO_SUCH_SERVER) return true;
  if (status != MOLT_OK) return false;
  if (each.seen.load(std::memory_order_relaxed) != current_.load(std::memory_order_seq_cst)) {
    adopt(each);
    ++offered;
  }
  if (suspended)
    put_back_suspended(each);
  else
    leave_mailbox(me, each);
  return true;
}

void engine::put_back_suspended(cell& held) {
  const auto generation = word::generation(held.word.load(std::memory_order_relaxed));
  held.word.store(word::make(generation, condition::suspended), fence::fast_store);
  fence::light();
  if (held.attention.load(fence::fast_load) != 0) wake_acquirers();
}

/// As long as it lives no other's sweep frees what this one has collected.
class engine::counted_sweep {
 public:
  explicit counted_sweep(engine& owner) : owner_{owner} {
    std::lock_guard lock{owner_.switches_mutex_};
    number_ = ++owner_.sweeps_begun_;
    ++owner_.sweeps_running_;
  }
  counted_sweep(const counted_sweep&) = delete;
  counted_sweep& operator=(const counted_sweep&) = delete;
  ~counted_sweep() {
    std::lock_guard lock{owner_.switches_mutex_};
    --owner_.sweeps_running_;
  }
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

 private:
  engine& owner_;
  std::uint64_t number_ = 0;
};

std::size_t engine::sweep(const std::function<bool()>& keep_going) {
  thread_record& me = this_thread();
  std::size_t offered = 0;
  auto yielded = steady_ns();
  const counted_sweep one{*this};
  const auto old = old_releases();  // before the grace, which then is theirs as well
  bool graced = false;  // servers started by activations of before the switch: none is being started any more
  for (;;) {
    bool all = true;
    for (std::uint32_t slot = 0; slot < registry_.used();) {
      if (keep_going && !keep_going()) return offered;
      {
        const activity here{*this, me};
        const auto used = registry_.used();
        for (const auto end = std::min(slot + slice, used); slot < end; ++slot) {
          if (slot + fetched_ahead < used)
            __builtin_prefetch(registry_.at(slot + fetched_ahead).state.load(std::memory_order_relaxed));
          all = offer(me, registry_.at(slot), offered) && all;
        }
      }
      if (steady_ns() - yielded < yields_after_ns) continue;
      std::this_thread::yield();
      yielded = steady_ns();
    }
    if (all && graced) break;
    if (keep_going && !keep_going()) return offered;
    if (!graced) graced = gate_.grace(steady_ns() + grace_slice_ns);
    if (!all) std::this_thread::sleep_for(between_rounds);
  }
  forget(old, one.number());
  return offered;
}

std::vector<switch_entry*> engine::old_releases() {
  std::vector<switch_entry*> old;
  std::lock_guard lock{switches_mutex_};
  for (auto& each : switches_)
    if (&each != current_.load() && each.forgotten == 0) old.push_back(&each);
  return old;
}

// What an entry holds. After a grace: an activation under way may be in such a release's adopt.
static std::vector<std::shared_ptr<const release>> let_go(const std::vector<switch_entry*>& old) {
  std::vector<std::shared_ptr<const release>> releases;
  for (switch_entry* const each : old) {
    each->routes.reset();
    if (each->release != nullptr) releases.push_back(std::exchange(each->release, nullptr));
  }
  return releases;
}

// At the end of a sweep: no cell has seen one of these any more. An entry's address may still be in the hands of one
// that read it from a cell before the cell was offered, and takes what has that address for what it has considered; a
// sweep that begins later outlasts that one too. A sweep beside this one may have collected the entry.
void engine::forget(const std::vector<switch_entry*>& old, std::uint64_t sweep) {
  std::vector<std::shared_ptr<const servers::release>> forgotten;  // destroyed without the lock
  std::lock_guard lock{switches_mutex_};
  if (sweeps_running_ == 1)
    switches_.remove_if([&](const switch_entry& each) { return each.forgotten != 0 && each.forgotten < sweep; });
  forgotten = let_go(old);
  for (switch_entry* const each : old) each->forgotten = sweeps_begun_;
}

// ---- Suspending

result<void> engine::suspend(molt_ref ref, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const activity here{*this, me};
  MOLT_TRY(cell* const held, hold(me, ref, deadline_in(timeout_ns), false));
  put_back_suspended(*held);
  return ok();
}

result<void> engine::resume(molt_ref ref) {
  thread_record& me = this_thread();
  const activity here{*this, me};
  cell* const suspended = find(ref);
  if (suspended == nullptr) return no_such_server();
  // Sweep and retire may hold a suspended server for a moment; that is short, so this one tries for a while.
  for (unsigned attempt = 0;; ++attempt) {
    auto expected = word::make(generation_of(ref), condition::suspended);
    if (suspended->word.compare_exchange_strong(expected, word::make(generation_of(ref), condition::held, me.id),
                                                std::memory_order_acquire))
      break;
    if (word::now(expected) != condition::held || attempt == resume_attempts_max)
      return error{reason::refused, describe(*suspended) + " is not suspended"};
    std::this_thread::sleep_for(std::chrono::microseconds{100});
  }
  leave_mailbox(me, *suspended);
  return ok();
}

// ---- Rest

void engine::for_each(unsigned part, unsigned parts, const std::function<void(resting_server&)>& visit) {
  thread_record& me = this_thread();
  const std::uint64_t used = registry_.used();
  const auto begin = static_cast<std::uint32_t>(used * part / parts);
  const auto end = static_cast<std::uint32_t>(used * (part + 1) / parts);
  for (std::uint32_t slot = begin; slot < end; ++slot) {
    cell& each = registry_.at(slot);
    auto seen = each.word.load(std::memory_order_acquire);
    if (word::now(seen) == condition::free || word::now(seen) == condition::held) continue;
    if (!each.word.compare_exchange_strong(seen, word::make(word::generation(seen), condition::held, me.id),
                                           std::memory_order_acquire))
      continue;
    resting_server resting{*this, each};
    visit(resting);
    each.word.store(seen, std::memory_order_release);
  }
}

bool engine::visit(molt_ref wanted, const std::function<void(resting_server&)>& look) {
  cell* const found = find(wanted);
  if (found == nullptr) return false;
  auto seen = found->word.load(std::memory_order_acquire);
  if (word::generation(seen) != generation_of(wanted) || word::now(seen) == condition::free ||
      word::now(seen) == condition::held ||
      !found->word.compare_exchange_strong(seen, word::make(word::generation(seen), condition::held, this_thread().id),
                                           std::memory_order_acquire))
    return false;
  resting_server resting{*this, *found};
  look(resting);
  found->word.store(seen, std::memory_order_release);
  return true;
}

int engine::fork_at_rest() {
  // What for_each, resting_server::name and become() lock; nobody else holds two of these.
  const auto names = registry_.hold_names();
  const std::lock_guard types{types_mutex_};
  return ::fork();
}

// ---- Retiring a type

result<void> engine::retire(const server_type& type, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const auto deadline = deadline_in(timeout_ns);
  const std::string subject = std::string{type.name()} + " " + std::string{type.version()};
  for (auto user = std::string{"not looked yet"};;) {
    user = who_has(type);
    if (user.empty()) {
      // What an activation of before may still have in hand is in a mailbox afterwards.
      user = gate_.grace(std::max(deadline, steady_ns() + grace_slice_ns)) ? what_waits(me, type)
                                                                           : "a handler that has not returned";
    }
    // Who has taken such a message or such a call in hand meanwhile is done with it afterwards.
    if (user.empty() && !gate_.grace(std::max(deadline, steady_ns() + grace_slice_ns)))
      user = "a handler that has not returned";
    if (user.empty()) break;
    if (steady_ns() >= deadline) return error{reason::busy, subject + " is still used by " + user};
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  {  // The entries stay: a cell that no sweep has offered may have seen one last.
    const counted_sweep no_other_frees_them{*this};
    std::vector<std::shared_ptr<const servers::release>> releases;
    if (const auto old = old_releases(); !old.empty() && gate_.grace(steady_ns() + grace_slice_ns)) {
      std::lock_guard lock{switches_mutex_};
      releases = let_go(old);
    }
  }
  std::shared_ptr<const server_type> forgotten;
  std::lock_guard lock{types_mutex_};
  const auto found = types_.find(&type);
  if (found == types_.end()) return ok();
  forgotten = std::move(found->second);
  types_.erase(found);
  if (last_kept_.load() == &type) last_kept_.store(nullptr);
  return ok();
}

std::string engine::who_has(const server_type& type) {
  std::size_t count = 0;
  std::string first;
  for (std::uint32_t slot = 0; slot < registry_.used(); ++slot) {
    const cell& each = registry_.at(slot);
    const server_type* const now = each.type.load(std::memory_order_acquire);
    if (now != &type && now != &type.watched_twin()) continue;
    if (count++ == 0) first = describe(each);
  }
  if (count == 0) return {};
  return count == 1 ? "the server " + first : std::to_string(count) + " servers, one of them " + first;
}

// First everything waiting is rewritten to the receiver's present type, where that takes it; what is left is in the
// way.
std::string engine::what_waits(thread_record& me, const server_type& type) {
  const image_range image = type.image();
  std::string left;
  const activity here{*this, me};
  if (deferred_.any([&](const call_envelope& call) { return image.contains(call.message); }))
    left = "a call whose reply is outstanding";
  // In the order in which messages travel on: work makes them, timers send them, mailboxes hold them.
  if (const auto message = offloads_.find([&](const molt_work& work) { return image.contains(&work); });
      !message.empty())
    left = "offloaded work for the message " + message;
  timers_.for_each([&](molt_ref to, envelope*& message) {
    if (!image.contains(message->message)) return;
    const cell* const receiver = find(to);
    if (!move_off(me, message, receiver != nullptr ? receiver->type.load(std::memory_order_acquire) : nullptr, image))
      left = std::string{"a timer with the message "} + message->message->name;
  });
  for (std::uint32_t slot = 0; slot < registry_.used(); ++slot) {
    cell& each = registry_.at(slot);
    if (each.head.load(std::memory_order_acquire) == mailbox::empty) continue;
    if (std::string waiting = move_mailbox_off(me, each, image); !waiting.empty()) left = waiting;
  }
  return left;
}

std::string engine::move_mailbox_off(thread_record& me, cell& each, const image_range& image) {
  const auto seen = each.word.load(std::memory_order_acquire);
  if (word::now(seen) == condition::free) return {};  // its worker is on the way
  const bool suspended = word::now(seen) == condition::suspended;
  const int status = try_acquire(me, each, word::generation(seen), suspended);
  if (status == MOLT_NO_SUCH_SERVER) return {};
  if (status != MOLT_OK) return describe(each) + ", which is busy";
  std::string left;
  take_all(each);
  for (envelope** place = &each.pending; *place != nullptr;) {
    envelope* const waiting = *place;
    if (image.contains(waiting->message)) {
      envelope* moved = waiting;
      envelope* const next = waiting->next;
      if (waiting->is_call != 0 || !move_off(me, moved, each.type.load(std::memory_order_relaxed), image)) {
        left = describe(each) + ", where the message " + waiting->message->name + " waits";
      } else {
        moved->next = next;
        *place = moved;
      }
    }
    place = &(*place)->next;
  }
  if (suspended)
    put_back_suspended(each);
  else
    leave_mailbox(me, each);
  return left;
}

bool engine::move_off(thread_record& me, envelope*& message, const server_type* receiver, const image_range& image) {
  if (receiver == nullptr) {
    destroy_cast(me, std::exchange(message, nullptr));
    return true;
  }
  const molt_message& old = *message->message;
  const molt_handler* const same = receiver->find(old.key);
  if (same != nullptr && image.contains(same->message)) return false;
  if (same != nullptr && (old.payload->flags & same->message->payload->flags & MOLT_SCHEMA_CODE_FREE) != 0) {
    message->message = same->message;
    return true;
  }
  const arrival how = find_arrival(*receiver, old);
  if (how.handler == nullptr || image.contains(how.handler->message)) return false;
  envelope* const made = make_empty_cast(me, *how.handler->message, message->generation);
  if (made == nullptr) return false;
  int status = MOLT_OK;
  if (how.route != nullptr && !how.route->payload.steps.empty()) {
    status = convert(how.route->payload, message->payload(), made->payload(), &me.scratch);
  } else {
    growing_sink to;
    status = old.payload->save(message->payload(), &to, &me.scratch);
    molt_source from = to.written();
    if (status == MOLT_OK) status = how.handler->message->payload->load(made->payload(), &from, &me.scratch);
  }
  if (status != MOLT_OK) {
    free_envelope(me, made);
    return false;
  }
  destroy_cast(me, std::exchange(message, made));
  return true;
}

}  // namespace molt::servers
