// The table that loaded code returned, held against the note that was read before it ran.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "plugin/description.hpp"

#include <vector>

namespace molt::loader {

/// For each index of a plugin_description, what it is in the image.
struct bound_table {
  const molt_plugin_table* table = nullptr;
  std::vector<const molt_server_type*> server_types;
  std::vector<const molt_schema*> schemas;
  std::vector<const molt_message*> messages;
  std::vector<const molt_edge*> state_edges;
  std::vector<const molt_edge*> message_edges;
  std::vector<const molt_edge*> reply_edges;
};

/// Errors: incompatible (ABI version or size, or any fact differs; names the fact), refused (the table's own defect).
/// Lists them by what they are, not where they stand: table and note may have different orders.
[[nodiscard]] result<bound_table> bind_table(const molt_plugin_table*, const plugin_description& note);

}  // namespace molt::loader
