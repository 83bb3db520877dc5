// A folder of its own for one test, gone afterwards; and running code in a child process.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>

namespace molt::tests {

class scratch_folder {
 public:
  scratch_folder() {
    // In memory where there is such a place: losing what was not synced is simulated, so a real disk only costs time.
    const bool memory = std::getenv("TMPDIR") == nullptr && ::access("/dev/shm", W_OK) == 0;
    std::string name =
        ((memory ? std::filesystem::path{"/dev/shm"} : std::filesystem::temp_directory_path()) / "molt-test.XXXXXX")
            .string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    namespace fs = std::filesystem;
    for (fs::recursive_directory_iterator i{path_, ignored}, end; i != end; i.increment(ignored))
      if (i->is_directory(ignored) && !i->is_symlink(ignored))
        fs::permissions(i->path(), fs::perms::owner_all, ignored);
    fs::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  [[nodiscard]] bool empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& file, std::string_view content) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream{file, std::ios::binary} << content;
}

/// Runs `work` in a child and returns its exit status, or minus the signal that ended it. 0 when `work` returned.
inline int run_in_child(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) std::abort();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace molt::tests
