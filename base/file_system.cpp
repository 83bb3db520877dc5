#include "base/file_system.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace molt {

file_system::~file_system() = default;

int file_system::open(int folder, const char* name, int flags, mode_t mode) {
  return ::openat(folder, name, flags | O_CLOEXEC, mode);
}

ssize_t file_system::write(int fd, const void* bytes, std::size_t size) { return ::write(fd, bytes, size); }

int file_system::sync(int fd) { return ::fsync(fd); }

int file_system::rename(int from_folder, const char* from, int to_folder, const char* to) {
  return ::renameat(from_folder, from, to_folder, to);
}

int file_system::exchange(const char* one, const char* other) {
  return ::renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

int file_system::make_folder(int folder, const char* name, mode_t mode) { return ::mkdirat(folder, name, mode); }

int file_system::change_mode(int folder, const char* name, mode_t mode) { return ::fchmodat(folder, name, mode, 0); }

int file_system::remove(int folder, const char* name, int flags) { return ::unlinkat(folder, name, flags); }

file_system& file_system::real() noexcept {
  static file_system system;
  return system;
}

}  // namespace molt
