// Sentences about a change between two plugins that `molt plan`, `molt diff`, the build's gate and the store share:
// what to write where a hook is missing, and what changed without a new version.
//
// Threading: plain values.
#pragma once

#include "plugin/description.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// A hook that is not there. Hooks of both directions stand in the newer plugin, beside the older type frozen in a
/// namespace named after its version's first number.
struct missing_hook {
  std::string_view function = "code_change";  ///< as it is called going up; "_down" is appended for the other direction
  std::string_view type;                      ///< "counter.server"
  const plugin_description* older = nullptr;
  const plugin_description* newer = nullptr;
  const schema_description* before = nullptr;  ///< the older plugin's
  const schema_description* after = nullptr;   ///< the newer plugin's
  bool down = false;
};

/// "write static counter::state code_change(v1::state&&) in counter.server 2.0.0"
[[nodiscard]] std::string hook_to_write(const missing_hook&);

/// What differs between two builds of the same name and version, a sentence each:
/// "the state of counter.server changed but the version is still 1.2.0: raise it". Empty if their names or versions
/// differ.
[[nodiscard]] std::vector<std::string> unversioned_changes(const plugin_description& older,
                                                           const plugin_description& newer);
/// The same of one server type that both have.
[[nodiscard]] std::vector<std::string> unversioned_changes(const plugin_description& older,
                                                           const plugin_description& newer, std::string_view type);

}  // namespace molt::loader
