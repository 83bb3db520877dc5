#include "node/crash_raw.hpp"

#include <charconv>
#include <limits>
#include <optional>
#include <utility>

namespace molt::node {
namespace {

constexpr std::int64_t seconds_max = 253'402'300'799;  // the end of the year 9999

/// The words of one line, taken from the left.
class words {
 public:
  explicit words(std::string_view line) : rest_{line} {}

  template <class Number>
  [[nodiscard]] bool number(Number& to, int base = 10) {
    const auto word = next();
    const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), to, base);
    return !word.empty() && failed == std::errc{} && end == word.data() + word.size();
  }

  [[nodiscard]] bool text(std::string& to) {
    const auto word = next();
    to.clear();
    if (word.empty()) return false;
    if (word == "-") return true;
    for (std::size_t at = 0; at < word.size(); ++at) {
      if (word[at] != '%') {
        to += word[at];
        continue;
      }
      unsigned byte = 0;
      if (word.size() - at < 3) return false;
      const auto* const digits = word.data() + at + 1;
      if (const auto [end, failed] = std::from_chars(digits, digits + 2, byte, 16);
          failed != std::errc{} || end != digits + 2)
        return false;
      to += static_cast<char>(byte);
      at += 2;
    }
    return true;
  }

  [[nodiscard]] std::string_view next() {
    const auto space = rest_.find(' ');
    const auto word = rest_.substr(0, space);
    rest_ = space == std::string_view::npos ? std::string_view{} : rest_.substr(space + 1);
    return word;
  }
  [[nodiscard]] bool nothing_left() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

bool is_build_id(std::string_view text) {
  if (text.size() > 64) return false;
  for (const char c : text)
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
  return true;
}

class reader {
 public:
  [[nodiscard]] result<crash_raw> read(std::string_view text) {
    if (text.size() > crash_raw_size_max)
      return error{reason::out_of_bounds, "a raw crash report of more than 256 KiB"};
    for (number_ = 1;; ++number_) {
      const auto newline = text.find('\n');
      if (newline == std::string_view::npos) break;
      if (read_.complete) return wrong("something stands behind the end");
      const auto line = text.substr(0, newline);
      text.remove_prefix(newline + 1);
      if (!take(line)) return wrong("not a line of a raw crash report");
    }
    if (number_ <= 2) return wrong("the report ends before it says which signal it was");
    return std::move(read_);
  }

 private:
  [[nodiscard]] error wrong(std::string_view why) const {
    return {reason::corrupt, "line " + std::to_string(number_) + ": " + std::string{why}};
  }

  [[nodiscard]] bool take(std::string_view line) {
    words in{line};
    const auto key = in.next();
    if (number_ == 1) return line == "molt-crash 1";
    if (number_ == 2)
      return key == "signal" && in.number(read_.signal) && in.number(read_.code) && in.number(read_.address, 16) &&
             in.number(read_.instruction, 16) && in.nothing_left() && read_.signal > 0 && read_.signal < 128;
    return take(key, in) && in.nothing_left();
  }

  [[nodiscard]] bool take(std::string_view key, words& in) {
    if (key == "server") return take_server(in);
    if (key == "handler") return take_handler(in);
    if (key == "recorded") return !read_.servers.empty() && (read_.servers.back().recorded = true);
    if (key == "last") return take_last(in);
    if (key == "frame") {
      read_.frames.emplace_back();
      return read_.frames.size() <= crash_raw_frames_max && in.number(read_.frames.back(), 16);
    }
    if (key == "image") return take_image(in);
    if (key == "time")
      return in.number(read_.seconds) && in.number(read_.nanoseconds) && read_.seconds >= 0 &&
             read_.seconds <= seconds_max && read_.nanoseconds >= 0 && read_.nanoseconds < 1'000'000'000;
    if (key == "process") return in.number(read_.pid) && in.number(read_.thread) && in.text(read_.thread_name);
    if (key == "release") return in.text(read_.release);
    if (key == "folder") return in.text(read_.folder);
    if (key == "text") return in.text(read_.text);
    if (key == "omitted") {
      read_.omitted_at = read_.frames.size();
      return in.number(read_.omitted);
    }
    if (key == "frames-by") {
      const auto how = in.next();
      read_.by_frame_pointers = how == "frame-pointers";
      return read_.by_frame_pointers || how == "unwinder";
    }
    if (key == "fault") {
      int stage = 0;
      return read_.faulted = in.number(stage);
    }
    return read_.complete = key == "end";
  }

  [[nodiscard]] bool take_server(words& in) {
    if (read_.servers.size() == crash_raw_servers_max) return false;
    auto& made = read_.servers.emplace_back();
    return in.number(made.ref) && in.number(made.queued) && in.number(made.handled) && in.text(made.type) &&
           in.text(made.version) && in.text(made.name);
  }

  [[nodiscard]] bool take_handler(words& in) {
    if (read_.servers.empty() || ++handlers_ > crash_raw_handlers_max) return false;
    auto& made = read_.servers.back().handlers.emplace_back();
    return in.number(made.address, 16) && in.text(made.message);
  }

  [[nodiscard]] bool take_last(words& in) {
    if (read_.servers.empty() || !read_.servers.back().recorded || ++messages_ > crash_raw_messages_max) return false;
    auto& made = read_.servers.back().last.emplace_back();
    return in.number(made.at_ns) && in.number(made.took_ns) && in.text(made.kind) && in.number(made.status) &&
           in.text(made.message) && made.at_ns >= 0 && made.at_ns / 1'000'000'000 <= seconds_max &&
           (made.kind == "call" || made.kind == "cast" || made.kind == "data");
  }

  [[nodiscard]] bool take_image(words& in) {
    if (read_.images.size() == crash_raw_images_max) return false;
    auto& made = read_.images.emplace_back();
    return in.number(made.begin, 16) && in.number(made.end, 16) && in.number(made.file_offset, 16) &&
           in.text(made.build_id) && in.text(made.path) && made.begin < made.end && is_build_id(made.build_id);
  }

  crash_raw read_;
  std::size_t number_ = 0;
  std::size_t handlers_ = 0;
  std::size_t messages_ = 0;
};

}  // namespace

result<crash_raw> parse_crash_raw(std::string_view text) { return reader{}.read(text); }

}  // namespace molt::node
