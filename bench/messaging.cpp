// Messages between servers, and servers themselves: what they cost, beside the same work done otherwise.
//
//   molt_bench_messaging [--json FILE] [--only NAME]      (else on stdout)
//
// Each figure is the median of several runs, in which molt and its peers take turns.
#include "bench/messaging/counter.hpp"
#include "bench/messaging/peers.hpp"
#include "server/runtime.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
namespace servers = molt::servers;

double since(clock_type::time_point begin) { return std::chrono::duration<double>(clock_type::now() - begin).count(); }

class counting_release final : public servers::release {
 public:
  void adopt(servers::resting_server&) const noexcept override {}
  [[nodiscard]] const servers::server_type* find_type(std::string_view) const noexcept override { return type_.get(); }

 private:
  std::shared_ptr<const servers::server_type> type_ =
      servers::server_type::make(counting::server_type(), "1.0.0", nullptr);
};

struct molt_node {
  explicit molt_node(unsigned threads) : on{with(threads)} { on.switch_to(std::make_shared<counting_release>()); }
  static servers::options with(unsigned threads) {
    servers::options given;
    given.pool_threads = threads;
    return given;
  }
  molt_ref start() { return *on.start("counting.server", "", {}); }
  template <class M>
  std::int64_t call(molt_ref to, M message) {
    std::int64_t reply = 0;
    on.call(to, molt::message_of<M>(), &message, &reply);
    return reply;
  }
  template <class M>
  void cast(molt_ref to, M message) {
    while (on.cast(to, molt::message_of<M>(), &message) == MOLT_OVERLOADED) std::this_thread::yield();
  }
  void wait_for(molt_ref server, std::int64_t value) {
    while (call(server, counting::add{0}) != value) std::this_thread::sleep_for(20us);
  }
  servers::runtime on;
};

/// Calls in a row, always to the same idle server.
class molt_caller {
 public:
  double operator()(std::int64_t count) {
    counting::add message;
    std::int64_t reply = 0;
    const auto begin = clock_type::now();
    for (std::int64_t i = 0; i < count; ++i)
      node_.on.call(server_, molt::message_of<counting::add>(), &message, &reply);
    const double seconds = since(begin);
    if (reply != (made_ += count)) std::abort();
    return seconds;
  }

 private:
  molt_node node_{1};
  molt_ref server_ = node_.start();
  std::int64_t made_ = 0;
};

class mutex_caller {
 public:
  double operator()(std::int64_t count) {
    std::int64_t reply = 0;
    const auto begin = clock_type::now();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::lock_guard lock{mutex_};
      reply = counter_->add(1);
    }
    const double seconds = since(begin);
    if (reply != (made_ += count)) std::abort();
    return seconds;
  }

 private:
  std::mutex mutex_;
  std::unique_ptr<counting::counter> counter_ = counting::make_counter();
  std::int64_t made_ = 0;
};

double molt_casts(std::int64_t count) {
  molt_node node{1};
  const auto server = node.start();
  const auto begin = clock_type::now();
  for (std::int64_t i = 0; i < count; ++i) node.cast(server, counting::bump{});
  node.wait_for(server, count);
  return since(begin);
}

double molt_pingpong(std::int64_t rounds) {
  molt_node node{2};
  const auto a = node.start();
  const auto b = node.start();
  node.call(a, counting::meet{molt::ref{b.bits}});
  node.call(b, counting::meet{molt::ref{a.bits}});
  const auto dropped = counting::balls_dropped.load();
  const auto begin = clock_type::now();
  node.cast(a, counting::ball{rounds * 2 - 1});
  while (counting::balls_dropped.load() == dropped) std::this_thread::sleep_for(200us);
  const double seconds = since(begin);
  if (node.call(a, counting::add{0}) + node.call(b, counting::add{0}) != rounds * 2) std::abort();
  return seconds;
}

double molt_spawn(std::int64_t count, std::size_t& bytes) {
  molt_node node{2};
  const auto before = peers::resident_bytes();
  const auto begin = clock_type::now();
  for (std::int64_t i = 0; i < count; ++i) node.start();
  const double seconds = since(begin);
  bytes = peers::resident_bytes() - before;
  return seconds;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct result {
  std::string name;
  std::string unit;
  std::map<std::string, std::vector<double>> runs;  // by who; molt's own under ""
};

std::string text_of(const result& measured) {
  const auto number = [](double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%.6g", value);
    return std::string{text};
  };
  const double own = median(measured.runs.at(""));
  std::string peer_text;
  std::string ratio_text;
  for (const auto& [who, values] : measured.runs) {
    if (who.empty()) continue;
    const double theirs = median(values);
    peer_text += (peer_text.empty() ? "" : ", ") + ("\"" + who + "\": ") + number(theirs);
    ratio_text += (ratio_text.empty() ? "" : ", ") + ("\"" + who + "\": ") + number(own / theirs);
  }
  return "{\"name\": \"" + measured.name + "\", \"value\": " + number(own) + ", \"unit\": \"" + measured.unit +
         "\", \"peers\": {" + peer_text + "}, \"ratio\": {" + ratio_text + "}}";
}

/// Runs each in turn; `count` things per run, `fewer` of them for what is slow.
result measure(const std::string& name, bool latency, int runs,
               const std::map<std::string, std::pair<std::int64_t, std::function<double(std::int64_t)>>>& candidates) {
  result measured{name, latency ? "ns" : "1/s", {}};
  static const bool alone = std::getenv("MOLT_BENCH_ALONE") != nullptr;  // no peers: for profiles
  for (int run = 0; run < runs; ++run)
    for (const auto& [who, what] : candidates) {
      if (alone && !who.empty()) continue;
      const auto& [count, work] = what;
      const double seconds = work(count);
      measured.runs[who].push_back(latency ? seconds * 1e9 / static_cast<double>(count)
                                           : static_cast<double>(count) / seconds);
    }
  return measured;
}

}  // namespace

