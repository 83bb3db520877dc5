// What went wrong, what was being done, and what the caller may do next.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace molt {

/// Why an operation failed, by what the caller can do about it.
enum class reason {
  internal,          ///< a fault of molt itself; report it
  invalid_argument,  ///< the input is malformed; correct it
  not_found,         ///< the named thing does not exist
  already_exists,    ///< the name is taken
  refused,           ///< checked and refused; nothing was changed
  incompatible,      ///< schemas, ABI or toolchain do not fit and no edge leads across
  corrupt,           ///< bytes from outside do not hold what they claim
  io,                ///< the operating system said no; the text holds its words
  out_of_bounds,     ///< a stated limit was reached
  hook_failed,       ///< a plugin's function threw or returned failure
  busy,              ///< another operation is under way; try again later
  stopping,          ///< the runtime or server is going down
  timeout,           ///< the deadline passed
  no_such_server,    ///< the reference or name leads to no living server
  server_failed,     ///< the handler threw; its server was failed
  overloaded,        ///< the mailbox is full
  would_deadlock,    ///< the call would wait for itself
  unknown_message,   ///< the receiver handles no such message
  needs_attention,   ///< consistent and serving, but an operator must decide
  unreachable,       ///< the node or daemon does not answer
  unversioned,       ///< a state or message changed though the version of its plugin did not; raise it
};

/// The reason's name as it stands in JSON, e.g. "no_such_server".
[[nodiscard]] constexpr std::string_view to_string(reason why) noexcept {
  switch (why) {
    case reason::internal: return "internal";
    case reason::invalid_argument: return "invalid_argument";
    case reason::not_found: return "not_found";
    case reason::already_exists: return "already_exists";
    case reason::refused: return "refused";
    case reason::incompatible: return "incompatible";
    case reason::corrupt: return "corrupt";
    case reason::io: return "io";
    case reason::out_of_bounds: return "out_of_bounds";
    case reason::hook_failed: return "hook_failed";
    case reason::busy: return "busy";
    case reason::stopping: return "stopping";
    case reason::timeout: return "timeout";
    case reason::no_such_server: return "no_such_server";
    case reason::server_failed: return "server_failed";
    case reason::overloaded: return "overloaded";
    case reason::would_deadlock: return "would_deadlock";
    case reason::unknown_message: return "unknown_message";
    case reason::needs_attention: return "needs_attention";
    case reason::unreachable: return "unreachable";
    case reason::unversioned: return "unversioned";
  }
  return "internal";
}

/// A reason, a sentence that names the thing, and a hint what to do next.
///
/// `with("installing kv-2.0.0")` puts context in front while an error travels up:
/// "installing kv-2.0.0: plugins/kv.so: no build ID".
class error {
 public:
  error() = default;
  error(reason why, std::string message, std::string hint = {})
      : why_{why}, message_{std::move(message)}, hint_{std::move(hint)} {}

  [[nodiscard]] reason why() const noexcept { return why_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

  [[nodiscard]] error with(std::string_view context) && {
    message_.insert(0, ": ");
    message_.insert(0, context);
    return std::move(*this);
  }
  [[nodiscard]] error with(std::string_view context) const& { return error{*this}.with(context); }

  /// For logs and terminals: message, then the hint in brackets.
  [[nodiscard]] std::string text() const {
    return hint_.empty() ? message_ : message_ + " (" + hint_ + ")";
  }

 private:
  reason why_ = reason::internal;
  std::string message_ = "unspecified error";
  std::string hint_;
};

}  // namespace molt
