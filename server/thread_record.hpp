// What the runtime knows of a thread: where it is active, which servers it runs, what it waits for.
//
// Records are numbered, never freed, and used again after their thread has ended, so that one may be read at any time.
#pragma once

#include "server/envelope.hpp"
#include "server/failure.hpp"
#include "server/fence.hpp"
#include "server/runtime.hpp"
#include "server/server_type.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace molt::servers {

/// One handler on a thread's stack. What a call costs is counted in stores, so there is nothing here that can be found
/// otherwise.
struct alignas(16) activation {
  molt_context context;   // what the handler is given; first, so that it leads back here
  std::uint64_t outside;  // thread_record::active until this one began
  std::uint64_t token;    // of the call being handled, if `active` says that it may be deferred

  [[nodiscard]] static activation& of(molt_context* given) noexcept { return *reinterpret_cast<activation*>(given); }
  [[nodiscard]] const activation* outer() const noexcept;
};

/// thread_record::active: how often the thread has left a runtime (8 bits), the number of handlers on its stack (8),
/// the innermost one's activation (44), and flags (4). All but the first are zero while it is outside. The count only
/// serves to see that a thread came and went between two looks; it may come round.
namespace active {
inline constexpr std::uint64_t inside = 1;     // perhaps without a handler
inline constexpr std::uint64_t may_defer = 2;  // the innermost handler may answer later
inline constexpr std::uint64_t flags = 0xf;
inline constexpr std::uint64_t one_handler = std::uint64_t{1} << 48U;
inline constexpr std::uint64_t one_leaving = std::uint64_t{1} << 56U;
inline constexpr std::uint64_t address = one_handler - 1 - flags;
inline constexpr unsigned handlers_max = 255;

inline unsigned handlers(std::uint64_t value) noexcept { return static_cast<unsigned>(value >> 48U) & handlers_max; }
inline bool is_inside(std::uint64_t value) noexcept { return value << 8U != 0; }
inline std::uint64_t leavings(std::uint64_t value) noexcept { return value & ~(one_leaving - 1); }
inline std::uint64_t left(std::uint64_t value) noexcept { return leavings(value) + one_leaving; }
inline activation* innermost(std::uint64_t value) noexcept { return reinterpret_cast<activation*>(value & address); }
inline std::uint64_t with(std::uint64_t value, const activation& begun) noexcept {
  return (((value >> 48U) + 1) << 48U) + reinterpret_cast<std::uint64_t>(&begun);
}
}  // namespace active

/// The server that a worker runs next: taken for it with the message that its present handler has sent there, so that
/// neither passes through a queue. Others may not run it in the meantime; should its turn not come (a long handler), a
/// sleeping worker takes it away.
///
///   state    event                                               next
///   none     a handler casts to an idle server without messages  full, by the worker: it holds that server
///   full     the handler casts there again                       full: taken out, the message appended, put back
///            the turn is over, the handler waits                 none, by the worker, who runs the server or lets it
///            go seen unchanged at two ticks                         none, by a sleeper, who lets the server go
///
/// The worker empties the word, makes a light fence and looks at `taken_away`; the sleeper writes `contested` there,
/// makes a heavy fence and looks at the word: one of them sees the other. If the worker does, the mutex decides. What
/// was taken away stands there until the worker has looked, so that however late it does, it sees it.
class handoff {
 public:
  // The worker's.
  envelope* last = nullptr;  // of the server's messages
  /// If that is the only one, a cast: its handler, of the type that the server had when it was taken.
  server_type::handle_function only = nullptr;

  /// Any thread may look.
  [[nodiscard]] std::uint64_t word() const noexcept { return word_.load(std::memory_order_relaxed); }
  [[nodiscard]] cell* server() const noexcept { return server_of(word()); }
  [[nodiscard]] static cell* server_of(std::uint64_t word) noexcept {
    return reinterpret_cast<cell*>((word & server_bits) << 6U);
  }

  /// By the worker, into an empty one: a server that it holds.
  void put(cell& held) noexcept {
    word_.store((word() + one) | (reinterpret_cast<std::uint64_t>(&held) >> 6U), fence::fast_store);
  }
  /// By the worker, who holds the server then. Null: there is none, or it was taken away.
  [[nodiscard]] cell* take() noexcept {
    const auto seen = word();
    cell* const held = server_of(seen);
    if (held == nullptr) return nullptr;
    word_.store(seen & ~server_bits, fence::fast_store);
    fence::light();
    if (taken_away_.load(fence::fast_load) == 0) [[likely]]
      return held;
    return was_taken_away(seen) ? nullptr : held;
  }
  /// By others, who hold the server then.
  [[nodiscard]] cell* take_away();

 private:
  static constexpr unsigned count_shift = 42;  // of those put here: tells two from each other; it may come round
  static constexpr std::uint64_t one = std::uint64_t{1} << count_shift;
  static constexpr std::uint64_t server_bits = one - 1;  // divided by 64
  static constexpr std::uint64_t contested = 1;

  [[gnu::cold]] bool was_taken_away(std::uint64_t seen);

