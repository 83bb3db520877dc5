// Work on states between messages, a slice at a time: whoever calls the server in the meantime finds it held for no
// longer than a slice, which is made to be shorter than a caller looks again before it queues (await_idle).
#include "server/engine.hpp"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

namespace molt::servers {

namespace {

constexpr std::int64_t look_for_ns = 20'000;
constexpr unsigned vain_looks_max = 100;              // then it is asked for, and given to this thread though it sleeps
constexpr std::int64_t busy_timeout_ns = 10'000'000;  // a server that handles one long message: the others come first
constexpr std::int64_t spin_at_most_ns = 100'000;
constexpr std::int64_t works_at_most_ns = 500'000;
constexpr std::int64_t insists_at_most_ns = 2'000'000;
constexpr std::chrono::microseconds rest_time{50};

// For a share of what the slice took. By spinning, as a yield may cost a
// time slice of the machine's; but every so often it sleeps, so that it is not when it holds a server that the kernel
// wants this processor back.
class breath {
 public:
  /// With 0 only for that sleep.
  void let_callers_in(std::int64_t took_ns) {
    const auto now = steady_ns();
    if (took_ns > spin_at_most_ns || now - rested_at_ > (took_ns == 0 ? insists_at_most_ns : works_at_most_ns)) {
      std::this_thread::sleep_for(std::max<std::chrono::nanoseconds>(rest_time, std::chrono::nanoseconds{took_ns}));
      rested_at_ = steady_ns();
      return;
    }
    while (steady_ns() < now + took_ns) fence::spin_pause();
  }

 private:
  std::int64_t rested_at_ = steady_ns();
};

}  // namespace

void engine::tend(const std::function<bool(const server_type&)>& wanted,
                  const std::function<tending(resting_server&)>& look, const std::function<bool()>& keep_going,
                  unsigned callers_share) {
  thread_record& me = this_thread();
  std::vector<tended> open;
  {
    const activity here{*this, me};  // types live as long
    for (std::uint32_t slot = 0; slot < registry_.used(); ++slot) {
      const cell& each = registry_.at(slot);
      const auto now = word::now(each.word.load(std::memory_order_acquire));
      const server_type* const type = each.type.load(std::memory_order_acquire);
      if (now != condition::free && type != nullptr && wanted(*type)) open.push_back({ref_of(each)});
    }
  }
  breath between;
  while (!open.empty()) {
    std::size_t kept = 0;
    for (std::size_t at = 0; at < open.size(); ++at) {
      for (auto answer = tending::again; answer != tending::done;) {
        if (keep_going && !keep_going()) return;
        const auto begun = steady_ns();
        answer = tend_one(me, open[at], look);
        const auto took = std::min(steady_ns() - begun, busy_timeout_ns);
        // Nobody called: who does now waits in the mailbox for the end of a slice.
        const bool alone = answer == tending::insist || (open[at].vain == 0 && !open[at].called);
        between.let_callers_in(alone ? 0 : took * callers_share / 100);
        if (answer == tending::done || open[at].vain == 0) continue;
        open[kept++] = open[at];  // it was busy: the next one first
        break;
      }
    }
    open.resize(kept);
  }
}

tending engine::tend_one(thread_record& me, tended& one, const std::function<tending(resting_server&)>& look) {
  const molt_ref ref = one.ref;
  const activity here{*this, me};
  cell* const held = find(ref);
  if (held == nullptr) return tending::done;
  const bool suspended = word::now(held->word.load(std::memory_order_acquire)) == condition::suspended;
  int status = MOLT_TIMEOUT;
  for (const auto until = steady_ns() + look_for_ns; status == MOLT_TIMEOUT && steady_ns() < until;) {
    status = try_acquire(me, *held, generation_of(ref), suspended);
    if (status == MOLT_TIMEOUT) fence::spin_pause();
  }
  if (status == MOLT_TIMEOUT && ++one.vain == vain_looks_max)
    status = acquire(me, *held, generation_of(ref), steady_ns() + busy_timeout_ns, suspended);
  if (status == MOLT_NO_SUCH_SERVER) return tending::done;
  if (status != MOLT_OK) return tending::again;
  one.vain = 0;
  const auto handled = held->handled.load(std::memory_order_relaxed);
  one.called = std::exchange(one.handled, handled) != handled;
  adopt_if_behind(*held);
  resting_server resting{*this, *held};
  const auto answer = look(resting);
  if (suspended) {
    put_back_suspended(*held);
    return answer;
  }
  // Who has queued would otherwise wait for a worker, which finds the server held.
  if (mailbox::has_messages(held->head.load(std::memory_order_acquire)) &&
      !drain(me, *held, messages_per_turn, nullptr))
    return tending::done;
  leave_mailbox(me, *held);
  return answer;
}

}  // namespace molt::servers
