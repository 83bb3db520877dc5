#include "releases/package.hpp"

#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"
#include "loader/sha256.hpp"
#include "releases/file_pieces.hpp"
#include "releases/package_reader.hpp"
#include "releases/release_folder.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <new>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] error step_failed(std::string_view what, const fs::path& file) {
  const int number = errno;
  return system_error(what, file, number);
}

/// A tar with zstd, written to a descriptor; nothing in it tells when, where or by whom it was made.
class package_writer {
 public:
  package_writer(int fd, fs::path shown) : shown_{std::move(shown)}, writer_{::archive_write_new()} {
    if (writer_ == nullptr) throw std::bad_alloc{};
    ready_ = ::archive_write_add_filter_zstd(writer_.get()) == ARCHIVE_OK &&
             ::archive_write_set_format_pax_restricted(writer_.get()) == ARCHIVE_OK &&
             ::archive_write_set_bytes_in_last_block(writer_.get(), 1) == ARCHIVE_OK &&
             ::archive_write_open_fd(writer_.get(), fd) == ARCHIVE_OK;
  }

  result<void> begin_file(const std::string& path, std::uint64_t size) {
    if (!ready_) return failed();
    const std::unique_ptr<archive_entry, void (*)(archive_entry*)> entry{::archive_entry_new(), ::archive_entry_free};
    if (entry == nullptr) throw std::bad_alloc{};
    ::archive_entry_set_pathname(entry.get(), path.c_str());
    ::archive_entry_set_filetype(entry.get(), S_IFREG);
    ::archive_entry_set_perm(entry.get(), 0644);
    ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(size));
    ::archive_entry_set_mtime(entry.get(), 0, 0);
    if (::archive_write_header(writer_.get(), entry.get()) != ARCHIVE_OK) return failed();
    return ok();
  }

  result<void> write(std::string_view bytes) {
    while (!bytes.empty()) {
      const la_ssize_t written = ::archive_write_data(writer_.get(), bytes.data(), bytes.size());
      if (written <= 0) return failed();
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return ok();
  }

  result<void> finish() {
    if (::archive_write_close(writer_.get()) != ARCHIVE_OK) return failed();
    return ok();
  }

 private:
  [[nodiscard]] error failed() const {
    const char* text = ::archive_error_string(writer_.get());
    return error{reason::io, "writing " + shown_.string() + ": " + (text == nullptr ? "failed" : text)};
  }

  struct closer {
    void operator()(archive* writer) const noexcept { ::archive_write_free(writer); }
  };
  fs::path shown_;
  std::unique_ptr<archive, closer> writer_;
  bool ready_ = false;
};

result<void> write_package(int fd, const fs::path& shown, const fs::path& folder,
                           const std::vector<content_entry>& list) {
  package_writer writer{fd, shown};
  const auto contents = print_contents(list);
  MOLT_CHECK(writer.begin_file(std::string{contents_file_name}, contents.size()));
  MOLT_CHECK(writer.write(contents));
  for (const auto& entry : list) {
    MOLT_CHECK(writer.begin_file(entry.path, entry.size));
    loader::sha256 hash;
    std::uint64_t size = 0;
    MOLT_CHECK(read_in_pieces(folder / entry.path, [&](std::string_view bytes) {
      hash.add(bytes);
      size += bytes.size();
      return writer.write(bytes);
    }));
    if (size != entry.size || hash.hex() != entry.sha256)
      return error{reason::io, (folder / entry.path).string() + ": changed while it was packed"};
  }
  return writer.finish();
}

/// A package written into the folder it packs would be part of the next one.
result<void> check_outside(const fs::path& file, const fs::path& folder) {
  std::error_code ignored;
  const auto relative = fs::weakly_canonical(file, ignored).lexically_relative(fs::weakly_canonical(folder, ignored));
  if (!relative.empty() && *relative.begin() != "..")
    return error{reason::refused, file.string() + ": inside the folder that is packed", "write the package elsewhere"};
  return ok();
}

result<void> has_manifest(const std::vector<content_entry>& list) {
  for (const auto& entry : list) {
    if (entry.path != manifest_file_name) continue;
    if (entry.size <= manifest_bytes_max) return ok();
    return error{reason::out_of_bounds, "release.toml: larger than " + std::to_string(manifest_bytes_max) + " bytes"};
  }
  return error{reason::corrupt, "no release.toml in it"};
}

}  // namespace

