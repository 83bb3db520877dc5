// The record of one server: who may run it, and what waits for it.
//
// The word: generation (32 bits), thread that holds it (24), condition (8). Who changes it to `held` owns everything
// else that is marked "holder" below, until it changes the word again.
//
//   condition   event                                               next        by
//   free        start()                                             held        starter
//               a message came for the server that was (draining)   held        worker; back to free
//   idle        a call, a turn of the pool, suspend, stop, ...      held        whoever's compare-exchange succeeds
//   held        done                                                idle        holder, by a plain store
//               suspend() got it                                    suspended   holder
//               given to one who waits (HAND_OVER)                  held        holder, on behalf of the other
//               the server ended                                    free, with the next generation
//   suspended   resume(), stop(), sweep()                           held        whoever's compare-exchange succeeds
//
// The mailbox: `head` is a stack of pushed envelopes, newest first, with their count; holders take all of it at once
// and keep it in order in `pending`. Its values:
//
//   empty       nothing waits, and nobody attends to it
//   attended    nothing new, but somebody will look again
//   a pointer   messages wait, and somebody will look
//
// Rule of attendance: while `head` is not empty, at least one of these holds:
//   - `scheduled` is set: the server stands in a run queue, or a worker is on its way to it;
//   - the word is held by one who looks at the mailbox when leaving (every holder but a caller that ran its call
//   directly);
//   - the word is held by such a caller and `attention` is set: it looks at that when leaving;
//   - the word is suspended: resume() looks;
//   - whoever pushed onto the empty mailbox has not yet returned from doing so: it schedules the server, or runs it
//   itself.
// So whoever pushes first is responsible, and a caller that runs its call directly neither looks at the mailbox when
// leaving nor needs more than a plain store. A worker that finds the word held sets `attention`, makes a heavy fence,
// and tries once more; the holder stores idle, makes a light fence, and loads `attention`: one of them sees the other.
//
// Idle and something in `pending`: then `head` is at least attended. So whoever finds `head` empty and takes the server
// finds nothing pending either, unless another came and went between its two looks: who puts something there looks
// again.
//
// While messages are drained, `pending` is with the thread that does it (thread_record.hpp, draining), and comes back
// when it leaves. A worker may also hold the server that it is to run next (handoff, there): that is a holder who looks
// at the mailbox when leaving.
//
// Order: a call runs directly only if `head` is empty, so a thread's earlier casts are handled before its call. What a
// server wants handled before everything else stands first in `pending`, and `head` is at least attended until then;
// likewise until a server that stops itself has ended.
#pragma once

#include "plugin/abi.h"
#include "server/envelope.hpp"
#include "server/fence.hpp"
#include "server/runtime.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace molt::servers {

enum class condition : std::uint8_t { free, idle, held, suspended };

constexpr std::uint32_t generation_of(molt_ref ref) noexcept { return static_cast<std::uint32_t>(ref.bits >> 32U); }
constexpr std::uint32_t slot_of(molt_ref ref) noexcept { return static_cast<std::uint32_t>(ref.bits); }

namespace word {
constexpr std::uint64_t make(std::uint32_t generation, condition now, std::uint32_t thread = 0) noexcept {
  return (std::uint64_t{generation} << 32U) | (std::uint64_t{thread} << 8U) | static_cast<std::uint64_t>(now);
}
constexpr std::uint32_t generation(std::uint64_t value) noexcept { return static_cast<std::uint32_t>(value >> 32U); }
constexpr std::uint32_t thread(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value >> 8U) & 0xffffffU;
}
constexpr condition now(std::uint64_t value) noexcept { return static_cast<condition>(value & 0xffU); }
// As differences: a mask of 64 bits would take a register and an instruction of ten bytes.
constexpr std::uint64_t idle(molt_ref server) noexcept {
  return server.bits - slot_of(server) + static_cast<std::uint64_t>(condition::idle);
}
constexpr std::uint64_t held(molt_ref server, std::uint32_t thread) noexcept {
  return server.bits - slot_of(server) + ((std::uint64_t{thread} << 8U) | static_cast<std::uint64_t>(condition::held));
}
}  // namespace word

