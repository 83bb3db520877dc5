// What `molt` shows: data on stdout, everything else on stderr, colour only for a terminal that wants it.
#pragma once

#include "base/error.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::cli {

/// What every command knows.
struct settings {
  std::string socket;  ///< of moltd; from --socket, $MOLT_SOCKET or the default
  bool json = false;   ///< data as JSON on stdout
};

inline constexpr std::string_view default_socket = "/run/molt/control.sock";

// The exit codes, as `molt --help` documents them.
inline constexpr int exit_done = 0;
inline constexpr int exit_refused = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_failed = 3;
inline constexpr int exit_unreachable = 4;
inline constexpr int exit_needs_attention = 5;

enum class colour { none, bold, dim, red, green, yellow };
/// The text in a colour if stdout is a terminal, NO_COLOR is unset and TERM is not "dumb".
[[nodiscard]] std::string paint(colour, std::string_view text);

/// As molt::printable, but that line breaks and tabs stay.
[[nodiscard]] std::string printable_lines(std::string_view text);

/// Rows of cells, aligned in columns under a heading. Every row has as many cells as the heading; a line break in a
/// cell becomes a space.
class table {
 public:
  explicit table(std::vector<std::string> heading);
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "12 µs", "3.4 ms", "1.2 s": for people.
[[nodiscard]] std::string duration_text(double milliseconds);

/// Prints on stderr what failed, where, and the next step. With --json the error is on stdout too, in the API's form.
void report_error(const settings&, const error&, std::string_view where, int exit_code);

/// At the end: what was printed must have arrived. Returns the exit code, another one if it has not: that the command
/// is done is told by nothing else then.
[[nodiscard]] int check_output(int exit_code, bool changes);

/// A command to try next, on stderr, for people only.
void suggest(const settings&, std::string_view text);

/// Shows on stderr, if that is a terminal, what is being done and for how long, once it has taken a second.
class progress {
 public:
  explicit progress(std::string what);
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress();

 private:
  class line;
  std::unique_ptr<line> line_;
};

/// While it lives, Ctrl-C says that the daemon carries the operation on, and ends `molt` with 130. The text is a
/// literal.
class goes_on_after_interrupt {
 public:
  explicit goes_on_after_interrupt(const char* text);
  goes_on_after_interrupt(const goes_on_after_interrupt&) = delete;
  goes_on_after_interrupt& operator=(const goes_on_after_interrupt&) = delete;
  ~goes_on_after_interrupt();
};

}  // namespace molt::cli