result<manifest> pack(const fs::path& folder, const fs::path& file) {
  MOLT_TRY(auto read, read_manifest(folder));
  MOLT_CHECK(check_plugins(folder, read, plugin_files(folder, read)));
  MOLT_CHECK(check_outside(file, folder));
  MOLT_TRY(const auto list, list_contents(folder));
  fs::path temporary = file;
  temporary += ".new";
  const auto write = [&]() -> result<void> {
    const unique_fd fd{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)};
    if (!fd) return step_failed("creating", temporary);
    MOLT_CHECK(write_package(fd.get(), temporary, folder, list));
    if (::fsync(fd.get()) != 0) return step_failed("syncing", temporary);
    if (::rename(temporary.c_str(), file.c_str()) != 0) return step_failed("replacing", file);
    return sync_folder(file.parent_path());
  };
  if (auto written = write(); !written) {
    ::unlink(temporary.c_str());
    return std::move(written).error();
  }
  return read;
}

namespace {

/// Opens a package and hands its reader and list to `use`; errors begin with the file's name.
template <class Use>
result<manifest> with_package(const fs::path& file, Use use) {
  const unique_fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) return step_failed("opening", file);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return step_failed("reading", file);
  if (!S_ISREG(status.st_mode)) return error{reason::invalid_argument, file.string() + ": not a regular file"};
  const auto read = [&]() -> result<manifest> {
    MOLT_TRY(auto reader, package_reader::open(fd.get(), static_cast<std::uint64_t>(status.st_size)));
    MOLT_TRY(const auto list, reader.contents());
    MOLT_CHECK(has_manifest(list));
    return use(reader, list);
  };
  auto done = read();
  if (!done) return std::move(done).error().with(file.string());
  return done;
}

}  // namespace

result<manifest> unpack(const fs::path& file, const fs::path& folder, file_system& system) {
  return with_package(file, [&](package_reader& reader, const std::vector<content_entry>& list) -> result<manifest> {
    MOLT_TRY(const auto target, release_folder::begin(folder, list, system));
    MOLT_CHECK(reader.for_each_file(list, [&](const content_entry& entry, const package_reader::read_bytes& bytes) {
      return target->add(entry.path, bytes);
    }));
    return target->finish();
  });
}

namespace {

[[nodiscard]] std::string digest_of(std::string_view text) {
  loader::sha256 hash;
  hash.add(text);
  return hash.hex();
}

result<release_offer> look_at_package(const fs::path& file) {
  std::string contents;
  const auto read = [&](package_reader& reader, const std::vector<content_entry>& list) -> result<manifest> {
    contents = digest_of(print_contents(list));
    std::string text;
    MOLT_CHECK(reader.for_each_file(list, [&](const content_entry& entry, const package_reader::read_bytes& bytes) {
      return bytes([&](std::string_view piece) {
        if (entry.path == manifest_file_name) text += piece;
        return ok();
      });
    }));
    return parse_manifest(text);
  };
  MOLT_TRY(auto release, with_package(file, read));
  return release_offer{std::move(release), std::move(contents)};
}

}  // namespace

result<manifest> read_package_manifest(const fs::path& file) {
  MOLT_TRY(auto offer, look_at_package(file));
  return std::move(offer.release);
}

result<release_offer> look_at(const fs::path& package_or_folder) {
  std::error_code failed;
  if (!fs::is_directory(package_or_folder, failed)) return look_at_package(package_or_folder);
  MOLT_TRY(auto release, read_manifest(package_or_folder));
  MOLT_TRY(const auto list, list_contents(package_or_folder));
  return release_offer{std::move(release), digest_of(print_contents(list))};
}

result<manifest> copy_release(const fs::path& from, const fs::path& folder, file_system& system) {
  if (auto sound = read_manifest(from); !sound) return std::move(sound).error();  // names the user's folder, not ours
  MOLT_TRY(const auto list, list_contents(from));
  MOLT_TRY(const auto target, release_folder::begin(folder, list, system));
  for (const auto& entry : list) {
    MOLT_CHECK(target->add(
        entry.path, [&](const release_folder::take_bytes& take) { return read_in_pieces(from / entry.path, take); }));
  }
  return target->finish();
}

}  // namespace molt::releases
