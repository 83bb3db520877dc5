// What moltd's answers to its control socket have in common.
#pragma once

#include "node/api_error.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace molt::daemon {

[[nodiscard]] inline node::http_response respond(const boost::json::object& body) {
  return {200, boost::json::serialize(body), "application/json"};
}

/// Refused before anything was changed, whatever the reason.
[[nodiscard]] inline node::http_response refused(const error& why) {
  const bool unreachable = why.why() == reason::unreachable || why.why() == reason::stopping;
  return node::error_response(why, unreachable ? node::exit_code::unreachable : node::exit_code::refused);
}

}  // namespace molt::daemon
