// Release folders to install, and packages that nobody honest would make.
#pragma once

#include "base/durable_file.hpp"
#include "releases/package.hpp"
#include "tests/base/scratch_folder.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace molt::tests {

inline std::filesystem::path echo_plugin(const std::string& version) {
  return std::filesystem::path{ECHO_PLUGIN_FOLDER} / ("libecho-" + version + ".so");
}

inline std::string echo_manifest(const std::string& version) {
  return "[release]\nname = \"echo\"\nversion = \"" + version + "\"\n[[plugin]]\nname = \"echo\"\nversion = \"" +
         version + "\"\nfile = \"plugins/libecho-" + version +
         ".so\"\n[[server]]\nname = \"keeper\"\ntype = \"echo.keeper\"\n"
         "[[listener]]\nname = \"echo\"\naddress = \"127.0.0.1:0\"\nconnection = \"echo.connection\"\n";
}

/// A sound release folder.
inline std::filesystem::path make_release(const std::filesystem::path& folder, const std::string& version) {
  write_file(folder / "release.toml", echo_manifest(version));
  std::filesystem::create_directories(folder / "plugins");
  std::filesystem::copy_file(echo_plugin(version), folder / ("plugins/libecho-" + version + ".so"));
  write_file(folder / "share/notes.txt", "version " + version + "\n");
  return folder;
}

/// One entry of a forged package.
struct forged {
  std::string path;
  std::string content;
  unsigned type = S_IFREG;
  std::string link{};  ///< target of a link
  bool hard = false;
};

inline void write_forged(const std::filesystem::path& file, const std::vector<forged>& entries) {
  archive* writer = ::archive_write_new();
  ::archive_write_add_filter_zstd(writer);
  ::archive_write_set_format_pax_restricted(writer);
  ::archive_write_open_filename(writer, file.c_str());
  for (const auto& one : entries) {
    archive_entry* entry = ::archive_entry_new();
    ::archive_entry_set_pathname(entry, one.path.c_str());
    ::archive_entry_set_filetype(entry, one.type);
    ::archive_entry_set_perm(entry, 0644);
    if (one.type == S_IFREG && !one.hard) ::archive_entry_set_size(entry, static_cast<la_int64_t>(one.content.size()));
    if (one.hard)
      ::archive_entry_set_hardlink(entry, one.link.c_str());
    else if (!one.link.empty())
      ::archive_entry_set_symlink(entry, one.link.c_str());
    if (one.type == S_IFCHR) ::archive_entry_set_rdev(entry, 0x101);
    ::archive_write_header(writer, entry);
    if (one.type == S_IFREG && !one.hard) ::archive_write_data(writer, one.content.data(), one.content.size());
    ::archive_entry_free(entry);
  }
  ::archive_write_close(writer);
  ::archive_write_free(writer);
}

}  // namespace molt::tests
