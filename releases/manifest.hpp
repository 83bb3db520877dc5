// What a release is: release.toml, read and checked. docs/reference/release-manifest.md says the same for people.
//
// Invariants of a manifest that was read without an error:
//   every name is unique among its kind, and no server is named as a supervisor; every number is within its bounds;
//   every plugin file is a relative path that stays below the release's folder; every address is a literal IPv4 or IPv6
//   address with a port; every supervisor's parents lead to the root; what is significant can end, and stands below a
//   supervisor whose auto_shutdown is not never.
#pragma once

#include "base/result.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::releases {

/// The manifest's name in a release folder and in a package.
inline constexpr std::string_view manifest_file_name = "release.toml";

inline constexpr std::size_t manifest_bytes_max = std::size_t{1} << 20U;
inline constexpr std::size_t plugins_max = 256;
inline constexpr std::size_t servers_max = 65'536;
inline constexpr std::size_t supervisors_max = 1024;
inline constexpr std::size_t supervisors_depth_max = 32;  ///< below each other, with the root
inline constexpr std::size_t listeners_max = 128;
inline constexpr std::size_t arguments_max = 256;                          ///< per table
inline constexpr std::size_t argument_bytes_max = std::size_t{64} << 10U;  ///< one value
inline constexpr std::size_t name_bytes_max = 128;
inline constexpr std::size_t path_bytes_max = 1024;
inline constexpr std::size_t key_dots_max = 8;                         ///< a.b.c = 1 has two
inline constexpr std::uint32_t rehearsal_memory_limit_mb = 1U << 24U;  ///< 16 TiB
inline constexpr std::uint32_t connections_limit = 1'000'000;
inline constexpr std::uint32_t children_limit = 4'000'000;  ///< of a dynamic supervisor
inline constexpr std::uint32_t record_messages_limit = 1024;
inline constexpr std::uint32_t record_payload_bytes_limit = 16U << 20U;
inline constexpr std::size_t recorded_servers_max = 48;  ///< those with record_messages
inline constexpr std::chrono::milliseconds duration_max = std::chrono::hours{24};

/// Name and value, sorted by name. The same type as servers::arguments.
using argument_list = std::vector<std::pair<std::string, std::string>>;

enum class restart_kind { permanent, transient, temporary };
enum class strategy_kind { one_for_one, one_for_all, rest_for_one, dynamic };
enum class auto_shutdown_kind { never, any_significant, all_significant };
enum class upgrade_mode { lazy, atomic };
enum class failure_policy { rollback, quarantine };
enum class replay_kind { off, report, strict };

[[nodiscard]] std::string_view to_string(restart_kind) noexcept;
[[nodiscard]] std::string_view to_string(strategy_kind) noexcept;
[[nodiscard]] std::string_view to_string(auto_shutdown_kind) noexcept;
[[nodiscard]] std::string_view to_string(upgrade_mode) noexcept;
[[nodiscard]] std::string_view to_string(failure_policy) noexcept;
[[nodiscard]] std::string_view to_string(replay_kind) noexcept;

/// [[plugin]]
struct plugin_entry {
  std::string name;
  std::string version;
  std::string file;  ///< relative to the manifest
  unsigned line = 0;
};

/// Where an entry stands in the file. Children of one supervisor are started in this order, whatever they are, and
/// stopped in the reverse one.
struct place {
  unsigned line = 0;
  unsigned column = 0;
  friend auto operator<=>(const place&, const place&) = default;  // NOLINT(modernize-use-nullptr): of its zero
};

/// shutdown_ms = "infinity" and "brutal".
inline constexpr std::chrono::milliseconds shutdown_infinity = std::chrono::milliseconds::max();
inline constexpr std::chrono::milliseconds shutdown_brutal{0};

/// [supervisor], the root: more than `intensity` restarts within `period` end the node.
struct supervisor_settings {
  strategy_kind strategy = strategy_kind::one_for_one;  ///< not dynamic
  std::uint32_t intensity = 3;
  std::chrono::milliseconds period{5000};
  auto_shutdown_kind auto_shutdown = auto_shutdown_kind::never;  ///< not the root's
};

/// [supervisor.NAME.child]: what the children of a dynamic supervisor are.
struct child_entry {
  std::string type;
  restart_kind restart = restart_kind::temporary;
  bool significant = false;
  std::chrono::milliseconds shutdown{5000};
  argument_list arguments;
  unsigned line = 0;
};

