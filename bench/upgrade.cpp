// How long clients wait while a release is switched: one server with a large table, and very many small servers. A
// closed-loop client inside the process notes the largest time between two replies; the same client without an upgrade,
// for as long, gives the noise floor, and beside a thread that only reads the clock the one with both cores busy. Each
// is the median of several rounds of upgrade and rollback. The peers, in the same run: Erlang/OTP doing the same
// (bench/otp/upgrade_gap.erl), and for a hook that converts all a loop that does the same. And how long everything
// rests for the copy in which an upgrade is rehearsed.
//
//   molt_bench_upgrade [--json FILE]     results to FILE, or to stdout
//   molt_bench_upgrade --only gap.1M     one of them, without Erlang
#include "node/rehearsal.hpp"
#include "upgrade/transaction.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

struct sizes {
  std::uint64_t entries = 1'000'000;
  std::uint64_t many_entries = 10'000'000;
  std::uint64_t servers = 100'000;
  std::uint64_t many_servers = 1'000'000;
  std::uint64_t faulty = 10'000;
  std::chrono::milliseconds quiet = 1000ms;
};

struct measured {
  double gap_ms = 0;
  double total_ms = 0;
  double noise_ms = 0;
  double over_ms = 0;       // gap above the noise floor of the same round
  double back_ms = 0;       // largest gap of the rollback
  double busy_ms = 0;       // the noise floor while another thread computes, as an upgrade's does
  double over_busy_ms = 0;  // gap above that
};

