#include "tools/cli_screen.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace molt::cli {

namespace {

constexpr std::array ending_signals{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGABRT, SIGSEGV, SIGBUS, SIGFPE};
constexpr std::string_view enter_text = "\033[?1049h\033[?25l";  // the other screen, no cursor
constexpr std::string_view leave_text = "\033[?25h\033[?1049l";

std::atomic<bool> entered{false};
bool keys = false;  // stdin is the terminal, too
termios before{};

void write_all(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto size = ::write(STDOUT_FILENO, text.data(), text.size());
    if (size <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(size));
  }
}

extern "C" void leave_and_end(int signal) {
  full_screen::leave();
  if (signal == SIGINT) ::_exit(0);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

winsize window() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
    size.ws_row = 24;
    size.ws_col = 80;
  }
  return size;
}

}  // namespace

full_screen::full_screen() {
  static const int registered = std::atexit([] { leave(); });
  static_cast<void>(registered);
  std::fflush(stdout);
  keys = ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &before) == 0;
  entered = true;
  for (const int each : ending_signals) {
    struct sigaction action {};
    action.sa_handler = &leave_and_end;
    ::sigaction(each, &action, nullptr);
  }
  if (keys) {
    termios now = before;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    now.c_cc[VMIN] = 1;
    now.c_cc[VTIME] = 0;
    now.c_cc[VSUSP] = _POSIX_VDISABLE;  // it would stop with the terminal in this state
    ::tcsetattr(STDIN_FILENO, TCSANOW, &now);
  }
  write_all(enter_text);
}

full_screen::~full_screen() {
  leave();
  for (const int each : ending_signals) ::signal(each, SIG_DFL);
}

void full_screen::leave() noexcept {
  if (!entered.exchange(false)) return;
  write_all(leave_text);
  if (keys) ::tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

std::size_t full_screen::rows() const { return window().ws_row; }

void full_screen::show(std::string_view page) const {
  const auto size = window();
  std::string out = "\033[H";
  std::size_t row = 0;
  while (!page.empty() && row < size.ws_row) {
    const auto end = page.find('\n');
    const auto line = page.substr(0, end);
    if (row++ != 0) out += "\r\n";
    std::size_t column = 0;
    bool escape = false;
    for (const char c : line) {
      const bool begins = (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
      if (c == '\033') escape = true;
      if (!escape && begins && ++column > size.ws_col) break;
      out += c;
      if (escape && c == 'm') escape = false;
    }
    out += "\033[0m\033[K";
    page = end == std::string_view::npos ? std::string_view{} : page.substr(end + 1);
  }
  out += "\033[J";
  write_all(out);
}

char full_screen::key(std::chrono::milliseconds patience) const {
  if (!keys) {
    std::this_thread::sleep_for(patience);
    return 0;
  }
  pollfd ready{STDIN_FILENO, POLLIN, 0};
  if (::poll(&ready, 1, static_cast<int>(patience.count())) <= 0) return 0;
  char pressed = 0;
  if (::read(STDIN_FILENO, &pressed, 1) != 1) return 'q';  // the terminal is gone
  return pressed;
}

}  // namespace molt::cli
