// Reads RESP2 requests, multibulk and inline, from bytes that arrive in any pieces.
//
// Every byte of a word is taken as it comes, so nothing is read twice and the caller never has to keep more than one
// header line. Only such a line (`*3`, `$5`, or a whole inline command) stays with the caller until it is complete.
//
// Bounds, each answered with an error and the end of the connection: line_max, words_max, bulk_max, command_max.
#pragma once

#include "reply.hpp"
#include "request.hpp"
#include "text.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

inline constexpr std::size_t line_max = std::size_t{64} << 10U;      ///< a header or inline command without its end
inline constexpr std::int64_t words_max = std::int64_t{1} << 20U;    ///< words of one command
inline constexpr std::int64_t bulk_max = std::int64_t{64} << 20U;    ///< bytes of one word
inline constexpr std::size_t command_max = std::size_t{256} << 20U;  ///< bytes of all words of one command

/// Requests read so far. Part of a connection's state: an aggregate without code.
///
/// Invariant: `commands` whole commands are the first `whole_text` and `whole_layout` of `input`; what follows belongs
/// to the command being read.
struct requests {
  execute input;
  std::uint32_t commands = 0;
  std::uint64_t whole_text = 0;
  std::uint64_t whole_layout = 0;
  std::int64_t words_left = 0;  ///< of the command being read; 0: between commands
  std::int64_t bytes_left = 0;  ///< of the word being read, with the two that end it; 0: its header is next
};

/// What reading came to.
struct parsed {
  std::size_t consumed = 0;
  bool last = false;         ///< nothing may follow: QUIT, or an error
  std::string_view error{};  ///< empty, or what the client did wrong, e.g. "ERR Protocol error: invalid bulk length"
  char offender = 0;         ///< the byte found instead of '$', for the error that names it
};

/// The error reply that ends the connection; empty if there was no error.
[[nodiscard]] inline std::string farewell(const parsed& read) {
  std::string text{read.error};
  if (read.offender != 0) text.append("'").append(1, read.offender).append("'");
  std::string replies;
  if (!text.empty()) reply{replies}.error(text);
  return replies;
}

/// One pass over bytes that have just arrived.
class request_parser {
 public:
  request_parser(requests& into, std::string_view data) : into_{into}, data_{data} {}

  parsed run() {
    while (!result_.last && step()) {
    }
    return result_;
  }

 private:
  /// Takes the next line or piece of a word. False when more bytes are needed.
  bool step() {
    if (into_.bytes_left > 0) return take_word();
    if (into_.words_left > 0) return take_word_header();
    if (result_.consumed == data_.size()) return false;
    return data_[result_.consumed] == '*' ? take_command_header() : take_inline();
  }

  [[nodiscard]] std::string_view rest() const noexcept { return data_.substr(result_.consumed); }

  bool fail(std::string_view error, char offender = 0) {
    result_.last = true;
    result_.error = error;
    result_.offender = offender;
    return false;
  }

  /// The number on the header line that begins here, as a word; the line is taken. False: not complete, or too long.
  bool take_header(std::string_view& number, std::string_view too_long) {
    const std::string_view line = rest();
    const std::size_t end = line.find('\r');
    if (std::min(end, line.size()) > line_max) return fail(too_long);
    if (end == std::string_view::npos) return false;
    if (end + 2 > line.size()) return false;
    number = line.substr(1, end - 1);
    return true;
  }

  bool take_command_header() {
    std::string_view number;
    if (!take_header(number, "ERR Protocol error: too big mbulk count string")) return false;
    const auto count = parse_integer(number);
    if (!count || *count > words_max) return fail("ERR Protocol error: invalid multibulk length");
    result_.consumed += 1 + number.size() + 2;
    if (*count <= 0) return true;
    into_.words_left = *count;
    into_.input.layout.push_back(static_cast<std::uint32_t>(*count));
    return true;
  }

  bool take_word_header() {
    if (result_.consumed == data_.size()) return false;
    std::string_view number;
    const char first = data_[result_.consumed];
    if (!take_header(number, "ERR Protocol error: too big bulk count string")) return false;
    if (first != '$') return fail("ERR Protocol error: expected '$', got ", first);
    const auto size = parse_integer(number);
    if (!size || *size < 0 || *size > bulk_max) return fail("ERR Protocol error: invalid bulk length");
    const std::size_t before = into_.input.text.size() - into_.whole_text;
    if (before + static_cast<std::size_t>(*size) > command_max) return fail("ERR Protocol error: command too large");
    result_.consumed += 1 + number.size() + 2;
    into_.bytes_left = *size + 2;
    into_.input.layout.push_back(static_cast<std::uint32_t>(*size));
    return true;
  }

