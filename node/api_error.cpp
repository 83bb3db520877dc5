#include "node/api_error.hpp"

#include "node/json_codec.hpp"

#include <boost/json.hpp>

#include <string>

namespace molt::node {
namespace {

constexpr std::size_t shown_max = 200;

reason reason_named(std::string_view name) noexcept {
  for (int i = 0; i <= static_cast<int>(reason::unversioned); ++i)
    if (to_string(static_cast<reason>(i)) == name) return static_cast<reason>(i);
  return reason::internal;
}

std::string text_at(const boost::json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string{std::string_view{value->get_string()}} : std::string{};
}

}  // namespace

exit_code exit_code_of(reason why) noexcept {
  switch (why) {
    case reason::refused:
    case reason::invalid_argument:
    case reason::not_found:
    case reason::already_exists:
    case reason::incompatible:
    case reason::unversioned:
    case reason::corrupt:
    case reason::busy:
    case reason::no_such_server:
    case reason::unknown_message:
      return exit_code::refused;
    case reason::unreachable:
      return exit_code::unreachable;
    case reason::needs_attention:
    case reason::server_failed:  // its state is lost, whoever starts it again
      return exit_code::needs_attention;
    case reason::internal:
    case reason::io:
    case reason::out_of_bounds:
    case reason::hook_failed:
    case reason::stopping:
    case reason::timeout:
    case reason::overloaded:
    case reason::would_deadlock:
      return exit_code::failed;
  }
  return exit_code::failed;
}

exit_code exit_code_of_call(reason why) noexcept {
  return why == reason::timeout ? exit_code::needs_attention : exit_code_of(why);
}

unsigned http_status_of(reason why) noexcept {
  switch (why) {
    case reason::invalid_argument:
      return 400;
    case reason::not_found:
    case reason::no_such_server:
    case reason::unknown_message:
      return 404;
    case reason::refused:
    case reason::already_exists:
    case reason::busy:
      return 409;
    case reason::out_of_bounds:
      return 413;
    case reason::incompatible:
    case reason::unversioned:
    case reason::corrupt:
      return 422;
    case reason::stopping:
    case reason::overloaded:
    case reason::unreachable:
      return 503;
    case reason::timeout:
      return 504;
    default:
      return 500;
  }
}

http_response error_response(const error& failed) { return error_response(failed, exit_code_of(failed.why())); }

http_response error_response(const error& failed, exit_code code) {
  const boost::json::value body = {{"error",
                                    {{"reason", to_string(failed.why())},
                                     {"message", failed.message()},
                                     {"hint", failed.hint()},
                                     {"exit_code", static_cast<int>(code)}}}};
  return {http_status_of(failed.why()), as_utf8(boost::json::serialize(body)), "application/json"};
}

std::optional<api_error> error_of(const http_response& response) {
  if (response.status < 400) return std::nullopt;
  boost::system::error_code failed;
  const boost::json::value body = boost::json::parse(response.body, failed);
  const auto* object = failed ? nullptr : body.if_object();
  const auto* inner = object == nullptr ? nullptr : object->if_contains("error");
  if (inner == nullptr || !inner->is_object())
    return api_error{error{reason::internal, "answer " + std::to_string(response.status) +
                                                 " without an error text: " + response.body.substr(0, shown_max)},
                     exit_code::failed};
  const auto& fields = inner->get_object();
  const reason why = reason_named(text_at(fields, "reason"));
  const auto* code = fields.if_contains("exit_code");
  const auto number = code != nullptr && code->is_int64() ? code->get_int64() : -1;
  const bool known = number >= 0 && number <= static_cast<int>(exit_code::needs_attention);
  return api_error{error{why, text_at(fields, "message"), text_at(fields, "hint")},
                   known ? static_cast<exit_code>(number) : exit_code_of(why)};
}

}  // namespace molt::node
