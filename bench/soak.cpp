// A long run of everything at once: a million servers under mixed traffic (calls, casts, relays from server to server,
// timers, monitors, deferred replies, temporary servers), workers that are made to fail and are started again, and a
// change of release every few seconds. It fails if one reply is lost, late or wrong, one cast, timer or monitor
// missing, one state damaged, a supervisor or an upgrade does not do what it should, or memory, files or mappings grow.
//
//   molt_bench_soak [--seconds N] [--servers N] [--every SECONDS] [--seed N]
//
// Results on stdout as JSON, what happens meanwhile on stderr. Ends with the first round of releases
// (bench/soak/box.hpp) that is done after so many seconds. What is checked by whom: bench/soak/clients.hpp, audit.hpp,
// footprint.hpp.
#include "bench/soak/audit.hpp"
#include "bench/soak/box.hpp"
#include "bench/soak/clients.hpp"
#include "bench/soak/footprint.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <string>
#include <string_view>
#include <thread>

#include <malloc.h>

namespace {

using namespace std::chrono_literals;
using namespace soak;

/// Longer than calls and operations may take by their own deadlines, on a machine that has no time for them too.
constexpr std::chrono::seconds stuck_after{600};
constexpr std::chrono::seconds progress_every{10};
constexpr double longest_lasts = 2.4;  // changes of release
constexpr double mib = 1024.0 * 1024.0;

struct settings {
  double seconds = 600;
  std::size_t servers = 1'000'000;
  double every = 5;
  std::uint64_t seed = std::random_device{}();
};

struct upgrades {
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> migrated{0};
  std::atomic<std::int64_t> longest_ns{0};
  std::atomic<std::int64_t> longest_rest_ns{0};
  std::atomic<std::int64_t> last_ns{0};
  std::atomic<bool> over{false};
};

settings read(int argc, char** argv) {
  settings chosen;
  bool paced = false;
  if (std::getenv("MOLT_BENCH_SMOKE") != nullptr) {
    chosen.seconds = 6;
    chosen.servers = 10'000;
  }
  for (int n = 1; n < argc; n += 2) {
    const std::string_view word{argv[n]};
    const double value = n + 1 < argc ? std::strtod(argv[n + 1], nullptr) : 0;
    if (word == "--seconds" && value > 0)
      chosen.seconds = value;
    else if (word == "--servers" && value >= 1000)
      chosen.servers = static_cast<std::size_t>(value);
    else if (word == "--every" && value > 0)
      chosen.every = value, paced = true;
    else if (word == "--seed" && n + 1 < argc)
      chosen.seed = std::strtoull(argv[n + 1], nullptr, 10);
    else {
      std::fprintf(stderr,
                   "usage: molt_bench_soak [--seconds N] [--servers N (1000 or more)] [--every SECONDS] "
                   "[--seed N]\n");
      std::exit(2);
    }
  }
  // Enough rounds to judge a short run by.
  if (!paced) chosen.every = std::min(chosen.every, chosen.seconds / (3.0 * steps_per_round));
  return chosen;
}

/// Changes releases until the time is over and the round complete, or something went wrong.
void operate(box& on, const settings& chosen, footprints& footprint_of, verdict& judge, upgrades& all) {
  const auto begun = now_ns();
  const auto every = static_cast<std::int64_t>(chosen.every * 1e9);
  auto due = begun;
  const auto going = [&] {
    return footprint_of.rounds() < rounds_min || static_cast<double>(now_ns() - begun) < chosen.seconds * 1e9;
  };
  while (judge.faults() == 0 && going()) {
    for (unsigned n = 0; n < steps_per_round && judge.faults() == 0; ++n) {
      due = std::max(due + every, now_ns());
      while (now_ns() < due) {
        std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(1s, std::chrono::nanoseconds{due - now_ns()}));
        footprint_of.sample(footprint::now(false));
      }
      const auto step = on.step(n);
      ++all.done;
      all.migrated += step.migrated;
      all.longest_ns = std::max(all.longest_ns.load(), step.total.count());
      all.longest_rest_ns = std::max(all.longest_rest_ns.load(), step.at_rest.count());
      all.last_ns = now_ns();
    }
    footprint_of.end_round(footprint::now(true));
  }
  all.over = true;
}

void say_progress(double seconds, const totals& sent, const upgrades& done) {
  std::fprintf(stderr,
               "soak: %4.0f s  calls %" PRIu64 "  casts %" PRIu64 "  timers %" PRIu64 "  restarts %" PRIu64
               "  upgrades %" PRIu64 " (%" PRIu64 " servers moved)  rss %.1f MiB\n",
               seconds, sent.calls.load() + sent.held.load(), sent.casts.load(), sent.armed.load(),
               sent.restarts.load(), done.done.load(), done.migrated.load(), footprint::now(false).rss_bytes / mib);
}

