// Replies in RESP2, appended to a string; and the error by which a command says that it could not.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace kv {

/// A command's refusal, with Redis's words ("ERR syntax error"). The reply begun so far is taken back.
class command_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One command's reply may not be larger than this: what MGET, KEYS or LRANGE would gather lies in memory at once, in
/// the store and again on its way to the client. More than any one value; a client asks for the rest with more
/// commands.
inline constexpr std::size_t reply_max = std::size_t{256} << 20U;

[[noreturn]] inline void syntax_error() { throw command_error{"ERR syntax error"}; }
[[noreturn]] inline void not_an_integer() { throw command_error{"ERR value is not an integer or out of range"}; }

class reply {
 public:
  explicit reply(std::string& to) : to_{to}, begun_{to.size()} {}

  void simple(std::string_view text) { line('+', text); }
  /// Line ends inside the text become blanks.
  void error(std::string_view text) {
    std::string one_line{text};
    std::replace_if(
        one_line.begin(), one_line.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
    line('-', one_line);
  }
  void integer(std::int64_t value) { number(':', value); }
  void array(std::size_t count) { number('*', static_cast<std::int64_t>(count)); }
  void null() { to_ += "$-1\r\n"; }
  void null_array() { to_ += "*-1\r\n"; }
  void bulk(std::string_view text) {
    require_room(text.size());
    number('$', static_cast<std::int64_t>(text.size()));
    to_.append(text);
    to_ += "\r\n";
  }
  /// For a command that changes something before all of its reply is there.
  void require_room(std::size_t bytes) const {
    if (bytes > reply_max || to_.size() - begun_ > reply_max - bytes)
      throw command_error{"ERR the reply would be larger than " + std::to_string(reply_max) + " bytes"};
  }

 private:
  void line(char kind, std::string_view text) {
    to_ += kind;
    to_.append(text);
    to_ += "\r\n";
  }
  void number(char kind, std::int64_t value) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    line(kind, {digits, static_cast<std::size_t>(end - digits)});
  }

  std::string& to_;
  std::size_t begun_;
};

}  // namespace kv
