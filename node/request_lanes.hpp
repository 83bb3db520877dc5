// Which requests of the control API may wait long, and on what: so that those which don't are always answered.
//
//   lane      holds                                                waits for
//   prompt    status, lists, reports, trace, resume                nobody
//   change    upgrade, rehearse, rollback, commit, plan, install   the release that moves
//   waiting   calls, states, suspend, and all else                 servers, and so for plugins' code
//
// moltd and molt-node have the same paths and use the same lanes: a request that passes through both stands in the same
// one of each.
#pragma once

#include "node/http_server.hpp"

#include <cstddef>

namespace molt::node {

enum class request_lane : std::size_t { prompt, change, waiting };

/// Threads of each lane. Of those waiting so many are under way at once; more queue among themselves.
inline constexpr unsigned prompt_threads = 3;
inline constexpr unsigned change_threads = 4;
inline constexpr unsigned waiting_threads = 16;

[[nodiscard]] request_lane lane_of(const http_request&) noexcept;

/// For a server of the control API.
[[nodiscard]] http_server_options control_api_options();

}  // namespace molt::node
