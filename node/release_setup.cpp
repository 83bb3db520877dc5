#include "node/release_setup.hpp"

#include "loader/inspection.hpp"
#include "releases/package.hpp"
#include "server/watches.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <memory>
#include <utility>

namespace molt::node {
namespace {

using descriptions = std::vector<plugin_description>;

std::string shown(const std::filesystem::path& folder) {
  return (folder / std::string{releases::manifest_file_name}).string();
}

/// The type must be there and of that kind.
result<void> check_type(const descriptions& plugins, const std::string& type, std::uint32_t kind,
                        const std::string& what) {
  for (const auto& plugin : plugins) {
    const auto* found = plugin.find_server_type(type);
    if (found == nullptr) continue;
    if (found->kind == kind) return ok();
    return error{reason::refused,
                 what + ": " + type +
                     (kind == MOLT_KIND_CONNECTION ? " is no connection type" : " is a connection type, not a server")};
  }
  return error{reason::refused, what + ": no plugin of the release has the type " + type};
}

result<void> check(const release_facts& facts, const descriptions& plugins) {
  const std::string file = shown(facts.folder);
  for (std::size_t i = 0; i < facts.manifest.plugins.size(); ++i) {
    const auto& wanted = facts.manifest.plugins[i];
    const auto& got = plugins.at(i);
    if (got.name != wanted.name || got.version != wanted.version)
      return error{reason::refused, file + ":" + std::to_string(wanted.line) + ": " + wanted.file + " is " + got.name +
                                        " " + got.version + ", not " + wanted.name + " " + wanted.version};
  }
  for (const auto& server : facts.manifest.servers)
    MOLT_CHECK(check_type(plugins, server.type, MOLT_KIND_SERVER,
                          file + ":" + std::to_string(server.line) + ": " + server.name));
  for (const auto& supervisor : facts.manifest.supervisors)
    if (!supervisor.child.type.empty())
      MOLT_CHECK(check_type(plugins, supervisor.child.type, MOLT_KIND_SERVER,
                            file + ":" + std::to_string(supervisor.child.line) + ": " + supervisor.name));
  for (const auto& listener : facts.manifest.listeners)
    MOLT_CHECK(check_type(plugins, listener.connection, MOLT_KIND_CONNECTION,
                          file + ":" + std::to_string(listener.line) + ": " + listener.name));
  return ok();
}

servers::restart restart_of(releases::restart_kind kind) noexcept {
  switch (kind) {
    case releases::restart_kind::permanent:
      return servers::restart::permanent;
    case releases::restart_kind::transient:
      return servers::restart::transient;
    case releases::restart_kind::temporary:
      return servers::restart::temporary;
  }
  return servers::restart::permanent;
}

servers::strategy strategy_of(releases::strategy_kind kind) noexcept {
  switch (kind) {
    case releases::strategy_kind::one_for_one:
      return servers::strategy::one_for_one;
    case releases::strategy_kind::one_for_all:
      return servers::strategy::one_for_all;
    case releases::strategy_kind::rest_for_one:
      return servers::strategy::rest_for_one;
    case releases::strategy_kind::dynamic:
      return servers::strategy::dynamic;
  }
  return servers::strategy::one_for_one;
}
servers::auto_shutdown auto_shutdown_of(releases::auto_shutdown_kind kind) noexcept {
  switch (kind) {
    case releases::auto_shutdown_kind::never:
      return servers::auto_shutdown::never;
    case releases::auto_shutdown_kind::any_significant:
      return servers::auto_shutdown::any_significant;
    case releases::auto_shutdown_kind::all_significant:
      return servers::auto_shutdown::all_significant;
  }
  return servers::auto_shutdown::never;
}
static_assert(servers::shutdown_infinity == releases::shutdown_infinity &&
              servers::shutdown_brutal == releases::shutdown_brutal);

servers::supervisor_spec spec_below(const releases::manifest& manifest, const std::string& name,
                                    const releases::supervisor_settings& settings) {
  servers::supervisor_spec spec;
  spec.strategy = strategy_of(settings.strategy);
  spec.intensity = settings.intensity;
  spec.period = settings.period;
  spec.auto_shutdown = auto_shutdown_of(settings.auto_shutdown);
  std::vector<std::pair<releases::place, servers::child_spec>> children;
  for (const auto& server : manifest.servers) {
    if (server.supervisor != name) continue;
    children.push_back({server.at,
                        {server.name,
                         server.type,
                         server.arguments,
                         restart_of(server.restart),
                         server.shutdown,
                         {},
                         server.significant}});
  }
  for (const auto& below : manifest.supervisors) {
    if (below.parent != name) continue;
    auto made = spec_below(manifest, below.name, below.settings);
    if (made.strategy == servers::strategy::dynamic) {
      const auto& child = below.child;
      made.model = {{}, child.type, child.arguments, restart_of(child.restart), child.shutdown, {}, child.significant};
      made.children_max = below.children_max;
    }
    servers::child_spec entry;
    entry.name = below.name;
    entry.restart = restart_of(below.restart);
    entry.significant = below.significant;
    entry.supervisor = std::make_shared<const servers::supervisor_spec>(std::move(made));
    children.emplace_back(below.at, std::move(entry));
  }
  std::sort(children.begin(), children.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [at, child] : children) spec.children.push_back(std::move(child));
  return spec;
}

std::size_t available_memory() {
  std::ifstream from{"/proc/meminfo"};
  std::string key;
  for (std::size_t kib = 0; from >> key; from.ignore(std::numeric_limits<std::streamsize>::max(), '\n'))
    if (key == "MemAvailable:" && from >> kib) return kib << 10U;
  return std::size_t{1} << 30U;
}

}  // namespace

result<loaded_release> load_release_folder(const std::filesystem::path& folder, std::string_view contents) {
  loaded_release made;
  MOLT_TRY(auto files, releases::read_installed(folder, contents));
  made.facts = {folder, std::move(files.release)};
  MOLT_TRY(made.content, upgrade::load_release(made.facts.id(), files.plugins));
  MOLT_CHECK(check(made.facts, made.content.descriptions()));
  return made;
}

result<inspected_release> inspect_release_folder(const std::filesystem::path& folder, std::string_view contents) {
  inspected_release made;
  MOLT_TRY(auto files, releases::read_installed(folder, contents));
  made.facts = {folder, std::move(files.release)};
  for (const auto& file : files.plugins) {
    MOLT_TRY(loader::inspection inspected, loader::inspect(file));
    MOLT_CHECK(loader::require_replaceable(inspected));
    made.plugins.push_back(std::move(inspected.plugin));
  }
  MOLT_CHECK(check(made.facts, made.plugins));
  return made;
}

servers::supervisor_spec supervisor_spec_of(const releases::manifest& manifest) {
  return spec_below(manifest, {}, manifest.supervisor);
}

static_assert(releases::recorded_servers_max <= servers::watched_max &&
              releases::record_messages_limit <= servers::recorded_messages_max &&
              releases::record_payload_bytes_limit <= servers::recorded_payload_bytes_max);
servers::recording recording_of(const releases::server_entry& entry) noexcept {
  return {entry.record_messages, entry.record_payload_bytes};
}

listener_settings listener_settings_of(const releases::listener_entry& entry) {
  return {entry.name, entry.connection, {}, entry.arguments, entry.connections_max};
}

std::vector<std::string> types_started_by(const releases::manifest& manifest) {
  std::vector<std::string> types;
  for (const auto& server : manifest.servers) types.push_back(server.type);
  for (const auto& supervisor : manifest.supervisors)
    if (!supervisor.child.type.empty()) types.push_back(supervisor.child.type);
  for (const auto& listener : manifest.listeners) types.push_back(listener.connection);
  return types;
}

upgrade::started_servers servers_started_by(const releases::manifest& manifest) {
  upgrade::started_servers all;
  for (const auto& server : manifest.servers) all.emplace(server.name, server.type);
  return all;
}

upgrade::settings upgrade_settings_of(const releases::manifest& manifest) {
  upgrade::settings settings;
  settings.mode = manifest.upgrade.mode == releases::upgrade_mode::atomic ? upgrade::mode::atomic : upgrade::mode::lazy;
  settings.on_failure = manifest.upgrade.on_failure == releases::failure_policy::quarantine
                            ? upgrade::failure_policy::quarantine
                            : upgrade::failure_policy::rollback;
  settings.hook_timeout = manifest.upgrade.hook_timeout;
  settings.hook_memory_max = manifest.upgrade.hook_memory_mb != 0 ? std::size_t{manifest.upgrade.hook_memory_mb} << 20U
                                                                  : available_memory() / 8 * 7;
  settings.switch_timeout = manifest.upgrade.switch_timeout;
  settings.one_way = manifest.upgrade.one_way;
  settings.keep_states = manifest.upgrade.keep_states;
  settings.keep_bytes_max = manifest.upgrade.keep_states_mb != 0 ? std::size_t{manifest.upgrade.keep_states_mb} << 20U
                                                                 : available_memory() / 2;
  settings.arguments = manifest.upgrade.arguments;
  return settings;
}

image_settings image_settings_of(const releases::manifest& manifest) {
  return {manifest.upgrade.keep_images, manifest.upgrade.tripwire};
}

replaying replaying_of(const releases::manifest& manifest) noexcept {
  switch (manifest.upgrade.rehearsal_replay) {
    case releases::replay_kind::report:
      return replaying::report;
    case releases::replay_kind::strict:
      return replaying::strict;
    case releases::replay_kind::off:
      break;
  }
  return replaying::off;
}

rehearsal_limits rehearsal_limits_of(const releases::manifest& manifest) {
  rehearsal_limits limits;
  limits.time = manifest.upgrade.rehearsal_timeout;
  limits.processor = manifest.upgrade.rehearsal_cpu;
  limits.memory = std::size_t{manifest.upgrade.rehearsal_memory_mb} << 20U;
  return limits;
}

const releases::listener_entry* find_listener(const releases::manifest& manifest, std::string_view name) noexcept {
  const auto found = std::find_if(manifest.listeners.begin(), manifest.listeners.end(),
                                  [&](const auto& entry) { return entry.name == name; });
  return found == manifest.listeners.end() ? nullptr : &*found;
}

}  // namespace molt::node
