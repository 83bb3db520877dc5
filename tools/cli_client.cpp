#include "tools/cli_client.hpp"

#include "base/utf8.hpp"
#include "node/api_error.hpp"
#include "node/http_client.hpp"
#include "node/json_codec.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <cstdio>

namespace molt::cli {

namespace json = boost::json;

namespace {

answer failed(const settings& with, const error& why, int exit_code) {
  report_error(with, why, with.socket, exit_code);
  return answer{exit_code, nullptr};
}

error unreachable(const settings& with, const error& why) {
  return error{
      why.why(), why.message(),
      "is moltd running? start it, or name its socket: --socket PATH or MOLT_SOCKET (now " + with.socket + ")"};
}

/// What to do when nobody knows whether a request was carried out; empty: it would have changed nothing.
std::string_view if_it_was_done(std::string_view method, std::string_view target) {
  const bool asks = method == "GET" || target == "/v1/plan" || target == "/v1/rehearse" || target.ends_with("watch");
  if (asks) return {};
  if (target == "/v1/upgrade" || target == "/v1/rollback" || target == "/v1/commit")
    return "the change may go on without it: molt status, once moltd runs again, shows how it ended";
  if (target == "/v1/call") return "it may have been handled: look before sending it again";
  return "it may have been done all the same: look before doing it again";
}

/// The connection stood, and then there was no answer.
answer unanswered(const settings& with, const error& why, std::string_view next) {
  const bool late = why.why() == reason::timeout;
  if (next.empty() && !late) return failed(with, unreachable(with, why), exit_unreachable);
  const std::string hint =
      late ? "moltd may still be working on it: molt status shows what it does" : std::string{next};
  return failed(with, error{why.why(), why.message(), hint}, next.empty() ? exit_unreachable : exit_needs_attention);
}

}  // namespace

answer ask(const settings& with, std::string_view method, std::string_view target, const json::object& body,
           std::chrono::milliseconds timeout) {
  const std::string text = method == "GET" ? std::string{} : json::serialize(body);
  if (!is_utf8(text))
    return failed(with,
                  error{reason::invalid_argument, "what was given has bytes that are not UTF-8",
                        target == "/v1/call"
                            ? "in a string member: molt call SERVER MESSAGE '{\"MEMBER\": {\"base64\": \"...\"}}'"
                            : "give names and values as UTF-8"},
                  exit_usage);
  bool reached = false;
  auto response = node::request(with.socket, method, target, text, timeout, {}, &reached);
  if (!response) {
    const error& why = response.error();
    if (reached) return unanswered(with, why, if_it_was_done(method, target));
    if (why.why() == reason::invalid_argument) return failed(with, why, exit_usage);
    return failed(with, unreachable(with, why), exit_unreachable);
  }
  if (auto refused = node::error_of(*response)) return failed(with, refused->what, static_cast<int>(refused->code));
  boost::system::error_code bad;
  json::value parsed = json::parse(response->body.empty() ? "{}" : response->body, bad);
  if (bad)
    return failed(with, error{reason::corrupt, "moltd answered what is not JSON: " + bad.message()}, exit_failed);
  return answer{exit_done, std::move(parsed)};
}

std::string encoded(std::string_view text) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (plain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += '%';
      out += digits[byte >> 4U];
      out += digits[byte & 15U];
    }
  }
  return out;
}

const json::value& member_of(const json::value& from, std::string_view key) {
  static const json::value none;
  if (!from.is_object()) return none;
  const auto* found = from.get_object().if_contains(key);
  return found == nullptr ? none : *found;
}

std::string text_of(const json::value& value) {
  return value.is_string() ? printable_lines(std::string_view{value.get_string()}) : std::string{};
}

std::string text_of(const json::value& from, std::string_view key) {
  const auto& value = member_of(from, key);
  if (value.is_null()) return {};
  if (value.is_string()) return text_of(value);
  return json::serialize(value);
}

double number_of(const json::value& from, std::string_view key) {
  boost::system::error_code absent;
  const auto value = member_of(from, key).to_number<double>(absent);
  return absent ? 0.0 : value;
}

bool flag_of(const json::value& from, std::string_view key) {
  const auto& value = member_of(from, key);
  return value.is_bool() && value.get_bool();
}

const json::array& items_of(const json::value& from, std::string_view key) {
  static const json::array none;
  const auto& value = member_of(from, key);
  return value.is_array() ? value.get_array() : none;
}

void print_json(const json::value& value) { std::puts(node::as_utf8(json::serialize(value)).c_str()); }

std::optional<json::object> parse_key_values(const settings& with, const std::vector<std::string>& pairs) {
  json::object out;
  for (const auto& pair : pairs) {
    const auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      report_error(with, error{reason::invalid_argument, "\"" + pair + "\" is not of the form key=value"}, {},
                   exit_usage);
      return std::nullopt;
    }
    out[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return out;
}

}  // namespace molt::cli
