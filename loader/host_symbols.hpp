// Whether this machine's libraries define what a plugin needs, found in their files: nothing is loaded.
//
// Looked through are the libraries that the plugin names (DT_NEEDED), those that these name, and those of this process,
// as the dynamic linker will; libraries of the system are trusted. What was read of one is kept as long as its file
// stays the same.
#pragma once

#include "loader/inspection.hpp"

#include <set>
#include <string>
#include <string_view>

namespace molt::loader {

struct host_question {
  inspection& seen;
  std::set<std::string, std::less<>> beside;          ///< names of needed libraries that lie in the plugin's folder
  std::set<std::string, std::less<>> defined_beside;  ///< what those define
};

/// Adds missing_library, missing_version and undefined_symbol. Threading: any thread.
void judge_host(host_question&);

/// Adds a finding with its rule's level and fix.
void add_finding(inspection& to, finding_kind, std::string text, std::string_view subject = {},
                 std::string_view name = {});

}  // namespace molt::loader
