// A box as HTTP answers: GET /v1/status, /v1/servers and what is under it (server_api.hpp), POST /v1/call, /v1/plan,
// /v1/rehearse, /v1/upgrade, /v1/rollback, /v1/commit.
//
// Releases are named by folder here ("release_dir"); moltd, which knows the store, turns ids into folders. A change
// that was carried through, back or refused answers 200 with its result; an error object means that there was no change
// to speak of.
#pragma once

#include "node/box.hpp"
#include "node/http_server.hpp"

#include <string>

namespace molt::node {

/// Answers one request. Threading: any thread but a handler's; several at once.
[[nodiscard]] http_response answer(box&, const http_request&);

// The bodies, as JSON text.
[[nodiscard]] std::string to_json(const upgrade::report&);
[[nodiscard]] std::string to_json(const upgrade::plan&, const std::string& from, const std::string& to);
[[nodiscard]] std::string to_json(const rehearsal_report&);
[[nodiscard]] std::string to_json(const box_status&);

}  // namespace molt::node
