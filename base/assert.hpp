// Assertions for our own invariants. A failed one is a bug in molt: it prints the condition and the values and aborts.
#pragma once

#include <sstream>
#include <string>

namespace molt::detail {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line, const std::string& values);

template <class... Values>
[[nodiscard]] std::string print_values(const Values&... values) {
  std::ostringstream out;
  ((out << ' ' << values), ...);
  return out.str();
}

}  // namespace molt::detail

/// Aborts unless `condition` holds; further arguments are values to print. On in every build type.
#define MOLT_ASSERT(condition, ...)                                  \
  do {                                                               \
    if (!(condition)) [[unlikely]]                                   \
      ::molt::detail::assertion_failed(#condition, __FILE__, __LINE__, \
                                       ::molt::detail::print_values(__VA_ARGS__)); \
  } while (false)
