#include "releases/package_reader.hpp"

#include "base/assert.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <algorithm>
#include <new>
#include <string>
#include <utility>

namespace molt::releases {

void package_reader::closer::operator()(archive* reader) const noexcept { ::archive_read_free(reader); }

package_reader::package_reader(handle reader, std::uint64_t packed_size) noexcept
    : reader_{std::move(reader)}, packed_size_{packed_size} {}

error package_reader::failed(std::string_view what) const {
  const char* text = ::archive_error_string(reader_.get());
  return error{reason::corrupt, std::string{what} + ": " + (text == nullptr ? "unreadable" : text)};
}

result<package_reader::handle> package_reader::make() {
  handle reader{::archive_read_new()};
  if (reader == nullptr) throw std::bad_alloc{};
  if (::archive_read_support_filter_zstd(reader.get()) != ARCHIVE_OK ||
      ::archive_read_support_format_tar(reader.get()) != ARCHIVE_OK)
    return error{reason::internal, "this libarchive reads no tar with zstd"};
  return reader;
}

result<package_reader> package_reader::open(int fd, std::uint64_t packed_size) {
  MOLT_TRY(auto reader, make());
  package_reader made{std::move(reader), packed_size};
  if (::archive_read_open_fd(made.reader_.get(), fd, std::size_t{128} << 10U) != ARCHIVE_OK)
    return made.failed("not a package");
  return made;
}

result<package_reader> package_reader::open(std::span<const std::byte> bytes) {
  MOLT_TRY(auto reader, make());
  package_reader made{std::move(reader), bytes.size()};
  if (::archive_read_open_memory(made.reader_.get(), bytes.data(), bytes.size()) != ARCHIVE_OK)
    return made.failed("not a package");
  return made;
}

namespace {

/// The entry is a plain file of that name, and says its size.
result<void> check_entry(archive_entry* entry, std::string_view expected) {
  const char* raw = ::archive_entry_pathname(entry);
  const std::string path = raw == nullptr ? "" : raw;
  if (path != expected) {
    std::string shown;
    for (const char c : path.substr(0, 120)) shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return error{reason::corrupt, '"' + shown + "\" stands where \"" + std::string{expected} + "\" belongs"};
  }
  if (::archive_entry_hardlink(entry) != nullptr || ::archive_entry_symlink(entry) != nullptr ||
      ::archive_entry_filetype(entry) != S_IFREG)
    return error{reason::corrupt, path + ": not a regular file"};
  if (::archive_entry_size_is_set(entry) == 0 || ::archive_entry_size(entry) < 0)
    return error{reason::corrupt, path + ": without a size"};
  return ok();
}

}  // namespace

result<void> package_reader::read_data(std::string_view path, std::uint64_t size,
                                       const std::function<result<void>(std::string_view)>& take) {
  std::vector<char> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(size + 1, std::uint64_t{256} << 10U)));
  std::uint64_t total = 0;
  while (true) {
    const la_ssize_t got = ::archive_read_data(reader_.get(), buffer.data(), buffer.size());
    if (got < 0) return failed(path);
    if (got == 0) break;
    total += static_cast<std::uint64_t>(got);
    if (total > size) return error{reason::corrupt, std::string{path} + ": holds more than it says"};
    MOLT_CHECK(take({buffer.data(), static_cast<std::size_t>(got)}));
  }
  if (total != size) return error{reason::corrupt, std::string{path} + ": cut short"};
  return ok();
}

result<std::vector<content_entry>> package_reader::contents() {
  archive_entry* entry = nullptr;
  const int status = ::archive_read_next_header(reader_.get(), &entry);
  if (status == ARCHIVE_EOF) return error{reason::corrupt, "an empty package"};
  if (status != ARCHIVE_OK) return failed("not a package");
  MOLT_CHECK(check_entry(entry, contents_file_name));
  const auto size = static_cast<std::uint64_t>(::archive_entry_size(entry));
  if (size > contents_bytes_max)
    return error{reason::out_of_bounds,
                 std::string{contents_file_name} + ": larger than " + std::to_string(contents_bytes_max) + " bytes"};
  std::string text;
  MOLT_CHECK(read_data(contents_file_name, size, [&](std::string_view bytes) {
    text += bytes;
    return ok();
  }));
  MOLT_TRY(auto list, parse_contents(text));
  std::uint64_t total = 0;
  for (const auto& file : list) total += file.size;
  if (total > package_ratio_free && total / package_ratio_max > packed_size_)
    return error{reason::out_of_bounds, "unpacks to more than " + std::to_string(package_ratio_max) +
                                            " times its size: " + std::to_string(total) + " bytes from " +
                                            std::to_string(packed_size_)};
  return list;
}

result<void> package_reader::for_each_file(
    const std::vector<content_entry>& list,
    const std::function<result<void>(const content_entry&, const read_bytes&)>& file) {
  archive_entry* entry = nullptr;
  for (const auto& expected : list) {
    const int status = ::archive_read_next_header(reader_.get(), &entry);
    if (status == ARCHIVE_EOF) return error{reason::corrupt, expected.path + ": in the contents list, but missing"};
    if (status != ARCHIVE_OK) return failed(expected.path);
    MOLT_CHECK(check_entry(entry, expected.path));
    if (static_cast<std::uint64_t>(::archive_entry_size(entry)) != expected.size)
      return error{reason::corrupt, expected.path + ": not of the size in the contents list"};
    MOLT_CHECK(file(expected, [&](const std::function<result<void>(std::string_view)>& take) {
      return read_data(expected.path, expected.size, take);
    }));
  }
  const int status = ::archive_read_next_header(reader_.get(), &entry);
  if (status == ARCHIVE_EOF) return ok();
  if (status != ARCHIVE_OK) return failed("after the last file");
  return error{reason::corrupt, "more files than the contents list names"};
}

}  // namespace molt::releases
