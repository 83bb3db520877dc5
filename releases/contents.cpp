// The list of a release's files: made from a folder, printed, parsed, compared.
#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"
#include "loader/sha256.hpp"
#include "releases/file_pieces.hpp"
#include "releases/package.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view first_line = "molt-contents 1\n";
static_assert(contents_version == 1, "the first line names the version");

constexpr std::string_view repair = "install the package that it came from again: that repairs it";

[[nodiscard]] std::string digest_of(std::string_view text) {
  loader::sha256 hash;
  hash.add(text);
  return hash.hex();
}

[[nodiscard]] error corrupt(const std::string& text) {
  return error{reason::corrupt, std::string{contents_file_name} + ": " + text};
}

/// What every list must hold to, wherever it came from.
result<void> check_list(const std::vector<content_entry>& list) {
  std::uint64_t total = 0;
  const content_entry* before = nullptr;
  for (const auto& entry : list) {
    if (before != nullptr && before->path >= entry.path) return corrupt("not sorted, or a path twice: " + entry.path);
    // Sorted, so a file that is also a folder stands before its first child - but not always right before it.
    for (auto slash = entry.path.find('/'); slash != std::string::npos; slash = entry.path.find('/', slash + 1)) {
      const auto parent = std::string_view{entry.path}.substr(0, slash);
      const auto same = [](const content_entry& e, std::string_view path) { return std::string_view{e.path} < path; };
      const auto found = std::lower_bound(list.begin(), list.end(), parent, same);
      if (found != list.end() && found->path == parent) return corrupt(found->path + " is both a file and a folder");
    }
    if (entry.size > package_bytes_max || (total += entry.size) > package_bytes_max)
      return error{reason::out_of_bounds,
                   "the files are larger than " + std::to_string(package_bytes_max) + " bytes together"};
    before = &entry;
  }
  return ok();
}

result<void> check_path(std::string_view path) {
  if (!is_contained_path(path)) return corrupt("a path that leads elsewhere or has odd characters");
  if (static_cast<std::size_t>(std::count(path.begin(), path.end(), '/')) >= package_path_depth_max)
    return error{reason::out_of_bounds,
                 "more than " + std::to_string(package_path_depth_max) + " folders deep: " + std::string{path}};
  if (path == contents_file_name) return corrupt("lists itself");
  return ok();
}

result<content_entry> parse_line(std::string_view line, std::size_t number) {
  const std::string where = "line " + std::to_string(number) + ": ";
  const auto hash_end = line.find(' ');
  const auto size_end = hash_end == std::string_view::npos ? hash_end : line.find(' ', hash_end + 1);
  if (size_end == std::string_view::npos) return corrupt(where + "not \"<hash> <size> <path>\"");
  content_entry entry;
  entry.sha256 = line.substr(0, hash_end);
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (entry.sha256.size() != 64 || !std::all_of(entry.sha256.begin(), entry.sha256.end(), hex))
    return corrupt(where + "the hash is not 64 hex digits");
  const auto size = line.substr(hash_end + 1, size_end - hash_end - 1);
  const auto [end, failed] = std::from_chars(size.data(), size.data() + size.size(), entry.size);
  if (failed != std::errc{} || end != size.data() + size.size() || size != std::to_string(entry.size))
    return corrupt(where + "the size is not a number");
  entry.path = line.substr(size_end + 1);
  if (auto fine = check_path(entry.path); !fine)
    return std::move(fine).error().with(std::string{contents_file_name} + " line " + std::to_string(number));
  return entry;
}

/// Walks a folder, depth first; adds regular files with path and size.
class folder_walk {
 public:
  explicit folder_walk(const fs::path& root) : root_{root} {}

  result<void> add(const std::string& below) {
    std::error_code failed;
    const fs::path here = below.empty() ? root_ : root_ / below;
    fs::directory_iterator entries{here, failed};
    if (failed) return system_error("reading the folder", here, failed.value());
    for (; entries != fs::directory_iterator{}; entries.increment(failed)) {
      if (failed) return system_error("reading the folder", here, failed.value());
      const std::string name = entries->path().filename().string();
      MOLT_CHECK(add_entry(below.empty() ? name : below + '/' + name));
      if (failed) break;
    }
    if (failed) return system_error("reading the folder", here, failed.value());
    return ok();
  }

  [[nodiscard]] std::vector<content_entry> take() && {
    std::sort(list_.begin(), list_.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return std::move(list_);
  }

 private:
  result<void> add_entry(const std::string& path) {
    if (path == contents_file_name) return ok();
    const fs::path file = root_ / path;
    if (auto fine = check_path(path); !fine)
      return error{reason::refused, file.string() + ": a name that cannot be packed"};
    struct stat status {};
    if (::lstat(file.c_str(), &status) != 0) return system_error("looking at", file, errno);
    if (S_ISDIR(status.st_mode)) return add(path);
    if (!S_ISREG(status.st_mode))
      return error{reason::refused,
                   file.string() + ": " + (S_ISLNK(status.st_mode) ? "a symbolic link" : "a special file"),
                   "a release holds regular files and folders only"};
    if (list_.size() >= package_files_max)
      return error{reason::out_of_bounds,
                   root_.string() + ": more than " + std::to_string(package_files_max) + " files"};
    list_.push_back({path, static_cast<std::uint64_t>(status.st_size), {}});
    return ok();
  }

  fs::path root_;
  std::vector<content_entry> list_;
};

}  // namespace

