#include "releases/release_folder.hpp"

#include "base/durable_file.hpp"
#include "loader/sha256.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;

constexpr mode_t file_mode = 0444;
constexpr mode_t folder_mode = 0555;
constexpr int walk_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

[[nodiscard]] error step_failed(std::string_view what, const fs::path& file) {
  const int number = errno;
  return system_error(what, file, number);
}

/// Deletes what is in an open folder. Depth is bounded by what we ever make, so that no folder can exhaust the stack.
result<void> remove_below(unique_fd folder, const fs::path& shown, std::size_t depth, file_system& system) {
  if (depth > package_path_depth_max + 2)
    return error{reason::out_of_bounds, shown.string() + ": folders too deep; not made by molt"};
  const int fd = folder.get();
  DIR* entries = ::fdopendir(folder.release());
  if (entries == nullptr) return step_failed("reading the folder", shown);
  const std::unique_ptr<DIR, int (*)(DIR*)> closer{entries, ::closedir};
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(entries);
    if (entry == nullptr) {
      if (errno != 0) return step_failed("reading the folder", shown);
      return ok();
    }
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    if (::fstatat(fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return step_failed("looking at", shown / name);
    if (S_ISDIR(status.st_mode)) {
      if (system.change_mode(fd, name.c_str(), 0700) != 0) return step_failed("changing", shown / name);
      unique_fd below{system.open(fd, name.c_str(), walk_flags, 0)};
      if (!below) return step_failed("opening the folder", shown / name);
      MOLT_CHECK(remove_below(std::move(below), shown / name, depth + 1, system));
    }
    if (system.remove(fd, name.c_str(), S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0) != 0)
      return step_failed("removing", shown / name);
  }
}

}  // namespace

result<void> remove_tree(const fs::path& folder, file_system& system) {
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0) {
    if (errno == ENOENT) return ok();
    return step_failed("looking at", folder);
  }
  const bool is_folder = S_ISDIR(status.st_mode);
  if (is_folder) {
    if (system.change_mode(AT_FDCWD, folder.c_str(), 0700) != 0) return step_failed("changing", folder);
    unique_fd fd{system.open(AT_FDCWD, folder.c_str(), walk_flags, 0)};
    if (!fd) return step_failed("opening the folder", folder);
    MOLT_CHECK(remove_below(std::move(fd), folder, 0, system));
  }
  if (system.remove(AT_FDCWD, folder.c_str(), is_folder ? AT_REMOVEDIR : 0) != 0)
    return step_failed("removing", folder);
  return ok();
}

error without_folder(const error& failed, const fs::path& folder) {
  const std::string prefix = folder.string() + '/';
  std::string message = failed.message();
  for (auto found = message.find(prefix); found != std::string::npos; found = message.find(prefix, found))
    message.erase(found, prefix.size());
  return error{failed.why(), std::move(message), failed.hint()};
}

release_folder::release_folder(fs::path folder, std::vector<content_entry> list, file_system& system)
    : folder_{std::move(folder)}, list_{std::move(list)}, system_{system} {
  incoming_ = folder_.parent_path() / ('.' + folder_.filename().string() + ".incoming");
}

release_folder::~release_folder() {
  // A failure to tidy up must not hide the one that led here; the store sweeps what stays.
  if (!finished_) (void)remove_tree(incoming_, system_);
}

result<std::unique_ptr<release_folder>> release_folder::begin(const fs::path& folder, std::vector<content_entry> list,
                                                              file_system& system) {
  struct stat status {};
  if (::lstat(folder.c_str(), &status) == 0) return error{reason::already_exists, folder.string() + ": exists already"};
  std::unique_ptr<release_folder> made{new release_folder{folder, std::move(list), system}};
  MOLT_CHECK(remove_tree(made->incoming_, system));  // of an attempt that was killed
  if (system.make_folder(AT_FDCWD, made->incoming_.c_str(), 0700) != 0)
    return step_failed("making the folder", made->incoming_);
  return made;
}