double median(std::vector<double> all) {
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

double in_ms(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e6; }

template <class T>
T must(molt::result<T> given, const char* what) {
  if (given) return std::move(*given);
  std::fprintf(stderr, "%s: %s\n", what, given.error().text().c_str());
  std::exit(1);
}

molt::upgrade::release_content load(const char* version) {
  const std::vector<molt::loader::plugin_file> files{std::string{GAP_FOLDER "/libgap-"} + version + ".so"};
  return must(molt::upgrade::load_release(std::string{"gap-"} + version, files), "load");
}

/// Touches random entries of random servers while `work` runs; the largest time between two replies.
template <class Work>
double largest_gap_ms(molt::servers::runtime& runtime, const molt_message& touch, const std::vector<molt_ref>& servers,
                      std::uint64_t ids, Work work) {
  std::atomic<bool> stop{false};
  std::int64_t largest = 0;
  std::thread client{[&] {
    std::mt19937_64 random{1};
    auto last = clock_type::now();
    while (!stop.load(std::memory_order_relaxed)) {
      std::uint64_t id = random() % ids;
      std::int64_t reply = 0;
      if (runtime.call(servers[random() % servers.size()], touch, &id, &reply, 60s) != MOLT_OK) {
        std::fprintf(stderr, "a call failed during the upgrade\n");
        std::exit(1);
      }
      const auto now = clock_type::now();
      largest = std::max<std::int64_t>(largest, (now - last).count());
      last = now;
    }
  }};
  work();
  stop = true;
  client.join();
  return in_ms(std::chrono::nanoseconds{largest});
}

molt::upgrade::report finished(molt::result<molt::upgrade::report> given, const char* what, std::uint64_t servers) {
  auto done = must(std::move(given), what);
  if (done.result == molt::upgrade::phase::done && done.servers_migrated == servers) return done;
  std::fprintf(stderr, "the %s ended as %s\n", what, std::string{to_string(done.result)}.c_str());
  std::exit(1);
}

/// Servers of one type in a runtime of their own, and the two releases.
struct box {
  molt::servers::runtime runtime;
  molt::upgrade::switcher switcher{runtime};
  molt::upgrade::release_content first = load("1.0.0");
  molt::upgrade::release_content second = load("2.0.0");
  molt::upgrade::settings settings;
  std::vector<molt_ref> servers;

  box(const char* type, std::uint64_t count, std::uint64_t ids) {
    settings.collect_timeout = 0ns;  // unloading is another matter
    switcher.start(first);
    servers.reserve(count);
    for (std::uint64_t n = 0; n < count; ++n) servers.push_back(start(type, {{"entries", std::to_string(ids)}}));
  }
  molt_ref start(const char* type, molt::servers::arguments given = {}) {
    return must(runtime.start(type, {}, std::move(given)), "start");
  }
  [[nodiscard]] const molt_message& touch(const char* type) const {
    return *first.plugins[0]->find_type(type)->find(std::string_view{"touch"})->message;
  }
};

struct gap_case {
  const char* type;
  std::uint64_t count;  ///< servers
  std::uint64_t ids;    ///< entries of each
  unsigned rounds;
  bool from_outside = false;  ///< the client calls a server that the upgrade leaves as it is
};

measured measure(const gap_case& given, const sizes& size) {
  box all{given.type, given.count, given.ids};
  auto called = all.servers;
  if (given.from_outside) called = {all.start("gap.bystander")};
  const auto& touch = all.touch(given.from_outside ? "gap.bystander" : given.type);
  const auto moved = given.count + (given.from_outside ? 1 : 0);
  const auto gap_while = [&](const auto& work) { return largest_gap_ms(all.runtime, touch, called, given.ids, work); };
  std::vector<double> gaps;
  std::vector<double> totals;
  std::vector<double> noises;
  std::vector<double> overs;
  std::vector<double> busy;
  std::vector<double> overs_busy;
  std::vector<double> backs;
  for (unsigned round = 0; round < given.rounds; ++round) {
    auto lasts = size.quiet;
    const auto between = size.quiet / 20;
    gaps.push_back(gap_while([&] {
      std::this_thread::sleep_for(between);
      const auto begun = clock_type::now();
      totals.push_back(in_ms(finished(all.switcher.upgrade(all.second, all.settings), "upgrade", moved).total));
      lasts = std::chrono::duration_cast<std::chrono::milliseconds>(clock_type::now() - begun) + 2 * between;
      std::this_thread::sleep_for(between);
    }));
    noises.push_back(gap_while([&] { std::this_thread::sleep_for(lasts); }));
    overs.push_back(std::max(0.0, gaps.back() - noises.back()));
    busy.push_back(gap_while([&] {
      for (const auto until = clock_type::now() + lasts; clock_type::now() < until;) continue;
    }));
    overs_busy.push_back(std::max(0.0, gaps.back() - busy.back()));
    backs.push_back(gap_while([&] {
      std::this_thread::sleep_for(between);
      finished(all.switcher.rollback(all.settings), "rollback", moved);
      std::this_thread::sleep_for(between);
    }));
    std::fprintf(stderr, "%s%s, %llu of %llu entries: gap %.3f ms of %.1f, back %.3f, noise %.3f, busy %.3f\n",
                 given.type, given.from_outside ? " and a bystander" : "", static_cast<unsigned long long>(given.count),
                 static_cast<unsigned long long>(given.ids), gaps.back(), totals.back(), backs.back(), noises.back(),
                 busy.back());
  }
  return {median(gaps), median(totals), median(noises), median(overs), median(backs), median(busy), median(overs_busy)};
}

struct refused_upgrade {
  double gap_ms = 0;
  double lost = 0;    ///< servers whose state is not what the calls made it
  double failed = 0;  ///< calls
};

/// The hook throws for one server of many, without a rehearsal before: everything goes back.
refused_upgrade measure_throwing(const sizes& size) {
  box all{"gap.faulty", size.faulty, 1};
  all.servers.push_back(all.start("gap.faulty", {{"broken", "1"}}));
  const auto& touch = all.touch("gap.faulty");
  std::vector<std::int64_t> answered(all.servers.size());
  refused_upgrade found;
  std::atomic<bool> stop{false};
  std::int64_t largest = 0;
  std::thread client{[&] {
    std::mt19937_64 random{1};
    for (auto last = clock_type::now(); !stop.load(std::memory_order_relaxed);) {
      const auto at = random() % all.servers.size();
      std::uint64_t id = 0;
      std::int64_t reply = 0;
      if (all.runtime.call(all.servers[at], touch, &id, &reply, 60s) != MOLT_OK)
        ++found.failed;
      else
        ++answered[at];
      const auto now = clock_type::now();
      largest = std::max<std::int64_t>(largest, (now - last).count());
      last = now;
    }
  }};
  std::this_thread::sleep_for(size.quiet / 20);
  const auto report = must(all.switcher.upgrade(all.second, all.settings), "upgrade");
  std::this_thread::sleep_for(size.quiet / 20);
  stop = true;
  client.join();
  if (report.result != molt::upgrade::phase::rolled_back) {
    std::fprintf(stderr, "the upgrade ended as %s\n", std::string{to_string(report.result)}.c_str());
    std::exit(1);
  }
  for (std::size_t at = 0; at < all.servers.size(); ++at) {
    std::uint64_t id = 0;
    std::int64_t reply = 0;
    const int status = all.runtime.call(all.servers[at], touch, &id, &reply, 60s);
    if (status != MOLT_OK || reply != answered[at] + 1) ++found.lost;
  }
  found.gap_ms = in_ms(std::chrono::nanoseconds{largest});
  return found;
}

/// What the hook of gap.hooked does, without anything around it.
double loop_ms(std::uint64_t count, unsigned rounds) {
  struct before {
    std::int64_t hits, last_seen;
  };
  struct after {
    std::int64_t hits, last_seen, quota;
  };
  std::unordered_map<std::uint64_t, before> old;
  old.reserve(count);
  for (std::uint64_t id = 0; id < count; ++id) old[id] = {1, static_cast<std::int64_t>(id)};
  std::vector<double> all;
  for (unsigned round = 0; round < rounds; ++round) {
    const auto begun = clock_type::now();
    std::unordered_map<std::uint64_t, after> made;
    made.reserve(old.size());
    for (const auto& [id, each] : old) made.emplace(id, after{each.hits, each.last_seen, 100});
    all.push_back(in_ms(clock_type::now() - begun));
  }
  return median(all);
}

// ---- How long everything rests for a rehearsal's copy

struct rested {
  double rest_ms = 0;
  double fork_ms = 0;        ///< of which
  double fork_alone_ms = 0;  ///< the same memory, fork and nothing else
  double gib = 0;
};

double resident_gib() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::stod(line.substr(6)) / (1024.0 * 1024.0);
  return 0;
}

