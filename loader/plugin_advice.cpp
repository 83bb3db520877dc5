#include "loader/plugin_advice.hpp"

namespace molt::loader {
namespace {

/// Numbers and strings have the names of the schema text.
std::string spelled(const std::string& name) {
  const bool number =
      name.size() >= 2 && name.size() <= 3 && name.find_first_not_of("0123456789", 1) == std::string::npos;
  if (number && name[0] == 'i') return "std::int" + name.substr(1) + "_t";
  if (number && name[0] == 'u') return "std::uint" + name.substr(1) + "_t";
  if (number && name[0] == 'f') return name == "f32" ? "float" : "double";
  return name == "string" ? "std::string" : name;
}

/// Types without a name of their own need no namespace.
std::string frozen_name(const schema_description& schema, const std::string& version) {
  const bool named = schema.text.starts_with("struct(") || schema.text.starts_with("opaque(") ||
                     schema.text.starts_with("enum") || schema.text.empty();
  if (!named) return spelled(schema.name);
  const auto colons = schema.name.rfind("::");
  return "v" + version.substr(0, version.find('.')) +
         "::" + (colons == std::string::npos ? schema.name : schema.name.substr(colons + 2));
}

/// Numbers are taken by value.
std::string taken(const std::string& type, const schema_description& schema) {
  const bool scalar = schema.text.find_first_of("(<{,\"") == std::string::npos && schema.text != "string" &&
                      schema.text != "ref" && !schema.text.empty();
  return scalar ? type : type + "&&";
}

const message_description* find_message(const plugin_description& plugin, const server_type_description& type,
                                        std::string_view name) {
  for (const auto& handler : type.handlers)
    if (plugin.messages.at(handler.message).name == name) return &plugin.messages.at(handler.message);
  return nullptr;
}

std::uint64_t reply_of(const plugin_description& plugin, const message_description& message) {
  return message.reply == no_schema ? 0 : plugin.schemas.at(message.reply).fingerprint;
}

}  // namespace

std::string hook_to_write(const missing_hook& hook) {
  const std::string older = frozen_name(*hook.before, hook.older->version);
  const std::string newer = spelled(hook.after->name);
  return "write static " + (hook.down ? older : newer) + ' ' + std::string{hook.function} +
         (hook.down ? "_down(" + taken(newer, *hook.after) : "(" + taken(older, *hook.before)) + ") in " +
         std::string{hook.type} + ' ' + hook.newer->version;
}

std::vector<std::string> unversioned_changes(const plugin_description& older, const plugin_description& newer,
                                             std::string_view type) {
  if (older.name != newer.name || older.version != newer.version) return {};
  const auto* const was = older.find_server_type(type);
  const auto* const is = newer.find_server_type(type);
  if (was == nullptr || is == nullptr) return {};
  std::vector<std::string> changes;
  const auto add = [&](std::string what) {
    changes.push_back("the " + std::move(what) + " changed but the version is still " + newer.version + ": raise it");
  };
  if (older.schemas.at(was->state).fingerprint != newer.schemas.at(is->state).fingerprint)
    add("state of " + std::string{type});
  for (const auto& handler : was->handlers) {
    const auto& message = older.messages.at(handler.message);
    const auto* const now = find_message(newer, *is, message.name);
    if (now == nullptr) continue;
    if (older.schemas.at(message.payload).fingerprint != newer.schemas.at(now->payload).fingerprint)
      add("message " + message.name + " of " + std::string{type});
    if (reply_of(older, message) != reply_of(newer, *now)) add("reply to " + message.name + " of " + std::string{type});
  }
  return changes;
}

std::vector<std::string> unversioned_changes(const plugin_description& older, const plugin_description& newer) {
  std::vector<std::string> changes;
  for (const auto& type : older.server_types)
    for (auto& change : unversioned_changes(older, newer, type.name)) changes.push_back(std::move(change));
  return changes;
}

}  // namespace molt::loader
