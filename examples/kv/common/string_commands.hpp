// Commands on strings and on the keys as a whole, as every version has them.
//
// A Keyspace offers
//   std::string* find(key)            the string there, or null; refuses a key of another type
//   std::string* find_string(key)     the same, but a key of another type is as good as none
//   std::string& find_or_add(key)     the string there, made empty if there is none; refuses as find does
//   void assign(key, value)           the key's value from now on, whatever was there
//   bool contains(key), bool erase(key), size_t size(), void clear()
//   void each_key(part, visit)        visits the living keys of one part; they may not be changed meanwhile
#pragma once

#include "interpreter.hpp"
#include "reply.hpp"
#include "resp_parser.hpp"
#include "table.hpp"
#include "text.hpp"

#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

[[nodiscard]] inline std::int64_t integer_of(std::string_view word) {
  const auto value = parse_integer(word);
  if (!value) not_an_integer();
  return *value;
}

template <class Keyspace>
struct string_commands {
  static void get(Keyspace& keys, words request, reply& answer) {
    const std::string* const value = keys.find(request[1]);
    if (value)
      answer.bulk(*value);
    else
      answer.null();
  }

  static void mget(Keyspace& keys, words request, reply& answer) {
    answer.array(request.size() - 1);
    for (const std::string_view key : request.subspan(1)) {
      const std::string* const value = keys.find_string(key);
      if (value)
        answer.bulk(*value);
      else
        answer.null();
    }
  }

  static void mset(Keyspace& keys, words request, reply& answer) {
    if (request.size() % 2 == 0) wrong_number_of_arguments("mset");
    for (std::size_t i = 1; i < request.size(); i += 2) keys.assign(request[i], request[i + 1]);
    answer.simple("OK");
  }

  static void append(Keyspace& keys, words request, reply& answer) {
    const std::string* const before = keys.find(request[1]);
    if ((before ? before->size() : 0) + request[2].size() > static_cast<std::size_t>(bulk_max))
      throw command_error{"ERR string exceeds maximum allowed size (proto-max-bulk-len)"};
    std::string& value = keys.find_or_add(request[1]);
    value.append(request[2]);
    answer.integer(static_cast<std::int64_t>(value.size()));
  }

  static void strlen(Keyspace& keys, words request, reply& answer) {
    const std::string* const value = keys.find(request[1]);
    answer.integer(value ? static_cast<std::int64_t>(value->size()) : 0);
  }

  static void add(Keyspace& keys, std::string_view key, std::int64_t by, reply& answer) {
    const std::string* const before = keys.find(key);
    std::int64_t value = before ? integer_of(*before) : 0;
    if (__builtin_add_overflow(value, by, &value)) throw command_error{"ERR increment or decrement would overflow"};
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    keys.find_or_add(key).assign(digits, static_cast<std::size_t>(end - digits));
    answer.integer(value);
  }
  static void incr(Keyspace& keys, words request, reply& answer) { add(keys, request[1], 1, answer); }
  static void decr(Keyspace& keys, words request, reply& answer) { add(keys, request[1], -1, answer); }
  static void incrby(Keyspace& keys, words request, reply& answer) {
    add(keys, request[1], integer_of(request[2]), answer);
  }

  // -- Keys

  static void del(Keyspace& keys, words request, reply& answer) {
    std::int64_t deleted = 0;
    for (const std::string_view key : request.subspan(1)) deleted += keys.erase(key) ? 1 : 0;
    answer.integer(deleted);
  }

  static void exists(Keyspace& keys, words request, reply& answer) {
    std::int64_t found = 0;
    for (const std::string_view key : request.subspan(1)) found += keys.contains(key) ? 1 : 0;
    answer.integer(found);
  }

  static void dbsize(Keyspace& keys, words, reply& answer) { answer.integer(static_cast<std::int64_t>(keys.size())); }

  static void flushall(Keyspace& keys, words request, reply& answer) {
    if (request.size() > 2 || (request.size() == 2 && !is(request[1], "async") && !is(request[1], "sync")))
      syntax_error();
    keys.clear();
    answer.simple("OK");
  }

  static void all_keys(Keyspace& keys, words request, reply& answer) {
    std::vector<std::string_view> found;
    for (std::size_t part = 0; part < part_count; ++part)
      keys.each_key(part, [&](std::string_view key) {
        if (matches_glob(request[1], key)) found.push_back(key);
      });
    answer.array(found.size());
    for (const std::string_view key : found) answer.bulk(key);
  }

  /// The cursor is the number of the next part, 0 after the last.
  static void scan(Keyspace& keys, words request, reply& answer) {
    const std::uint64_t cursor = parse_cursor(request[1]);
    const scan_options options = parse_scan_options(request);
    std::vector<std::string_view> found;
    std::size_t seen = 0;
    std::size_t part = cursor;
    for (; part < part_count && seen < options.count; ++part)
      keys.each_key(part, [&](std::string_view key) {
        ++seen;
        if (matches_glob(options.pattern, key)) found.push_back(key);
      });
    answer.array(2);
    answer.bulk(part < part_count ? std::to_string(part) : "0");
    answer.array(found.size());
    for (const std::string_view key : found) answer.bulk(key);
  }

  // -- The table

  static constexpr std::array<command<Keyspace>, 14> commands{{
      {"append", 3, "write denyoom fast", 1, 1, 1, &append},
      {"dbsize", 1, "readonly fast", 0, 0, 0, &dbsize},
      {"decr", 2, "write denyoom fast", 1, 1, 1, &decr},
      {"del", -2, "write", 1, -1, 1, &del},
      {"exists", -2, "readonly fast", 1, -1, 1, &exists},
      {"flushall", -1, "write", 0, 0, 0, &flushall},
      {"get", 2, "readonly fast", 1, 1, 1, &get},
      {"incr", 2, "write denyoom fast", 1, 1, 1, &incr},
      {"incrby", 3, "write denyoom fast", 1, 1, 1, &incrby},
      {"keys", 2, "readonly", 0, 0, 0, &all_keys},
      {"mget", -2, "readonly fast", 1, -1, 1, &mget},
      {"mset", -3, "write denyoom", 1, -1, 2, &mset},
      {"scan", -2, "readonly", 0, 0, 0, &scan},
      {"strlen", 2, "readonly fast", 1, 1, 1, &strlen},
  }};

 private:
  struct scan_options {
    std::string_view pattern = "*";
    std::size_t count = 10;
  };

  /// Read as strtoul does, as Redis does.
  static std::uint64_t parse_cursor(std::string_view word) {
    const std::string text{word};
    char* end = nullptr;
    errno = 0;
    const std::uint64_t cursor = std::strtoull(text.c_str(), &end, 10);
    if (std::isspace(static_cast<unsigned char>(text.c_str()[0])) || *end != '\0' || errno == ERANGE)
      throw command_error{"ERR invalid cursor"};
    return cursor;
  }

  static scan_options parse_scan_options(words request) {
    scan_options options;
    for (std::size_t i = 2; i < request.size(); i += 2) {
      if (i + 1 == request.size()) syntax_error();
      if (is(request[i], "count")) {
        const std::int64_t count = integer_of(request[i + 1]);
        if (count < 1) syntax_error();
        options.count = static_cast<std::size_t>(count);
      } else if (is(request[i], "match")) {
        options.pattern = request[i + 1];
      } else {
        syntax_error();
      }
    }
    return options;
  }
};

}  // namespace kv
