// A file read in pieces. Private to releases/.
#pragma once

#include "base/result.hpp"

#include <filesystem>
#include <functional>
#include <string_view>

namespace molt::releases {

/// Gives a regular file, not reached through a link in its last component, to `take` piece by piece until it fails.
result<void> read_in_pieces(const std::filesystem::path& file,
                            const std::function<result<void>(std::string_view)>& take);

}  // namespace molt::releases
