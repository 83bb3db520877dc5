// state get, state set, suspend, resume: one server of the running node, asked through moltd.
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

namespace molt::cli {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds state_timeout{40'000};

/// Indented, so that a person can edit it.
void append_indented(std::string& out, const json::value& value, const std::string& margin) {
  const std::string inner = margin + "  ";
  if (const auto* object = value.if_object(); object != nullptr && !object->empty()) {
    const char* before = "{\n";
    for (const auto& member : *object) {
      out += before + inner + json::serialize(json::string(member.key())) + ": ";
      append_indented(out, member.value(), inner);
      before = ",\n";
    }
    out += "\n" + margin + "}";
  } else if (const auto* array = value.if_array(); array != nullptr && !array->empty()) {
    const char* before = "[\n";
    for (const auto& item : *array) {
      out += before + inner;
      append_indented(out, item, inner);
      before = ",\n";
    }
    out += "\n" + margin + "]";
  } else {
    out += json::serialize(value);
  }
}

/// The text that the word stands for: itself, a file's, or stdin's. Reports what cannot be read.
std::optional<std::string> text_for(const settings& with, const std::string& word) {
  if (word == "-") return std::string{std::istreambuf_iterator<char>{std::cin}, {}};
  if (word.empty() || word.front() != '@') return word;
  std::ifstream file{word.substr(1), std::ios::binary};
  std::string text{std::istreambuf_iterator<char>{file}, {}};
  if (file.good() || (file.eof() && !file.bad())) return text;
  report_error(with, error{reason::not_found, word.substr(1) + ": it cannot be read"}, {}, exit_refused);
  return std::nullopt;
}

int change(const settings& with, const std::string& server, const char* verb, const char* done) {
  const auto got = ask(with, "POST", path_of(server, verb));
  if (!got.ok()) return got.exit_code;
  if (with.json)
    print_json(got.body);
  else
    std::printf("%s %s\n", server.c_str(), done);
  return exit_done;
}

}  // namespace

std::string path_of(const std::string& server, std::string_view verb) {
  return "/v1/servers/" + encoded(server) + "/" + std::string{verb};
}

int get_state(const settings& with, const std::string& server) {
  const auto got = ask(with, "GET", path_of(server, "state"), {}, state_timeout);
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  std::string text;
  append_indented(text, member_of(got.body, "state"), "");
  std::puts(text.c_str());
  if (flag_of(got.body, "formatted"))
    suggest(with, text_of(got.body, "type") + " hides parts of its state; to set it, put them in and say --whole");
  return exit_done;
}

int set_state(const settings& with, const state_request& request) {
  const auto text = text_for(with, request.state);
  if (!text) return exit_refused;
  boost::system::error_code bad;
  json::value state = json::parse(*text, bad);
  if (bad) {
    report_error(with,
                 error{reason::invalid_argument, "the state is not JSON: " + bad.message(),
                       "molt state get " + request.server + " shows its form"},
                 {}, exit_usage);
    return exit_usage;
  }
  json::object body{{"state", std::move(state)}};
  if (request.whole) body.emplace("whole", true);
  const auto got = ask(with, "PUT", path_of(request.server, "state"), body, state_timeout);
  if (!got.ok()) return got.exit_code;
  if (with.json)
    print_json(got.body);
  else
    std::printf("%s goes on with the new state\n", request.server.c_str());
  return exit_done;
}

int suspend(const settings& with, const std::string& server) {
  const int exit_code = change(with, server, "suspend", "is suspended: its messages wait");
  if (exit_code == exit_done) suggest(with, "molt resume " + server);
  return exit_code;
}

int resume(const settings& with, const std::string& server) { return change(with, server, "resume", "runs again"); }

}  // namespace molt::cli
