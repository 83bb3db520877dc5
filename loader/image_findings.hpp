// The findings about an ELF image: what makes a plugin unfit to be replaced, as docs/how-to and ARCHITECTURE.md explain
// it.
#pragma once

#include "base/result.hpp"
#include "loader/elf_image.hpp"
#include "loader/inspection.hpp"

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace molt::loader {

/// Decodes the note and judges the rest. Never fails: what is wrong becomes a finding.
/// What others may see of the file beyond loading it is judged in elf_survey.hpp and host_symbols.hpp.
[[nodiscard]] inspection inspect_image(const std::filesystem::path&, std::size_t file_size, const elf_image&);

/// In all texts that come from the file and are shown, question marks for what is no printable character (base/utf8.hpp):
/// each finding is made so, whatever the file holds.
void make_printable(inspection&);
void make_printable(finding&);

/// Of unique symbols, exports and statics each: the rest is counted in one more.
inline constexpr std::size_t findings_of_kind_max = 1000;

/// Whether the host has a library (DT_NEEDED) anyway: those of C and C++.
[[nodiscard]] bool is_host_library(std::string_view name) noexcept;

}  // namespace molt::loader
