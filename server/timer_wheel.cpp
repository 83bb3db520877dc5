#include "server/timer_wheel.hpp"

#include <algorithm>
#include <bit>

namespace molt::servers {

timer_wheel::timer_wheel(std::int64_t now_ns) : now_tick_{static_cast<std::uint64_t>(now_ns) >> tick_shift} {
  first_.fill(none);
}

timer_wheel::handle timer_wheel::add(molt_ref to, std::uint64_t due_ns, std::uint64_t period_ns, envelope* message) {
  std::uint32_t index = unused_;
  if (index != none) {
    unused_ = at(index).next;
  } else {
    if (used_ == timers_max) return {none, 0};
    index = used_++;
    if ((index & (chunk_size - 1)) == 0) chunks_.push_back(std::make_unique<timer[]>(chunk_size));
  }
  timer& added = at(index);
  added.message = message;
  added.to = to;
  added.due_ns = due_ns;
  added.period_ns = period_ns;
  insert(index);
  ++pending_;
  return {index, added.generation};
}

// Wheel w holds what is due within 256^(w+1) ticks of now; its slot is the w-th byte of the due tick.
void timer_wheel::insert(std::uint32_t index) {
  const std::uint64_t due = std::max(due_tick(at(index).due_ns), now_tick_ + 1);
  const std::uint64_t differs = due ^ now_tick_;
  unsigned wheel = differs == 0 ? 0 : (static_cast<unsigned>(std::bit_width(differs)) - 1) / 8;
  unsigned slot = 0;
  if (wheel >= wheels) {
    wheel = wheels - 1;  // farther than the last wheel reaches: looked at again when the slot just passed comes round
    slot = static_cast<unsigned>((now_tick_ >> (8 * wheel)) + slots - 1) % slots;
  } else {
    slot = static_cast<unsigned>(due >> (8 * wheel)) % slots;
  }
  push(index, wheel * slots + slot);
}

void timer_wheel::push(std::uint32_t index, unsigned slot) {
  timer& added = at(index);
  added.slot = slot;
  added.previous = none;
  added.next = first_[slot];
  if (added.next != none) at(added.next).previous = index;
  first_[slot] = index;
  occupied_[slot / slots][slot % slots / 64] |= std::uint64_t{1} << (slot % 64);
}

void timer_wheel::unlink(std::uint32_t index) {
  const timer& gone = at(index);
  if (gone.next != none) at(gone.next).previous = gone.previous;
  if (gone.previous != none) {
    at(gone.previous).next = gone.next;
    return;
  }
  first_[gone.slot] = gone.next;
  if (gone.next == none)
    occupied_[gone.slot / slots][gone.slot % slots / 64] &= ~(std::uint64_t{1} << (gone.slot % 64));
}

envelope* timer_wheel::release(std::uint32_t index) {
  timer& freed = at(index);
  if (++freed.generation == 0) freed.generation = 1;
  freed.next = unused_;
  unused_ = index;
  --pending_;
  return std::exchange(freed.message, nullptr);
}

envelope* timer_wheel::cancel(handle wanted) {
  if (wanted.index >= used_) return nullptr;
  const timer& found = at(wanted.index);
  if (found.message == nullptr || found.generation != wanted.generation) return nullptr;
  unlink(wanted.index);
  return release(wanted.index);
}

void timer_wheel::visit(const std::function<void(molt_ref, envelope*&)>& visitor) {
  for (std::uint32_t i = 0; i < used_; ++i) {
    timer& each = at(i);
    if (each.message == nullptr) continue;
    visitor(each.to, each.message);
    if (each.message != nullptr) continue;
    unlink(i);
    release(i);
  }
}

// The first occupied slot of the first wheel, or where a further wheel's occupied slot begins.
std::uint64_t timer_wheel::next_event_tick() const {
  for (unsigned wheel = 0; wheel < wheels; ++wheel) {
    const std::uint64_t now = now_tick_ >> (8 * wheel);
    for (unsigned step = 1; step <= slots; ++step) {
      const auto slot = static_cast<unsigned>(now + step) % slots;
      if ((occupied_[wheel][slot / 64] >> (slot % 64) & 1U) != 0) return (now + step) << (8 * wheel);
    }
  }
  return never;
}

void timer_wheel::cascade(unsigned wheel) {
  const auto slot = static_cast<unsigned>(now_tick_ >> (8 * wheel)) % slots;
  std::uint32_t index = std::exchange(first_[wheel * slots + slot], none);
  occupied_[wheel][slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
  while (index != none) {
    const std::uint32_t next = at(index).next;
    if (due_tick(at(index).due_ns) <= now_tick_)
      push(index, static_cast<unsigned>(now_tick_ % slots));  // the first wheel's present slot, emptied next
    else
      insert(index);
    index = next;
  }
}

bool timer_wheel::turn_to(std::int64_t now_ns, std::size_t most, const copy_function& copy, due_list& due) {
  const std::uint64_t tick = static_cast<std::uint64_t>(now_ns) >> tick_shift;
  while (now_tick_ < tick) {
    if (due.size() >= most) return false;
    const std::uint64_t next = next_event_tick();
    if (next > tick) {
      now_tick_ = tick;
      break;
    }
    now_tick_ = next;
    for (unsigned wheel = wheels - 1; wheel > 0; --wheel)
      if ((now_tick_ & ((std::uint64_t{1} << (8 * wheel)) - 1)) == 0) cascade(wheel);
    const auto slot = static_cast<unsigned>(now_tick_ % slots);
    while (first_[slot] != none) take(first_[slot], now_ns, copy, due);
  }
  return true;
}

void timer_wheel::take(std::uint32_t index, std::int64_t now_ns, const copy_function& copy, due_list& due) {
  unlink(index);
  timer& taken = at(index);
  if (taken.period_ns != 0) {
    if (envelope* const copied = copy(taken.to, *taken.message)) {
      due.emplace_back(taken.to, copied);
      const auto late = static_cast<std::uint64_t>(now_ns) - taken.due_ns;
      taken.due_ns += (late / taken.period_ns + 1) * taken.period_ns;
      insert(index);
      return;
    }
  }
  const molt_ref to = taken.to;
  due.emplace_back(to, release(index));
}

}  // namespace molt::servers