  std::atomic<std::uint64_t> word_{0};
  std::atomic<std::uint64_t> taken_away_{0};  // contested, or the word as it was; zero once the worker has seen it
  std::mutex mutex_;
};

inline const activation* activation::outer() const noexcept { return active::innermost(outside); }

struct engine;
struct switch_entry;

/// Messages of one server that a thread has taken and will run: while it does, they are its own, and the server's cell,
/// into which others look and write, is let alone.
struct draining {
  cell* held;
  molt_ref self;
  // Of the cell, as long as it has not been offered to another release:
  const switch_entry* seen = nullptr;
  const server_type* type = nullptr;
  void* state = nullptr;
  envelope* pending;              // oldest first
  std::uint32_t count;            // of them
  std::uint32_t taken = 0;        // at once, the last time
  std::uint32_t handled = 0;      // not yet counted in the cell
  envelope* continued = nullptr;  // the last of what the message being handled is to be followed by, before all others
  draining* outer;
};

struct alignas(64) thread_record {
  // The owner thread writes, others read.
  std::atomic<std::uint64_t> active{0};       // whether it is inside a runtime (gate.hpp), and what it runs there
  std::atomic<const engine*> owner{nullptr};  // the runtime that it is or was inside of
  std::atomic<bool> wanted{false};            // a server that it holds may want attention; others set, the owner clears
  // Owner only.
  std::uint32_t id = 0;
  bool is_worker = false;  // of the pool, inside a turn
  bool has_exits = false;
  std::uint64_t not_converted = 0;  // the server whose function just failed for an entry of its state, and lives
  draining* drains = nullptr;       // innermost
  servers::handoff handoff;
  void* worker = nullptr;  // the pool's
  envelope_cache envelopes;
  envelope_trail pushed;
  std::vector<exit_event> exits;  // to be told once no server is held
  // Ends whose monitors and links have not been seen to yet: one after the other, however long the chain of links.
  std::vector<exit_event> departures;
  bool departing = false;
  // By server, what its present function has put before everything that waits.
  struct continuation {
    std::uint64_t runtime;  // its number: another one's servers may have the same references
    molt_ref server;
    std::uint64_t handled;  // until then, so that it is known as the present one
    envelope* last;
  };
  std::vector<continuation> continuations;
  std::unique_ptr<thrown_exception> thrown;  // by the innermost handler, until its server is failed
  molt_text scratch;                         // where callers want no text
  // Under the engine's waits_mutex_.
  cell* waiting_on = nullptr;
  call_envelope* waiting_for = nullptr;

  /// Handlers on the stack.
  [[nodiscard]] unsigned depth() const noexcept { return active::handlers(active.load(std::memory_order_relaxed)); }
  /// The innermost; null if there is none.
  [[nodiscard]] activation* top() const noexcept { return active::innermost(active.load(std::memory_order_relaxed)); }
};

namespace detail {
// Initial-exec: one load. The general model may call a function, around which every call would save its arguments.
[[gnu::tls_model("initial-exec")]] inline constinit thread_local thread_record* current_record = nullptr;
thread_record& register_thread();
}  // namespace detail

inline thread_record& this_thread() {
  if (thread_record* const mine = detail::current_record) [[likely]]
    return *mine;
  return detail::register_thread();
}

// -- Envelopes of casts: what nearly all are, without a call

envelope* make_otherwise(thread_record&, const molt_message&, std::uint32_t generation) noexcept;
void free_otherwise(thread_record&, envelope*) noexcept;

inline envelope* make_empty_cast(thread_record& me, const molt_message& message, std::uint32_t generation) noexcept {
  constexpr std::size_t smallest = 64;
  const auto& schema = *message.payload;
  if (schema.align > alignof(envelope) || schema.size > smallest - sizeof(envelope)) [[unlikely]]
    return make_otherwise(me, message, generation);
  void* const memory = me.envelopes.take(0);
  if (memory == nullptr) [[unlikely]]
    return nullptr;
  auto* const made = ::new (memory) envelope;
  made->message = &message;
  made->generation = generation;
  return made;
}

inline envelope* make_cast(thread_record& me, const molt_message& message, std::uint32_t generation,
                           void* payload) noexcept {
  if (message.payload->move == nullptr) return nullptr;
  envelope* const made = make_empty_cast(me, message, generation);
  if (made != nullptr) message.payload->move(made->payload(), payload);
  return made;
}

inline void free_envelope(thread_record& me, envelope* e) noexcept {
  if (e->size_class == 0 && e->is_call == 0) [[likely]]
    me.envelopes.give(0, e);
  else
    free_otherwise(me, e);
}

inline void destroy_cast(thread_record& me, envelope* e) noexcept {
  e->message->payload->destroy(payload_of_cast(e));
  free_envelope(me, e);
}

/// The record of that number. It exists for every number that a thread ever had.
[[nodiscard]] thread_record& record_of(std::uint32_t id);
/// Visits all records, those of ended threads too.
void for_each_thread(const std::function<void(thread_record&)>&);
/// In a copy of the process that has one thread; none if another was just about to register.
void for_each_thread_in_copy(void (*visit)(thread_record&)) noexcept;

}  // namespace molt::servers
