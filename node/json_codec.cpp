#include "node/json_codec.hpp"

#include "node/json_walk.hpp"

#include <boost/json.hpp>

namespace molt::node {
namespace {

namespace json = boost::json;

result<schema_node> type_of(const molt_schema& schema, std::string_view path) {
  if ((schema.flags & MOLT_SCHEMA_TRANSPARENT) == 0)
    return error{reason::incompatible,
                 std::string{path} + ": " + schema.name + " has its own serialize, so JSON cannot be converted to it"};
  auto type = parse_schema_text(schema.text);
  if (!type) return std::move(type).error().with(path);
  return type;
}

}  // namespace

result<json::value> parse_json(std::string_view text) {
  json::parse_options options;
  options.max_depth = json_depth_max;
  json::error_code failed;
  json::value value = json::parse(text, failed, {}, options);
  if (failed) return error{reason::invalid_argument, "no JSON: " + failed.message()};
  return value;
}

result<std::string> archive_from_json(const molt_schema& schema, const json::value& value, std::string_view path) {
  MOLT_TRY(const schema_node type, type_of(schema, path));
  return json_walk::encode(type, value, path);
}

result<json::value> json_from_archive(const molt_schema& schema, std::string_view archive, std::string_view path) {
  MOLT_TRY(const schema_node type, type_of(schema, path));
  return json_walk::decode(type, archive, path);
}

}  // namespace molt::node
