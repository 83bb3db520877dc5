// Whether one plugin can take another's place while it runs, from their notes alone: what `molt diff`, `molt gate` and
// molt_add_plugin(... REPLACES ...) ask. It is the plan of an upgrade between two releases that hold nothing else, so
// that what the gate lets through is not refused later for want of a hook.
//
// What only an operator can decide, or only a running node can know, is a note: losses of down edges, and server types
// that are gone, whose servers must have ended.
//
// Threading: plain values.
#pragma once

#include "loader/plugin_report.hpp"
#include "plugin/description.hpp"
#include "upgrade/plan.hpp"

#include <string>
#include <vector>

namespace molt::upgrade {

struct gate_verdict {
  loader::plugin_difference difference;
  std::vector<std::string> problems;  ///< why the newer one cannot take the older one's place, each one sentence
  std::vector<std::string> notes;
  plan planned;

  [[nodiscard]] bool passed() const noexcept { return problems.empty(); }
};

/// one_way: the release that will hold `newer` says that it cannot be rolled back.
[[nodiscard]] gate_verdict check_replacement(const plugin_description& older, const plugin_description& newer,
                                             bool one_way);

}  // namespace molt::upgrade
