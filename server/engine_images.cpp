// What of the runtime needs which image: for people who want to know why one is still mapped. Counted by looking at
// everything when asked, so that nothing is counted while messages pass.
#include "server/engine.hpp"

#include <algorithm>
#include <utility>

namespace molt::servers {

namespace {

constexpr std::uint32_t slots_at_once = 4096;  // in one activation: rest waits for no more

/// The image that an address lies in, or one past the last.
std::size_t index_of(std::span<const image_range> images, const void* address) noexcept {
  const auto found =
      std::find_if(images.begin(), images.end(), [address](const image_range& one) { return one.contains(address); });
  return static_cast<std::size_t>(found - images.begin());
}

}  // namespace

std::vector<image_uses> engine::uses(std::span<const image_range> images) {
  thread_record& me = this_thread();
  std::vector<image_uses> counts(images.size() + 1);  // the last: of others
  const auto of = [&](const void* address) -> image_uses& { return counts[index_of(images, address)]; };
  for (std::uint32_t slot = 0; slot < registry_.used();) {
    const activity here{*this, me};
    for (const auto end = std::min(slot + slots_at_once, registry_.used()); slot < end; ++slot) {
      cell& each = registry_.at(slot);
      const auto seen = each.word.load(std::memory_order_acquire);
      const server_type* const type = each.type.load(std::memory_order_acquire);
      if (word::now(seen) == condition::free || type == nullptr) continue;
      image_uses& mine = of(&type->abi());
      ++mine.servers;
      if (word::now(seen) == condition::held) ++mine.running;
      if (each.head.load(std::memory_order_acquire) != mailbox::empty) count_mailbox(me, each, images, counts);
    }
  }
  const activity here{*this, me};  // in which messages and types stay
  timers_.for_each([&](molt_ref, envelope*& waiting) { ++of(waiting->message).timers; });
  (void)deferred_.any([&](const call_envelope& call) {
    ++of(call.message).deferred;
    return false;
  });
  (void)offloads_.find([&](const molt_work& work) {
    ++of(&work).offloaded;
    return false;
  });
  counts.pop_back();
  return counts;
}

void engine::count_mailbox(thread_record& me, cell& each, std::span<const image_range> images,
                           std::vector<image_uses>& counts) {
  const auto seen = each.word.load(std::memory_order_acquire);
  if (word::now(seen) == condition::free) return;
  const bool suspended = word::now(seen) == condition::suspended;
  const int status = try_acquire(me, each, word::generation(seen), suspended);
  if (status != MOLT_OK) {
    const server_type* const type = each.type.load(std::memory_order_acquire);
    if (status != MOLT_NO_SUCH_SERVER && type != nullptr)
      counts[index_of(images, &type->abi())].messages += mailbox::count(each.head.load(std::memory_order_acquire)) +
                                                         each.pending_count.load(std::memory_order_relaxed);
    return;
  }
  take_all(each);
  for (const envelope* waiting = each.pending; waiting != nullptr; waiting = waiting->next)
    ++counts[index_of(images, waiting->message)].messages;
  if (suspended)
    put_back_suspended(each);
  else
    leave_mailbox(me, each);
}

}  // namespace molt::servers
