#include "releases/inspection_policy.hpp"

#include "base/durable_file.hpp"
#include "loader/finding_rules.hpp"
#include "releases/manifest_table.hpp"

#include <toml++/toml.h>

#include <utility>

namespace molt::releases {
namespace {

// A file that deletes its thread keys has but a warning.
bool may_be_allowed(const loader::finding_rule& rule) {
  return rule.level != loader::severity::refuse || rule.kind == loader::finding_kind::thread_key;
}

result<allowance> read_allowance(const toml::table& table, std::string_view shown_as) {
  detail::manifest_table from{table, shown_as, "[[allow]]"};
  from.only({"code", "symbol", "file", "reason"});
  allowance made;
  const std::string code = from.required_text("code");
  made.reason = from.required_text("reason");
  if (table.contains("symbol")) made.symbol = from.required_text("symbol");
  if (table.contains("file")) made.file = from.required_text("file");
  made.line = from.line();
  MOLT_CHECK(from.check());
  const auto* const rule = loader::find_rule(code);
  if (rule == nullptr)
    from.fail_at("code", "there is no finding \"" + detail::shown(code) + '"');
  else if (!may_be_allowed(*rule))
    from.fail_at("code", code + " cannot be allowed, a node refuses such a plugin: " + std::string{rule->reason});
  if (made.reason.find_first_not_of(" \t\n") == std::string::npos)
    from.fail_at("reason", "\"reason\" must say why this is no harm");
  MOLT_CHECK(from.check());
  made.code = rule->kind;
  return made;
}

}  // namespace

bool matches(std::string_view pattern, std::string_view text) noexcept {
  std::size_t at = 0;
  std::size_t in = 0;
  std::size_t star = std::string_view::npos;  // the last one, and what it has taken so far
  std::size_t taken = 0;
  while (in < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      taken = in;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == text[in])) {
      ++at;
      ++in;
    } else if (star != std::string_view::npos) {
      at = star + 1;
      in = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

result<inspection_policy> inspection_policy::read(const std::filesystem::path& path) {
  MOLT_TRY(const std::string text, read_file(path, policy_bytes_max));
  return parse(text, path.string());
}

result<inspection_policy> inspection_policy::parse(std::string_view text, std::string_view shown_as) {
  inspection_policy made;
  made.shown_as_ = shown_as;
  try {
    const toml::table root = toml::parse(text, made.shown_as_);
    detail::manifest_table from{root, shown_as, {}};
    from.only({"allow"});
    MOLT_CHECK(from.check());
    const auto* const list = root.get_as<toml::array>("allow");
    if (list == nullptr && root.contains("allow"))
      return error{reason::invalid_argument, made.shown_as_ + ": \"allow\" must be an array of tables: [[allow]]"};
    if (list == nullptr) return made;
    if (list->size() > allowances_max)
      return error{reason::out_of_bounds,
                   made.shown_as_ + ": more than " + std::to_string(allowances_max) + " allowances"};
    for (const auto& one : *list) {
      const auto* const table = one.as_table();
      if (table == nullptr)
        return error{reason::invalid_argument, made.shown_as_ + ": \"allow\" must be an array of tables: [[allow]]"};
      MOLT_TRY(allowance entry, read_allowance(*table, shown_as));
      made.allowances_.push_back(std::move(entry));
    }
  } catch (const toml::parse_error& wrong) {
    return error{reason::invalid_argument, made.shown_as_ + ':' + std::to_string(wrong.source().begin.line) + ": " +
                                               detail::shown(wrong.description())};
  }
  return made;
}

const std::string* inspection_policy::allows(const std::filesystem::path& file, const loader::finding& one) {
  if (one.level == loader::severity::refuse) return nullptr;
  const std::string name = file.filename().string();
  const std::string* why = nullptr;
  for (auto& entry : allowances_) {
    if (entry.code != one.kind || (!entry.file.empty() && !matches(entry.file, name))) continue;
    if (!entry.symbol.empty() && !matches(entry.symbol, one.subject) && !matches(entry.symbol, one.name)) continue;
    entry.used = true;
    if (why == nullptr) why = &entry.reason;
  }
  return why;
}

std::vector<std::string> inspection_policy::unused() const {
  std::vector<std::string> all;
  for (const auto& entry : allowances_)
    if (!entry.used)
      all.push_back(shown_as_ + ':' + std::to_string(entry.line) + ": allows " + std::string{to_string(entry.code)} +
                    (entry.symbol.empty() ? "" : " of " + entry.symbol) +
                    (entry.file.empty() ? "" : " in " + entry.file) + ", and nothing has it");
  return all;
}

}  // namespace molt::releases
