#include "node/json_codec.hpp"

#include "base/utf8.hpp"
#include "node/json_walk.hpp"

#include <boost/json.hpp>

#include <algorithm>

namespace molt::node {

namespace json = boost::json;

std::string as_utf8(std::string text) {
  if (is_utf8(text)) return text;
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }, '?');
  return text;
}

namespace {

result<schema_node> type_of(const molt_schema& schema, std::string_view path) {
  if ((schema.flags & MOLT_SCHEMA_TRANSPARENT) == 0)
    return error{reason::incompatible,
                 std::string{path} + ": " + schema.name +
                     " has its own serialize or shares objects, so JSON cannot be converted to it"};
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

namespace {

json::value value_of_word(const schema_node* member, const json::value& word) {
  using json_walk::kind;
  if (member == nullptr || !word.is_string()) return word;
  const bool optional = json_walk::is_optional(*member);
  const schema_node& type = optional ? member->arguments.front() : *member;
  const std::string_view text = word.get_string();
  const bool character = type.what == kind::scalar && type.name == "char" && text.size() == 1;
  if ((type.what == kind::string || character) && !(optional && text == "null")) return word;
  if (auto parsed = parse_json(text)) return std::move(*parsed);
  return word;
}

}  // namespace

result<json::value> json_from_words(const molt_schema& schema, const json::object& words, std::string_view path) {
  MOLT_TRY(const schema_node type, type_of(schema, path));
  json::object made;
  for (const auto& [key, word] : words) {
    const std::string_view name = key;  // clang 14 captures no structured binding
    const auto found =
        std::find_if(type.members.begin(), type.members.end(), [&](const auto& member) { return member.name == name; });
    made.emplace(name, value_of_word(found == type.members.end() ? nullptr : &found->type, word));
  }
  return json::value(std::move(made));
}

result<json::value> json_from_archive(const molt_schema& schema, std::string_view archive, std::string_view path) {
  MOLT_TRY(const schema_node type, type_of(schema, path));
  return json_walk::decode(type, archive, path);
}

}  // namespace molt::node
