// Unix sockets for our user only.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <sys/types.h>

#include <chrono>
#include <string>

namespace molt::node {

/// Binds and listens at a path with mode 0600; `type` is SOCK_STREAM or SOCK_SEQPACKET. A socket file that nobody
/// answers on is replaced; any other file is left alone. Non-blocking, close-on-exec. Errors: busy (somebody answers),
/// invalid_argument (longer than the 107 bytes a socket's path may have), io.
result<unique_fd> listen_unix(const std::string& path, int type);

/// Connects; waits while the other side's queue is full, until the deadline. Non-blocking, close-on-exec.
/// Errors: unreachable, invalid_argument, io.
result<unique_fd> connect_unix(const std::string& path, int type, std::chrono::steady_clock::time_point deadline);

/// Whether the process that connected runs as root or as our user, by SO_PEERCRED.
[[nodiscard]] bool peer_is_ours(int fd) noexcept;

/// The file behind a bound path, to remove at the end only what we made.
struct socket_file {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;

  [[nodiscard]] static socket_file of(const std::string& path) noexcept;
  void remove() const noexcept;
};

/// "what: No such file or directory", with the present errno.
[[nodiscard]] error system_error(const std::string& what);

}  // namespace molt::node
