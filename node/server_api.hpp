// What the control API answers about single servers: OTP's sys as HTTP.
//
//   GET  /v1/servers?limit=&type=&order=&measure=   all of them, or the first by some order
//   GET  /v1/servers/S/status?measure=              one, with what is recorded of it
//   GET  /v1/servers/S/state                        its state as JSON, through format_status
//   PUT  /v1/servers/S/state                        replaces it
//   POST /v1/servers/S/suspend, resume, watch, unwatch
//   GET  /v1/servers/S/trace?after=N                what a watched server has handled
//   POST /v1/servers/S/record                       keeps its last messages
//   GET  /v1/servers/S/record                       those that are kept, without their payloads
//
// S is a name or, where nobody has that name, the number of a reference. It ends at the last slash, so that a name may
// hold slashes.
#pragma once

#include "base/result.hpp"
#include "node/http_server.hpp"
#include "server/runtime.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace molt::node {

/// The largest state that goes through JSON, as an archive; and the largest JSON that is made of one.
inline constexpr std::size_t state_bytes_max = std::size_t{8} << 20U;
inline constexpr std::size_t state_text_max = std::size_t{48} << 20U;

[[nodiscard]] bool is_about_servers(std::string_view path) noexcept;
/// Threading: any thread but a handler's; several at once.
[[nodiscard]] result<http_response> answer_about_servers(servers::runtime&, const http_request&);

/// A server by its name or its reference's number. Error: no_such_server.
[[nodiscard]] result<molt_ref> find_server(servers::runtime&, std::string_view name_or_ref);

/// What may be shown of a state. Errors: those of runtime::get_state; incompatible (not transparent).
struct shown_state {
  servers::state_copy copy;
  boost::json::value value;
};
[[nodiscard]] result<shown_state> state_as_json(servers::runtime&, molt_ref);
/// `whole`: the value holds the hidden members too, for a type with format_status. Errors: invalid_argument (names the
/// member), incompatible, and those of runtime::replace_state; refused (hidden members would be lost).
[[nodiscard]] result<void> replace_state_from_json(servers::runtime&, molt_ref, const boost::json::value&, bool whole);

// As the API has them (server_json.cpp).
[[nodiscard]] boost::json::object object_of(const servers::server_info&);
[[nodiscard]] boost::json::object object_of(const servers::duration_histogram&);
[[nodiscard]] boost::json::object object_of(const servers::trace_event&);
[[nodiscard]] boost::json::object object_of(const servers::recorded_message&);
[[nodiscard]] std::string_view kind_text(servers::message_kind) noexcept;
/// "2026-01-31T12:00:00Z", with microseconds if `precise`.
[[nodiscard]] std::string utc_text(std::chrono::nanoseconds since_epoch, bool precise);
/// A molt_status as in "no_such_server".
[[nodiscard]] std::string_view status_text(int status) noexcept;

}  // namespace molt::node
