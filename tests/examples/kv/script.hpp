// The comparison with redis-server: the scripts beside this file and random commands, sent to both.
#pragma once

#include "peer.hpp"

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace kv_test {

/// How the answers of the two are compared.
enum class comparison {
  equal,      ///< byte for byte
  any_order,  ///< arrays with the same elements
  near        ///< integers at most 1000 apart
};

struct script_line {
  int number = 0;
  std::string text;
  comparison how = comparison::equal;
  std::string bytes;
};

/// The lines of commands.txt that version `major` knows.
[[nodiscard]] std::vector<script_line> read_commands(int major);
/// The lines of raw.txt.
[[nodiscard]] std::vector<script_line> read_raw();

/// Whether both said the same.
[[nodiscard]] bool agree(comparison, std::string_view theirs, std::string_view ours);

/// A command, mostly a sensible one, of those that version `major` has and that answer the same whenever they are
/// asked.
[[nodiscard]] std::vector<std::string> random_command(std::mt19937& random, int major);

/// For a failed expectation: control bytes escaped, cut when long.
[[nodiscard]] std::string shown(std::string_view bytes);

}  // namespace kv_test
