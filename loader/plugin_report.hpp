// What `molt inspect` and `molt diff` say: facts for JSON, and the same as text for a person.
#pragma once

#include "loader/inspection.hpp"
#include "plugin/description.hpp"

#include <string>
#include <vector>

namespace molt::loader {

/// How far a change is provided for, in one direction.
struct coverage {
  bool covered = false;
  std::vector<std::string> steps;   ///< "v1::state -> state"; empty if nothing has to be done
  std::vector<std::string> losses;  ///< the names an operator must accept
  std::string to_write;             ///< if not covered: "write static state code_change(v1::state&&) in ..."
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

}  // namespace molt::loader
