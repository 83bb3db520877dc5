// Numbers, case and patterns in the words of a command, with Redis's strictness.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace kv {

/// A decimal integer as Redis reads it: no sign but '-', no leading zeros, no spaces, nothing after it.
[[nodiscard]] inline std::optional<std::int64_t> parse_integer(std::string_view word) noexcept {
  std::string_view digits = word;
  if (!digits.empty() && digits.front() == '-') digits.remove_prefix(1);
  if (digits.empty() || digits.front() < '0' || digits.front() > '9') return std::nullopt;
  if (digits.front() == '0' && word.size() > 1) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (failure != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

[[nodiscard]] constexpr char to_lower(char letter) noexcept {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

[[nodiscard]] inline std::string lowered(std::string_view word) {
  std::string lower{word};
  for (char& letter : lower) letter = to_lower(letter);
  return lower;
}

/// Compares a word of any case with a lower-case one.
[[nodiscard]] constexpr bool is(std::string_view word, std::string_view lower) noexcept {
  if (word.size() != lower.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i)
    if (to_lower(word[i]) != lower[i]) return false;
  return true;
}

namespace detail {

/// Matches one `[...]` class at the front of `pattern` (after the bracket) and removes it with its closing bracket.
inline bool matches_class(std::string_view& pattern, char letter, bool ignore_case) noexcept {
  const auto fold = [&](char c) { return ignore_case ? to_lower(c) : c; };
  const auto byte = [&](char c) { return static_cast<unsigned char>(fold(c)); };
  const bool negated = !pattern.empty() && pattern.front() == '^';
  if (negated) pattern.remove_prefix(1);
  bool found = false;
  while (!pattern.empty() && pattern.front() != ']') {
    if (pattern.front() == '\\' && pattern.size() >= 2) {
      found |= pattern[1] == letter;
      pattern.remove_prefix(2);
    } else if (pattern.size() >= 3 && pattern[1] == '-') {
      unsigned char low = byte(pattern[0]);
      unsigned char high = byte(pattern[2]);
      if (low > high) std::swap(low, high);
      found |= byte(letter) >= low && byte(letter) <= high;
      pattern.remove_prefix(3);
    } else {
      found |= fold(pattern.front()) == fold(letter);
      pattern.remove_prefix(1);
    }
  }
  if (!pattern.empty()) pattern.remove_prefix(1);
  return found != negated;
}

}  // namespace detail

/// Redis's glob: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a letter that stands for itself.
///
/// A `*` that does not fit is tried again one letter further, and only the last one: linear in pattern times text.
[[nodiscard]] inline bool matches_glob(std::string_view pattern, std::string_view text,
                                       bool ignore_case = false) noexcept {
  const auto fold = [&](char c) { return ignore_case ? to_lower(c) : c; };
  std::optional<std::string_view> retry_pattern;
  std::string_view retry_text;
  while (true) {
    if (!pattern.empty() && pattern.front() == '*') {
      while (!pattern.empty() && pattern.front() == '*') pattern.remove_prefix(1);
      if (pattern.empty()) return true;
      retry_pattern = pattern;
      retry_text = text;
      continue;
    }
    if (text.empty()) return pattern.empty();
    bool fits = false;
    if (!pattern.empty()) {
      const char letter = text.front();
      const char wanted = pattern.front();
      pattern.remove_prefix(1);
      if (wanted == '?') {
        fits = true;
      } else if (wanted == '[') {
        fits = detail::matches_class(pattern, letter, ignore_case);
      } else if (wanted == '\\' && !pattern.empty()) {
        fits = fold(pattern.front()) == fold(letter);
        pattern.remove_prefix(1);
      } else {
        fits = fold(wanted) == fold(letter);
      }
    }
    if (fits) {
      text.remove_prefix(1);
      continue;
    }
    if (!retry_pattern || retry_text.empty()) return false;
    retry_text.remove_prefix(1);
    pattern = *retry_pattern;
    text = retry_text;
  }
}

}  // namespace kv
