// The file-system calls that durability hangs on: a seam, so that a test can fail each of them, or die before it.
//
// Reading needs no seam. Whatever must survive a power cut is written through these calls and no others.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace molt {

/// The calls of POSIX with POSIX's answers: -1 and errno. The base class is the real file system; a test overrides.
/// Threading: any thread.
class file_system {
 public:
  file_system() = default;
  file_system(const file_system&) = delete;
  file_system& operator=(const file_system&) = delete;
  virtual ~file_system();

  /// openat(2) for writing; always close-on-exec.
  virtual int open(int folder, const char* name, int flags, mode_t mode);
  virtual ssize_t write(int fd, const void* bytes, std::size_t size);
  /// fsync(2), of a file or of a folder.
  virtual int sync(int fd);
  virtual int rename(int from_folder, const char* from, int to_folder, const char* to);
  /// renameat2(2) with RENAME_EXCHANGE: two names of one file system change places in one step.
  virtual int exchange(const char* one, const char* other);
  virtual int make_folder(int folder, const char* name, mode_t mode);
  virtual int change_mode(int folder, const char* name, mode_t mode);
  /// unlinkat(2): a file, or with AT_REMOVEDIR an empty folder.
  virtual int remove(int folder, const char* name, int flags);

  /// The real one.
  [[nodiscard]] static file_system& real() noexcept;
};

}  // namespace molt
