// What installing knows of a release's plugins without running their code.
#include "loader/inspection.hpp"
#include "plugin/abi.h"
#include "releases/package.hpp"

#include <map>
#include <string>

namespace molt::releases {
namespace {

struct known_type {
  std::uint32_t kind = 0;
  std::string plugin_file;
};
using known_types = std::map<std::string, known_type, std::less<>>;

[[nodiscard]] std::string at(const std::filesystem::path& folder, unsigned line) {
  return (folder / manifest_file_name).string() + ':' + std::to_string(line) + ": ";
}

result<void> check_plugin(const std::filesystem::path& folder, const plugin_entry& entry, known_types& types) {
  MOLT_TRY(const auto found, loader::inspect(folder / entry.file));
  MOLT_CHECK(loader::require_replaceable(found));
  const auto& plugin = found.plugin;
  if (plugin.name != entry.name || plugin.version != entry.version)
    return error{reason::refused,
                 at(folder, entry.line) + "[[plugin]] " + entry.name + ": " + entry.file + " is plugin \"" +
                     plugin.name + "\" version \"" + plugin.version + "\", not \"" + entry.name + "\" version \"" +
                     entry.version + '"',
                 "correct the manifest, or build the plugin with the manifest's name and version"};
  for (const auto& type : plugin.server_types) {
    const auto [other, added] = types.try_emplace(type.name, known_type{type.kind, entry.file});
    if (!added)
      return error{reason::refused, (folder / entry.file).string() + ": the server type \"" + type.name +
                                        "\" is also in " + other->second.plugin_file};
  }
  return ok();
}

result<void> check_type(const known_types& types, const std::string& name, std::uint32_t kind,
                        const std::string& where) {
  const auto found = types.find(name);
  if (found == types.end()) {
    std::string there;
    for (const auto& [type, known] : types)
      if (known.kind == kind && there.size() < 500) there += (there.empty() ? "" : ", ") + type;
    const char* what = kind == MOLT_KIND_CONNECTION ? "connection types: " : "server types: ";
    return error{reason::refused, where + "no plugin has the type \"" + name + '"',
                 there.empty() ? std::string{"the plugins have no "} +
                                     (kind == MOLT_KIND_CONNECTION ? "connection" : "server") + " type"
                               : "the plugins have the " + (what + there)};
  }
  if (found->second.kind == kind) return ok();
  return error{reason::refused,
               where + "the type \"" + name + "\" is a " +
                   (kind == MOLT_KIND_CONNECTION ? "server, not a connection" : "connection, not a server")};
}

}  // namespace

result<void> check_plugins(const std::filesystem::path& folder, const manifest& release) {
  known_types types;
  for (const auto& plugin : release.plugins) MOLT_CHECK(check_plugin(folder, plugin, types));
  for (const auto& server : release.servers)
    MOLT_CHECK(
        check_type(types, server.type, MOLT_KIND_SERVER, at(folder, server.line) + "[[server]] " + server.name + ": "));
  for (const auto& listener : release.listeners)
    MOLT_CHECK(check_type(types, listener.connection, MOLT_KIND_CONNECTION,
                          at(folder, listener.line) + "[[listener]] " + listener.name + ": "));
  return ok();
}

}  // namespace molt::releases