/// `head`: count above, pointer divided by 64 (envelopes are aligned to it) below.
namespace mailbox {
inline constexpr unsigned pointer_bits = 42;
inline constexpr std::uint64_t empty = 0;
inline constexpr std::uint64_t attended = 1;
inline constexpr std::size_t count_max = std::size_t{1} << 20U;

inline std::uint64_t make(const envelope* top, std::size_t count) noexcept {
  return (std::uint64_t{count} << pointer_bits) | (reinterpret_cast<std::uint64_t>(top) >> 6U);
}
inline std::size_t count(std::uint64_t head) noexcept { return head >> pointer_bits; }
inline bool has_messages(std::uint64_t head) noexcept { return head > attended; }
inline envelope* top(std::uint64_t head) noexcept {
  return has_messages(head) ? reinterpret_cast<envelope*>((head & ((std::uint64_t{1} << pointer_bits) - 1)) << 6U)
                            : nullptr;
}
}  // namespace mailbox

/// Bits of cell::attention: what a holder must see to when leaving.
namespace attention {
inline constexpr std::uint8_t schedule = 1;   // messages wait: put the server into a run queue
inline constexpr std::uint8_t hand_over = 2;  // somebody waits to hold the server
inline constexpr std::uint8_t stop = 4;       // end the server
}  // namespace attention

struct switch_entry;
class argument_block;

/// Lies in memory reserved once and never given back: any reference may be looked up at any time.
struct alignas(64) cell {
  std::atomic<std::uint64_t> word;  // zero: free, generation 0
  std::atomic<std::uint64_t> head;
  std::atomic<void*> state;                  // holder; others only to have it fetched
  std::atomic<const server_type*> type;      // holder writes; others read inside an activation
  std::atomic<const switch_entry*> seen;     // the switch last considered; holder writes
  envelope* pending;                         // holder: taken from head, oldest first
  std::atomic<std::uint64_t> handled;        // holder writes
  std::atomic<std::uint32_t> pending_count;  // holder writes
  std::atomic<std::uint8_t> attention;
  std::atomic<std::uint8_t> scheduled;
  bool has_deferred;                  // holder: a token may be outstanding
  std::atomic<std::uint8_t> related;  // a monitor, link or group may concern it (relations.hpp)
};
static_assert(sizeof(cell) == 64);

/// To whoever holds the server.
inline void* state_of(const cell& held) noexcept { return held.state.load(std::memory_order_relaxed); }
inline void* take_state(cell& held) noexcept {
  void* const taken = state_of(held);
  held.state.store(nullptr, std::memory_order_relaxed);
  return taken;
}

/// What is seldom looked at; one beside each cell.
struct cell_detail {
  std::atomic<cell*> run_next;
  connection_output* output;           // holder
  const std::string* name;             // under the registry's mutex
  std::atomic<std::uint64_t> kept;     // kept::...
  std::atomic<std::uint64_t> started;  // seconds since the Unix epoch, then the order of starts, 32 bits each
};
static_assert(sizeof(cell_detail) == 40, "with the cell 104 bytes for a server beside its state");

/// `kept`: the block of start arguments above (holder; its address divided by 16, 0 for none), the longest that the
/// queue has been below.
namespace kept {
inline constexpr unsigned count_bits = 20;
inline constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
static_assert(mailbox::count_max <= count_mask + 1);

inline const argument_block* arguments(const cell_detail& of) noexcept {
  return reinterpret_cast<const argument_block*>((of.kept.load(std::memory_order_relaxed) >> count_bits) << 4U);
}
inline std::size_t queued_most(const cell_detail& of) noexcept {
  return of.kept.load(std::memory_order_relaxed) & count_mask;
}
/// Returns what was there.
inline const argument_block* exchange(cell_detail& of, const argument_block* arguments) noexcept {
  const auto above = (reinterpret_cast<std::uint64_t>(arguments) >> 4U) << count_bits;
  auto seen = of.kept.load(std::memory_order_relaxed);
  while (!of.kept.compare_exchange_weak(seen, above | (seen & count_mask), std::memory_order_relaxed)) continue;
  return reinterpret_cast<const argument_block*>((seen >> count_bits) << 4U);
}
inline void raise(cell_detail& of, std::size_t queued) noexcept {
  const auto most = std::min<std::uint64_t>(queued, count_mask);
  auto seen = of.kept.load(std::memory_order_relaxed);
  while (most > (seen & count_mask) &&
         !of.kept.compare_exchange_weak(seen, (seen & ~count_mask) | most, std::memory_order_relaxed)) {
  }
}
}  // namespace kept

}  // namespace molt::servers
