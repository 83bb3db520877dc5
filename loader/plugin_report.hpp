// What `molt inspect` and `molt diff` say: facts for JSON, and the same as text for a person.
#pragma once

#include "loader/inspection.hpp"
#include "plugin/description.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// A hook on the way of a change, and what it uses beside what it converts.
struct covering_hook {
  std::string from;  ///< "v1::state"
  std::string to;
  std::string kind;      ///< as hook_kind says
  bool evolves = false;  ///< it hands an evolving container over, whose entries are converted later, or before
};

/// How far a change is provided for, in one direction.
struct coverage {
  bool covered = false;
  std::vector<std::string> steps;    ///< "v1::state -> state"; empty if nothing has to be done
  std::vector<covering_hook> hooks;  ///< the same steps, but for the reading of an older archive
  std::vector<std::string> losses;   ///< the names an operator must accept
  std::string to_write;              ///< if not covered: "write static state code_change(v1::state&&) in ..."
};

/// What happened to a state or message of one server type. `lines` are the differences in words.
struct schema_change {
  std::string what;  ///< "counter.server state", "counter.server add", "counter.server add reply"
  std::vector<std::string> lines;
  coverage up;
  coverage down;
};

/// What two versions of a plugin have not in common.
struct plugin_difference {
  std::string older;  ///< "counter 1.0.0"
  std::string newer;
  std::vector<std::string> remarks;      ///< other name, toolchain, ABI version
  std::vector<std::string> unversioned;  ///< what changed although the version did not, each one sentence
  std::vector<std::string> added_types;
  std::vector<std::string> removed_types;
  std::vector<std::string> added_messages;  ///< "counter.server reset"
  std::vector<std::string> removed_messages;
  std::vector<schema_change> changes;

  [[nodiscard]] bool empty() const noexcept;
  /// Whether every change has a way in both directions, and a version of its own.
  [[nodiscard]] bool covered() const noexcept;
};

[[nodiscard]] plugin_difference compare(const plugin_description& older, const plugin_description& newer);

/// For a terminal; several lines, each ended.
[[nodiscard]] std::string describe(const inspection&);
[[nodiscard]] std::string describe(const plugin_difference&);

/// Facts of a description in words, for JSON and text alike.
[[nodiscard]] std::vector<std::string> schema_flag_names(std::uint32_t flags);
[[nodiscard]] std::vector<std::string> edge_flag_names(std::uint32_t flags);
/// What a hook uses beside its input, by its flags: "pure" nothing; "context" the server's name and configuration,
/// time, several threads; "others" the states of other servers too.
[[nodiscard]] std::string_view hook_kind(std::uint32_t flags) noexcept;

}  // namespace molt::loader