double fork_alone_ms() {
  std::vector<double> all;
  for (int n = 0; n < 5; ++n) {
    const auto begun = clock_type::now();
    const pid_t child = ::fork();
    const auto took = in_ms(clock_type::now() - begun);
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    all.push_back(took);
  }
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

/// In a process of its own, which has the huge pages that moltd gives a node.
int measure_rest(std::uint64_t entries) {
  molt::servers::runtime runtime;
  molt::upgrade::switcher switcher{runtime};
  switcher.start(load("1.0.0"));
  constexpr int tables = 16;
  for (int n = 0; n < tables; ++n)
    (void)must(runtime.start("gap.table", {}, {{"entries", std::to_string(entries)}}), "start");
  std::vector<rested> all;
  for (int n = 0; n < 5; ++n) {
    molt::node::rehearsal_request request;
    request.task = switcher.task_for_rehearsal({}, {});
    request.to = "gap-2.0.0";
    // What comes after the fork is not measured here: a release that cannot be loaded ends the copy at once.
    request.load = []() -> molt::result<molt::upgrade::release_content> {
      return molt::error{molt::reason::refused, "enough"};
    };
    const auto report = must(molt::node::rehearse(runtime, request), "rehearse");
    all.push_back({in_ms(report.at_rest), in_ms(report.fork), 0, resident_gib()});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.rest_ms < b.rest_ms; });
  const auto& median = all[all.size() / 2];
  std::printf("%f %f %f %f\n", median.rest_ms, median.fork_ms, fork_alone_ms(), median.gib);
  return 0;
}

