// Which hooks a message and its reply go through between versions of a server type that are loaded.
//
// Internal to upgrade/.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "server/message_route.hpp"
#include "server/server_type.hpp"
#include "state_migration/migration_graph.hpp"

#include <vector>

namespace molt::upgrade::detail {

/// Between versions of one server type, the preferred one first; `going` is the message's way, its reply comes back.
struct message_versions {
  std::vector<const servers::server_type*> types;
  migration::direction going = migration::direction::up;
};

/// Fills in how the message reaches `into.handler`, if there is one, and how a reply of the schema `answered`, if there
/// is one, reaches who sent the message. Errors: those of migration_graph::find; incompatible where only one of both is
/// a call.
[[nodiscard]] result<void> find_message_ways(const message_versions&, const molt_message& sent,
                                             const molt_schema* answered, servers::message_route& into);

}  // namespace molt::upgrade::detail
