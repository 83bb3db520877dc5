// A message that waits: its payload moved into memory of ours, and for a call the place of the reply.
//
// The life of a call's envelope, in `state`; two parties hold a reference, the caller and whoever is to handle it:
//
//   state       event                                 next        by
//   queued      taken out of the mailbox              running     runner
//               deadline, or a deadlock               withdrawn   caller; the runner drops it unhandled
//   running     handled, or the server failed         done        runner
//               deadline (unless borrowed)            abandoned   caller; the reply is destroyed when it comes
//   deferring   handler returned without a reply      deferred    runner (deferring: a running handler that may defer)
//               reply(token)                          replying    whoever replies
//   deferred    reply(token)                          replying    whoever replies
//               deadline                              abandoned   caller; the token is void
//   replying    reply constructed                     done        whoever replies
//
// Invariants: exactly one party makes each transition (all by compare-exchange). A payload whose type cannot be moved
// without throwing stays in the caller's memory ("borrowed"), and then the caller does not go away while it is used.
#pragma once

#include "plugin/abi.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace molt::servers {

struct thread_record;

struct envelope {
  envelope* next = nullptr;
  const molt_message* message = nullptr;
  std::uint32_t generation = 0;  // of the receiver: a mailbox may outlive its server
  std::uint32_t size_class : 4 = 0;
  std::uint32_t is_call : 1 = 0;
  std::uint32_t offset_by_schema : 1 = 0;  // the payload's, of a cast that is aligned to more than 8 bytes
  std::uint32_t : 2;
  std::uint32_t ahead : 24 =
      0;  // in cache lines, signed: where the reader of a list will be some steps on; a guess, or 0

  [[nodiscard]] void* payload() noexcept;
  /// A list is read in another thread's cache, one miss after the other unless asked for ahead.
  void fetch_ahead() const noexcept {
    const std::int32_t lines = static_cast<std::int32_t>(ahead << 8U) >> 8U;
    __builtin_prefetch(reinterpret_cast<const char*>(this) + std::ptrdiff_t{lines} * 64, 1);
  }
  void set_ahead(const envelope* there) noexcept {
    const std::ptrdiff_t lines = (reinterpret_cast<std::intptr_t>(there) - reinterpret_cast<std::intptr_t>(this)) / 64;
    constexpr std::ptrdiff_t most = (1 << 23) - 1;
    ahead = static_cast<std::uint32_t>(lines <= most && lines >= -most ? lines : 0) & 0xffffffU;
  }
};
static_assert(sizeof(envelope) == 24, "a cast with a payload of up to 40 bytes fits a cache line");

/// The last few that passed: each gets to know the one that many before.
class envelope_trail {
 public:
  void pass(envelope& e) noexcept {
    envelope*& oldest = last_[at_++ % steps];
    e.set_ahead(oldest);
    oldest = &e;
  }

 private:
  static constexpr unsigned steps = 8;
  envelope* last_[steps] = {};
  unsigned at_ = 0;
};

enum class call_state : std::uint32_t { queued, running, deferring, deferred, replying, done, withdrawn, abandoned };
inline constexpr std::uint32_t call_state_mask = 0xff;
inline constexpr std::uint32_t call_parked = 0x100;  // the caller sleeps on the word

struct call_envelope : envelope {
  std::atomic<std::uint32_t> state{0};
  std::atomic<std::uint32_t> references{2};
  int status = MOLT_OK;
  bool borrowed = false;  // payload or reply lie in the caller's memory
  bool reply_borrowed = false;
  void* payload_at = nullptr;
  void* reply_at = nullptr;
  std::uint64_t token = 0;  // once deferring
  std::string text;         // of a failure

  [[nodiscard]] call_state current() const noexcept {
    return static_cast<call_state>(state.load(std::memory_order_acquire) & call_state_mask);
  }
  /// Keeps the parked flag. False if the state was another.
  bool advance(call_state from, call_state to) noexcept;
  /// To done, waking the caller; false if the caller has gone.
  bool finish() noexcept;
};

/// Of a cast.
inline void* payload_of_cast(envelope* e) noexcept {
  std::size_t offset = sizeof(envelope);
  if (const std::size_t align = e->offset_by_schema != 0 ? e->message->payload->align : 0; align > offset) [[unlikely]]
    offset = align;
  return reinterpret_cast<char*>(e) + offset;
}

inline void* envelope::payload() noexcept {
  return is_call != 0 ? static_cast<call_envelope*>(this)->payload_at : payload_of_cast(this);
}

inline constexpr std::uint32_t envelope_from_heap = 0xf;  // envelope::size_class

/// A cast's envelope with the payload moved in; null if there is no memory or the payload cannot be moved.
envelope* make_cast(thread_record&, const molt_message&, std::uint32_t generation, void* payload) noexcept;
/// A call's envelope, queued. Null if there is no memory.
call_envelope* make_call(thread_record&, const molt_message&, std::uint32_t generation, void* payload,
                         void* reply_storage) noexcept;
/// A cast of another schema in place of this one, its payload not yet constructed.
envelope* make_empty_cast(thread_record&, const molt_message&, std::uint32_t generation) noexcept;

/// Destroys the payload and gives the memory back.
void destroy_cast(thread_record&, envelope*) noexcept;
/// Drops one reference of two; the last destroys the payload and gives the memory back.
void release_call(thread_record&, call_envelope*) noexcept;
/// Gives the memory back, the payload has been destroyed.
void free_envelope(thread_record&, envelope*) noexcept;

/// Memory for envelopes kept for reuse by one thread; whole bundles go to and from a common depot, from those that free
/// them to those that fill them (Bonwick and Adams, "Magazines and Vmem", 2001). Kept as addresses in an array, not as
/// a list through the memory itself: it lies in the other thread's cache, and what is taken soon can be asked for
/// ahead.
class envelope_cache {
 public:
  static constexpr unsigned classes = 5;  // 64, 128, 256, 512, 1024 bytes; larger ones come from the heap
  static constexpr unsigned bundle = 64;
  static constexpr unsigned ahead = 8;

  envelope_cache() = default;
  envelope_cache(const envelope_cache&) = delete;
  envelope_cache& operator=(const envelope_cache&) = delete;
  ~envelope_cache() { clear(); }

  [[nodiscard]] void* take(unsigned size_class) noexcept {
    stock& mine = free_[size_class];
    if (mine.count == 0) [[unlikely]]
      return refill(size_class);
    if (mine.count > ahead) __builtin_prefetch(mine.items[mine.count - 1 - ahead], 1);
    return mine.items[--mine.count];
  }
  void give(unsigned size_class, void* memory) noexcept {
    stock& mine = free_[size_class];
    if (mine.count == mine.room) [[unlikely]]
      return spill(size_class, memory);
    mine.items[mine.count++] = memory;
  }
  void clear() noexcept;
  void overwrite() noexcept;  ///< what is kept, but for nobody else to see

 private:
  struct stock {
    void** items = nullptr;
    unsigned count = 0;
    unsigned room = 0;  // of `items`; none before first use
  };
  void* refill(unsigned size_class) noexcept;
  void spill(unsigned size_class, void* memory) noexcept;
  bool make_room(stock&) noexcept;
  stock free_[classes];
};

/// In a copy of the process that has one thread: overwrites what threads keep, and what they share. What another thread
/// was about to take or give when it was copied is left.
void overwrite_free_envelopes() noexcept;

}  // namespace molt::servers
