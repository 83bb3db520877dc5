// What each code of a finding means, for people, for SARIF and for policies. docs/reference/inspect.md is the same
// table.
#pragma once

#include "loader/inspection.hpp"

#include <array>
#include <string_view>

namespace molt::loader {

struct finding_rule {
  finding_kind kind{};
  severity level{};         ///< that its findings have; thread_key and exit handlers of a file that cleans up: one less
  std::string_view code;    ///< "unique_symbol"
  std::string_view reason;  ///< one sentence: why it matters
  std::string_view fix;     ///< one sentence: what the author does
};

/// By the numbers of their kinds.
[[nodiscard]] const std::array<finding_rule, finding_kinds>& finding_rules() noexcept;
[[nodiscard]] const finding_rule& rule_of(finding_kind) noexcept;
/// Null: there is no such code.
[[nodiscard]] const finding_rule* find_rule(std::string_view code) noexcept;

}  // namespace molt::loader
