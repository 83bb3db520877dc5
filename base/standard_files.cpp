#include "base/standard_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace molt {

void open_standard_files() noexcept {
  constexpr int ways[] = {O_WRONLY, O_RDONLY, O_RDWR};
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest that is free, and those below are not. Without /dev/null nothing can be kept out of its place.
    if (::open("/dev/null", ways[fd]) != fd) std::abort();  // NOLINT(cppcoreguidelines-pro-bounds-constant-array-index)
  }
}

}  // namespace molt
