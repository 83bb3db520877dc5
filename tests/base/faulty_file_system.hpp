// A file system that fails or dies at a chosen step, and a power cut that takes what was not synced.
//
// A step is one call through the seam. Run the work once without a fault to learn how many steps it has, then once for
// each step.
#pragma once

#include "base/file_system.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace molt::tests {

enum class fault {
  none,
  error,              ///< the step fails with `error_number` and does nothing
  half_write,         ///< a write writes half of its bytes, and the next step fails; other steps fail
  kill,               ///< the process dies before the step; what it did stays
  power_cut,          ///< the same, and everything that was not synced is lost
  power_cut_of_data,  ///< the same, but names reached the disk before the data did
};

/// What a child that died at the chosen step exits with.
inline constexpr int died = 77;

class faulty_file_system : public file_system {
 public:
  faulty_file_system() = default;
  faulty_file_system(fault what, int step, int error_number = EIO)
      : what_{what}, at_{step}, error_number_{error_number} {}

  /// Steps taken so far.
  [[nodiscard]] int steps() const noexcept { return steps_; }

  int open(int folder, const char* name, int flags, mode_t mode) override {
    if (fails()) return -1;
    const std::string path = path_of(folder, name);
    const bool made = (flags & O_CREAT) != 0 && !std::filesystem::exists(path);
    const int fd = file_system::open(folder, name, flags, mode);
    if (fd >= 0 && made) created_.push_back(path);
    if (fd >= 0 && (flags & O_TRUNC) != 0) unsynced_.insert_or_assign(path, true);
    return fd;
  }
  ssize_t write(int fd, const void* bytes, std::size_t size) override {
    if (what_ == fault::half_write && steps_ + 1 == at_ && size > 1) size /= 2, ++at_;
    if (fails()) return -1;
    unsynced_.insert_or_assign(path_of(fd), true);
    return file_system::write(fd, bytes, size);
  }
  int sync(int fd) override {
    if (fails()) return -1;
    const std::string path = path_of(fd);
    unsynced_.erase(path);
    const auto inside = [&](const std::string& entry) { return parent(entry) == path; };
    std::erase_if(created_, inside);
    std::erase_if(renamed_, [&](const rename_record& r) { return inside(r.to); });
    std::erase_if(exchanged_, [&](const auto& pair) { return inside(pair.second); });
    return file_system::sync(fd);
  }
  int rename(int from_folder, const char* from, int to_folder, const char* to) override {
    if (fails()) return -1;
    rename_record record{path_of(from_folder, from), path_of(to_folder, to), false, {}};
    record.replaced = std::filesystem::is_regular_file(record.to);
    if (record.replaced) record.content = content_of(record.to);
    if (const auto data = unsynced_.extract(record.from); !data.empty()) unsynced_.insert_or_assign(record.to, true);
    std::erase(created_, record.from);
    const int done = file_system::rename(from_folder, from, to_folder, to);
    if (done == 0) renamed_.push_back(record);
    return done;
  }
  int exchange(const char* one, const char* other) override {
    if (fails()) return -1;
    const int done = file_system::exchange(one, other);
    if (done == 0) exchanged_.emplace_back(one, other);
    return done;
  }
  int make_folder(int folder, const char* name, mode_t mode) override {
    if (fails()) return -1;
    const int done = file_system::make_folder(folder, name, mode);
    if (done == 0) created_.push_back(path_of(folder, name));
    return done;
  }
  int change_mode(int folder, const char* name, mode_t mode) override {
    return fails() ? -1 : file_system::change_mode(folder, name, mode);
  }
  int remove(int folder, const char* name, int flags) override {
    if (fails()) return -1;
    std::erase(created_, path_of(folder, name));
    unsynced_.erase(path_of(folder, name));
    return file_system::remove(folder, name, flags);
  }

 private:
  struct rename_record {
    std::string from;
    std::string to;
    bool replaced;
    std::string content;  ///< what `to` held before
  };

  bool fails() {
    if (++steps_ != at_ || what_ == fault::none) return false;
    if (what_ == fault::error || what_ == fault::half_write) {
      errno = error_number_;
      return true;
    }
    if (what_ != fault::kill) lose();
    ::_exit(died);
  }

  void lose() {
    for (const auto& [path, unused] : unsynced_) (void)::truncate(path.c_str(), 0);
    if (what_ == fault::power_cut_of_data) return;
    for (auto pair = exchanged_.rbegin(); pair != exchanged_.rend(); ++pair)
      (void)file_system::exchange(pair->first.c_str(), pair->second.c_str());
    for (auto record = renamed_.rbegin(); record != renamed_.rend(); ++record) {
      (void)::rename(record->to.c_str(), record->from.c_str());
      if (record->replaced) std::ofstream{record->to, std::ios::binary} << record->content;
    }
    for (auto path = created_.rbegin(); path != created_.rend(); ++path) {
      std::error_code ignored;
      std::filesystem::remove_all(*path, ignored);
    }
  }

  [[nodiscard]] static std::string path_of(int fd) {
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)).string();
  }
  [[nodiscard]] static std::string path_of(int folder, const std::string& name) {
    if (name.starts_with('/')) return name;
    return folder == AT_FDCWD ? (std::filesystem::current_path() / name).string() : path_of(folder) + '/' + name;
  }
  [[nodiscard]] static std::string parent(const std::string& path) { return path.substr(0, path.rfind('/')); }
  [[nodiscard]] static std::string content_of(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  fault what_ = fault::none;
  int at_ = std::numeric_limits<int>::max();
  int error_number_ = EIO;
  int steps_ = 0;
  std::map<std::string, bool> unsynced_;                        ///< files with data that only memory holds
  std::vector<std::string> created_;                            ///< entries whose folder was not synced since
  std::vector<rename_record> renamed_;                          ///< renames whose folder was not synced since
  std::vector<std::pair<std::string, std::string>> exchanged_;  ///< the same for exchanges
};

}  // namespace molt::tests
