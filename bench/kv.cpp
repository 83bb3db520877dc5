// kv 1.0.0 in a molt-node against redis-server without persistence, both asked by redis-benchmark: 50 connections, SET
// and GET, one request at a time and 16.
//
//   molt_bench_kv      prints {"results": [...]} on stdout; requests per second, the median of several runs in turns
#include "peer.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct server {
  std::string name;
  std::uint16_t port = 0;
};

/// A folder that goes with the object.
class scratch_folder {
 public:
  scratch_folder() {
    std::string name = (fs::temp_directory_path() / "molt-bench-kv.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error{"cannot make " + name};
    path_ = name;
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() { fs::remove_all(path_); }

  [[nodiscard]] const fs::path& path() const noexcept { return path_; }

 private:
  fs::path path_;
};

std::string read_file(const fs::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// A copy of kv 1.0.0's release whose listener is on `port`.
fs::path release_on(const fs::path& folder, std::uint16_t port) {
  const fs::path release = folder / "kv-1.0.0";
  fs::copy(KV_RELEASE, release, fs::copy_options::recursive);
  std::string manifest = read_file(release / "release.toml");
  const std::string usual = "127.0.0.1:6379";
  manifest.replace(manifest.find(usual), usual.size(), "127.0.0.1:" + std::to_string(port));
  std::ofstream{release / "release.toml"} << manifest;
  return release;
}

/// Requests per second by test ("SET", "GET").
std::map<std::string, double> run_redis_benchmark(const server& on, int pipeline, int requests) {
  const std::string command = "redis-benchmark -p " + std::to_string(on.port) + " -t set,get -c 50 -P " +
                              std::to_string(pipeline) + " -n " + std::to_string(requests) + " --csv 2>&1";
  std::FILE* const output = ::popen(command.c_str(), "r");
  if (output == nullptr) throw std::runtime_error{"cannot run redis-benchmark"};
  std::map<std::string, double> rates;
  std::string all;
  std::array<char, 512> line{};
  while (std::fgets(line.data(), line.size(), output) != nullptr) {
    all += line.data();
    std::array<char, 16> test{};
    double rate = 0;
    if (std::sscanf(line.data(), "\"%15[A-Z]\",\"%lf\"", test.data(), &rate) == 2) rates[test.data()] = rate;
  }
  if (::pclose(output) != 0 || rates.size() != 2) throw std::runtime_error{on.name + ": redis-benchmark said: " + all};
  for (const auto& [test, rate] : rates)
    if (!std::isfinite(rate) || rate <= 0) throw std::runtime_error{on.name + ": redis-benchmark gave no rate: " + all};
  return rates;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct figure {
  std::string name;
  std::map<std::string, std::vector<double>> rates;  ///< by server
};

void print(const std::vector<figure>& figures) {
  std::printf("{\"results\": [");
  const char* separator = "\n";
  for (const figure& each : figures) {
    const double ours = median(each.rates.at("molt"));
    const double theirs = median(each.rates.at("redis"));
    std::printf(
        "%s  {\"name\": \"%s\", \"value\": %.0f, \"unit\": \"1/s\", \"peers\": {\"redis\": %.0f}, \"ratio\": "
        "{\"redis\": %.3f}}",
        separator, each.name.c_str(), ours, theirs, ours / theirs);
    separator = ",\n";
  }
  std::printf("\n]}\n");
}

std::vector<figure> measure(const std::vector<server>& servers, bool smoke) {
  const int rounds = smoke ? 1 : 5;
  std::vector<figure> figures;
  for (const int pipeline : {1, 16}) {
    // redis-benchmark times in whole milliseconds: fewer requests than these may take none of them, and have no rate.
    const int requests = smoke ? 20'000 : pipeline == 1 ? 100'000 : 1'000'000;
    figure set{"kv.set.P" + std::to_string(pipeline), {}};
    figure get{"kv.get.P" + std::to_string(pipeline), {}};
    for (int round = 0; round < rounds; ++round)
      for (std::size_t i = 0; i < servers.size(); ++i) {
        const server& on = servers[(i + static_cast<std::size_t>(round)) % servers.size()];
        const auto rates = run_redis_benchmark(on, pipeline, requests);
        set.rates[on.name].push_back(rates.at("SET"));
        get.rates[on.name].push_back(rates.at("GET"));
        std::fprintf(stderr, "P%-2d %-6s SET %9.0f/s  GET %9.0f/s\n", pipeline, on.name.c_str(), rates.at("SET"),
                     rates.at("GET"));
      }
    figures.push_back(std::move(set));
    figures.push_back(std::move(get));
  }
  return figures;
}

void run() {
  const scratch_folder folder;
  const kv_test::redis_server redis;
  if (redis.port == 0) throw std::runtime_error{"there is no redis-server here to compare with"};
  const std::uint16_t port = kv_test::free_port();
  const fs::path release = release_on(folder.path(), port);
  const kv_test::process node{{KV_NODE, "--release-dir", release.string(), "--runtime", folder.path().string()},
                              (folder.path() / "log").string()};
  if (!kv_test::wait_for_port(port, std::chrono::seconds{10}))
    throw std::runtime_error{"molt-node did not start: " + read_file(folder.path() / "log")};
  print(measure({{"molt", port}, {"redis", redis.port}}, std::getenv("MOLT_BENCH_SMOKE") != nullptr));
}

}  // namespace

int main() {
  try {
    run();
    return 0;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "molt_bench_kv: %s\n", failure.what());
    return 1;
  }
}
