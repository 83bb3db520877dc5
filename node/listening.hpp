// Listening TCP sockets.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "releases/manifest.hpp"

namespace molt::node {

inline constexpr int listen_backlog_tcp = 4096;

/// Binds and listens. `name` begins the error's text. Error: io ("listener redis: 127.0.0.1:6379: Address already in
/// use").
result<unique_fd> listen_tcp(const std::string& name, const releases::listen_address&);

}  // namespace molt::node
