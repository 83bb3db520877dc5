#include "bench/soak/clients.hpp"

#include <algorithm>

namespace soak {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr unsigned mixed_clients = 2;
constexpr unsigned holders = 3;
/// Bumps that may be under way from one client: then it looks whether they have arrived.
constexpr std::size_t bumps_ahead_max = 1024;
/// Forwarded messages between two that are waited for.
constexpr std::size_t forwards_ahead = 32;
constexpr std::size_t timers_remembered = 256;
constexpr std::chrono::seconds restart_timeout{60};

std::int64_t between(std::mt19937_64& random, nanoseconds least, nanoseconds most) {
  return least.count() + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>((most - least).count()));
}

void raise(std::atomic<std::uint64_t>& largest, std::uint64_t value) {
  auto seen = largest.load(std::memory_order_relaxed);
  while (seen < value && !largest.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

void count(std::atomic<std::uint64_t>& what, std::uint64_t by = 1) { what.fetch_add(by, std::memory_order_relaxed); }

}  // namespace

std::int64_t now_ns() noexcept { return std::chrono::steady_clock::now().time_since_epoch().count(); }

clients::clients(box& under_test, verdict& judge, std::uint64_t seed, nanoseconds longest)
    : box_{under_test},
      verdict_{judge},
      seed_{seed},
      longest_{longest},
      accounts_(under_test.accounts().size()),
      crashes_(under_test.workers()) {}

void clients::start() {
  going_ = true;
  for (unsigned n = 0; n < mixed_clients; ++n) {
    mixed_.push_back(std::make_unique<mixed>());
    mixed_.back()->part = n;
    add("mixed " + std::to_string(n), [this, n](random_source& random) { mix(*mixed_[n], random); });
  }
  for (unsigned n = 0; n < holders; ++n)
    add("holder " + std::to_string(n), [this, n](random_source& random) { hold_call(random, n == 0); });
  add("crasher", [this](random_source& random) { random() % 8 == 0 ? crash_member(random) : crash_worker(random); });
  add("outsider", [this](random_source& random) { touch_worker(random); });
  add("churner", [this](random_source& random) { churn(random); });
}

void clients::add(std::string name, std::function<void(random_source&)> turn) {
  auto made = std::make_unique<one>();
  made->name = std::move(name);
  made->last_ns = now_ns();
  const auto seed = seed_ + all_.size();
  made->thread = std::thread{[this, seed, turn = std::move(turn), self = made.get()] {
    random_source random{seed};
    while (going_.load(std::memory_order_relaxed)) {
      turn(random);
      self->last_ns.store(now_ns(), std::memory_order_relaxed);
    }
    self->over = true;
  }};
  all_.push_back(std::move(made));
}

void clients::stop() {
  going_ = false;
  for (auto& each : all_)
    if (each->thread.joinable()) each->thread.join();
}

std::string clients::stuck(std::chrono::seconds most) const {
  const auto since = now_ns() - nanoseconds{most}.count();
  for (const auto& each : all_)
    if (!each->over && each->last_ns.load(std::memory_order_relaxed) < since) return each->name;
  return {};
}

// ---- Accounts

template <class M>
outcome<M> clients::timed_call(molt_ref to, M message) {
  const auto begun = now_ns();
  auto made = call(box_.on(), to, std::move(message));
  const auto took = static_cast<std::uint64_t>(now_ns() - begun);
  if (took > 1'000'000) count(sent_.over_1ms);
  if (took > 100'000'000) count(sent_.over_100ms);
  raise(sent_.largest_ns, took);
  if (made.ok())
    count(sent_.calls);
  else
    verdict_.fail("a call of %s failed with status %d: %s", molt::message_of<M>().name, made.status,
                  std::string{molt::servers::runtime::call_failure()}.c_str());
  return made;
}

void clients::mix(mixed& me, random_source& random) {
  const auto own = any_account(random) / mixed_clients * mixed_clients + me.part;
  const auto account = own < accounts_.size() ? own : me.part;
  const auto by = random() % 1000;
  const auto what = random() % 100;
  if (what < 60)
    touch_own(me, account, by);
  else if (what < 80)
    bump_own(me, account, by);
  else if (what < 88)
    relay_on(random);
  else if (what < 93)
    forward_on(random);
  else if (what < 98)
    set_timer(me, random);
  else
    cancel_timer(me, random);
}

void clients::bad_answer(const char* what, std::size_t account, const counts& seen, const expected& should) {
  verdict_.fail(
      "%s: account %zu answers: id %llu, %llu calls (%llu were made), %llu bumps (%llu), sum %llu (%llu), state %s",
      what, account, static_cast<unsigned long long>(seen.id), static_cast<unsigned long long>(seen.calls),
      static_cast<unsigned long long>(should.calls), static_cast<unsigned long long>(seen.bumps),
      static_cast<unsigned long long>(should.bumps), static_cast<unsigned long long>(seen.sum),
      static_cast<unsigned long long>(should.sum), seen.whole ? "whole" : "damaged");
}

void clients::touch_own(mixed&, std::size_t account, std::uint64_t by) {
  const auto done = timed_call(box_.accounts()[account], touch{by});
  if (!done.ok()) return;
  auto& should = accounts_[account];
  ++should.calls;
  should.sum += by;
  const auto& seen = done.reply;
  if (seen.id != account || seen.calls != should.calls || seen.bumps != should.bumps || seen.sum != should.sum ||
      !seen.whole)
    bad_answer("touch", account, seen, should);
}

void clients::bump_own(mixed& me, std::size_t account, std::uint64_t by) {
  if (const int status = cast(box_.on(), box_.accounts()[account], bump{by}); status != MOLT_OK)
    return verdict_.fail("a cast to account %zu failed with status %d", account, status);
  count(sent_.casts);
  auto& should = accounts_[account];
  ++should.bumps;
  should.sum += by;
  me.bumped.push_back(account);
  if (me.bumped.size() <= bumps_ahead_max) return;
  const auto oldest = me.bumped.front();
  me.bumped.pop_front();
  touch_own(me, oldest, 1);
}

// Upwards only, so that no two relays wait for each other.
void clients::relay_on(random_source& random) {
  std::size_t path[4];
  const auto length = 2 + random() % 3;
  for (std::size_t n = 0; n < length; ++n) path[n] = any_account(random);
  std::sort(path, path + length);
  const auto end = std::unique(path, path + length);
  relay message;
  for (auto* each = end; --each != path;) message.on.push_back({box_.accounts()[*each].bits});
  const auto last = static_cast<std::uint64_t>(*(end - 1));
  const auto done = timed_call(box_.accounts()[path[0]], std::move(message));
  if (!done.ok()) return;
  if (!done.reply.problem.empty() || done.reply.last != last)
    verdict_.fail("a relay to account %llu ended at %llu: %s", static_cast<unsigned long long>(last),
                  static_cast<unsigned long long>(done.reply.last), done.reply.problem.c_str());
  for (auto* each = path; each != end; ++each) accounts_[*each].relayed.fetch_add(1, std::memory_order_relaxed);
}

// Now and then it waits for one to arrive, so that the pool is not left ever further behind.
void clients::forward_on(random_source& random) {
  std::vector<molt::ref> on;
  const auto hops = 1 + random() % 6;
  std::size_t last = 0;
  for (std::size_t n = 0; n < hops; ++n) {
    const auto account = any_account(random);
    if (n == 0) last = account;
    on.push_back({box_.accounts()[account].bits});
  }
  const molt_ref first{on.back().bits};
  on.pop_back();
  if (random() % forwards_ahead == 0) {
    const auto done = timed_call(first, travel{std::move(on)});
    if (!done.ok()) return;
    if (done.reply != last)
      verdict_.fail("a message on its way to account %zu was answered by %llu", last,
                    static_cast<unsigned long long>(done.reply));
  } else if (const int status = cast(box_.on(), first, forward{std::move(on), {}}); status != MOLT_OK) {
    return verdict_.fail("a cast of forward failed with status %d", status);
  } else {
    count(sent_.casts);
  }
  count(sent_.forwarded, hops);
}

// Most are short; some last over an upgrade or two.
void clients::set_timer(mixed& me, random_source& random) {
  const auto account = any_account(random);
  const auto delay =
      random() % 20 == 0 ? between(random, longest_ / 12, longest_) : between(random, 1ms, longest_ / 12);
  const auto done = timed_call(box_.accounts()[account], arm{delay});
  if (!done.ok()) return;
  if (done.reply == 0) return verdict_.fail("account %zu got no timer", account);
  count(sent_.armed);
  if (me.timers.size() < timers_remembered)
    me.timers.push_back({account, done.reply});
  else
    me.timers[random() % timers_remembered] = {account, done.reply};
}

void clients::cancel_timer(mixed& me, random_source& random) {
  if (me.timers.empty()) return;
  std::swap(me.timers[random() % me.timers.size()], me.timers.back());
  const auto chosen = me.timers.back();
  me.timers.pop_back();
  const auto done = timed_call(box_.accounts()[chosen.account], disarm{chosen.timer});
  if (done.ok() && done.reply) count(sent_.disarmed);
}

// ---- Answers that come later

void clients::hold_call(random_source& random, bool long_ones) {
  const auto to = box_.warden_refs()[random() % wardens];
  const auto value = random();
  const auto what = random() % 64;
  if (what == 0) {  // does not wait for the answer, which is dropped; unless this thread is not run for so long
    const auto done = call(box_.on(), to, hold{nanoseconds{300ms}.count(), value}, 20ms);
    if (done.status != MOLT_TIMEOUT && !(done.ok() && done.reply == value))
      return verdict_.fail("a call that is answered too late ended with status %d", done.status);
    return count(done.ok() ? sent_.held : sent_.abandoned);
  }
  if (what < 16) {
    const auto done = call(box_.on(), to, compute{value});
    if (!done.ok() || done.reply != value * 3 + 1)
      return verdict_.fail("a call answered by work off the pool: status %d, %llu instead of %llu", done.status,
                           static_cast<unsigned long long>(done.reply), static_cast<unsigned long long>(value * 3 + 1));
    return count(sent_.held);
  }
  const auto delay = long_ones ? between(random, longest_ / 12, longest_ / 2) : between(random, 100us, 20ms);
  const auto begun = now_ns();
  const auto done = call(box_.on(), to, hold{delay, value});
  if (!done.ok() || done.reply != value)
    return verdict_.fail("a call answered by a timer: status %d (%s), %llu instead of %llu", done.status,
                         std::string{molt::servers::runtime::call_failure()}.c_str(),
                         static_cast<unsigned long long>(done.reply), static_cast<unsigned long long>(value));
  if (now_ns() - begun < delay) return verdict_.fail("a call was answered before its timer was due");
  count(sent_.held);
}

// ---- Servers that fail

molt_ref clients::wait_for_other(const std::string& name, molt_ref before) {
  const auto deadline = now_ns() + nanoseconds{restart_timeout}.count();
  while (now_ns() < deadline) {
    const auto now = box_.on().lookup(name);
    if (now.bits != 0 && now.bits != before.bits) return now;
    std::this_thread::sleep_for(200us);
  }
  verdict_.fail("%s was not started again within a minute", name.c_str());
  return {};
}

void clients::crash_worker(random_source& random) {
  const auto index = random() % box_.workers();
  const auto name = worker_name(index);
  const auto before = box_.on().lookup(name);
  if (const auto watching = call(box_.on(), box_.warden_refs()[random() % wardens], watch{{before.bits}});
      !watching.ok() || !watching.reply)
    return verdict_.fail("a warden could not watch %s (status %d)", name.c_str(), watching.status);
  count(sent_.watched);
  crashes_[index].begun.fetch_add(1);
  switch (random() % 3) {
    case 0:
      if (const auto done = call(box_.on(), before, crash{}); done.status != MOLT_SERVER_FAILED)
        verdict_.fail("the call that made %s fail ended with status %d", name.c_str(), done.status);
      break;
    case 1:
      if (const int status = cast(box_.on(), before, crash_cast{}); status != MOLT_OK)
        verdict_.fail("the cast that should make %s fail was not taken: status %d", name.c_str(), status);
      break;
    default:
      if (const auto done = call(box_.on(), before, crash_soon{between(random, 10us, 2ms)}); !done.ok() || !done.reply)
        verdict_.fail("%s could not be made to fail later: status %d", name.c_str(), done.status);
  }
  count(sent_.crashes);
  count(sent_.restarts);
  const auto after = wait_for_other(name, before);
  if (after.bits == 0) return;
  crashes_[index].healed.fetch_add(1);
  const auto fresh = call(box_.on(), after, touch{7});
  if (!fresh.ok() || fresh.reply.id != index || fresh.reply.sum != 7 || !fresh.reply.whole)
    verdict_.fail("%s, started again, is not fresh: status %d, id %llu, sum %llu", name.c_str(), fresh.status,
                  static_cast<unsigned long long>(fresh.reply.id), static_cast<unsigned long long>(fresh.reply.sum));
  std::this_thread::sleep_for(1ms);
}

void clients::crash_member(random_source& random) {
  const auto which = random() % groups.size();
  const std::string group = groups[which];
  const auto victim = random() % group_size;
  const auto first = group == "rest" ? victim : 0;
  std::vector<molt_ref> before;
  for (std::size_t n = 0; n < group_size; ++n) before.push_back(box_.on().lookup(group_member(group, n)));
  if (const auto done = call(box_.on(), before[victim], crash{}); done.status != MOLT_SERVER_FAILED)
    return verdict_.fail("the call that made %s fail ended with status %d", group_member(group, victim).c_str(),
                         done.status);
  count(sent_.crashes);
  count(sent_.restarts, group_size - first);
  for (std::size_t n = first; n < group_size; ++n) wait_for_other(group_member(group, n), before[n]);
  for (std::size_t n = 0; n < first; ++n)
    if (box_.on().lookup(group_member(group, n)).bits != before[n].bits)
      verdict_.fail("%s was started again for one that was started after it", group_member(group, n).c_str());
  std::this_thread::sleep_for(1ms);
}

void clients::touch_worker(random_source& random) {
  const auto index = random() % box_.workers();
  const auto healed = crashes_[index].healed.load();
  const auto to = box_.on().lookup(worker_name(index));
  const auto done = call(box_.on(), to, touch{0});
  if (done.ok()) {
    if (done.reply.id != index || !done.reply.whole)
      verdict_.fail("worker %zu answers as %llu, %s", index, static_cast<unsigned long long>(done.reply.id),
                    done.reply.whole ? "whole" : "damaged");
    return count(sent_.calls);
  }
  const bool was_crashed = crashes_[index].begun.load() != healed;
  if (!was_crashed || (done.status != MOLT_NO_SUCH_SERVER && done.status != MOLT_SERVER_FAILED))
    verdict_.fail("a call to worker %zu, which was%s made to fail, failed with status %d: %s", index,
                  was_crashed ? "" : " not", done.status, std::string{molt::servers::runtime::call_failure()}.c_str());
  count(sent_.refused);
}

void clients::churn(random_source& random) {
  const auto id = random();
  const auto started = box_.keeper().start_child("temps", "", {{"id", std::to_string(id)}});
  if (!started) return verdict_.fail("a temporary server did not start: %s", started.error().text().c_str());
  if (const auto done = call(box_.on(), *started, touch{1}); !done.ok() || done.reply.id != id)
    verdict_.fail("a temporary server does not answer: status %d", done.status);
  if (random() % 2 == 0) {
    if (const auto done = call(box_.on(), *started, retire{}); !done.ok() || !done.reply)
      verdict_.fail("a temporary server did not retire: status %d", done.status);
  } else if (const auto ended = box_.keeper().terminate_child("temps", *started); !ended) {
    verdict_.fail("a temporary server did not stop: %s", ended.error().text().c_str());
  }
  if (const auto done = call(box_.on(), *started, touch{1}); done.status != MOLT_NO_SUCH_SERVER)
    verdict_.fail("a server that has ended answers with status %d", done.status);
  count(sent_.churned);
  std::this_thread::sleep_for(500us);
}

}  // namespace soak