/// [supervisor.NAME]: a supervisor below another.
struct supervisor_entry {
  std::string name;
  std::string parent;  ///< empty: the root
  supervisor_settings settings;
  restart_kind restart = restart_kind::permanent;  ///< by its parent, after it gave up
  bool significant = false;                        ///< to its parent
  std::uint32_t children_max = 1'000'000;          ///< dynamic
  child_entry child;                               ///< dynamic; otherwise without a type
  place at;
};

/// [[server]]: a supervised child.
struct server_entry {
  std::string name;
  std::string type;
  std::string supervisor;  ///< empty: the root
  restart_kind restart = restart_kind::permanent;
  bool significant = false;
  std::chrono::milliseconds shutdown{5000};
  std::uint32_t record_messages = 0;       ///< so many of the last ones are kept, for crash reports
  std::uint32_t record_payload_bytes = 0;  ///< of their payloads, beside
  argument_list arguments;
  unsigned line = 0;
  place at;
};

/// A literal address and port.
struct listen_address {
  std::string host;  ///< "127.0.0.1", "::1" (without brackets)
  std::uint16_t port = 0;
  bool ipv6 = false;

  /// "127.0.0.1:6379", "[::1]:6379"
  [[nodiscard]] std::string text() const;
  friend bool operator==(const listen_address&, const listen_address&) = default;
};

/// "127.0.0.1:6379" or "[::1]:6379"; port 0 asks the system for a free one. Error: invalid_argument.
result<listen_address> parse_listen_address(std::string_view text);

/// [[listener]]
struct listener_entry {
  std::string name;
  listen_address address;
  std::string connection;  ///< a server type of kind connection
  std::uint32_t connections_max = 10'000;
  argument_list arguments;
  unsigned line = 0;
};

/// [upgrade]: how to come to this release.
struct upgrade_settings {
  upgrade_mode mode = upgrade_mode::lazy;
  std::chrono::milliseconds hook_timeout{5000};
  std::uint32_t hook_memory_mb = 0;                ///< 0: seven eighths of what the system has available
  std::chrono::milliseconds switch_timeout{5000};  ///< mode atomic: to come to rest and migrate
  failure_policy on_failure = failure_policy::rollback;
  bool one_way = false;              ///< no way back is asked of the plan
  bool keep_states = false;          ///< what each server was is kept until commit or rollback
  std::uint32_t keep_states_mb = 0;  ///< at most; 0: half of what the system has available
  std::chrono::milliseconds rehearsal_timeout{60'000};
  std::chrono::milliseconds rehearsal_cpu{0};  ///< 0: as the timeout
  std::uint32_t rehearsal_memory_mb = 0;       ///< beyond what is copied; 0: half of what the system has available
  replay_kind rehearsal_replay = replay_kind::off;
  bool keep_images = false;                  ///< images that no release has any more stay mapped: for perf and the like
  std::chrono::milliseconds tripwire{5000};  ///< for so long they are unreadable before they are unmapped
  argument_list arguments;                   ///< given to hooks
};

struct manifest {
  std::string name;
  std::string version;
  std::vector<plugin_entry> plugins;
  supervisor_settings supervisor;
  std::vector<supervisor_entry> supervisors;  ///< in the order of the file
  std::vector<server_entry> servers;
  std::vector<listener_entry> listeners;
  upgrade_settings upgrade;

  /// "kv-1.0.0"
  [[nodiscard]] std::string id() const { return name + "-" + version; }
};

/// Reads the text of a manifest. Looks at no other file. `shown_as` begins every error.
/// Errors: invalid_argument ("release.toml:12: [[listener]] redis: unknown key "adress"; did you mean "address"?"),
/// out_of_bounds.
/// Threading: any thread.
result<manifest> parse_manifest(std::string_view text, std::string_view shown_as = manifest_file_name);

/// Reads `folder`/release.toml and checks that every file it names is there, a regular file reached without a link.
/// `sha256`: what the file's must be, in hex; empty: any. Errors: as above; not_found (no manifest, or a file it
/// names), corrupt (another SHA-256), io.
result<manifest> read_manifest(const std::filesystem::path& folder, std::string_view sha256 = {});

/// A name as plugins, servers, listeners and releases may have it: letters, digits and ". _ -", not beginning with "."
/// or "-".
[[nodiscard]] bool is_name(std::string_view) noexcept;
/// A relative path below its folder: components as file names, none empty, "." or "..", no control characters, no
/// backslash.
[[nodiscard]] bool is_contained_path(std::string_view) noexcept;

}  // namespace molt::releases
