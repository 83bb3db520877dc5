// rehearse: an upgrade in a copy of the running node, shown.
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/array.hpp>

#include <array>
#include <cmath>
#include <cstdio>

namespace molt::cli {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds rehearsal_timeout = std::chrono::hours{24};  // the manifest's limit ends it earlier

std::string micros(const json::value& from, const char* key) { return duration_text(number_of(from, key) / 1e3); }

std::string bytes_text(double bytes) {
  static constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  double shown = std::abs(bytes);
  for (; shown >= 1024 && unit + 1 < units.size(); ++unit) shown /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", shown, units[unit]);
  return (bytes < 0 ? "-" : "+") + std::string{text};
}

void print_types(const json::value& body) {
  const auto& types = items_of(body, "types");
  if (types.empty()) return;
  table rows{{"TYPE", "WAY", "SERVERS", "FAILED", "MEDIAN", "P99", "LARGEST", "MEMORY"}};
  for (const auto& type : types)
    rows.add({text_of(type, "type"), text_of(type, "way"), text_of(type, "servers"), text_of(type, "failed"),
              micros(type, "median_us"), micros(type, "p99_us"), micros(type, "largest_us"),
              bytes_text(number_of(type, "memory_added_bytes"))});
  std::fputs(rows.text().c_str(), stdout);
}

}  // namespace

void print_rehearsal(const json::value& body) {
  const auto& pause = member_of(body, "pause");
  const bool passed = flag_of(body, "passed");
  std::printf("%s  %s -> %s in %s, %s servers, everything at rest for %s\n",
              paint(passed ? colour::green : colour::red, passed ? "rehearsed" : "failed in rehearsal").c_str(),
              text_of(body, "from").c_str(), text_of(body, "to").c_str(),
              duration_text(number_of(body, "total_ms")).c_str(), text_of(body, "servers").c_str(),
              duration_text(number_of(body, "at_rest_ms")).c_str());
  if (!items_of(body, "types").empty())
    std::printf("expect pauses of %s each, 99 of 100 within %s, at most %s; memory %s\n",
                micros(pause, "median_us").c_str(), micros(pause, "p99_us").c_str(),
                micros(pause, "largest_us").c_str(), bytes_text(number_of(body, "memory_added_bytes")).c_str());
  if (const auto& atomic = member_of(body, "atomic"); !items_of(body, "types").empty() && atomic.is_object())
    std::printf("in mode atomic expect one pause of %s for all, on %s threads; switch_timeout_ms allows %s\n",
                duration_text(number_of(atomic, "pause_ms")).c_str(), text_of(atomic, "threads").c_str(),
                duration_text(number_of(atomic, "switch_timeout_ms")).c_str());
  print_types(body);
  if (const auto& replay = member_of(body, "replay"); replay.is_object()) {
    std::printf("replayed %s messages of %s servers, %s skipped, %s answered in another way\n",
                text_of(replay, "messages").c_str(), text_of(replay, "servers").c_str(),
                text_of(replay, "skipped").c_str(), text_of(replay, "differed").c_str());
    for (const auto& each : items_of(replay, "differences"))
      std::printf("%s %s, %s: %s\n", paint(colour::yellow, "differs:").c_str(), text_of(each, "server").c_str(),
                  text_of(each, "message").c_str(), text_of(each, "difference").c_str());
  }
  for (const auto& note : items_of(body, "notes")) std::printf("note: %s\n", text_of(note).c_str());
  if (const auto& stack = items_of(body, "stack"); !stack.empty()) {
    std::fprintf(stderr, "stack of the copy:\n");
    for (const auto& frame : stack) std::fprintf(stderr, "  %s\n", text_of(frame).c_str());
  }
  if (const std::string output = text_of(body, "output"); !output.empty())
    std::fprintf(stderr, "output of the copy:\n%s%s", output.c_str(), output.back() == '\n' ? "" : "\n");
}

int rehearse(const settings& with, const change_request& request) {
  const auto arguments = parse_key_values(with, request.arguments);
  if (!arguments) return exit_usage;
  json::array losses;
  for (const auto& loss : request.accept_loss) losses.emplace_back(loss);
  json::object body{{"release", request.release}, {"arguments", *arguments}, {"accept_loss", std::move(losses)}};
  if (!request.mode.empty()) body["mode"] = request.mode;
  if (request.keep_states) body["keep_states"] = true;
  if (!request.replay.empty()) body["replay"] = request.replay;
  if (request.switch_timeout_ms != 0) body["switch_timeout_ms"] = request.switch_timeout_ms;
  answer done;
  {
    const progress shown{"rehearsing " + request.release};
    done = ask(with, "POST", "/v1/rehearse", body, rehearsal_timeout);
  }
  if (!done.ok()) return done.exit_code;
  const bool passed = flag_of(done.body, "passed");
  if (with.json) {
    print_json(done.body);
    return passed ? exit_done : exit_refused;
  }
  print_rehearsal(done.body);
  for (const auto& problem : items_of(done.body, "problems"))
    std::fprintf(stderr, "problem: %s\n", text_of(problem).c_str());
  if (passed)
    suggest(with, "molt upgrade " + text_of(done.body, "to"));
  else
    suggest(with, "nothing was changed; correct what failed, pack and install a new version");
  return passed ? exit_done : exit_refused;
}

}  // namespace molt::cli
