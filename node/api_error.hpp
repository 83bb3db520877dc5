// Errors of the control API: {"error":{"reason":"refused","message":"…","hint":"…","exit_code":1}}.
#pragma once

#include "base/error.hpp"
#include "node/http_server.hpp"

#include <optional>
#include <string_view>

namespace molt::node {

/// What `molt` exits with.
enum class exit_code : int {
  done = 0,
  refused = 1,  ///< refused, nothing changed
  usage = 2,
  failed = 3,  ///< failed, everything is as before
  unreachable = 4,
  needs_attention = 5,
};

/// The exit code an error stands for when the one who answers does not know better.
[[nodiscard]] exit_code exit_code_of(reason) noexcept;
/// The same for a message that was sent to a server: without a reply in time nobody knows whether it was handled.
[[nodiscard]] exit_code exit_code_of_call(reason) noexcept;
/// The HTTP status for a reason: 404 not_found, 409 refused and busy, 400 invalid_argument, …
[[nodiscard]] unsigned http_status_of(reason) noexcept;

[[nodiscard]] http_response error_response(const error&);
[[nodiscard]] http_response error_response(const error&, exit_code);

struct api_error {
  error what;
  exit_code code = exit_code::failed;
};

/// The error in an answer with a status of 400 or more; nothing for a success. Never fails: a body that is not ours
/// becomes an error that shows its beginning.
[[nodiscard]] std::optional<api_error> error_of(const http_response&);

}  // namespace molt::node
