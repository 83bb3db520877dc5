// Findings that somebody has looked at and accepts, each with a reason: a TOML file beside the sources.
//
//     [[allow]]
//     code = "static_data"
//     symbol = "tally::*"          # optional: as the file has it, or demangled; * and ? as in a shell
//     file = "libtally-*.so"       # optional: the file's name
//     reason = "counts calls for a test; starting again at 0 is fine"
//
// Only warnings and notes can be allowed. What a node refuses to load, it refuses whatever a policy says: an allowance
// of such a code is an error of the policy. One that no finding meets is reported, so that it goes when its finding has
// gone.
#pragma once

#include "base/result.hpp"
#include "loader/inspection.hpp"

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace molt::releases {

inline constexpr std::size_t policy_bytes_max = std::size_t{1} << 20U;
inline constexpr std::size_t allowances_max = 10'000;

struct allowance {
  loader::finding_kind code{};
  std::string symbol;  ///< empty: any
  std::string file;    ///< empty: any
  std::string reason;
  unsigned line = 0;
  bool used = false;
};

/// Threading: one at a time.
class inspection_policy {
 public:
  inspection_policy() = default;  ///< allows nothing

  /// Errors: not_found, io, out_of_bounds, invalid_argument (naming file, line and key).
  [[nodiscard]] static result<inspection_policy> read(const std::filesystem::path&);
  [[nodiscard]] static result<inspection_policy> parse(std::string_view text, std::string_view shown_as);

  /// Why a finding of that file is allowed; null: it is not.
  [[nodiscard]] const std::string* allows(const std::filesystem::path& file, const loader::finding&);
  /// "inspect.toml:3: allows static_data of tally::*, and nothing has it": after everything was inspected.
  [[nodiscard]] std::vector<std::string> unused() const;

 private:
  std::string shown_as_;
  std::vector<allowance> allowances_;
};

/// Whether a pattern with * and ? matches all of a text.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view text) noexcept;

}  // namespace molt::releases
