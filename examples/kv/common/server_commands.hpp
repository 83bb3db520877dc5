// Commands about the connection and the server: PING ECHO QUIT SELECT COMMAND CONFIG INFO.
#pragma once

#include "interpreter.hpp"
#include "reply.hpp"
#include "text.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kv {

template <class Keyspace>
struct server_commands {
  static void ping(Keyspace&, words request, reply& answer) {
    if (request.size() > 2) wrong_number_of_arguments("ping");
    if (request.size() == 2)
      answer.bulk(request[1]);
    else
      answer.simple("PONG");
  }

  static void echo(Keyspace&, words request, reply& answer) { answer.bulk(request[1]); }

  /// The connection ends itself after this answer.
  static void quit(Keyspace&, words, reply& answer) { answer.simple("OK"); }

  static void select(Keyspace&, words request, reply& answer) {
    const auto index = parse_integer(request[1]);
    if (!index) not_an_integer();
    if (*index < std::numeric_limits<int>::min() || *index > std::numeric_limits<int>::max())
      throw command_error{"ERR value is out of range, value must between -2147483648 and 2147483647"};
    if (*index != 0) throw command_error{"ERR DB index is out of range"};
    answer.simple("OK");
  }

  // -- COMMAND

  static void describe(const command<Keyspace>& each, reply& answer) {
    answer.array(10);
    answer.bulk(each.name);
    answer.integer(each.arity);
    const auto flags = split(each.flags);
    answer.array(flags.size());
    for (const std::string_view flag : flags) answer.simple(flag);
    answer.integer(each.first_key);
    answer.integer(each.last_key);
    answer.integer(each.step);
    for (int i = 0; i < 4; ++i) answer.array(0);  // categories, tips, key specifications, subcommands
  }

  static void describe_named(std::string_view name, reply& answer) {
    const command<Keyspace>* const found = find_command<Keyspace>(name);
    if (found)
      describe(*found, answer);
    else
      answer.null_array();
  }

  static void describe_commands(Keyspace&, words request, reply& answer) {
    const auto all = Keyspace::commands();
    if (request.size() == 1 || (request.size() == 2 && is(request[1], "info"))) {
      answer.array(all.size());
      for (const auto& each : all) describe(each, answer);
    } else if (is(request[1], "count")) {
      if (request.size() != 2) wrong_number_of_arguments("command|count");
      answer.integer(static_cast<std::int64_t>(all.size()));
    } else if (is(request[1], "list") && request.size() == 2) {
      answer.array(all.size());
      for (const auto& each : all) answer.bulk(each.name);
    } else if (is(request[1], "info")) {
      answer.array(request.size() - 2);
      for (const std::string_view name : request.subspan(2)) describe_named(name, answer);
    } else if (is(request[1], "docs")) {
      answer.array(0);
    } else {
      unknown_subcommand(request, "COMMAND");
    }
  }

  // -- CONFIG GET

  static void config(Keyspace&, words request, reply& answer) {
    if (!is(request[1], "get")) unknown_subcommand(request, "CONFIG");
    if (request.size() < 3) wrong_number_of_arguments("config|get");
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> settings{{
        {"appendonly", "no"},
        {"databases", "1"},
        {"maxmemory", "0"},
        {"maxmemory-policy", "noeviction"},
        {"proto-max-bulk-len", "67108864"},
        {"save", ""},
    }};
    std::vector<std::pair<std::string_view, std::string_view>> matching;
    for (const auto& setting : settings)
      for (const std::string_view pattern : request.subspan(2))
        if (matches_glob(pattern, setting.first, true)) {
          const bool is_name = pattern.find_first_of("*?[") == std::string_view::npos;
          matching.emplace_back(is_name ? pattern : setting.first, setting.second);
          break;
        }
    answer.array(matching.size() * 2);
    for (const auto& [name, value] : matching) {
      answer.bulk(name);
      answer.bulk(value);
    }
  }

  // -- INFO

  static void info(Keyspace& keys, words request, reply& answer) {
    const auto wanted = [&](std::string_view section) {
      if (request.size() == 1) return true;
      for (const std::string_view word : request.subspan(1))
        if (is(word, section) || is(word, "all") || is(word, "everything") || is(word, "default")) return true;
      return false;
    };
    std::string text;
    if (wanted("server"))
      text.append("# Server\r\nredis_version:7.0.15\r\nkv_version:")
          .append(Keyspace::version)
          .append("\r\nredis_mode:standalone\r\n");
    if (wanted("keyspace")) {
      if (!text.empty()) text += "\r\n";
      text += "# Keyspace\r\n";
      if (keys.size() > 0) text += "db0:" + keys.statistics() + "\r\n";
    }
    answer.bulk(text);
  }

  // -- The table

  static constexpr std::array<command<Keyspace>, 7> commands{{
      {"command", -1, "loading stale", 0, 0, 0, &describe_commands},
      {"config", -2, "", 0, 0, 0, &config},
      {"echo", 2, "fast", 0, 0, 0, &echo},
      {"info", -1, "loading stale", 0, 0, 0, &info},
      {"ping", -1, "fast", 0, 0, 0, &ping},
      {"quit", -1, "noscript loading stale fast", 0, 0, 0, &quit},
      {"select", 2, "loading stale fast", 0, 0, 0, &select},
  }};

 private:
  [[noreturn]] static void unknown_subcommand(words request, std::string_view container) {
    throw command_error{"ERR unknown subcommand '" + std::string{request[1].substr(0, 128)} + "'. Try " +
                        std::string{container} + " HELP."};
  }

  static std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(' '), text.size());
      parts.push_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
  }
};

}  // namespace kv
