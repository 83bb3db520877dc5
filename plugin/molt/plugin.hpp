// What a plugin author includes. See docs/reference/plugin.md.
//
//     struct state { std::int64_t value = 0; };
//     struct add { using reply = std::int64_t; std::int64_t by = 1; };
//
//     struct server : molt::server<state> {
//       std::int64_t handle_call(molt::context&, const add& message) { return self().value += message.by; }
//     };
//
//     MOLT_PLUGIN("counter", "1.0.0", server)
#pragma once

#include "plugin/abi.h"
#include "plugin/archive.hpp"
#include "plugin/change.hpp"
#include "plugin/context.hpp"
#include "plugin/definition.hpp"
#include "plugin/evolving_map.hpp"
#include "plugin/evolving_set.hpp"
#include "plugin/evolving_vector.hpp"
#include "plugin/note.hpp"
#include "plugin/prevented.hpp"
#include "plugin/schema.hpp"
#include "plugin/server.hpp"
#include "plugin/table.hpp"
#include "plugin/types.hpp"