/// Waits for the operator, and for nobody for ever.
void watch_over(const clients& senders, const upgrades& done) {
  const auto begun = now_ns();
  auto next = begun;
  while (!done.over) {
    std::this_thread::sleep_for(100ms);
    if (now_ns() >= next) {
      say_progress(static_cast<double>(now_ns() - begun) / 1e9, senders.sent(), done);
      next += std::chrono::nanoseconds{progress_every}.count();
    }
    auto who = senders.stuck(stuck_after);
    if (who.empty() && now_ns() - done.last_ns > std::chrono::nanoseconds{stuck_after}.count()) who = "the operator";
    if (who.empty()) continue;
    std::fprintf(stderr, "soak: FAULT: %s has been waiting for more than %lld s\n", who.c_str(),
                 static_cast<long long>(stuck_after.count()));
    std::abort();  // so that a core shows where
  }
}

class results {
 public:
  void add(const std::string& name, double value, const char* unit) {
    char line[256];
    std::snprintf(line, sizeof line, R"(  {"name": "soak.%s", "value": %.6f, "unit": "%s", "peers": {}})", name.c_str(),
                  value, unit);
    json_.append(json_.empty() ? "" : ",\n").append(line);
  }
  void print() const { std::printf("{\"results\": [\n%s\n]}\n", json_.c_str()); }

 private:
  std::string json_;
};

void report(const settings& chosen, double seconds, const totals& sent, const upgrades& done,
            const footprints& footprint_of, const verdict& judge) {
  results all;
  const auto number = [](const std::atomic<std::uint64_t>& from) { return static_cast<double>(from.load()); };
  all.add("faults", static_cast<double>(judge.faults()), "count");
  all.add("seconds", seconds, "s");
  all.add("servers", static_cast<double>(chosen.servers), "count");
  all.add("calls", number(sent.calls) + number(sent.held), "count");
  all.add("calls.deferred", number(sent.held), "count");
  all.add("calls.refused", number(sent.refused), "count");
  all.add("calls.rate", (number(sent.calls) + number(sent.held)) / seconds, "1/s");
  all.add("casts", number(sent.casts), "count");
  all.add("casts.hops", number(sent.forwarded), "count");
  all.add("timers", number(sent.armed), "count");
  all.add("monitors", number(sent.watched), "count");
  all.add("crashes", number(sent.crashes), "count");
  all.add("restarts", number(sent.restarts), "count");
  all.add("temporary_servers", number(sent.churned), "count");
  all.add("upgrades", number(done.done), "count");
  all.add("upgrades.servers_moved", number(done.migrated), "count");
  all.add("upgrades.longest", static_cast<double>(done.longest_ns.load()) / 1e6, "ms");
  all.add("upgrades.longest_rest", static_cast<double>(done.longest_rest_ns.load()) / 1e6, "ms");
  all.add("calls.largest", number(sent.largest_ns) / 1e6, "ms");
  all.add("calls.over_1ms", number(sent.over_1ms), "count");
  all.add("calls.over_100ms", number(sent.over_100ms), "count");
  if (footprint_of.rounds() >= rounds_min)
    for (const auto& each : footprint_of.trends()) {
      const std::string name{each.name};
      const bool bytes = name.ends_with(", bytes");
      const double unit = bytes ? mib : 1;
      const std::string word = name.substr(0, name.find(','));
      std::string key;
      for (const char letter : word) key += letter == ' ' ? '_' : letter;
      all.add(key + ".beginning", each.beginning / unit, bytes ? "MiB" : "count");
      all.add(key + ".end", each.end / unit, bytes ? "MiB" : "count");
    }
  all.print();
}

int run(const settings& chosen) {
  std::fprintf(stderr, "soak: seed %" PRIu64 ", %zu servers, %.0f s, a change of release each %.2f s\n", chosen.seed,
               chosen.servers, chosen.seconds, chosen.every);
  verdict judge;
  box under_test{chosen.servers, judge};
  const auto longest = std::max<std::chrono::nanoseconds>(
      100ms, std::chrono::nanoseconds{static_cast<std::int64_t>(chosen.every * longest_lasts * 1e9)});
  clients senders{under_test, judge, chosen.seed + 1, longest};
  footprints footprint_of;
  upgrades done;
  done.last_ns = now_ns();
  const auto begun = now_ns();
  senders.start();
  std::thread operator_thread{[&] { operate(under_test, chosen, footprint_of, judge, done); }};
  watch_over(senders, done);
  operator_thread.join();
  senders.stop();
  const double seconds = static_cast<double>(now_ns() - begun) / 1e9;
  say_progress(seconds, senders.sent(), done);
  if (judge.faults() == 0) audit_all(under_test, senders, judge);
  if (judge.faults() == 0) footprint_of.judge(judge);
  report(chosen, seconds, senders.sent(), done, footprint_of, judge);
  if (judge.faults() == 0) {
    std::fprintf(stderr, "soak: every reply, cast, timer, monitor and state accounted for\n");
    return 0;
  }
  std::fprintf(stderr, "soak: FAILED, %" PRIu64 " faults; seed %" PRIu64 "\n", judge.faults(), chosen.seed);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  // As molt-node does, and for its reasons.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 8 << 20);
  mallopt(M_ARENA_MAX, static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  try {
    return run(read(argc, argv));
  } catch (const std::exception& thrown) {
    std::fprintf(stderr, "soak: %s\n", thrown.what());
    return 1;
  }
}
