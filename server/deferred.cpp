#include "server/deferred.hpp"

#include <utility>

namespace molt::servers {

std::uint64_t deferred_calls::hold(call_envelope& call, molt_ref server) {
  std::lock_guard lock{mutex_};
  std::size_t index = 0;
  if (!unused_.empty()) {
    index = unused_.back();
    unused_.pop_back();
  } else {
    if (slots_.size() >= slots_max_) return 0;
    index = slots_.size();
    slots_.emplace_back();
  }
  slots_[index].call = &call;
  slots_[index].server = server;
  return (std::uint64_t{slots_[index].generation} << 32U) | (index + 1);
}

call_envelope* deferred_calls::free_slot(std::size_t index) {
  slot& freed = slots_[index];
  if (++freed.generation == 0) freed.generation = 1;
  unused_.push_back(static_cast<std::uint32_t>(index));
  return std::exchange(freed.call, nullptr);
}

const deferred_calls::slot* deferred_calls::slot_of_token(std::uint64_t token) const {
  const std::size_t index = (token & 0xffffffffU) - 1;
  if (index >= slots_.size() || slots_[index].call == nullptr || slots_[index].generation != token >> 32U)
    return nullptr;
  return &slots_[index];
}

call_envelope* deferred_calls::take(std::uint64_t token) {
  std::lock_guard lock{mutex_};
  const slot* const held = slot_of_token(token);
  return held != nullptr ? free_slot(static_cast<std::size_t>(held - slots_.data())) : nullptr;
}

deferred_calls::owed deferred_calls::find(std::uint64_t token) const {
  std::lock_guard lock{mutex_};
  const slot* const held = slot_of_token(token);
  return held != nullptr ? owed{held->call->message, held->server} : owed{};
}

call_envelope* deferred_calls::take_any_of(molt_ref server) {
  std::lock_guard lock{mutex_};
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].call != nullptr && slots_[i].server.bits == server.bits) return free_slot(i);
  return nullptr;
}

bool deferred_calls::any(const std::function<bool(const call_envelope&)>& wanted) const {
  std::lock_guard lock{mutex_};
  for (const auto& each : slots_)
    if (each.call != nullptr && wanted(*each.call)) return true;
  return false;
}

std::size_t deferred_calls::size() const {
  std::lock_guard lock{mutex_};
  return slots_.size() - unused_.size();
}

}  // namespace molt::servers
