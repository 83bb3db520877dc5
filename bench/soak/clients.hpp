// Those who send, and what they know must come of it.
//
//   client    what it does, over and over                                  what must hold
//   mixed     touches, bumps, relays, forwards, timers, on random          each answer shows every touch and bump that
//             accounts; touches and bumps only those that are its own      went before, in order, and nothing else
//   holder    calls that are answered later, by a timer or by work off     the answer is its own call's; some do not
//             the pool                                                     wait for it, and then it is dropped
//   crasher   lets workers fail, by call, cast or timer, and members of    the call that did it, and no other, fails;
//             groups                                                       others in the group as its strategy says
//   outsider  touches workers of the crasher                               it fails only if the worker was made to fail
//   churner   starts workers that last for a moment                        they start, answer and are gone
//
// What all sent is added up in `sent`, for the audit.
#pragma once

#include "bench/soak/box.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace soak {

/// What an account should have seen. The plain members are its own client's.
struct expected {
  std::uint64_t calls = 0;
  std::uint64_t bumps = 0;
  std::uint64_t sum = 0;
  std::atomic<std::uint32_t> relayed{0};
};

/// Each counter has one writer but where it says so; any thread reads.
struct totals {
  using counter = std::atomic<std::uint64_t>;
  counter calls{0};      ///< answered; many writers
  counter casts{0};      ///< accepted; many writers
  counter forwarded{0};  ///< hops; many writers
  counter armed{0};      ///< timers; many writers
  counter disarmed{0};   ///< many writers
  counter held{0};       ///< answered later; many writers
  counter abandoned{0};  ///< not waited for; many writers
  counter crashes{0};
  counter restarts{0};  ///< that follow from the crashes
  counter watched{0};   ///< monitors
  counter refused{0};   ///< calls that failed because their server had been made to
  counter churned{0};
  counter largest_ns{0};  ///< of a mixed client's calls; many writers
  counter over_1ms{0};    ///< such calls; many writers
  counter over_100ms{0};  ///< many writers
};

/// Ownership: borrows the box and the verdict. Threading: the owner's thread; the clients are threads of its own.
class clients {
 public:
  /// `longest`: of timers and of answers that are waited for, to last over some changes of release.
  clients(box&, verdict&, std::uint64_t seed, std::chrono::nanoseconds longest);
  ~clients() { stop(); }
  clients(const clients&) = delete;
  clients& operator=(const clients&) = delete;

  void start();
  /// Returns once every client has its last answer.
  void stop();
  /// The client that has not come further for `most`, if there is one.
  [[nodiscard]] std::string stuck(std::chrono::seconds most) const;

  [[nodiscard]] const totals& sent() const noexcept { return sent_; }
  [[nodiscard]] const std::vector<expected>& accounts() const noexcept { return accounts_; }

 private:
  using random_source = std::mt19937_64;
  struct armed_timer {
    std::size_t account;
    std::uint64_t timer;
  };
  struct mixed {
    std::size_t part = 0;            // its accounts are those whose index leaves this when divided by mixed_clients
    std::deque<std::size_t> bumped;  // and not touched since, oldest first
    std::vector<armed_timer> timers;
  };
  struct crash_count {
    std::atomic<std::uint32_t> begun{0};   // before it is made to fail
    std::atomic<std::uint32_t> healed{0};  // after it was found again
  };
  struct one {
    std::string name;
    std::atomic<std::int64_t> last_ns{0};
    std::atomic<bool> over{false};
    std::thread thread;
  };

  /// Runs `turn` until stop().
  void add(std::string name, std::function<void(random_source&)> turn);

  // -- Turns
  void mix(mixed&, random_source&);
  void touch_own(mixed&, std::size_t account, std::uint64_t by);
  void bump_own(mixed&, std::size_t account, std::uint64_t by);
  void relay_on(random_source&);
  void forward_on(random_source&);
  void set_timer(mixed&, random_source&);
  void cancel_timer(mixed&, random_source&);
  void hold_call(random_source&, bool long_ones);
  void crash_worker(random_source&);
  void crash_member(random_source&);
  void touch_worker(random_source&);
  void churn(random_source&);

  template <class M>
  outcome<M> timed_call(molt_ref to, M message);
  molt_ref wait_for_other(const std::string& name, molt_ref before);
  void bad_answer(const char* what, std::size_t account, const counts&, const expected&);
  [[nodiscard]] std::size_t any_account(random_source& random) const { return random() % accounts_.size(); }

  box& box_;
  verdict& verdict_;
  const std::uint64_t seed_;
  const std::chrono::nanoseconds longest_;
  totals sent_;
  std::vector<expected> accounts_;
  std::vector<crash_count> crashes_;  // of each worker
  std::vector<std::unique_ptr<mixed>> mixed_;
  std::vector<std::unique_ptr<one>> all_;
  std::atomic<bool> going_{false};
};

[[nodiscard]] std::int64_t now_ns() noexcept;

}  // namespace soak
