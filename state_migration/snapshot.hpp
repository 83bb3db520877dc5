// A state written out as bytes, with everything needed to refuse it where it does not fit. Format:
// docs/reference/archive-format.md.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace molt::migration {

/// Raise when the container's layout changes. A reader refuses every other version.
inline constexpr std::uint32_t snapshot_format_version = 1;

/// The largest schema name and schema text in a snapshot.
inline constexpr std::size_t snapshot_name_max = 4096;
inline constexpr std::size_t snapshot_text_max = std::size_t{1} << 20U;

/// A decoded snapshot. Borrows the bytes it was decoded from.
struct snapshot_view {
  std::uint64_t fingerprint = 0;
  std::uint32_t version = 0;  ///< declared class version
  std::string_view name;
  std::string_view text;
  std::string_view payload;  ///< the archive form
};

/// Writes a state of a loaded image. Errors: hook_failed (save threw), out_of_bounds.
[[nodiscard]] result<std::string> write_snapshot(const molt_schema&, const void* state, std::size_t size_max);

/// Checks a snapshot as a container: magic, format version, sizes, checksum. Errors: corrupt, incompatible (format
/// version).
[[nodiscard]] result<snapshot_view> read_snapshot(std::string_view bytes);

/// Constructs the state in storage. The schema must have the fingerprint, or the name and a higher version and read
/// older ones. Errors: incompatible, corrupt, out_of_bounds, hook_failed; then nothing is constructed.
[[nodiscard]] result<void> load_snapshot(const snapshot_view&, const molt_schema&, void* storage);

}  // namespace molt::migration
