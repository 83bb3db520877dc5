// One table of a manifest, read key by key, with errors that name file, line, table and key.
//
// Private to releases/. Every getter remembers the first error and then does nothing more, so that reading
// a table is a list of getters and one check at its end.
#pragma once

#include "base/result.hpp"
#include "releases/manifest.hpp"

#include <toml++/toml.h>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace molt::releases::detail {

/// Text from the file as an error may show it: short, and without control characters.
inline constexpr std::size_t shown_bytes_max = 200;
[[nodiscard]] std::string shown(std::string_view text);

/// The candidate within two edits of `word`, or empty.
[[nodiscard]] std::string_view nearest(std::string_view word, std::initializer_list<std::string_view> candidates);

class manifest_table {
 public:
  /// `title` is how the table is shown: "[upgrade]", "[[listener]]".
  manifest_table(const toml::table& table, std::string_view shown_as, std::string title)
      : table_{table}, shown_as_{shown_as}, title_{std::move(title)} {}

  /// Refuses every other key; `tables_too`: but not those that are tables.
  void only(std::initializer_list<std::string_view> known, bool tables_too = false);

  [[nodiscard]] std::string required_text(std::string_view key);
  /// A required text for which is_name holds.
  [[nodiscard]] std::string required_name(std::string_view key);
  /// Empty if it is not there.
  [[nodiscard]] std::string optional_name(std::string_view key);
  [[nodiscard]] std::int64_t integer(std::string_view key, std::int64_t otherwise, std::int64_t least,
                                     std::int64_t most);
  [[nodiscard]] std::chrono::milliseconds duration(std::string_view key, std::chrono::milliseconds otherwise,
                                                   std::chrono::milliseconds least);
  /// A duration from 0, "brutal" or "infinity".
  [[nodiscard]] std::chrono::milliseconds shutdown(std::string_view key, std::chrono::milliseconds otherwise);
  [[nodiscard]] bool boolean(std::string_view key, bool otherwise);
  [[nodiscard]] argument_list arguments(std::string_view key);

  template <class Enum>
  [[nodiscard]] Enum one_of(std::string_view key, Enum otherwise, std::initializer_list<Enum> values) {
    const auto* node = find(key);
    if (node == nullptr) return otherwise;
    const auto text = text_of(*node, key);
    std::string names;
    for (const Enum value : values) {
      if (to_string(value) == text) return value;
      names += (names.empty() ? "\"" : " or \"") + std::string{to_string(value)} + "\"";
    }
    fail(line_of(*node), '"' + std::string{key} + "\" must be " + names + ", not \"" + shown(text) + '"');
    return otherwise;
  }

  /// Shown in errors after the title, once known: "[[listener]] redis".
  void set_name(std::string_view name) {
    if (!name.empty()) title_ += ' ' + std::string{name};
  }
  void fail(unsigned line, const std::string& text, reason = reason::invalid_argument);
  void fail_at(std::string_view key, const std::string& text) { fail(line_of_key(key), text); }
  [[nodiscard]] unsigned line() const { return line_of(table_); }
  [[nodiscard]] place at() const { return {table_.source().begin.line, table_.source().begin.column}; }
  /// What went wrong in a table inside of this one.
  void take_failure(const manifest_table& inner) {
    if (!failure_) failure_ = inner.failure_;
  }
  [[nodiscard]] bool failed() const { return failure_.has_value(); }
  [[nodiscard]] result<void> check() const { return failure_ ? result<void>{*failure_} : ok(); }

 private:
  [[nodiscard]] const toml::node* find(std::string_view key) const { return failed() ? nullptr : table_.get(key); }
  [[nodiscard]] std::string text_of(const toml::node&, std::string_view key);
  void wrong_type(const toml::node&, std::string_view key, std::string_view expected);
  [[nodiscard]] static unsigned line_of(const toml::node& node) { return node.source().begin.line; }
  [[nodiscard]] unsigned line_of_key(std::string_view key) const {
    const auto* node = table_.get(key);
    return node == nullptr ? line() : line_of(*node);
  }

  const toml::table& table_;
  std::string shown_as_;
  std::string title_;
  std::optional<error> failure_;
};

}  // namespace molt::releases::detail
