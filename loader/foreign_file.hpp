// Inspecting a file that nobody has vouched for: libelf and the demangler see its bytes only in a process that can do
// nothing else (confined.hpp); this process reads what that one found, and decodes the note, with readers of its own
// that check every length. What the file needs of others is then looked up in this machine's libraries
// (host_symbols.hpp).
#pragma once

#include "loader/inspection.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// All that inspect() says and errors with, with demangled names, and whether this machine has what the file needs.
/// Errors also: corrupt, timeout, out_of_bounds, io, as run_confined().
/// Threading: any thread.
[[nodiscard]] result<inspection> inspect_foreign(const plugin_file&);

/// What a confined process says of a file; for tests and the fuzz target. `exports`: the names it defines for others.
struct foreign_answer {
  inspection seen;
  std::vector<std::string> exports;
};
[[nodiscard]] std::string encode_answer(const foreign_answer&);
/// Errors: corrupt.
[[nodiscard]] result<foreign_answer> decode_answer(std::string_view);

}  // namespace molt::loader
