// The schema text of docs/reference/note-format.md as a tree, and the difference of two such trees in words.
//
// Host-side. Every loop is bounded by the text's length, nesting by schema_depth_max.
#pragma once

#include "base/result.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt {

inline constexpr std::size_t schema_depth_max = 64;
inline constexpr std::size_t schema_text_max = std::size_t{1} << 20U;

struct schema_member;

/// One type. Which members mean something depends on `what`.
struct schema_node {
  enum class kind {
    scalar,  ///< name: "bool", "char", "i8" ... "f64"
    string,
    ref,
    reply_to,     ///< arguments[0]: the reply
    container,    ///< name: "vector", "map", "optional", "array" ...; arguments, numbers, names
    structure,    ///< size, align, members; version: its molt_meaning, or 0
    enumeration,  ///< arguments[0]: the underlying scalar; names: "red=0", if its author describes it
    opaque,       ///< size, align, name, version
    recursion,    ///< depth: the depth-th enclosing structure, 0 for the innermost
  };

  kind what = kind::scalar;
  std::string name;
  std::vector<schema_node> arguments;  ///< types, in order: key and mapped, element, alternatives ...
  std::vector<std::uint64_t> numbers;  ///< array: count; duration: numerator, denominator
  std::vector<std::string> names;      ///< time_point: clock; sets and maps: "=..." orders and hashes
  std::vector<schema_member> members;
  std::uint64_t size = 0;
  std::uint64_t align = 0;
  std::uint64_t version = 0;
  std::uint64_t depth = 0;

  [[nodiscard]] bool is(std::string_view container) const noexcept {
    return what == kind::container && name == container;
  }
  friend bool operator==(const schema_node&, const schema_node&) = default;
};

struct schema_member {
  std::string name;  ///< "(base)", "(base 2)" for bases
  schema_node type;
  std::uint64_t offset = 0;

  friend bool operator==(const schema_member&, const schema_member&) = default;
};

/// Errors: corrupt, naming the byte at which the text stops making sense.
[[nodiscard]] inline result<schema_node> parse_schema_text(std::string_view text);

/// The type in a person's words, without offsets: "map<string, struct{hits: i64}>".
[[nodiscard]] inline std::string to_string(const schema_node&);

/// Each difference as a person would say it, empty if there is none; `path` names the whole, e.g. "sessions.state":
///   sessions.state.live.value: added last_seen: i64
///   sessions.state.count: i32 became i64
///   sessions.state: removed x: i32, added y in its place
///   sessions.state: the order a, b became b, a
[[nodiscard]] inline std::vector<std::string> describe_difference(const schema_node& before, const schema_node& after,
                                                                  std::string_view path);
/// The same of two texts. A text that cannot be parsed is itself the difference.
[[nodiscard]] inline std::vector<std::string> describe_difference(std::string_view before, std::string_view after,
                                                                  std::string_view path);

}  // namespace molt

#include "plugin/schema_text_impl.hpp"
// After the parser, which it uses.
#include "plugin/schema_difference.hpp"
