#include "bench/soak/audit.hpp"

#include <chrono>
#include <cinttypes>
#include <string>
#include <thread>

namespace soak {
namespace {

using namespace std::chrono_literals;

/// The longest timer, and time for what it sends to be handled.
constexpr std::chrono::seconds settling_max{60};

template <class Condition>
bool comes_true(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + settling_max;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(50ms);
  }
  return true;
}

struct sums {
  std::uint64_t forwarded = 0;
  std::uint64_t ticks = 0;
};

/// What a forwarded message does is not to be known before it has been done, so this may have to be asked again.
sums add_up(box& on) {
  sums all;
  for (const auto account : on.accounts()) {
    const auto seen = call(on.on(), account, audit{});
    all.forwarded += seen.reply.forwarded;
    all.ticks += seen.reply.ticks;
  }
  return all;
}

void expect_equal(verdict& judge, const char* what, std::uint64_t found, std::uint64_t should) {
  if (found != should) judge.fail("%s: %" PRIu64 ", and should be %" PRIu64, what, found, should);
}

void audit_accounts(box& on, const clients& senders, verdict& judge) {
  const auto& sent = senders.sent();
  sums found;
  const auto complete = [&] {
    found = add_up(on);
    return found.forwarded == sent.forwarded && found.ticks == sent.armed - sent.disarmed;
  };
  if (!comes_true(complete)) {
    expect_equal(judge, "hops of forwarded messages", found.forwarded, sent.forwarded);
    expect_equal(judge, "timers that fired", found.ticks, sent.armed - sent.disarmed);
  }
  for (std::size_t n = 0; n < on.accounts().size(); ++n) {
    const auto done = call(on.on(), on.accounts()[n], audit{});
    const auto& should = senders.accounts()[n];
    const auto& seen = done.reply;
    if (!done.ok()) {
      judge.fail("account %zu does not answer: status %d", n, done.status);
    } else if (seen.id != n || seen.calls != should.calls || seen.bumps != should.bumps || seen.sum != should.sum ||
               seen.relayed != should.relayed || !seen.whole) {
      judge.fail("account %zu, id %" PRIu64 ", has seen %" PRIu64 " calls of %" PRIu64 ", %" PRIu64 " bumps of %" PRIu64
                 ", %" PRIu64 " relays of %u, sum %" PRIu64 " of %" PRIu64 ", state %s",
                 n, seen.id, seen.calls, should.calls, seen.bumps, should.bumps, seen.relayed, should.relayed.load(),
                 seen.sum, should.sum, seen.whole ? "whole" : "damaged");
    }
  }
}

void audit_workers(box& on, verdict& judge) {
  for (std::size_t n = 0; n < on.workers(); ++n) {
    const auto done = call(on.on(), on.on().lookup(worker_name(n)), audit{});
    if (!done.ok() || done.reply.id != n || !done.reply.whole)
      judge.fail("%s does not answer as it should: status %d, id %" PRIu64, worker_name(n).c_str(), done.status,
                 done.reply.id);
  }
  for (const auto* group : groups)
    for (std::size_t n = 0; n < group_size; ++n)
      if (const auto done = call(on.on(), on.on().lookup(group_member(group, n)), audit{}); !done.ok())
        judge.fail("%s does not answer: status %d", group_member(group, n).c_str(), done.status);
  expect_equal(judge, "members of the group of all workers", on.on().members("soak.workers").size(),
               on.workers() + groups.size() * group_size);
}

void audit_wardens(box& on, const totals& sent, verdict& judge) {
  warden_counts all;
  const auto complete = [&] {
    all = {};
    for (const auto warden : on.warden_refs()) {
      const auto seen = call(on.on(), warden, tally{}).reply;
      all.downs += seen.downs;
      all.strays += seen.strays;
      all.monitors += seen.monitors;
      all.pending += seen.pending;
      all.unsent += seen.unsent;
      if (seen.beats == 0) judge.fail("a periodic timer has not fired once");
    }
    return all.monitors == 0 && all.pending == 0;
  };
  comes_true(complete);
  expect_equal(judge, "monitors that fired", all.downs, sent.watched);
  expect_equal(judge, "monitors that have not fired", all.monitors, 0);
  expect_equal(judge, "messages to wardens that nothing stands for", all.strays, 0);
  expect_equal(judge, "deferred calls without an answer", all.pending, 0);
  expect_equal(judge, "answers that came too late", all.unsent, sent.abandoned);
}

void audit_runtime(box& on, const totals& sent, verdict& judge) {
  const auto now = on.on().stats();
  const auto starts = on.population() + sent.restarts + sent.churned + on.seasons();
  expect_equal(judge, "servers", now.servers, on.population());
  expect_equal(judge, "servers started", now.started, starts);
  expect_equal(judge, "servers ended", now.ended, starts - on.population());
  expect_equal(judge, "servers that failed", now.failed, sent.crashes);
  expect_equal(judge, "messages that nobody handles", now.unknown_messages, 0);
  expect_equal(judge, "late replies", now.late_replies, sent.abandoned);
  expect_equal(judge, "relations left over", now.relations, on.workers() + groups.size() * group_size);
  expect_equal(judge, "timers left over", now.timers_pending, wardens);
  expect_equal(judge, "deferred calls left over", now.deferred_pending, 0);
  expect_equal(judge, "offloaded work left over", now.offloaded_pending, 0);
}

}  // namespace

void audit_all(box& on, const clients& senders, verdict& judge) {
  if (!comes_true([&] { return on.on().stats().timers_pending <= wardens; }))
    judge.fail("timers do not fire: %zu are left", on.on().stats().timers_pending);
  audit_accounts(on, senders, judge);
  audit_workers(on, judge);
  audit_wardens(on, senders.sent(), judge);
  audit_runtime(on, senders.sent(), judge);
}

}  // namespace soak
