#include "releases/file_pieces.hpp"

#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace molt::releases {

result<void> read_in_pieces(const std::filesystem::path& file,
                            const std::function<result<void>(std::string_view)>& take) {
  const unique_fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!fd) return system_error("opening", file, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_error("reading", file, errno);
  if (!S_ISREG(status.st_mode)) return error{reason::refused, file.string() + ": not a regular file"};
  std::vector<char> buffer(std::size_t{256} << 10U);
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("reading", file, errno);
    if (got == 0) return ok();
    MOLT_CHECK(take({buffer.data(), static_cast<std::size_t>(got)}));
  }
}

}  // namespace molt::releases
