#include "node/listening.hpp"

#include "node/unix_socket.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

namespace molt::node {
namespace {

struct address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

result<address> address_of(const std::string& what, const releases::listen_address& from) {
  address made;
  int parsed = 0;
  if (from.ipv6) {
    auto& to = reinterpret_cast<sockaddr_in6&>(made.storage);
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(from.port);
    parsed = ::inet_pton(AF_INET6, from.host.c_str(), &to.sin6_addr);
    made.size = sizeof to;
  } else {
    auto& to = reinterpret_cast<sockaddr_in&>(made.storage);
    to.sin_family = AF_INET;
    to.sin_port = htons(from.port);
    parsed = ::inet_pton(AF_INET, from.host.c_str(), &to.sin_addr);
    made.size = sizeof to;
  }
  if (parsed != 1) return error{reason::invalid_argument, what + ": no literal address"};
  return made;
}

}  // namespace

result<unique_fd> listen_tcp(const std::string& name, const releases::listen_address& where) {
  const std::string what = "listener " + name + ": " + where.text();
  MOLT_TRY(const address to, address_of(what, where));
  unique_fd fd{::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return system_error(what);
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return system_error(what);
  // "[::]:port" means IPv6 alone: 0.0.0.0 is a listener of its own.
  if (where.ipv6 && ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) return system_error(what);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size) != 0) return system_error(what);
  if (::listen(fd.get(), listen_backlog_tcp) != 0) return system_error(what);
  return fd;
}

}  // namespace molt::node
