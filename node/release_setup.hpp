// A release folder brought into memory, and its manifest in the words of the layers below.
#pragma once

#include "base/result.hpp"
#include "node/data_plane.hpp"
#include "node/image_retirement.hpp"
#include "node/rehearsal.hpp"
#include "releases/manifest.hpp"
#include "server/supervisor.hpp"
#include "upgrade/bound_release.hpp"
#include "upgrade/transaction.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace molt::node {

/// What a release is apart from its code.
struct release_facts {
  std::filesystem::path folder;
  releases::manifest manifest;

  [[nodiscard]] std::string id() const { return manifest.id(); }
};

struct loaded_release {
  release_facts facts;
  upgrade::release_content content;
};

/// Reads the manifest, loads the plugins, and checks that the types which the manifest starts exist and are of the
/// right kind. Of an installed release the bytes of manifest and plugins must be those that its molt-contents states,
/// and that must have the SHA-256 `contents`, unless it is empty. Errors: those of read_installed and load_release;
/// refused (a type that no plugin has, or of the wrong kind; a plugin whose name or version is not the manifest's).
[[nodiscard]] result<loaded_release> load_release_folder(const std::filesystem::path& folder,
                                                         std::string_view contents);

struct inspected_release {
  release_facts facts;
  std::vector<plugin_description> plugins;
};

/// The same without running one instruction of the plugins: enough for a plan. Errors: as above, and those of
/// loader::inspect.
[[nodiscard]] result<inspected_release> inspect_release_folder(const std::filesystem::path& folder,
                                                               std::string_view contents);

/// The tree of the manifest: children in the order of the file, whether servers or supervisors.
[[nodiscard]] servers::supervisor_spec supervisor_spec_of(const releases::manifest&);
/// What is to be kept of a server's last messages.
[[nodiscard]] servers::recording recording_of(const releases::server_entry&) noexcept;
[[nodiscard]] listener_settings listener_settings_of(const releases::listener_entry&);
/// The server types that the manifest starts: supervised, also by dynamic supervisors, and listening.
[[nodiscard]] std::vector<std::string> types_started_by(const releases::manifest&);
/// How to come to (or back from) this release, as its manifest says.
/// The servers that it starts under their own names.
[[nodiscard]] upgrade::started_servers servers_started_by(const releases::manifest&);

[[nodiscard]] upgrade::settings upgrade_settings_of(const releases::manifest&);

/// What its rehearsal may use.
[[nodiscard]] rehearsal_limits rehearsal_limits_of(const releases::manifest&);
[[nodiscard]] image_settings image_settings_of(const releases::manifest&);
[[nodiscard]] replaying replaying_of(const releases::manifest&) noexcept;

[[nodiscard]] const releases::listener_entry* find_listener(const releases::manifest&, std::string_view name) noexcept;

}  // namespace molt::node
