// Merges what the benchmarks measured, and prints it.
//
//   molt_bench_report OUT.json GROUP.json... [--peer OTP.json...]
//
// A group's file holds {"results": [{"name", "value", "unit", "peers": {peer: value}}]}. A peer's file holds {"peer":
// "otp", "results": [{"name", "value", "unit"}]} and adds its values to the results of the same name; 1/s and ns become
// each other. Ratios are computed here: value divided by the peer's value, both in the result's unit.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace json = boost::json;

namespace {

json::object read(const std::string& path) {
  std::ifstream in{path};
  if (!in) throw std::runtime_error{"cannot read it"};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  auto parsed = json::parse(text);
  if (!parsed.is_object() || !parsed.get_object().contains("results")) throw std::runtime_error{"holds no \"results\""};
  return parsed.get_object();
}

double in_unit(double value, std::string_view from, std::string_view to) {
  if (from == to) return value;
  const bool reciprocal = (from == "ns" && to == "1/s") || (from == "1/s" && to == "ns");
  if (reciprocal && value != 0.0) return 1e9 / value;
  throw std::runtime_error{"a value in " + std::string{from} + " cannot be compared with one in " + std::string{to}};
}

std::string text_of(const json::object& from, std::string_view key) { return std::string{from.at(key).as_string()}; }
double number_of(const json::object& from, std::string_view key) { return from.at(key).to_number<double>(); }

void add_peer(json::array& results, const json::object& peer) {
  const std::string name = text_of(peer, "peer");
  for (const auto& measured : peer.at("results").as_array()) {
    const auto& theirs = measured.as_object();
    for (auto& result : results) {
      auto& ours = result.as_object();
      if (text_of(ours, "name") != text_of(theirs, "name")) continue;
      if (!ours.contains("peers")) ours["peers"] = json::object{};
      ours["peers"].as_object()[name] =
          in_unit(number_of(theirs, "value"), text_of(theirs, "unit"), text_of(ours, "unit"));
    }
  }
}

void compute_ratios(json::array& results) {
  for (auto& result : results) {
    auto& ours = result.as_object();
    json::object ratios;
    if (const auto* peers = ours.if_contains("peers"); peers != nullptr && peers->is_object())
      for (const auto& peer : peers->get_object()) {
        const double theirs = peer.value().to_number<double>();
        if (theirs != 0.0) ratios[peer.key()] = number_of(ours, "value") / theirs;
      }
    ours["ratio"] = std::move(ratios);
  }
}

std::string number_text(double value) {
  std::array<char, 48> text{};
  const double size = std::fabs(value);
  std::snprintf(text.data(), text.size(), size >= 100.0 ? "%.0f" : size >= 1.0 ? "%.2f" : "%.4f", value);
  return text.data();
}

void print(const json::array& results) {
  std::vector<std::array<std::string, 6>> rows = {{"NAME", "VALUE", "UNIT", "PEER", "ITS VALUE", "RATIO"}};
  for (const auto& result : results) {
    const auto& ours = result.as_object();
    std::array<std::string, 6> row = {text_of(ours, "name"), number_text(number_of(ours, "value")),
                                      text_of(ours, "unit")};
    bool first = true;
    if (const auto* peers = ours.if_contains("peers"); peers != nullptr && peers->is_object())
      for (const auto& peer : peers->get_object()) {
        if (!first) row = {};
        row[3] = peer.key();
        row[4] = number_text(peer.value().to_number<double>());
        const auto* ratio = ours.at("ratio").as_object().if_contains(peer.key());
        row[5] = ratio == nullptr ? "-" : number_text(ratio->to_number<double>());
        rows.push_back(row);
        first = false;
      }
    if (first) rows.push_back(row);
  }
  std::array<std::size_t, 6> widths{};
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool right = i == 1 || i >= 4;
      std::printf(right ? "%*s  " : "%-*s  ", static_cast<int>(widths[i]), row[i].c_str());
    }
    std::puts("");
  }
}

int run(const std::vector<std::string>& words) {
  json::array results;
  std::vector<std::string> peers;
  bool peer_files = false;
  std::string reading;
  try {
    for (std::size_t i = 1; i < words.size(); ++i) {
      if (words[i] == "--peer") {
        peer_files = true;
        continue;
      }
      reading = words[i];
      const auto body = read(reading);
      if (peer_files)
        add_peer(results, body);
      else
        for (const auto& result : body.at("results").as_array()) results.push_back(result);
    }
    compute_ratios(results);
    print(results);
  } catch (const std::exception& wrong) {
    std::fprintf(stderr, "molt_bench_report: %s: %s\n", reading.c_str(), wrong.what());
    return 1;
  }
  std::ofstream out{words.front()};
  out << json::serialize(json::object{{"results", results}}) << '\n';
  out.flush();
  if (!out) {
    std::fprintf(stderr, "molt_bench_report: cannot write %s\n", words.front().c_str());
    return 1;
  }
  return results.empty() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() < 2) {
    std::fputs("usage: molt_bench_report OUT.json GROUP.json... [--peer PEER.json...]\n", stderr);
    return 2;
  }
  return run(words);
}
