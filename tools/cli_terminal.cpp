#include "tools/cli_terminal.hpp"

#include "base/utf8.hpp"
#include "tools/cli_screen.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

namespace molt::cli {

namespace {

bool wants_colour(int descriptor) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  if (terminal == nullptr || std::strcmp(terminal, "dumb") == 0) return false;
  return ::isatty(descriptor) == 1;
}

std::string painted(colour how, std::string_view text, int descriptor) {
  if (how == colour::none || !wants_colour(descriptor)) return std::string{text};
  constexpr std::array<std::string_view, 6> codes = {"0", "1", "2", "31", "32", "33"};
  std::string out = "\033[";
  out += codes.at(static_cast<std::size_t>(how));
  out += 'm';
  out += text;
  out += "\033[0m";
  return out;
}

// Characters, not bytes, and none of a colour's escape sequence.
std::size_t width(std::string_view text) {
  std::size_t count = 0;
  bool escape = false;
  for (const char c : text) {
    if (c == '\033') escape = true;
    if (!escape && (static_cast<unsigned char>(c) & 0xc0U) != 0x80U) ++count;
    if (escape && c == 'm') escape = false;
  }
  return count;
}

}  // namespace

namespace {

int output_error = 0;  // the first that stdout met, as errno

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 && output_error == 0) output_error = errno;
}

}  // namespace

std::string paint(colour how, std::string_view text) { return painted(how, text, STDOUT_FILENO); }

std::string printable_lines(std::string_view text) {
  std::string out;
  while (true) {
    const auto end = text.find_first_of("\n\t");
    out += printable(text.substr(0, end));
    if (end == std::string_view::npos) return out;
    out += text[end];
    text.remove_prefix(end + 1);
  }
}

table::table(std::vector<std::string> heading) {
  for (auto& cell : heading) cell = paint(colour::bold, cell);
  rows_.push_back(std::move(heading));
}

void table::add(std::vector<std::string> row) {
  row.resize(rows_.front().size());
  for (auto& cell : row)
    std::replace_if(
        cell.begin(), cell.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  rows_.push_back(std::move(row));
}

std::string table::text() const {
  std::vector<std::size_t> widths(rows_.front().size());
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      line.append(widths[i] - width(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line;
    out += '\n';
  }
  return out;
}

std::string duration_text(double milliseconds) {
  std::array<char, 32> text{};
  if (milliseconds < 0.01)
    std::snprintf(text.data(), text.size(), "%.3g µs", milliseconds * 1000.0);
  else if (milliseconds < 1.0)
    std::snprintf(text.data(), text.size(), "%.0f µs", milliseconds * 1000.0);
  else if (milliseconds < 1000.0)
    std::snprintf(text.data(), text.size(), "%.3g ms", milliseconds);
  else
    std::snprintf(text.data(), text.size(), "%.1f s", milliseconds / 1000.0);
  return text.data();
}

void report_error(const settings& with, const error& failed, std::string_view where, int exit_code) {
  full_screen::leave();
  // Names of files and what plugins say may hold anything.
  const std::string message = printable(failed.message());
  const std::string hint = printable(failed.hint());
  std::string out = painted(colour::red, "error:", STDERR_FILENO) + " " + message + "\n";
  if (!where.empty() && failed.message().find(where) == std::string::npos) out += "where: " + printable(where) + "\n";
  if (!hint.empty()) out += "next:  " + hint + "\n";
  flush_output();
  std::fputs(out.c_str(), stderr);
  if (!with.json) return;
  const boost::json::object body{{"error",
                                  {{"reason", to_string(failed.why())},
                                   {"message", message},
                                   {"hint", hint},
                                   {"exit_code", exit_code}}}};
  std::puts(boost::json::serialize(body).c_str());
}

int check_output(int exit_code, bool changes) {
  flush_output();
  if (output_error == 0 && std::ferror(stdout) == 0) return exit_code;
  const std::string why = output_error == 0 ? "it could not be written" : std::generic_category().message(output_error);
  const bool done = exit_code == exit_done && changes;
  report_error({},
               error{reason::io, "standard output: " + why,
                     done ? "what was asked for is done, and only its answer is lost: molt status, molt releases"
                          : "the answer is lost: ask again with another output"},
               {}, exit_failed);
  if (exit_code != exit_done) return exit_code;
  return done ? exit_needs_attention : exit_failed;
}

void suggest(const settings& with, std::string_view text) {
  if (with.json) return;
  flush_output();
  const std::string line = painted(colour::dim, "next:  " + std::string{text}, STDERR_FILENO) + "\n";
  std::fputs(line.c_str(), stderr);
}

class progress::line {
 public:
  explicit line(std::string what) : what_{std::move(what)}, thread_{[this] { show(); }} {}
  line(const line&) = delete;
  line& operator=(const line&) = delete;
  ~line() {
    {
      const std::lock_guard lock{mutex_};
      done_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

 private:
  void show() {
    using clock = std::chrono::steady_clock;
    const auto begin = clock::now();
    std::unique_lock lock{mutex_};
    if (changed_.wait_for(lock, std::chrono::seconds{1}, [this] { return done_; })) return;
    for (std::size_t turn = 0; !done_; ++turn) {
      const double elapsed = std::chrono::duration<double>(clock::now() - begin).count();
      std::fprintf(stderr, "\r\033[K%c %s (%.1f s)", "|/-\\"[turn % 4], what_.c_str(), elapsed);
      std::fflush(stderr);
      changed_.wait_for(lock, std::chrono::milliseconds{100}, [this] { return done_; });
    }
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
  }

  std::string what_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;  // last: the others exist before it runs
};

progress::progress(std::string what) {
  if (::isatty(STDERR_FILENO) == 1) line_ = std::make_unique<line>(std::move(what));
}

progress::~progress() = default;

namespace {

std::atomic<const char*> interrupt_text = nullptr;

void on_interrupt(int /*signal*/) {
  const char* text = interrupt_text.load();
  if (text != nullptr && ::write(STDERR_FILENO, text, std::strlen(text)) < 0) ::_exit(130);
  ::_exit(130);
}

}  // namespace

goes_on_after_interrupt::goes_on_after_interrupt(const char* text) {
  interrupt_text = text;
  std::signal(SIGINT, on_interrupt);
}

goes_on_after_interrupt::~goes_on_after_interrupt() {
  std::signal(SIGINT, SIG_DFL);
  interrupt_text = nullptr;
}

}  // namespace molt::cli
