// JSON to archives and back, by a schema's text: so that `molt call` needs none of the plugin's code.
//
//   schema                      JSON
//   bool, numbers, enum         true/false; number (range-checked); "nan", "inf", "-inf" where JSON has no number
//   char                        a string of one ASCII character, or a number
//   string                      string; {"base64":"…"} for bytes that are not UTF-8
//   ref                         number
//   struct                      object with exactly the members
//   map with string keys        object; or, as every other map, an array of [key, value]
//   sequences, sets, array,
//   pair, tuple                 array
//   optional, unique_ptr        null or the value
//   variant                     {"alternative": index, "value": …}
//   duration, time_point        number of ticks
//
// Only for schemas flagged MOLT_SCHEMA_TRANSPARENT. Errors name the place, e.g. "payload.live[3].user: expected a
// string".
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"

#include <boost/json/fwd.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace molt::node {

inline constexpr std::size_t json_depth_max = 512;

/// The text if it is UTF-8; otherwise with a question mark for every byte that is not ASCII. For names and what()
/// texts, which may hold anything, and for JSON with such in its strings.
[[nodiscard]] std::string as_utf8(std::string text);

/// Parses JSON with molt's bounds; the error names line-free position and cause. Error: invalid_argument.
[[nodiscard]] result<boost::json::value> parse_json(std::string_view text);

/// `path` begins every error's text. Errors: invalid_argument (JSON and schema differ), incompatible (not transparent).
[[nodiscard]] result<std::string> archive_from_json(const molt_schema&, const boost::json::value&,
                                                    std::string_view path);
/// A message's JSON from words typed on a command line, name by name: a member that is a string takes its word as it is
/// (so that 5 is "5"), an optional one too unless it is null; every other member takes it as JSON. What fits no member
/// stays a string, for archive_from_json to refuse. Error: incompatible (not transparent).
[[nodiscard]] result<boost::json::value> json_from_words(const molt_schema&, const boost::json::object& words,
                                                         std::string_view path);
[[nodiscard]] result<boost::json::value> json_from_archive(const molt_schema&, std::string_view archive,
                                                           std::string_view path);

}  // namespace molt::node
