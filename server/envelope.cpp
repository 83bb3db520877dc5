#include "server/envelope.hpp"

#include "server/futex.hpp"
#include "server/thread_record.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace molt::servers {

namespace {

constexpr std::size_t line = 64;
constexpr std::size_t depot_bundles_max = 4096;  // per class; more go back to the heap

struct depot {
  using bundle = std::array<void*, envelope_cache::bundle>;
  std::mutex mutex;
  std::vector<std::unique_ptr<bundle>> bundles[envelope_cache::classes];

  /// False: full, or out of memory.
  bool put(unsigned size_class, void* const* items) noexcept {
    std::unique_ptr<bundle> filled{new (std::nothrow) bundle};
    if (filled == nullptr) return false;
    std::copy_n(items, envelope_cache::bundle, filled->begin());
    std::lock_guard lock{mutex};
    auto& full = bundles[size_class];
    if (full.size() == depot_bundles_max) return false;
    try {
      full.push_back(std::move(filled));
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }
};

depot& common_depot() {
  static depot* const only = new depot;  // threads may end after static destruction began
  return *only;
}

std::size_t class_bytes(unsigned size_class) noexcept { return line << size_class; }

std::size_t align_up(std::size_t offset, std::size_t align) noexcept { return (offset + align - 1) & ~(align - 1); }

void* allocate(thread_record& me, std::size_t size, std::size_t align, std::uint32_t& size_class) noexcept {
  if (size <= class_bytes(envelope_cache::classes - 1) && align <= line) {
    const auto wanted = size <= line ? 0U : static_cast<unsigned>(std::bit_width((size - 1) / line));
    size_class = wanted;
    return me.envelopes.take(wanted);
  }
  size_class = envelope_from_heap;
  return ::operator new (size, std::align_val_t{std::max(align, line)}, std::nothrow);
}

std::size_t heap_align(const envelope& e) noexcept { return std::max<std::size_t>(e.message->payload->align, line); }

std::size_t heap_align_of_call(const molt_message& m) noexcept {
  const std::size_t reply = m.reply != nullptr ? m.reply->align : 1;
  return std::max<std::size_t>({m.payload->align, reply, line});
}

}  // namespace

bool call_envelope::advance(call_state from, call_state to) noexcept {
  auto seen = state.load(std::memory_order_relaxed);
  while (static_cast<call_state>(seen & call_state_mask) == from)
    if (state.compare_exchange_weak(seen, (seen & ~call_state_mask) | static_cast<std::uint32_t>(to),
                                    std::memory_order_acq_rel))
      return true;
  return false;
}

bool call_envelope::finish() noexcept {
  auto seen = state.load(std::memory_order_relaxed);
  while (static_cast<call_state>(seen & call_state_mask) != call_state::abandoned)
    if (state.compare_exchange_weak(seen, static_cast<std::uint32_t>(call_state::done), std::memory_order_acq_rel)) {
      if ((seen & call_parked) != 0) futex::wake_all(state);
      return true;
    }
  return false;
}

envelope* make_otherwise(thread_record& me, const molt_message& message, std::uint32_t generation) noexcept {
  const auto& schema = *message.payload;
  const std::size_t offset = align_up(sizeof(envelope), schema.align);
  std::uint32_t size_class = 0;
  void* const memory = allocate(me, offset + schema.size, schema.align, size_class);
  if (memory == nullptr) return nullptr;
  auto* const made = new (memory) envelope;
  made->message = &message;
  made->generation = generation;
  made->offset_by_schema = schema.align > alignof(envelope);
  made->size_class = size_class & 0xfU;
  return made;
}

call_envelope* make_call(thread_record& me, const molt_message& message, std::uint32_t generation, void* payload,
                         void* reply_storage) noexcept {
  const auto& schema = *message.payload;
  const auto* const reply = message.reply;
  const std::size_t payload_offset = align_up(sizeof(call_envelope), schema.align);
  const std::size_t reply_offset = align_up(payload_offset + schema.size, reply != nullptr ? reply->align : 1);
  std::uint32_t size_class = 0;
  void* const memory =
      allocate(me, reply_offset + (reply != nullptr ? reply->size : 0), heap_align_of_call(message), size_class);
  if (memory == nullptr) return nullptr;
  auto* const made = new (memory) call_envelope;
  made->message = &message;
  made->generation = generation;
  made->is_call = 1;
  made->size_class = size_class & 0xfU;
  const bool payload_moves = schema.move != nullptr;
  const bool reply_moves = reply == nullptr || reply->move != nullptr;
  made->borrowed = !payload_moves || !reply_moves;
  made->reply_borrowed = !reply_moves;
  made->payload_at = payload_moves ? static_cast<char*>(memory) + payload_offset : payload;
  made->reply_at = reply_moves ? static_cast<char*>(memory) + reply_offset : reply_storage;
  if (payload_moves) schema.move(made->payload_at, payload);
  return made;
}

void free_otherwise(thread_record& me, envelope* e) noexcept {
  const auto size_class = e->size_class;
  const std::size_t align = e->is_call != 0 ? heap_align_of_call(*e->message) : heap_align(*e);
  if (e->is_call != 0) static_cast<call_envelope*>(e)->~call_envelope();
  if (size_class != envelope_from_heap)
    me.envelopes.give(size_class, e);
  else
    ::operator delete (static_cast<void*>(e), std::align_val_t{align});
}

void release_call(thread_record& me, call_envelope* call) noexcept {
  if (call->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (call->message->payload->move != nullptr) call->message->payload->destroy(call->payload_at);
  free_envelope(me, call);
}

bool envelope_cache::make_room(stock& mine) noexcept {
  if (mine.room != 0) return true;
  mine.items = new (std::nothrow) void*[2 * bundle];
  if (mine.items != nullptr) mine.room = 2 * bundle;
  return mine.items != nullptr;
}

void* envelope_cache::refill(unsigned size_class) noexcept {
  stock& mine = free_[size_class];
  if (make_room(mine)) {
    auto& common = common_depot();
    std::lock_guard lock{common.mutex};
    auto& bundles = common.bundles[size_class];
    if (!bundles.empty()) {
      std::copy(bundles.back()->begin(), bundles.back()->end(), mine.items);
      mine.count = bundle;
      bundles.pop_back();
    }
  }
  if (mine.count != 0) return take(size_class);
  return ::operator new (class_bytes(size_class), std::align_val_t{line}, std::nothrow);
}

// The older half goes, in the order in which it came: neighbours in memory stay neighbours.
void envelope_cache::spill(unsigned size_class, void* memory) noexcept {
  stock& mine = free_[size_class];
  if (!make_room(mine)) {
    ::operator delete (memory, std::align_val_t{line});
    return;
  }
  if (mine.count == mine.room) {
    if (!common_depot().put(size_class, mine.items))
      for (unsigned i = 0; i < bundle; ++i) ::operator delete (mine.items[i], std::align_val_t{line});
    std::copy(mine.items + bundle, mine.items + mine.count, mine.items);
    mine.count -= bundle;
  }
  mine.items[mine.count++] = memory;
}

void envelope_cache::overwrite() noexcept {
  for (unsigned n = 0; n < classes; ++n)
    for (unsigned i = 0; i < free_[n].count; ++i) std::memset(free_[n].items[i], 0, class_bytes(n));
}

void overwrite_free_envelopes() noexcept {
  for_each_thread_in_copy([](thread_record& each) { each.envelopes.overwrite(); });
  auto& common = common_depot();
  const std::unique_lock lock{common.mutex, std::try_to_lock};
  if (!lock) return;
  for (unsigned n = 0; n < envelope_cache::classes; ++n)
    for (const auto& filled : common.bundles[n])
      for (void* const memory : *filled) std::memset(memory, 0, class_bytes(n));
}

void envelope_cache::clear() noexcept {
  for (stock& mine : free_) {
    for (unsigned i = 0; i < mine.count; ++i) ::operator delete (mine.items[i], std::align_val_t{line});
    delete[] mine.items;
    mine = {};
  }
}

}  // namespace molt::servers
