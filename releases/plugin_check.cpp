// What installing knows of a release's plugins without running their code.
#include "base/assert.hpp"
#include "loader/foreign_file.hpp"
#include "loader/inspection.hpp"
#include "loader/plugin_advice.hpp"
#include "plugin/abi.h"
#include "releases/package.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

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

result<loader::inspection> check_plugin(const std::filesystem::path& folder, const plugin_entry& entry,
                                        const loader::plugin_file& file, known_types& types) {
  MOLT_TRY(auto found, loader::inspect_foreign(file));
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
      return error{reason::refused, file.path.string() + ": the server type \"" + type.name + "\" is also in " +
                                        other->second.plugin_file};
  }
  return found;
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

/// `plugin` and its namesake of another release.
result<void> check_version(const plugin_description& plugin, const std::filesystem::path& file,
                           const std::filesystem::path& other_file) {
  const auto other = loader::inspect_foreign(other_file);
  if (!other) return ok();
  const auto changes = loader::unversioned_changes(other->plugin, plugin);
  if (changes.empty()) return ok();
  std::string text = file.string() + " against " + other_file.string();
  for (std::size_t i = 0; i < changes.size(); ++i) text += (i == 0 ? ": " : "; ") + changes[i];
  return error{reason::unversioned, text, "give the plugin a new version in its sources and in the manifest"};
}

}  // namespace

std::vector<loader::plugin_file> plugin_files(const std::filesystem::path& folder, const manifest& release) {
  std::vector<loader::plugin_file> files;
  for (const auto& plugin : release.plugins) files.emplace_back(folder / plugin.file);
  return files;
}

result<void> check_versions(std::span<const loader::inspection> plugins, const manifest& release,
                            const std::filesystem::path& installed) {
  std::error_code failed;
  for (const auto& other : std::filesystem::directory_iterator{installed, failed}) {
    const auto known = read_manifest(other.path());
    if (!known || known->id() != other.path().filename() || known->id() == release.id()) continue;
    for (const auto& own : plugins)
      for (const auto& namesake : known->plugins)
        if (namesake.name == own.plugin.name && namesake.version == own.plugin.version)
          MOLT_CHECK(check_version(own.plugin, own.path, other.path() / namesake.file));
  }
  return ok();
}

result<std::vector<loader::inspection>> check_plugins(const std::filesystem::path& folder, const manifest& release,
                                                      std::span<const loader::plugin_file> files) {
  MOLT_ASSERT(files.size() == release.plugins.size(), files.size(), release.plugins.size());
  known_types types;
  std::vector<loader::inspection> found;
  for (std::size_t i = 0; i < files.size(); ++i) {
    MOLT_TRY(auto seen, check_plugin(folder, release.plugins[i], files[i], types));
    found.push_back(std::move(seen));
  }
  for (const auto& server : release.servers)
    MOLT_CHECK(
        check_type(types, server.type, MOLT_KIND_SERVER, at(folder, server.line) + "[[server]] " + server.name + ": "));
  for (const auto& listener : release.listeners)
    MOLT_CHECK(check_type(types, listener.connection, MOLT_KIND_CONNECTION,
                          at(folder, listener.line) + "[[listener]] " + listener.name + ": "));
  return found;
}

}  // namespace molt::releases
