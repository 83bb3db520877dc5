// What went wrong in a soak; nothing, one hopes. Any thread.
#pragma once

#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace soak {

class verdict {
 public:
  /// Says so at once, on stderr; the first `shown_max` times.
  [[gnu::format(printf, 2, 3)]] void fail(const char* format, ...) {
    if (faults_.fetch_add(1) >= shown_max) return;
    char text[1024];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::fprintf(stderr, "soak: FAULT: %s\n", text);
  }
  [[nodiscard]] std::uint64_t faults() const noexcept { return faults_.load(); }

 private:
  static constexpr std::uint64_t shown_max = 20;
  std::atomic<std::uint64_t> faults_{0};
};

}  // namespace soak
