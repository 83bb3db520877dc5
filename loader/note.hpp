// The note's bytes as a plugin_description (docs/reference/note-format.md).
#pragma once

#include "base/result.hpp"
#include "plugin/description.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace molt::loader {

inline constexpr std::uint32_t note_format_version = 1;
inline constexpr std::uint32_t note_records_max = 65'536;

struct note_header {
  std::uint32_t format = 0;
  std::uint32_t abi_version = 0;
};

/// Errors: corrupt (too short), incompatible (another format version).
[[nodiscard]] result<note_header> read_note_header(std::span<const std::byte> descriptor);

/// Decodes a descriptor and checks everything that can be checked without code: lengths, indexes, names, fingerprints,
/// keys, and that each schema's text parses and has the stated size. Errors: corrupt, naming the record; incompatible
/// (another format version).
[[nodiscard]] result<plugin_description> decode_note(std::span<const std::byte> descriptor);

/// FNV-1a 64 over toolchain, NUL and text.
[[nodiscard]] std::uint64_t schema_fingerprint(std::string_view toolchain, std::string_view text) noexcept;
/// FNV-1a 64 over name, NUL and the fingerprints of payload and reply (0 for a cast).
[[nodiscard]] std::uint64_t message_key(std::string_view name, std::uint64_t payload, std::uint64_t reply) noexcept;

}  // namespace molt::loader
