// The findings about an ELF image: what makes a plugin unfit to be replaced, as docs/how-to and ARCHITECTURE.md explain
// it.
#pragma once

#include "base/result.hpp"
#include "loader/elf_image.hpp"
#include "loader/inspection.hpp"

#include <cstddef>
#include <filesystem>

namespace molt::loader {

/// Decodes the note and judges the rest. Never fails: what is wrong becomes a finding.
[[nodiscard]] inspection inspect_image(const std::filesystem::path&, std::size_t file_size, const elf_image&);

}  // namespace molt::loader