rested rest_with(const char* tunables, std::uint64_t entries) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command =
      "GLIBC_TUNABLES=" + std::string{tunables} + " '" + self + "' --rest " + std::to_string(entries);
  rested found;
  if (std::FILE* const out = popen(command.c_str(), "r")) {
    if (std::fscanf(out, "%lf %lf %lf %lf", &found.rest_ms, &found.fork_ms, &found.fork_alone_ms, &found.gib) != 4)
      found = {};
    pclose(out);
  }
  return found;
}

void append_rest(std::string& json, const char* name, const rested& found) {
  if (found.gib <= 0) return;
  char line[512];
  const double ours = found.rest_ms / found.gib;
  const double alone = found.fork_alone_ms / found.gib;
  std::snprintf(
      line, sizeof line,
      R"(  {"name": "%s", "value": %.6f, "unit": "ms/GiB", "peers": {"fork": %.6f}, "ratio": {"fork": %.6f}})", name,
      ours, alone, alone > 0 ? ours / alone : 0.0);
  json.append(json.empty() ? "" : ",\n").append(line);
}

/// The same in Erlang/OTP, by case; empty if it is not installed.
std::map<std::string, measured> measure_otp(const sizes& size) {
  std::map<std::string, measured> all;
  std::array<char, 64> name{"/tmp/molt_bench_gap_XXXXXX"};
  if (mkdtemp(name.data()) == nullptr) return all;
  const std::string folder{name.data()};
  const std::string sources{GAP_OTP_FOLDER};
  std::filesystem::create_directories(folder + "/1");
  std::filesystem::create_directories(folder + "/2");
  const std::string command = "erlc -o " + folder + " '" + sources + "/upgrade_gap.erl' && erlc -o " + folder + "/1 '" +
                              sources + "/gap_1/gap_server.erl' && erlc -o " + folder + "/2 '" + sources +
                              "/gap_2/gap_server.erl' && erl -noshell -pa " + folder + " -run upgrade_gap main " +
                              folder + "/1 " + folder + "/2 " + std::to_string(size.entries) + " " +
                              std::to_string(size.servers);
  if (std::FILE* const out = popen(command.c_str(), "r")) {
    std::array<char, 256> line{};
    while (std::fgets(line.data(), line.size(), out) != nullptr) {
      std::istringstream words{line.data()};
      std::string which;
      measured found;
      if (words >> which >> found.gap_ms >> found.total_ms >> found.noise_ms) all[which] = found;
    }
    pclose(out);
  }
  std::filesystem::remove_all(folder);
  return all;
}

void append(std::string& json, const std::string& name, double value, const char* peer = "", double peers = 0,
            const char* unit = "ms") {
  char line[512];
  if (*peer == '\0')
    std::snprintf(line, sizeof line, R"(  {"name": "%s", "value": %.6f, "unit": "%s", "peers": {}, "ratio": {}})",
                  name.c_str(), value, unit);
  else
    std::snprintf(line, sizeof line,
                  R"(  {"name": "%s", "value": %.6f, "unit": "%s", "peers": {"%s": %.6f}, "ratio": {"%s": %.6f}})",
                  name.c_str(), value, unit, peer, peers, peer, peers > 0 ? value / peers : 0.0);
  json.append(json.empty() ? "" : ",\n").append(line);
}

void append(std::string& json, const std::string& name, const measured& ours, const measured* otp) {
  const char* const peer = otp == nullptr ? "" : "otp";
  append(json, name, ours.gap_ms, peer, otp == nullptr ? 0 : otp->gap_ms);
  append(json, name + ".total", ours.total_ms, peer, otp == nullptr ? 0 : otp->total_ms);
  append(json, name + ".noise", ours.noise_ms, peer, otp == nullptr ? 0 : otp->noise_ms);
  append(json, name + ".over_noise", ours.over_ms);
  append(json, name + ".noise_busy", ours.busy_ms);
  append(json, name + ".over_noise_busy", ours.over_busy_ms);
  append(json, name + ".back", ours.back_ms);
}

