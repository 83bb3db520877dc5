// Addresses of code as people read them: image, function, offset.
//
// Symbols come from the image's file, which is recognised by its build ID: plugins are mapped from memory (loader/), so
// the path that the kernel shows leads nowhere, and a file may have been replaced. Files are read with every offset
// checked against their size; one that is damaged has no symbols.
//
// Threading: one at a time.
#pragma once

#include "node/crash_raw.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace molt::node {

struct code_place {
  std::uint64_t address = 0;
  std::string image;                ///< the path that the kernel shows; empty: in no image
  std::string build_id;             ///< empty: unknown
  std::uint64_t offset = 0;         ///< in the image, as addr2line and objdump count
  std::string symbol;               ///< demangled; empty: unknown
  std::uint64_t symbol_offset = 0;  ///< of the address in the symbol
};

/// The executable mappings of this process.
[[nodiscard]] std::vector<mapped_image> images_of_this_process();

class symbolizer {
 public:
  /// Files are looked for where the images say they lie, then in the folders and below.
  symbolizer(std::vector<mapped_image> images, std::vector<std::filesystem::path> folders);
  ~symbolizer();
  symbolizer(const symbolizer&) = delete;
  symbolizer& operator=(const symbolizer&) = delete;

  /// `returns_to`: the address stands behind a call, so the function is that of the byte before.
  [[nodiscard]] code_place place(std::uint64_t address, bool returns_to);

 private:
  class elf_symbols;
  const elf_symbols* symbols_of(const mapped_image&);
  void find_files();

  std::vector<mapped_image> images_;
  std::vector<std::filesystem::path> folders_;
  bool searched_ = false;
  std::map<std::string, std::filesystem::path> files_;              // by build ID
  std::map<std::string, std::unique_ptr<const elf_symbols>> read_;  // by path, and build ID
};

}  // namespace molt::node
