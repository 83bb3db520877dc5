// A file's bytes, read once and sealed: a memory file that nobody can change, whose inode no other file has.
//
// Why a copy, rather than the file itself: between looking and loading another process may write to the file, and
// afterwards a careless `cp` over a mapped file kills the process (SIGBUS). The copy has its own inode, so the linker
// never takes it for a plugin loaded before, and its device and inode in /proc/self/maps are the ones that fstat tells.
// What the bytes must be is checked on the copy, once it is sealed: whatever happens to the file before, while or after
// it is read, either those bytes are inspected and loaded, or nothing is.
// The price is the size of the plugin in memory. Debuggers find it under load_path(), and debug information by the
// build ID.
#pragma once

#include "base/result.hpp"
#include "loader/plugin_file.hpp"

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace molt::loader {

/// Threading: immutable once open. Ownership: the descriptor and a read-only view of the bytes.
class image_file {
 public:
  /// Errors: not_found, io, invalid_argument (no regular file), out_of_bounds (over image_size_max), corrupt (the copy's
  /// SHA-256 is not the one stated).
  [[nodiscard]] static result<image_file> open(const plugin_file&);

  image_file() = default;
  image_file(image_file&&) noexcept;
  image_file& operator=(image_file&&) noexcept;
  ~image_file();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  /// /proc/<pid>/fd/<n>: valid in this process, and for debuggers from outside, as long as this object lives.
  [[nodiscard]] std::string load_path() const;
  /// Whether any mapping other than bytes() shows this file's memory, by /proc/self/maps.
  [[nodiscard]] result<bool> mapped_elsewhere() const;

 private:
  int descriptor_ = -1;
  std::span<const std::byte> bytes_;
};

}  // namespace molt::loader