struct run {
  const sizes& size;
  unsigned rounds;
  const std::map<std::string, measured>& otp;
  std::string& json;

  [[nodiscard]] const measured* peer(const char* name) const { return otp.contains(name) ? &otp.at(name) : nullptr; }
  void gap(const char* name, const gap_case& given, const char* of_otp = "") const {
    append(json, name, measure(given, size), peer(of_otp));
  }
};

void hook(const run& now) {
  const auto hooked = measure({"gap.hooked", 1, now.size.entries, now.rounds}, now.size);
  append(now.json, "gap.map_1M.hook", hooked.gap_ms, "loop", loop_ms(now.size.entries, now.rounds));
  append(now.json, "gap.map_1M.hook.noise", hooked.noise_ms);
}

void many(const run& now) {
  const auto found = measure({"gap.item", now.size.many_servers, 1, std::min(now.rounds, 3U)}, now.size);
  append(now.json, "gap.1M", found, nullptr);
  append(now.json, "gap.1M.per_server", found.total_ms * 1e6 / static_cast<double>(now.size.many_servers), "", 0, "ns");
}

void throwing(const run& now) {
  const auto found = measure_throwing(now.size);
  append(now.json, "gap.code_change_throws", found.gap_ms);
  append(now.json, "gap.code_change_throws.lost", found.lost, "", 0, "states");
  append(now.json, "gap.code_change_throws.failed", found.failed, "", 0, "calls");
}

const std::vector<std::pair<std::string_view, void (*)(const run&)>> all_measured{
    {"gap.map_1M",
     [](const run& now) {
       now.gap("gap.map_1M", {"gap.table", 1, now.size.entries, now.rounds}, "map");
     }},
    {"gap.map_10M",
     [](const run& now) {
       now.gap("gap.map_10M", {"gap.table", 1, now.size.many_entries, 1});
     }},
    {"gap.map_1M.hook", hook},
    {"gap.map_1M.moved",
     [](const run& now) {
       now.gap("gap.map_1M.moved", {"gap.moved", 1, now.size.entries, now.rounds});
     }},
    {"gap.100k",
     [](const run& now) {
       now.gap("gap.100k", {"gap.item", now.size.servers, 1, now.rounds}, "servers");
     }},
    {"gap.1M", many},
    {"gap.bystander",
     [](const run& now) {
       now.gap("gap.bystander", {"gap.hooked", 1, now.size.entries, now.rounds, true});
     }},
    {"gap.code_change_throws", throwing},
    {"rehearsal.rest",
     [](const run& now) {
       append_rest(now.json, "rehearsal.rest", rest_with("glibc.malloc.hugetlb=1", now.size.entries));
       append_rest(now.json, "rehearsal.rest.small_pages", rest_with("glibc.malloc.hugetlb=0", now.size.entries));
     }},
};

}  // namespace

int main(int argc, char** argv) {
  const char* file = nullptr;
  std::string_view only;
  for (int n = 1; n + 1 < argc; ++n) {
    if (std::string_view{argv[n]} == "--json") file = argv[n + 1];
    if (std::string_view{argv[n]} == "--only") only = argv[n + 1];
  }
  if (argc == 3 && std::string_view{argv[1]} == "--rest") return measure_rest(std::stoull(argv[2]));
  sizes size;
  if (std::getenv("MOLT_BENCH_SMOKE") != nullptr) size = {1'000, 10'000, 1'000, 1'000, 100, 20ms};
  const unsigned rounds = size.quiet < 1s ? 1 : 5;

  std::string json;
  const auto otp = only.empty() ? measure_otp(size) : std::map<std::string, measured>{};
  const run now{size, rounds, otp, json};
  for (const auto& [name, work] : all_measured)
    if (only.empty() || only == name) work(now);
  json = "{\"results\": [\n" + json + "\n]}\n";
  if (file == nullptr) {
    std::fputs(json.c_str(), stdout);
    return 0;
  }
  std::ofstream out{file};
  out << json;
  return out.good() ? 0 : 1;
}
