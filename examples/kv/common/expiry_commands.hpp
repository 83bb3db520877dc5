// Commands about a key's time, since 2.0.0: SET with its options, SETEX, EXPIRE, PEXPIRE, TTL, PTTL, PERSIST; and HITS.
//
// A Keyspace offers, beside what string_commands.hpp wants: Entry* living(key), set_deadline(key, entry, at_ms),
// now_ms().
#pragma once

#include "interpreter.hpp"
#include "reply.hpp"
#include "string_commands.hpp"
#include "text.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace kv {

template <class Keyspace>
struct expiry_commands {
  // -- SET key value [NX|XX] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]

  static void set(Keyspace& keys, words request, reply& answer) {
    const set_options options = parse_set_options(request);
    const std::int64_t expires_at_ms = options.time_option.empty() ? 0
                                                                   : deadline("set", keys, integer_of(options.time),
                                                                              options.seconds, options.absolute, 1);
    if (options.get) string_commands<Keyspace>::get(keys, request, answer);
    const bool there = (options.only_new || options.only_old) && keys.contains(request[1]);
    if ((options.only_new && there) || (options.only_old && !there)) {
      if (!options.get) answer.null();
      return;
    }
    assign(keys, request[1], request[2], options.keep_deadline, expires_at_ms);
    if (!options.get) answer.simple("OK");
  }

  static void setex(Keyspace& keys, words request, reply& answer) {
    const std::int64_t expires_at_ms = deadline("setex", keys, integer_of(request[2]), true, false, 1);
    assign(keys, request[1], request[3], false, expires_at_ms);
    answer.simple("OK");
  }

  // -- EXPIRE key time [NX|XX|GT|LT]

  static void expire(Keyspace& keys, words request, reply& answer) { expire("expire", true, keys, request, answer); }
  static void pexpire(Keyspace& keys, words request, reply& answer) { expire("pexpire", false, keys, request, answer); }

  static void ttl(Keyspace& keys, words request, reply& answer) {
    const std::int64_t left = time_left(keys, request[1]);
    answer.integer(left < 0 ? left : (left + 500) / 1000);
  }
  static void pttl(Keyspace& keys, words request, reply& answer) { answer.integer(time_left(keys, request[1])); }

  static void persist(Keyspace& keys, words request, reply& answer) {
    auto* const found = keys.living(request[1]);
    const bool expires = found && found->expires_at_ms != 0;
    if (expires) keys.set_deadline(request[1], *found, 0);
    answer.integer(expires ? 1 : 0);
  }

  /// How often the key was read; ours, not Redis's.
  static void hits(Keyspace& keys, words request, reply& answer) {
    const auto* const found = keys.living(request[1]);
    if (found)
      answer.integer(static_cast<std::int64_t>(found->hits));
    else
      answer.null();
  }

  static constexpr std::array<command<Keyspace>, 8> commands{{
      {"expire", -3, "write fast", 1, 1, 1, &expire},
      {"hits", 2, "readonly fast", 1, 1, 1, &hits},
      {"persist", 2, "write fast", 1, 1, 1, &persist},
      {"pexpire", -3, "write fast", 1, 1, 1, &pexpire},
      {"pttl", 2, "readonly fast", 1, 1, 1, &pttl},
      {"set", -3, "write denyoom", 1, 1, 1, &set},
      {"setex", 4, "write denyoom", 1, 1, 1, &setex},
      {"ttl", 2, "readonly fast", 1, 1, 1, &ttl},
  }};

 private:
  struct set_options {
    bool only_new = false;
    bool only_old = false;
    bool get = false;
    bool keep_deadline = false;
    bool seconds = false;
    bool absolute = false;
    std::string_view time_option{};  ///< "ex", "px", "exat" or "pxat"; empty: none
    std::string_view time{};
  };

  static set_options parse_set_options(words request) {
    set_options options;
    for (std::size_t i = 3; i < request.size(); ++i) {
      const bool last = i + 1 == request.size();
      if (is(request[i], "nx") && !options.only_old) {
        options.only_new = true;
      } else if (is(request[i], "xx") && !options.only_new) {
        options.only_old = true;
      } else if (is(request[i], "get")) {
        options.get = true;
      } else if (is(request[i], "keepttl") && options.time_option.empty()) {
        options.keep_deadline = true;
      } else if (!last && !options.keep_deadline && take_time_option(request[i], options)) {
        options.time = request[++i];
      } else {
        syntax_error();
      }
    }
    return options;
  }

