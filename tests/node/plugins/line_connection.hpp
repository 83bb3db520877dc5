// A connection that does what each line tells it, for tests of the node: everything a plugin may do to its socket.
//
//   echo TEXT        TEXT
//   big N            N bytes, then a newline
//   take N           (N bytes follow) "took N"; consumes nothing before all are there
//   slow MS TEXT     TEXT after a timer of MS, written by a pool thread
//   burst N          N lines "burst i", each written by a message to itself, on pool threads
//   fill N           N bytes at a time, as long as less than 64 KiB waits; holds the line back until all 16 are out
//   keep TEXT        told to the server line.keeper, whose count it answers
//   lines            how many lines this connection has had
//   throw            throws
//   quit             "bye", then closes
#pragma once

#include <molt/plugin.hpp>

#include <charconv>
#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>

namespace line {

struct keep {
  using reply = std::int64_t;
  std::string text;
};
struct later {
  std::string text;
};

template <class Session>
struct basic_connection : molt::connection<Session> {
  using molt::connection<Session>::self;

  std::size_t handle_data(molt::context& ctx, std::string_view unconsumed) {
    std::size_t consumed = 0;
    for (;;) {
      const auto rest = unconsumed.substr(consumed);
      const auto end = rest.find('\n');
      if (end == std::string_view::npos) return consumed;
      const std::size_t used = run(ctx, rest.substr(0, end), rest.substr(end + 1));
      if (used == held) return consumed;
      consumed += end + 1 + used;
      ++self().lines;
      if (rest.substr(0, end) == "quit") return consumed;
    }
  }

  void handle_cast(molt::context& ctx, const later& message) { (void)ctx.write(message.text + "\n"); }

 private:
  static constexpr std::size_t held = ~std::size_t{0};
  static constexpr std::size_t full = std::size_t{64} << 10U;

  static std::size_t number(std::string_view& text) {
    std::size_t value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{}) throw std::runtime_error{"no number in this line"};
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (!text.empty()) text.remove_prefix(1);
    return value;
  }

  /// Bytes consumed behind the line; `held`: nothing, not even the line.
  std::size_t run(molt::context& ctx, std::string_view text, std::string_view behind) {
    const auto space = text.find(' ');
    const auto command = text.substr(0, space);
    text = space == std::string_view::npos ? std::string_view{} : text.substr(space + 1);
    if (command == "echo") {
      say(ctx, std::string{text});
    } else if (command == "big") {
      say(ctx, std::string(number(text), 'x'));
    } else if (command == "take") {
      const std::size_t size = number(text);
      if (behind.size() < size) return held;
      say(ctx, "took " + std::to_string(size));
      return size;
    } else if (command == "slow") {
      const auto delay = std::chrono::milliseconds{number(text)};
      (void)ctx.send_after(delay, later{std::string{text}});
    } else if (command == "burst") {
      const std::size_t count = number(text);
      for (std::size_t i = 0; i < count; ++i) (void)ctx.cast(ctx.self(), later{"burst " + std::to_string(i)});
    } else if (command == "fill") {
      return fill(ctx, number(text));
    } else if (command == "keep") {
      const auto count = ctx.call(ctx.lookup("keeper"), keep{std::string{text}});
      say(ctx, count ? std::to_string(*count) : "error " + count.error().message());
    } else if (command == "lines") {
      say(ctx, std::to_string(self().lines));
    } else if (command == "throw") {
      throw std::runtime_error{"told to throw"};
    } else if (command == "quit") {
      say(ctx, "bye");
      ctx.close();
    } else {
      say(ctx, "what?");
    }
    return 0;
  }

  std::size_t fill(molt::context& ctx, std::size_t size) {
    for (; self().filled < 16; ++self().filled) {
      if (ctx.output_pending() >= full) return held;
      say(ctx, std::string(size, 'f'));
    }
    self().filled = 0;
    return 0;
  }

  void say(molt::context& ctx, std::string text) { (void)ctx.write(text += '\n'); }
};

}  // namespace line
