// A release in one file: kv-1.0.0.molt, a tar archive compressed with zstd.
//
//   molt-contents        the first entry: a line "molt-contents 1", then one line per file, sorted by path:
//                        <SHA-256 in hex> <size in decimal> <path>
//   plugins/libkv.so     then exactly the files of the list, in the list's order, as regular
//   release.toml         files; folders are implied by the paths and have no entries
//
// Packing the same folder twice gives the same bytes: sorted, no times, no owners.
//
// Unpacking trusts nothing: the list is read and bounded first; then every entry must be the next one of the list, a
// regular file of the listed size and hash. Paths are checked and opened below the target folder without following
// links. The target appears only when all is verified and on disk; after a failure nothing is left.
#pragma once

#include "base/file_system.hpp"
#include "base/result.hpp"
#include "loader/inspection.hpp"
#include "releases/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::releases {

/// The list's name in a package and in an installed release. Raise the version in its first line when its lines change
/// meaning.
inline constexpr std::string_view contents_file_name = "molt-contents";
inline constexpr unsigned contents_version = 1;

inline constexpr std::size_t package_files_max = 10'000;
inline constexpr std::uint64_t package_bytes_max = std::uint64_t{4} << 30U;  ///< all files together, unpacked
inline constexpr std::uint64_t package_ratio_max = 256;  ///< unpacked to packed, beyond the first 64 MiB
inline constexpr std::uint64_t package_ratio_free = std::uint64_t{64} << 20U;
inline constexpr std::size_t contents_bytes_max = std::size_t{4} << 20U;
inline constexpr std::size_t package_path_depth_max = 16;

struct content_entry {
  std::string path;
  std::uint64_t size = 0;
  std::string sha256;  ///< 64 hex digits

  friend bool operator==(const content_entry&, const content_entry&) = default;
};

/// The text of molt-contents, both ways. Errors: corrupt, out_of_bounds.
[[nodiscard]] std::string print_contents(const std::vector<content_entry>&);
result<std::vector<content_entry>> parse_contents(std::string_view text);

/// The list of an installed release. `digest`: the SHA-256 that it must have, as the store has written it down; empty:
/// any. Errors: not_found (no list, and none is stated: the folder was never installed), corrupt (also another list
/// than the one stated), out_of_bounds, io.
result<std::vector<content_entry>> read_contents(const std::filesystem::path& folder, std::string_view digest = {});

/// Walks a folder and hashes its files; a molt-contents in it is left out. Errors: refused (a link, device or other
/// special file, a name that could not be unpacked), out_of_bounds, io.
result<std::vector<content_entry>> list_contents(const std::filesystem::path& folder);

/// Packs a release folder into `file`, which is replaced whole or not touched. The manifest and the files it names are
/// checked before, and every plugin is inspected as installing would.
/// Errors: those of read_manifest, list_contents and check_plugins; io.
result<manifest> pack(const std::filesystem::path& folder, const std::filesystem::path& file);

/// Unpacks into `folder`, which must not exist; its parent must. It then holds the files and molt-contents, durable,
/// all read-only. Errors: corrupt (what, and which entry), out_of_bounds, already_exists, not_found, io, those of
/// read_manifest.
result<manifest> unpack(const std::filesystem::path& file, const std::filesystem::path& folder,
                        file_system& = file_system::real());

/// The manifest in a package, unpacking nothing; the files are not verified. Errors: as for unpack.
result<manifest> read_package_manifest(const std::filesystem::path& file);

/// The release in a package or a folder, and what tells it from another of the same id.
struct release_offer {
  manifest release;
  std::string contents;  ///< SHA-256 of its molt-contents, 64 hex digits
};
/// Reads it, unpacking nothing; the files of a package are not verified. Errors: as for unpack and copy_release.
result<release_offer> look_at(const std::filesystem::path& package_or_folder);
/// SHA-256 of an installed release's molt-contents; empty if it cannot be read.
[[nodiscard]] std::string contents_digest(const std::filesystem::path& folder);

/// The same as unpack from a folder instead of a package.
result<manifest> copy_release(const std::filesystem::path& from, const std::filesystem::path& folder,
                              file_system& = file_system::real());

/// Compares an unpacked release with its molt-contents, and that with `digest`, as read_contents does. Error: corrupt,
/// naming the file that changed, is missing or is extra.
result<void> verify_contents(const std::filesystem::path& folder, std::string_view digest = {});

/// The plugins' files in the manifest's order, whatever is in them.
[[nodiscard]] std::vector<loader::plugin_file> plugin_files(const std::filesystem::path& folder, const manifest&);

/// What is loaded of a release.
struct installed_files {
  manifest release;
  std::vector<loader::plugin_file> plugins;  ///< in the manifest's order, with the SHA-256 that each must have
};
/// The manifest is the one that the folder's molt-contents states, and the plugins will be when they are opened; the
/// list itself is the one of `digest`, as for read_contents. A folder without a list, where none is stated, is taken as
/// it is. Errors: corrupt (naming the file that has changed, or that the list lacks); those of read_contents and
/// read_manifest.
result<installed_files> read_installed(const std::filesystem::path& folder, std::string_view digest = {});

/// Inspects every plugin file of a release, once, without running its code: it can be loaded and replaced, its name and
/// version are the manifest's, and every server and connection type the manifest names is in one of them, of the right
/// kind. `files`: of the release, as plugin_files gives them. Errors: refused and corrupt, naming file and thing.
result<std::vector<loader::inspection>> check_plugins(const std::filesystem::path& folder, const manifest&,
                                                      std::span<const loader::plugin_file> files);

/// Compares the plugins of a release, as check_plugins found them, with those of every other release below `installed`
/// that have the same name and version: servers, messages and hooks are told apart by these, so states and messages
/// must be the same. Errors: unversioned, naming what changed and where. Releases that cannot be read are passed over.
result<void> check_versions(std::span<const loader::inspection> plugins, const manifest&,
                            const std::filesystem::path& installed);

/// Deletes a folder with read-only content, following no links. Not found is a success.
result<void> remove_tree(const std::filesystem::path& folder, file_system& = file_system::real());

}  // namespace molt::releases
