// Which file to load, and what must stand in it.
#pragma once

#include <concepts>
#include <filesystem>
#include <string>
#include <utility>

namespace molt::loader {

struct plugin_file {
  plugin_file() = default;
  /// Whatever stands in it.
  template <std::convertible_to<std::filesystem::path> Path>
  plugin_file(Path&& where) : path{std::forward<Path>(where)} {}  // NOLINT(google-explicit-constructor)
  plugin_file(std::filesystem::path where, std::string digest) : path{std::move(where)}, sha256{std::move(digest)} {}

  std::filesystem::path path;
  std::string sha256;  ///< of its bytes, 64 lower-case hex digits; empty: not stated anywhere
};

}  // namespace molt::loader