std::size_t peers::resident_bytes() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::FILE* const from = std::fopen("/proc/self/statm", "r");
  if (from == nullptr || std::fscanf(from, "%zu %zu", &total, &resident) != 2) std::abort();
  std::fclose(from);
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

namespace {

using candidates = std::map<std::string, std::pair<std::int64_t, std::function<double(std::int64_t)>>>;

/// Memory comes first in main, while the heap is fresh.
std::vector<result> measure_spawn(bool smoke) {
  const std::int64_t count = smoke ? 1'000 : 1'000'000;
  result spawn{"spawn.1M", "1/s", {}};
  result bytes{"spawn.1M.bytes", "bytes", {}};
  const auto measure_one = [&](const std::string& who, double (*work)(std::int64_t, std::size_t&)) {
    std::size_t taken = 0;
    const double seconds = work(count, taken);
    spawn.runs[who].push_back(static_cast<double>(count) / seconds);
    if (bytes.runs[who].empty())
      bytes.runs[who].push_back(static_cast<double>(taken) / static_cast<double>(count) - sizeof(counting::state));
  };
  for (int run = 0; run < (smoke ? 1 : 3); ++run) {
    measure_one("", molt_spawn);
#if defined(MOLT_BENCH_CAF)
    measure_one("caf", peers::caf::spawn);
#endif
  }
  return {spawn, bytes};
}

std::vector<result> measure_call_idle(bool smoke) {
  // In turns of a fraction of a millisecond, so that what else the machine does meets both.
  molt_caller molt_calls;
  mutex_caller mutex_calls;
  candidates short_turns{{"", {20'000, std::ref(molt_calls)}}, {"std_mutex", {20'000, std::ref(mutex_calls)}}};
  auto calls = measure("call.idle", true, smoke ? 50 : 5'000, short_turns);
  candidates slow{{"asio", {smoke ? 50 : 50'000, peers::asio::calls}}};
#if defined(MOLT_BENCH_CAF)
  slow["caf"] = {smoke ? 50 : 50'000, peers::caf::calls};
#endif
  calls.runs.merge(measure("call.idle", true, smoke ? 1 : 7, slow).runs);
  return {calls};
}

std::vector<result> measure_cast(bool smoke) {
  const std::int64_t scale = smoke ? 1000 : 1;
  candidates casts{{"", {10'000'000 / scale, molt_casts}}, {"asio", {1'000'000 / scale, peers::asio::casts}}};
#if defined(MOLT_BENCH_CAF)
  casts["caf"] = {500'000 / scale, peers::caf::casts};
#endif
  return {measure("cast.1to1", false, smoke ? 1 : 7, casts)};
}

std::vector<result> measure_pingpong(bool smoke) {
  const std::int64_t scale = smoke ? 1000 : 1;
  candidates pingpong{{"", {2'000'000 / scale, molt_pingpong}}, {"asio", {200'000 / scale, peers::asio::pingpong}}};
#if defined(MOLT_BENCH_CAF)
  pingpong["caf"] = {200'000 / scale, peers::caf::pingpong};
#endif
  return {measure("pingpong", false, smoke ? 1 : 7, pingpong)};
}

const std::vector<std::pair<std::string, std::vector<result> (*)(bool smoke)>> all_measured{
    {"spawn", measure_spawn}, {"call.idle", measure_call_idle}, {"cast", measure_cast}, {"pingpong", measure_pingpong}};

}  // namespace

int main(int argc, char** argv) {
  const bool smoke = std::getenv("MOLT_BENCH_SMOKE") != nullptr;
  std::string only;
  std::FILE* out = stdout;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (option == "--json" && i + 1 < argc) {
      out = std::fopen(argv[++i], "w");
    } else {
      out = nullptr;
    }
    if (out == nullptr) {
      std::fprintf(stderr, "usage: molt_bench_messaging [--json FILE] [--only NAME]\n");
      return 2;
    }
  }
  std::vector<result> results;
  for (const auto& [name, work] : all_measured)
    if (only.empty() || name.starts_with(only))
      for (auto& each : work(smoke)) results.push_back(std::move(each));
  std::fputs("{\"results\": [\n", out);
  for (std::size_t i = 0; i < results.size(); ++i)
    std::fprintf(out, "  %s%s\n", text_of(results[i]).c_str(), i + 1 < results.size() ? "," : "");
  std::fputs("]}\n", out);
  return 0;
}
