// Listening sockets handed between moltd and molt-node over a Unix socket (SOCK_SEQPACKET, SCM_RIGHTS).
//
//   request                         + descriptors     answer                       + descriptors
//   {"get":true}                                      {"names":["redis",…]}        one per name
//   {"put":["redis",…]}             one per name      {"ok":true}
//                                                     {"error":{…}} as everywhere
//
// One request per connection. At most 128 descriptors travel at once (the kernel's limit is 253).
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace molt::node {

inline constexpr std::size_t fd_channel_fds_max = 128;

struct named_fd {
  std::string name;
  unique_fd fd;
};

/// Answers the requests above until destroyed. Peers must be root or our user.
/// Threading: the functions are called on the server's one thread.
class fd_channel_server {
 public:
  struct functions {
    std::function<std::vector<named_fd>()> get;  ///< duplicates; closed after they were sent
    std::function<result<void>(std::vector<named_fd>)> put;
  };
  static result<std::unique_ptr<fd_channel_server>> listen(const std::string& path, functions);

  fd_channel_server(const fd_channel_server&) = delete;
  fd_channel_server& operator=(const fd_channel_server&) = delete;
  ~fd_channel_server();

 private:
  class implementation;
  explicit fd_channel_server(std::unique_ptr<implementation>) noexcept;
  std::unique_ptr<implementation> implementation_;
};

/// Asks for all listening sockets of the process that answers at `socket_path`. Errors: unreachable, timeout, corrupt,
/// io.
result<std::vector<named_fd>> get_fds(const std::string& socket_path, std::chrono::milliseconds timeout);
/// Hands sockets over; ours stay open. Errors: as above, and what the other side answers.
result<void> put_fds(const std::string& socket_path, const std::vector<std::pair<std::string, int>>& fds,
                     std::chrono::milliseconds timeout);

}  // namespace molt::node
