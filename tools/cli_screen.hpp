// The whole terminal for one command.
#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>

namespace molt::cli {

/// Shows pages on the terminal's other screen, and takes keys without echo. Whatever ends the program (return, exit(),
/// an error that is reported, a signal that can be caught), the terminal is as it was before. Ctrl-C ends the program
/// with 0. One at a time; stdout must be a terminal.
class full_screen {
 public:
  full_screen();
  full_screen(const full_screen&) = delete;
  full_screen& operator=(const full_screen&) = delete;
  ~full_screen();

  /// In place of what was shown before; what does not fit is cut.
  void show(std::string_view page) const;
  [[nodiscard]] std::size_t rows() const;
  /// The next key, 0 if none came in time.
  [[nodiscard]] char key(std::chrono::milliseconds patience) const;

  /// Gives the terminal back, if a full_screen has it. May be called by a signal's handler.
  static void leave() noexcept;
};

}  // namespace molt::cli