  bool take_word() {
    const std::string_view here = rest();
    const auto text_left = static_cast<std::size_t>(into_.bytes_left - std::min<std::int64_t>(into_.bytes_left, 2));
    into_.input.text.append(here.substr(0, text_left));
    const std::size_t taken = std::min(here.size(), static_cast<std::size_t>(into_.bytes_left));
    result_.consumed += taken;
    into_.bytes_left -= static_cast<std::int64_t>(taken);
    if (into_.bytes_left > 0) return false;
    if (--into_.words_left == 0) finish_command();
    return true;
  }

  /// A command as a person types it: words between spaces, quoted where they hold some.
  bool take_inline() {
    const std::string_view here = rest();
    const std::size_t end = here.find('\n');
    if (std::min(end, here.size()) > line_max) return fail("ERR Protocol error: too big inline request");
    if (end == std::string_view::npos) return false;
    std::string_view line = here.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    line = line.substr(0, line.find('\0'));
    const std::size_t count_at = into_.input.layout.size();
    into_.input.layout.push_back(0);
    while (true) {
      const std::size_t blanks = line.find_first_not_of(" \t\n\r\v\f");
      if (blanks == std::string_view::npos) break;
      line.remove_prefix(blanks);
      const std::size_t size_before = into_.input.text.size();
      if (!take_inline_word(line)) return fail("ERR Protocol error: unbalanced quotes in request");
      into_.input.layout.push_back(static_cast<std::uint32_t>(into_.input.text.size() - size_before));
      ++into_.input.layout[count_at];
    }
    result_.consumed += end + 1;
    if (into_.input.layout[count_at] == 0)
      into_.input.layout.pop_back();
    else
      finish_command();
    return true;
  }

  /// False: a quote is not closed, or not followed by a blank.
  bool take_inline_word(std::string_view& line) {
    std::string& text = into_.input.text;
    while (!line.empty() && !is_blank(line.front())) {
      const char letter = line.front();
      line.remove_prefix(1);
      if (letter == '"' || letter == '\'') return take_quoted(line, letter);
      text += letter;
    }
    return true;
  }

  bool take_quoted(std::string_view& line, char quote) {
    std::string& text = into_.input.text;
    while (!line.empty()) {
      const char letter = line.front();
      line.remove_prefix(1);
      if (letter == quote) return line.empty() || is_blank(line.front());
      if (letter != '\\' || line.empty() || (quote == '\'' && line.front() != '\'')) {
        text += letter;
      } else if (quote == '"' && line.size() >= 3 && line[0] == 'x' && digit(line[1]) >= 0 && digit(line[2]) >= 0) {
        text += static_cast<char>(digit(line[1]) * 16 + digit(line[2]));
        line.remove_prefix(3);
      } else {
        text += quote == '"' ? unescaped(line.front()) : line.front();
        line.remove_prefix(1);
      }
    }
    return false;
  }

  static bool is_blank(char letter) noexcept {
    return letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r' || letter == '\v' || letter == '\f';
  }
  static int digit(char letter) noexcept {
    const char lower = to_lower(letter);
    if (lower >= '0' && lower <= '9') return lower - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
  }
  static char unescaped(char letter) noexcept {
    switch (letter) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'b':
        return '\b';
      case 'a':
        return '\a';
      default:
        return letter;
    }
  }

  void finish_command() {
    const std::size_t first_size = into_.input.layout[into_.whole_layout + 1];
    if (is(std::string_view{into_.input.text}.substr(into_.whole_text, first_size), "quit")) result_.last = true;
    ++into_.commands;
    into_.whole_text = into_.input.text.size();
    into_.whole_layout = into_.input.layout.size();
  }

  requests& into_;
  std::string_view data_;
  parsed result_;
};

/// Takes the whole commands out; the command being read stays.
[[nodiscard]] inline execute take_commands(requests& from) {
  execute whole;
  const bool all = from.whole_text == from.input.text.size() && from.whole_layout == from.input.layout.size();
  if (all) {
    std::swap(whole, from.input);
  } else {
    whole = std::move(from.input);
    from.input.text = whole.text.substr(from.whole_text);
    from.input.layout.assign(whole.layout.begin() + static_cast<std::ptrdiff_t>(from.whole_layout), whole.layout.end());
    whole.text.resize(from.whole_text);
    whole.layout.resize(from.whole_layout);
  }
  from.commands = 0;
  from.whole_text = 0;
  from.whole_layout = 0;
  return whole;
}

/// Puts `count` whole commands in front of what has been read since they were taken.
inline void put_back(requests& to, execute whole, std::uint32_t count) {
  to.commands += count;
  to.whole_text += whole.text.size();
  to.whole_layout += whole.layout.size();
  whole.text += to.input.text;
  whole.layout.insert(whole.layout.end(), to.input.layout.begin(), to.input.layout.end());
  to.input = std::move(whole);
}

}  // namespace kv
