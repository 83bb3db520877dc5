#include "releases/manifest_table.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace molt::releases::detail {
namespace {

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
[[nodiscard]] std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const std::size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

[[nodiscard]] std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

}  // namespace

std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, shown_bytes_max))
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (text.size() > shown_bytes_max) out += "...";
  return out;
}

std::string_view nearest(std::string_view word, std::initializer_list<std::string_view> candidates) {
  std::string_view best;
  std::size_t best_distance = 3;
  if (word.size() > 64) return best;
  for (const auto candidate : candidates) {
    const std::size_t d = distance(word, candidate);
    if (d < best_distance && d < candidate.size()) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

void manifest_table::fail(unsigned line, const std::string& text, reason why) {
  if (failure_) return;
  std::string message = shown_as_ + ':' + std::to_string(line) + ": ";
  if (!title_.empty()) message += title_ + ": ";
  failure_.emplace(why, message + text);
}

void manifest_table::only(std::initializer_list<std::string_view> known, bool tables_too) {
  for (const auto& [key, value] : table_) {
    const std::string_view name = key.str();
    if (tables_too && value.is_table()) continue;
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string text = "unknown key \"" + shown(name) + '"';
    if (const auto similar = nearest(name, known); !similar.empty())
      text += "; did you mean \"" + std::string{similar} + "\"?";
    fail(key.source().begin.line, text);
    return;
  }
}

void manifest_table::wrong_type(const toml::node& node, std::string_view key, std::string_view expected) {
  fail(line_of(node),
       '"' + std::string{key} + "\" must be " + std::string{expected} + ", not " + std::string{type_name(node)});
}

std::string manifest_table::text_of(const toml::node& node, std::string_view key) {
  if (const auto* text = node.as_string()) return **text;
  wrong_type(node, key, "a string");
  return {};
}

std::string manifest_table::required_text(std::string_view key) {
  if (failed()) return {};
  const auto* node = table_.get(key);
  if (node == nullptr) {
    fail(line(), '"' + std::string{key} + "\" is missing");
    return {};
  }
  return text_of(*node, key);
}

std::string manifest_table::required_name(std::string_view key) {
  auto text = required_text(key);
  if (!failed() && !is_name(text))
    fail_at(key, '"' + std::string{key} + "\" must be letters, digits and . _ - (1 to " +
                     std::to_string(name_bytes_max) + ", not beginning with . or -), not \"" + shown(text) + '"');
  return text;
}

std::string manifest_table::optional_name(std::string_view key) {
  return find(key) != nullptr ? required_name(key) : std::string{};
}

std::int64_t manifest_table::integer(std::string_view key, std::int64_t otherwise, std::int64_t least,
                                     std::int64_t most) {
  const auto* node = find(key);
  if (node == nullptr) return otherwise;
  const auto* number = node->as_integer();
  if (number == nullptr) {
    wrong_type(*node, key, "an integer");
    return otherwise;
  }
  if (**number < least || **number > most) {
    fail(line_of(*node), '"' + std::string{key} + "\" must be between " + std::to_string(least) + " and " +
                             std::to_string(most) + ", not " + std::to_string(**number));
    return otherwise;
  }
  return **number;
}

std::chrono::milliseconds manifest_table::duration(std::string_view key, std::chrono::milliseconds otherwise,
                                                   std::chrono::milliseconds least) {
  return std::chrono::milliseconds{integer(key, otherwise.count(), least.count(), duration_max.count())};
}

std::chrono::milliseconds manifest_table::shutdown(std::string_view key, std::chrono::milliseconds otherwise) {
  const auto* node = find(key);
  if (node != nullptr && node->is_string()) {
    const auto text = text_of(*node, key);
    if (text == "brutal") return shutdown_brutal;
    if (text == "infinity") return shutdown_infinity;
    fail(line_of(*node),
         '"' + std::string{key} + "\" must be a number, \"brutal\" or \"infinity\", not \"" + shown(text) + '"');
    return otherwise;
  }
  return duration(key, otherwise, std::chrono::milliseconds{0});
}

bool manifest_table::boolean(std::string_view key, bool otherwise) {
  const auto* node = find(key);
  if (node == nullptr) return otherwise;
  if (const auto* value = node->as_boolean()) return **value;
  wrong_type(*node, key, "true or false");
  return otherwise;
}

argument_list manifest_table::arguments(std::string_view key) {
  argument_list list;
  const auto* node = find(key);
  if (node == nullptr) return list;
  const auto* table = node->as_table();
  if (table == nullptr) {
    wrong_type(*node, key, "a table");
    return list;
  }
  if (table->size() > arguments_max) {
    fail(line_of(*node), "more than " + std::to_string(arguments_max) + " arguments", reason::out_of_bounds);
    return list;
  }
  for (const auto& [name, value] : *table) {
    const unsigned line = name.source().begin.line;
    const auto* text = value.as_string();
    if (!is_name(name.str()))
      fail(line, "the argument name \"" + shown(name.str()) + "\" must be letters, digits and . _ -");
    else if (text == nullptr)
      fail(line, "the argument \"" + shown(name.str()) + "\" must be a string, not " + std::string{type_name(value)} +
                     "; put the value in quotes");
    else if ((*text)->size() > argument_bytes_max)
      fail(line,
           "the argument \"" + shown(name.str()) + "\" is longer than " + std::to_string(argument_bytes_max) + " bytes",
           reason::out_of_bounds);
    else
      list.emplace_back(std::string{name.str()}, **text);
  }
  return list;
}

}  // namespace molt::releases::detail