/// Opens the folder that `path`'s last component goes into, making folders on the way, never following a link.
result<unique_fd> release_folder::open_parent(const std::string& path) {
  unique_fd here{system_.open(AT_FDCWD, incoming_.c_str(), walk_flags, 0)};
  if (!here) return step_failed("opening the folder", incoming_);
  std::size_t begin = 0;
  for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', begin)) {
    const std::string name = path.substr(begin, slash - begin);
    const std::string so_far = path.substr(0, slash);
    if (folders_.insert(so_far).second && system_.make_folder(here.get(), name.c_str(), 0700) != 0)
      return step_failed("making the folder", incoming_ / so_far);
    unique_fd below{system_.open(here.get(), name.c_str(), walk_flags, 0)};
    if (!below) return step_failed("opening the folder", incoming_ / so_far);
    here = std::move(below);
    begin = slash + 1;
  }
  return here;
}

result<void> release_folder::add(std::string_view path, const std::function<result<void>(const take_bytes&)>& fill) {
  const auto wrong = [&](std::string_view what) {
    return error{reason::corrupt, std::string{path.substr(0, path_bytes_max)} + ": " + std::string{what}};
  };
  if (next_ == list_.size() || list_[next_].path != path) return wrong("not the next file of the contents list");
  const auto& expected = list_[next_++];
  const fs::path shown = incoming_ / expected.path;
  MOLT_TRY(const unique_fd parent, open_parent(expected.path));
  const std::string name = shown.filename().string();
  const unique_fd file{system_.open(parent.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, file_mode)};
  if (!file) return step_failed("creating", shown);
  loader::sha256 hash;
  std::uint64_t size = 0;
  MOLT_CHECK(fill([&](std::string_view bytes) -> result<void> {
    size += bytes.size();
    if (size > expected.size) return wrong("larger than the contents list says");
    hash.add(bytes);
    if (!write_all(system_, file.get(), bytes)) return step_failed("writing", shown);
    return ok();
  }));
  if (size != expected.size) return wrong("smaller than the contents list says");
  if (hash.hex() != expected.sha256) return wrong("its SHA-256 is not the one in the contents list");
  if (system_.sync(file.get()) != 0) return step_failed("syncing", shown);
  return ok();
}

result<void> release_folder::write_contents() {
  const fs::path file = incoming_ / contents_file_name;
  const unique_fd fd{system_.open(AT_FDCWD, file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, file_mode)};
  if (!fd) return step_failed("creating", file);
  if (!write_all(system_, fd.get(), print_contents(list_))) return step_failed("writing", file);
  if (system_.sync(fd.get()) != 0) return step_failed("syncing", file);
  return ok();
}

/// Every folder read-only and durable, the deepest first.
result<void> release_folder::seal_folders() {
  const auto seal = [&](const fs::path& folder) -> result<void> {
    MOLT_CHECK(sync_folder(folder, system_));
    if (system_.change_mode(AT_FDCWD, folder.c_str(), folder_mode) != 0) return step_failed("changing", folder);
    return ok();
  };
  for (auto folder = folders_.rbegin(); folder != folders_.rend(); ++folder) MOLT_CHECK(seal(incoming_ / *folder));
  return seal(incoming_);
}

result<manifest> release_folder::finish() {
  if (next_ != list_.size()) return error{reason::corrupt, list_[next_].path + ": in the contents list, but missing"};
  MOLT_CHECK(write_contents());
  auto read = read_manifest(incoming_);
  if (!read) return without_folder(read.error(), incoming_);
  MOLT_CHECK(seal_folders());
  if (system_.rename(AT_FDCWD, incoming_.c_str(), AT_FDCWD, folder_.c_str()) != 0)
    return step_failed("renaming to", folder_);
  finished_ = true;
  const auto parent = folder_.parent_path();
  if (auto synced = sync_folder(parent, system_); !synced) {
    (void)remove_tree(folder_, system_);
    return std::move(synced).error();
  }
  return read;
}

}  // namespace molt::releases
