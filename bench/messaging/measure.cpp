#include "bench/messaging/measure.hpp"

#include <algorithm>
#include <cstdlib>

namespace measuring {

namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string number(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

std::string text_of(const result& measured) {
  const double own = median(measured.runs.at(""));
  std::string peers;
  std::string ratios;
  for (const auto& [who, values] : measured.runs) {
    if (who.empty()) continue;
    const double theirs = median(values);
    peers += (peers.empty() ? "" : ", ") + ("\"" + who + "\": ") + number(theirs);
    ratios += (ratios.empty() ? "" : ", ") + ("\"" + who + "\": ") + number(own / theirs);
  }
  return "{\"name\": \"" + measured.name + "\", \"value\": " + number(own) + ", \"unit\": \"" + measured.unit +
         "\", \"peers\": {" + peers + "}, \"ratio\": {" + ratios + "}}";
}

}  // namespace

bool smoke() {
  static const bool is = std::getenv("MOLT_BENCH_SMOKE") != nullptr;
  return is;
}

bool alone() {
  static const bool set = std::getenv("MOLT_BENCH_ALONE") != nullptr;
  return set;
}

namespace {

const char* name_of(unit in) { return in == unit::ns_each ? "ns" : in == unit::per_second ? "1/s" : "MB/s"; }

double value_of(unit in, double seconds, double count) {
  if (in == unit::ns_each) return seconds * 1e9 / count;
  return in == unit::per_second ? count / seconds : count / seconds / 1e6;
}

}  // namespace

result measure(const std::string& name, unit in, int runs, const candidates& all) {
  result measured{name, name_of(in), {}};
  for (int run = 0; run < (smoke() ? std::min(runs, 3) : runs); ++run)
    for (const auto& [who, each] : all) {
      if (alone() && !who.empty()) continue;
      measured.runs[who].push_back(value_of(in, each.work(each.count), static_cast<double>(each.count)));
    }
  return measured;
}

void print(std::FILE* to, const std::vector<result>& results) {
  std::fputs("{\"results\": [\n", to);
  for (std::size_t i = 0; i < results.size(); ++i)
    std::fprintf(to, "  %s%s\n", text_of(results[i]).c_str(), i + 1 < results.size() ? "," : "");
  std::fputs("]}\n", to);
}

}  // namespace measuring
