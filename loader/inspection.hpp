// What a plugin's file says about itself, read without running one instruction of it.
//
// An untrusted file goes through three sieves: its ELF structure (elf_image.hpp), its note (note.hpp), and the
// properties that decide whether it can be replaced in a running process. The first failing to make sense is an error;
// everything else is a finding, so that one look shows all of them.
#pragma once

#include "base/result.hpp"
#include "loader/plugin_file.hpp"
#include "plugin/description.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// The largest file that is looked at.
inline constexpr std::size_t image_size_max = std::size_t{512} << 20U;

enum class severity {
  note,    ///< worth knowing; nothing is lost by it
  warn,    ///< loads, but costs something: it says what
  refuse,  ///< is not loaded
};
[[nodiscard]] std::string_view to_string(severity) noexcept;

/// What a finding is about: its code, which never changes its meaning. finding_rules.hpp says more of each.
enum class finding_kind {
  missing_build_id,
  missing_note,
  duplicate_note,
  bad_note,
  foreign_abi,
  missing_export,
  unique_symbol,  ///< STB_GNU_UNIQUE: pins the image and shares statics between versions
  text_relocations,
  executable_stack,
  run_path,             ///< DT_RPATH or DT_RUNPATH
  writable_code,        ///< a segment both writable and executable
  no_delete,            ///< DF_1_NODELETE: resident by design
  private_runtime,      ///< carries its own libstdc++ or unwinder
  thread_key,           ///< pthread_key_create
  thread_exit_handler,  ///< a thread_local with a destructor
  owns_threads,
  exit_handler,  ///< atexit, pthread_atfork and their like
  signal_handler,
  thread_local_storage,
  static_tls,
  extra_exports,
  foreign_library,        ///< needs a library that the host does not have anyway
  foreign_toolchain,      ///< layouts of standard types differ from the host's
  foreign_sanitizer,      ///< needs a sanitizer's runtime that the host lacks
  other_build,            ///< compiled otherwise than the host, with the same layouts
  private_unique_symbol,  ///< STB_GNU_UNIQUE in a library that lies beside it
  missing_library,        ///< DT_NEEDED, and nobody has it
  missing_version,        ///< a symbol version that this machine's library lacks
  undefined_symbol,       ///< nothing it needs defines it
  other_allocator,        ///< brings its own malloc or operator new
  loads_code,             ///< dlopen
  forks,
  replaces_process,   ///< exec
  starts_process,     ///< posix_spawn, system, popen
  ends_process,       ///< exit and its like
  indirect_function,  ///< IFUNC
  exported_type,      ///< a weak vtable or typeinfo that others see
  static_data,        ///< a writable object outside of every state
  static_destructor,
  stripped,
  split_debug,
  build_path,
};
inline constexpr std::size_t finding_kinds = static_cast<std::size_t>(finding_kind::build_path) + 1;
[[nodiscard]] std::string_view to_string(finding_kind) noexcept;

struct finding {
  finding_kind kind{};
  severity level{};
  std::string text;     ///< a sentence part that names the thing, e.g. "exports the unique symbol _ZN1a1bE"
  std::string hint;     ///< what the author does about it
  std::string subject;  ///< the symbol, section or library as the file has it; empty: the file itself
  std::string name;     ///< the subject demangled, where that makes a difference

  friend bool operator==(const finding&, const finding&) = default;
};

/// What the file expects others to define.
struct symbol_import {
  std::string name;
  std::string version;  ///< "GLIBC_2.34"; empty: any
  std::string library;  ///< of the version; empty: any
  bool weak = false;    ///< may stay undefined

  friend bool operator==(const symbol_import&, const symbol_import&) = default;
};

struct inspection {
  std::filesystem::path path;       ///< as given; for messages
  std::size_t size = 0;             ///< bytes
  std::string machine;              ///< "x86-64" or "aarch64"
  std::string build_id;             ///< lower-case hex; empty if there is none
  plugin_description plugin;        ///< empty if the note is missing or bad
  std::vector<std::string> needed;  ///< DT_NEEDED, in order
  std::vector<finding> findings;    ///< refusals first, notes last
  std::vector<symbol_import> imports;
  std::vector<std::byte> note;  ///< the bytes that `plugin` was read from

  /// Whether it may be loaded: no finding refuses.
  [[nodiscard]] bool replaceable() const noexcept;
};

/// Reads the file once and inspects those bytes, in this process: for files that were vouched for, such as a store's,
/// whose contents were inspected apart when they were installed. Others: inspect_foreign() in foreign_file.hpp. Errors:
/// io, not_found, out_of_bounds (too large), invalid_argument (not a shared object for x86-64 or aarch64), corrupt
/// (truncated or inconsistent, or not of the SHA-256 stated).
[[nodiscard]] result<inspection> inspect(const plugin_file&);

/// The same from memory; `name` stands for the path in messages.
[[nodiscard]] result<inspection> inspect_bytes(const std::filesystem::path& name, std::span<const std::byte>);

/// Refusals first, then warnings, then notes; each in the order in which they were.
void sort_findings(inspection&);

/// So many findings are told in one error; how many more there are is said.
inline constexpr std::size_t findings_told_max = 4;

/// Success, or the error `refused` that names the file, its first refusing findings and the hint of the first.
[[nodiscard]] result<void> require_replaceable(const inspection&);

}  // namespace molt::loader