  /// EX, PX, EXAT or PXAT, if none of the others was given.
  static bool take_time_option(std::string_view word, set_options& options) {
    for (const std::string_view name : {"ex", "px", "exat", "pxat"}) {
      if (!is(word, name) || (!options.time_option.empty() && options.time_option != name)) continue;
      options.time_option = name;
      options.seconds = name.front() == 'e';
      options.absolute = name.size() == 4;
      return true;
    }
    return false;
  }

  /// A time given by a client, in milliseconds since the Unix epoch; refused below `least` or beyond what fits.
  static std::int64_t deadline(std::string_view command, const Keyspace& keys, std::int64_t time, bool seconds,
                               bool absolute, std::int64_t least) {
    std::int64_t at_ms = time;
    const bool too_large = (seconds && __builtin_mul_overflow(time, 1000, &at_ms)) ||
                           (!absolute && __builtin_add_overflow(at_ms, keys.now_ms(), &at_ms));
    if (time < least || too_large)
      throw command_error{"ERR invalid expire time in '" + std::string{command} + "' command"};
    return at_ms;
  }

  static void assign(Keyspace& keys, std::string_view key, std::string_view value, bool keep_deadline,
                     std::int64_t expires_at_ms) {
    const auto* const before = keep_deadline ? keys.living(key) : nullptr;
    const std::int64_t kept = before ? before->expires_at_ms : expires_at_ms;
    keys.assign(key, value);
    if (kept != 0) keys.set_deadline(key, *keys.living(key), kept);
  }

  struct expire_conditions {
    bool only_without = false;  ///< NX
    bool only_with = false;     ///< XX
    bool only_later = false;    ///< GT; never is the latest
    bool only_sooner = false;   ///< LT

    [[nodiscard]] bool allow(std::int64_t before, std::int64_t now) const noexcept {
      constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
      const std::int64_t present = before == 0 ? never : before;
      return !(only_without && before != 0) && !(only_with && before == 0) && !(only_later && now <= present) &&
             !(only_sooner && now >= present);
    }
  };

  static expire_conditions parse_conditions(words request) {
    expire_conditions wanted;
    for (const std::string_view word : request.subspan(3)) {
      if (is(word, "nx"))
        wanted.only_without = true;
      else if (is(word, "xx"))
        wanted.only_with = true;
      else if (is(word, "gt"))
        wanted.only_later = true;
      else if (is(word, "lt"))
        wanted.only_sooner = true;
      else
        throw command_error{"ERR Unsupported option " + std::string{word}};
    }
    if (wanted.only_without && (wanted.only_with || wanted.only_later || wanted.only_sooner))
      throw command_error{"ERR NX and XX, GT or LT options at the same time are not compatible"};
    if (wanted.only_later && wanted.only_sooner)
      throw command_error{"ERR GT and LT options at the same time are not compatible"};
    return wanted;
  }

  static void expire(std::string_view command, bool seconds, Keyspace& keys, words request, reply& answer) {
    const expire_conditions conditions = parse_conditions(request);
    const std::int64_t at_ms =
        deadline(command, keys, integer_of(request[2]), seconds, false, std::numeric_limits<std::int64_t>::min());
    auto* const found = keys.living(request[1]);
    const bool applies = found && conditions.allow(found->expires_at_ms, at_ms);
    if (applies && at_ms <= keys.now_ms())
      keys.erase(request[1]);
    else if (applies)
      keys.set_deadline(request[1], *found, at_ms);
    answer.integer(applies ? 1 : 0);
  }

  /// In ms; -1: it does not expire; -2: there is no such key.
  static std::int64_t time_left(Keyspace& keys, std::string_view key) {
    const auto* const found = keys.living(key);
    if (!found) return -2;
    return found->expires_at_ms == 0 ? -1 : found->expires_at_ms - keys.now_ms();
  }
};

}  // namespace kv
