// One HTTP/1.1 request over a Unix socket.
#pragma once

#include "base/result.hpp"
#include "node/http_server.hpp"

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

namespace molt::node {

/// Sends one request and waits for the whole answer; an answer of any status is a success. `timeout` covers everything.
/// Errors: unreachable (nobody answers at `socket_path`), timeout, io (the connection broke), corrupt (no HTTP),
/// out_of_bounds (an answer of more than 64 MiB), invalid_argument (path too long).
/// `given_up`, if there is one, is asked now and then; when it says so the connection is closed. Error then: stopping.
/// `*reached`, if there is one, is set once somebody was connected to: after that an error leaves open whether the
/// request was carried out.
/// Threading: any thread; blocks it.
result<http_response> request(const std::string& socket_path, std::string_view method, std::string_view target,
                              std::string_view body, std::chrono::milliseconds timeout,
                              const std::function<bool()>& given_up = {}, bool* reached = nullptr);

}  // namespace molt::node
