// What the parts of the plan share.
#pragma once

#include "plugin/abi.h"
#include "plugin/description.hpp"
#include "plugin/schema_text.hpp"
#include "upgrade/plan.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace molt::upgrade::detail {

/// A server type, and the plugin that has it.
struct located_type {
  const plugin_description* plugin = nullptr;
  const server_type_description* type = nullptr;

  explicit operator bool() const noexcept { return type != nullptr; }
  [[nodiscard]] const schema_description& state() const { return plugin->schemas.at(type->state); }
};

inline bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

inline std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string all;
  for (const auto& part : parts) all.append(all.empty() ? "" : between).append(part);
  return all;
}

/// "counter.server.state: added step: i64", or why there is nothing to show.
inline std::string difference(const plugin_description& from, const schema_description& before,
                              const plugin_description& to, const schema_description& after, std::string_view path) {
  const auto changes = describe_difference(before.text, after.text, path);
  if (!changes.empty()) return join(changes, "; ");
  if (from.toolchain != to.toolchain)
    return std::string{path} + ": built for \"" + from.toolchain + "\" before, for \"" + to.toolchain + "\" now";
  return std::string{path} + ": same structure, another meaning";
}

}  // namespace molt::upgrade::detail
