#include "node/unix_socket.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

namespace molt::node {
namespace {

constexpr int listen_backlog = 256;
constexpr auto connect_retry = std::chrono::milliseconds{5};

result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return error{reason::invalid_argument,
                 path + ": a socket's path has 1 to " + std::to_string(sizeof address.sun_path - 1) + " bytes",
                 "choose a shorter runtime directory"};
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

unique_fd make_socket(int type) { return unique_fd{::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)}; }

/// Makes room for a new socket file: removes one that nobody answers on.
result<void> clear_stale(const std::string& path, const sockaddr_un& address, int type) {
  struct stat file {};
  if (::lstat(path.c_str(), &file) != 0) {
    if (errno == ENOENT) return ok();
    return system_error(path);
  }
  if (!S_ISSOCK(file.st_mode))
    return error{reason::io, path + ": exists and is not a socket", "remove it or choose another"};
  const unique_fd probe = make_socket(type);
  if (!probe) return system_error("socket");
  if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno == EAGAIN)
    return error{reason::busy, path + ": another process answers there", "stop it first"};
  if (errno != ECONNREFUSED && errno != ENOENT) return system_error(path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return system_error(path);
  return ok();
}

}  // namespace

error system_error(const std::string& what) {
  const int code = errno;
  return error{reason::io, what + ": " + std::generic_category().message(code)};
}

result<unique_fd> listen_unix(const std::string& path, int type) {
  MOLT_TRY(const sockaddr_un address, address_of(path));
  MOLT_CHECK(clear_stale(path, address, type));
  unique_fd fd = make_socket(type);
  if (!fd) return system_error("socket");
  // The mode a socket has when it is bound is the file's: so there is no moment in which others may connect.
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0) return system_error(path);
  if (::bind(fd.get(), generic(address), sizeof address) != 0) return system_error(path);
  if (::listen(fd.get(), listen_backlog) != 0) return system_error(path);
  return fd;
}

result<unique_fd> connect_unix(const std::string& path, int type, std::chrono::steady_clock::time_point deadline) {
  MOLT_TRY(const sockaddr_un address, address_of(path));
  unique_fd fd = make_socket(type);
  if (!fd) return system_error("socket");
  while (::connect(fd.get(), generic(address), sizeof address) != 0) {
    if (errno == EINTR) continue;
    const bool full = errno == EAGAIN;
    if (full && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(connect_retry);
      continue;
    }
    const error failed = system_error(path);
    return error{reason::unreachable, failed.message(), "is it running, and as the same user?"};
  }
  return fd;
}

bool peer_is_ours(int fd) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

socket_file socket_file::of(const std::string& path) noexcept {
  struct stat file {};
  if (::lstat(path.c_str(), &file) != 0) return {};
  return {path, file.st_dev, file.st_ino};
}

void socket_file::remove() const noexcept {
  struct stat file {};
  if (path.empty() || ::lstat(path.c_str(), &file) != 0) return;
  if (file.st_dev == device && file.st_ino == inode) ::unlink(path.c_str());
}

}  // namespace molt::node
