// The ELF structure of a shared object held in memory, as the dynamic linker will see it: through its program headers.
// A file of which the linker would load something else than what is seen here is `corrupt`: one whose segments hide
// each other, or whose dynamic segment is loaded from elsewhere.
//
// Everything is bounded against the file before libelf sees it, because libelf itself has overflowed on hostile
// headers. What does not lie in the file is `corrupt`; a file that is cut anywhere is found, since its section headers
// stand last.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// A longer name makes a file corrupt: without a bound many symbols could share one that is as long as the file.
inline constexpr std::size_t elf_name_max = 65'536;

/// A dynamic symbol. Names point into the file's bytes.
struct elf_symbol {
  std::string_view name;
  bool defined = false;
  bool weak = false;
  bool unique = false;    ///< STB_GNU_UNIQUE
  bool exported = false;  ///< defined, global, weak or unique, and visible
};

/// Threading: immutable. Ownership: the string views and spans point into the bytes given to parse().
struct elf_image {
  std::string machine;                                 ///< "x86-64" or "aarch64"
  std::string build_id;                                ///< lower-case hex, empty if there is none
  std::vector<std::span<const std::byte>> molt_notes;  ///< descriptors
  std::vector<std::string_view> needed;
  std::vector<std::string_view> run_paths;
  std::vector<elf_symbol> symbols;     ///< of .dynsym, without the null symbol
  bool defines_exceptions = false;     ///< an own copy of __cxa_throw, hidden or not
  std::string_view defines_allocator;  ///< "malloc" or another such function, hidden or not; empty: none
  bool registers_exit = false;         ///< atexit, which glibc links into each library that uses it
  bool text_relocations = false;
  bool executable_stack = false;
  bool writable_code = false;
  bool no_delete = false;
  bool static_tls = false;
  bool thread_local_storage = false;  ///< PT_TLS
  std::uint64_t first_address = 0;    ///< of the loaded segments, relative to where the image is put
  std::uint64_t end_address = 0;

  /// `bytes` must be aligned to 8. `name` stands for the path in messages.
  /// Errors: invalid_argument (not a little-endian 64-bit x86-64 or aarch64 shared object), corrupt.
  [[nodiscard]] static result<elf_image> parse(const std::filesystem::path& name, std::span<const std::byte> bytes);
};

/// "x86-64" or "aarch64": what this process can load.
[[nodiscard]] std::string_view host_machine() noexcept;

}  // namespace molt::loader
