// What an inspection wants to know of a file beyond what loading needs: versions of symbols, kinds of relocations, the
// objects in writable sections, which symbols and debug information it still has, and paths that the compiler left in
// it.
//
// Every number is checked against the file before it is used. A table that makes no sense is left out: the dynamic
// linker reads the same ones, and refuses the file.
#pragma once

#include "loader/elf_image.hpp"
#include "loader/inspection.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// An object that the program may write.
struct static_object {
  std::string_view name;
  std::string_view section;
  std::uint64_t size = 0;
};

/// Threading: immutable. Ownership: views into the bytes that were surveyed.
struct elf_survey {
  std::vector<symbol_import> imports;
  std::vector<std::string_view> versions;  ///< that it defines: "GLIBC_2.36"
  std::string_view soname;
  std::vector<std::string_view> indirect_functions;  ///< names of IFUNC symbols; empty name: only a relocation tells
  bool static_tls = false;                           ///< relocations that need it, flagged or not
  bool has_sections = false;
  bool has_symbol_table = false;
  bool has_debug_information = false;
  std::string_view debug_file;  ///< .gnu_debuglink or .gnu_debugaltlink
  std::vector<static_object> statics;
  std::vector<std::string_view> build_paths;  ///< source files by absolute path, in what is mapped

  /// `bytes` are those that elf_image::parse made the image of.
  [[nodiscard]] static elf_survey make(std::span<const std::byte> bytes, const elf_image&);
};

/// Adds what the survey tells to the findings and imports.
void judge_survey(const elf_survey&, inspection&);

}  // namespace molt::loader