std::string print_contents(const std::vector<content_entry>& list) {
  std::string text{first_line};
  for (const auto& entry : list) text += entry.sha256 + ' ' + std::to_string(entry.size) + ' ' + entry.path + '\n';
  return text;
}

result<std::vector<content_entry>> parse_contents(std::string_view text) {
  if (text.size() > contents_bytes_max)
    return error{reason::out_of_bounds,
                 std::string{contents_file_name} + ": larger than " + std::to_string(contents_bytes_max) + " bytes"};
  if (!text.starts_with(first_line)) return corrupt("does not begin with \"molt-contents 1\"");
  text.remove_prefix(first_line.size());
  std::vector<content_entry> list;
  for (std::size_t number = 2; !text.empty(); ++number) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return corrupt("the last line is cut");
    if (list.size() == package_files_max)
      return error{reason::out_of_bounds,
                   std::string{contents_file_name} + ": more than " + std::to_string(package_files_max) + " files"};
    MOLT_TRY(auto entry, parse_line(text.substr(0, end), number));
    list.push_back(std::move(entry));
    text.remove_prefix(end + 1);
  }
  MOLT_CHECK(check_list(list));
  return list;
}

result<std::vector<content_entry>> list_contents(const fs::path& folder) {
  folder_walk walk{folder};
  MOLT_CHECK(walk.add(""));
  auto list = std::move(walk).take();
  MOLT_CHECK(check_list(list));
  for (auto& entry : list) {
    loader::sha256 hash;
    std::uint64_t size = 0;
    MOLT_CHECK(read_in_pieces(folder / entry.path, [&](std::string_view piece) {
      hash.add(piece);
      size += piece.size();
      return ok();
    }));
    if (size != entry.size) return error{reason::io, (folder / entry.path).string() + ": changed while it was read"};
    entry.sha256 = hash.hex();
  }
  return list;
}

result<std::vector<content_entry>> read_contents(const fs::path& folder, std::string_view digest) {
  auto text = read_file(folder / contents_file_name, contents_bytes_max);
  if (!text && text.error().why() == reason::not_found && !digest.empty())
    return error{reason::corrupt, (folder / contents_file_name).string() + ": is missing", std::string{repair}};
  if (!text) return std::move(text).error();
  if (const auto found = digest_of(*text); !digest.empty() && found != digest)
    return error{reason::corrupt,
                 (folder / contents_file_name).string() + ": has changed since it was installed: its SHA-256 is " +
                     found + ", that of what was installed is " + std::string{digest},
                 std::string{repair}};
  auto list = parse_contents(*text);
  if (!list) return error{list.error().why(), folder.string() + ": " + list.error().message()};
  return list;
}

std::string contents_digest(const fs::path& folder) {
  const auto text = read_file(folder / contents_file_name, contents_bytes_max);
  return text ? digest_of(*text) : std::string{};
}

result<installed_files> read_installed(const fs::path& folder, std::string_view digest) {
  installed_files made;
  const auto listed = read_contents(folder, digest);
  if (!listed && listed.error().why() == reason::not_found) {
    MOLT_TRY(made.release, read_manifest(folder));
    made.plugins = plugin_files(folder, made.release);
    return made;
  }
  if (!listed) return listed.error();
  const auto stated = [&](const std::string& path) -> result<std::string> {
    const auto found =
        std::find_if(listed->begin(), listed->end(), [&](const content_entry& each) { return each.path == path; });
    if (found != listed->end()) return found->sha256;
    return error{reason::corrupt,
                 (folder / path).string() + ": not in the release's " + std::string{contents_file_name},
                 std::string{repair}};
  };
  MOLT_TRY(const auto manifest_digest, stated(std::string{manifest_file_name}));
  MOLT_TRY(made.release, read_manifest(folder, manifest_digest));
  made.plugins = plugin_files(folder, made.release);
  for (std::size_t i = 0; i < made.plugins.size(); ++i) {
    MOLT_TRY(made.plugins[i].sha256, stated(made.release.plugins[i].file));
  }
  return made;
}

result<void> verify_contents(const fs::path& folder, std::string_view digest) {
  const auto listed = read_contents(folder, digest);
  if (!listed) return error{reason::corrupt, listed.error().message(), std::string{repair}};
  MOLT_TRY(const auto found, list_contents(folder));
  auto expected = listed->begin();
  const auto wrong = [&](const std::string& path, std::string_view what) {
    return error{reason::corrupt, (folder / path).string() + ": " + std::string{what}, std::string{repair}};
  };
  for (const auto& file : found) {
    if (expected == listed->end() || file.path < expected->path)
      return wrong(file.path, "does not belong to the release");
    if (file.path > expected->path) return wrong(expected->path, "is missing");
    if (file != *expected) return wrong(file.path, "has changed since it was installed");
    ++expected;
  }
  if (expected != listed->end()) return wrong(expected->path, "is missing");
  return ok();
}

}  // namespace molt::releases
