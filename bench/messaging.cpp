// Messages between servers, and servers themselves: what they cost, beside the same work done otherwise.
//
//   molt_bench_messaging                     all, as JSON on stdout
//   molt_bench_messaging --only cast         those whose name begins so
//   molt_bench_messaging --json FILE
//
// Each figure is the median of several turns, which molt and its peers take one after the other. With MOLT_BENCH_ALONE
// set molt runs without its peers, for profiles.
#include "bench/messaging/measure.hpp"
#include "bench/messaging/peers.hpp"
#include "bench/messaging/workloads.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using measuring::candidates;
using measuring::measure;
using measuring::result;
using measuring::scaled;
using measuring::unit;

#if defined(MOLT_BENCH_CAF)
void add_caf(candidates& to, std::int64_t count, double (*work)(std::int64_t)) { to["caf"] = {count, work}; }
#define MOLT_CAF(work) peers::caf::work
#else
void add_caf(candidates&, std::int64_t, double (*)(std::int64_t)) {}
#define MOLT_CAF(work) nullptr
#endif

/// Short turns for what takes nanoseconds, long ones for peers that take microseconds.
result in_short_turns(const std::string& name, const candidates& fast, const candidates& slow) {
  auto measured = measure(name, unit::ns_each, 3'000, fast);
  if (!slow.empty()) measured.runs.merge(measure(name, unit::ns_each, 7, slow).runs);
  return measured;
}

// Memory comes first in main, while the heap is fresh.
std::vector<result> spawn() {
  const std::int64_t count = scaled(1'000'000);
  result rate{"spawn.1M", "1/s", {}};
  result bytes{"spawn.1M.bytes", "bytes", {}};
  const auto measure_one = [&](const std::string& who, double (*work)(std::int64_t, std::size_t&)) {
    std::size_t taken = 0;
    const double seconds = work(count, taken);
    rate.runs[who].push_back(static_cast<double>(count) / seconds);
    if (bytes.runs[who].empty())
      bytes.runs[who].push_back(static_cast<double>(taken) / static_cast<double>(count) - sizeof(counting::state));
  };
  for (int run = 0; run < (measuring::smoke() ? 1 : 3); ++run) {
    measure_one("", molt_side::spawn);
#if defined(MOLT_BENCH_CAF)
    if (!measuring::alone()) measure_one("caf", peers::caf::spawn);
#endif
  }
  return {rate, bytes};
}

std::vector<result> call_idle() {
  molt_side::caller molt;
  mutex_side::caller mutex;
  candidates slow{{"asio", {scaled(50'000), peers::asio::calls}}};
  add_caf(slow, scaled(50'000), MOLT_CAF(calls));
  return {
      in_short_turns("call.idle", {{"", {20'000, std::ref(molt)}}, {"std_mutex", {20'000, std::ref(mutex)}}}, slow)};
}

std::vector<result> call_idle_wide() {
  const auto servers = static_cast<std::size_t>(scaled(1'000'000));
  std::mt19937_64 random{1};
  std::vector<std::uint32_t> picks(servers);
  for (auto& each : picks) each = static_cast<std::uint32_t>(random() % servers);
  molt_side::wide_caller molt{servers, picks};
  mutex_side::wide_caller mutex{servers, picks};
  return {in_short_turns("call.idle.1M", {{"", {5'000, std::ref(molt)}}, {"std_mutex", {5'000, std::ref(mutex)}}}, {})};
}

std::vector<result> call_contended() {
  return {measure("call.contended", unit::ns_each, 9,
                  {{"", {scaled(4'000'000), molt_side::contended_calls}},
                   {"std_mutex", {scaled(4'000'000), mutex_side::contended_calls}}})};
}

std::vector<result> call_between() {
  candidates all{{"", {scaled(20'000'000), molt_side::server_to_server}}};
  add_caf(all, scaled(500'000), MOLT_CAF(server_to_server));
  return {measure("call.server_to_server", unit::ns_each, 7, all)};
}

std::vector<result> call_sleeping() {
  candidates all{{"", {scaled(500, 50), molt_side::sleeping_calls}},
                 {"asio", {scaled(500, 50), peers::asio::sleeping_calls}}};
  add_caf(all, scaled(500, 50), MOLT_CAF(sleeping_calls));
  return {measure("call.sleeping", unit::ns_each, 3, all)};
}

std::vector<result> cast_by_1() {
  candidates all{{"", {scaled(10'000'000), molt_side::casts}},
                 {"deque", {scaled(2'000'000), mutex_side::casts}},
                 {"asio", {scaled(1'000'000), peers::asio::casts}}};
  add_caf(all, scaled(500'000), MOLT_CAF(casts));
  return {measure("cast.1to1", unit::per_second, 7, all)};
}

std::vector<result> cast_by_2() {
  candidates all{{"", {scaled(10'000'000), molt_side::casts_by_2}},
                 {"deque", {scaled(2'000'000), mutex_side::casts_by_2}}};
  add_caf(all, scaled(500'000), MOLT_CAF(casts_by_2));
  return {measure("cast.2to1", unit::per_second, 7, all)};
}

std::vector<result> pingpong() {
  candidates all{{"", {scaled(2'000'000), molt_side::pingpong}}, {"asio", {scaled(200'000), peers::asio::pingpong}}};
  add_caf(all, scaled(200'000), MOLT_CAF(pingpong));
  return {measure("pingpong", unit::per_second, 7, all)};
}

std::vector<result> timer() {
  return {measure("timer", unit::ns_each, 5, {{"", {scaled(1'000'000), molt_side::timers}}})};
}

std::vector<result> overhead() {
  molt_side::kv_reader molt;
  mutex_side::kv_reader mutex;
  return {in_short_turns("upgradable.overhead",
                         {{"", {5'000, std::ref(molt)}}, {"std_mutex", {5'000, std::ref(mutex)}}}, {})};
}

const std::vector<std::pair<std::string_view, std::vector<result> (*)()>> all_measured{
    {"spawn.1M", spawn},
    {"call.idle", call_idle},
    {"call.idle.1M", call_idle_wide},
    {"call.contended", call_contended},
    {"call.server_to_server", call_between},
    {"call.sleeping", call_sleeping},
    {"cast.1to1", cast_by_1},
    {"cast.2to1", cast_by_2},
    {"pingpong", pingpong},
    {"timer", timer},
    {"upgradable.overhead", overhead},
};

}  // namespace

std::size_t peers::resident_bytes() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::FILE* const from = std::fopen("/proc/self/statm", "r");
  if (from == nullptr || std::fscanf(from, "%zu %zu", &total, &resident) != 2) std::abort();
  std::fclose(from);
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

int main(int argc, char** argv) {
  std::string_view only;
  std::FILE* out = stdout;
  for (int i = 1; i < argc && out != nullptr; ++i) {
    const std::string_view option = argv[i];
    const char* const given = i + 1 < argc ? argv[++i] : nullptr;
    if (option == "--only" && given != nullptr)
      only = given;
    else
      out = option == "--json" && given != nullptr ? std::fopen(given, "w") : nullptr;
  }
  if (out == nullptr) {
    std::fprintf(stderr, "usage: molt_bench_messaging [--json FILE] [--only NAME]\n");
    return 2;
  }
  std::vector<result> results;
  for (const auto& [name, work] : all_measured)
    if (name.starts_with(only))
      for (auto& each : work()) results.push_back(std::move(each));
  measuring::print(out, results);
  return 0;
}
