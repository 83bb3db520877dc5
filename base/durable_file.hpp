// A small file that is replaced as a whole: after a crash at any moment it holds the old content or the new, never a
// mixture.
//
//   step                  a crash after it leaves
//   write <name>.new      old content, and debris that the next replacement overwrites
//   fsync <name>.new      the same
//   rename over <name>    old or new content
//   fsync the folder      new content
//
// Invariant: replace_file reports success only after the last step, and failure only with the old content in place
// - except when the folder's fsync fails: then the new content is there, but it may not survive a power cut.
#pragma once

#include "base/file_system.hpp"
#include "base/result.hpp"

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace molt {

/// Replaces or creates `file` as above. Two writers of one file must be kept apart by the caller.
/// Errors: io, naming file, step and the system's words.
/// Threading: any thread, for different files.
result<void> replace_file(const std::filesystem::path& file, std::string_view content, mode_t mode = 0644,
                          file_system& = file_system::real());

/// The whole file. Errors: not_found, out_of_bounds (it holds more than `size_max` bytes), io (also: not a regular
/// file).
result<std::string> read_file(const std::filesystem::path& file, std::size_t size_max);

/// Makes the entries of a folder durable (fsync of the folder).
result<void> sync_folder(const std::filesystem::path& folder, file_system& = file_system::real());

/// Writes all bytes, going on after short writes and signals. False: errno says why.
[[nodiscard]] bool write_all(file_system&, int fd, std::string_view bytes) noexcept;

/// "<what> <file>: No space left on device", reason io (not_found for ENOENT); for a full disk or quota a hint.
[[nodiscard]] error system_error(std::string_view what, const std::filesystem::path& file, int error_number);
/// Whether it is system_error's for a full disk or quota.
[[nodiscard]] bool is_out_of_space(const error&);

}  // namespace molt
