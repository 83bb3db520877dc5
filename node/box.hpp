// A running node: the servers and connections of one release, and the operations that change the release under them.
//
//   start     manifest -> plugins -> runtime -> supervised servers -> listeners; a failure undoes what was done
//   upgrade   load and check -> listeners opened -> switch (upgrade/), and with it the servers that the release adds
//             are started, in its tree -> removed ones drained and stopped, changed arguments told
//             -> listeners
//   rollback  the same downwards, to the nearest parent
//   commit    parents are forgotten, their images given to who unmaps them (image_retirement.hpp)
//   rehearse  the upgrade in a copy of the process; changes nothing here
//
// Invariants: one such operation at a time, a second one is `busy`; after a refused or rolled back one servers,
// supervision and listeners are those of before. A supervised server whose type the next release lacks runs its old
// code until everything else has migrated.
#pragma once

#include "base/result.hpp"
#include "loader/plugin_image.hpp"
#include "node/data_plane.hpp"
#include "node/fd_channel.hpp"
#include "node/image_retirement.hpp"
#include "node/rehearsal.hpp"
#include "server/runtime.hpp"
#include "upgrade/plan.hpp"
#include "upgrade/transaction.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::node {

struct box_options {
  std::string contents;             ///< SHA-256 that the release's molt-contents must have; empty: any
  std::vector<named_fd> listeners;  ///< listening sockets made by somebody else, by the manifest's names
  bool open_listeners = true;       ///< open those that the manifest names and nobody handed over
  data_plane_options data_plane;
  servers::options servers;  ///< `log` is replaced
  /// Where failures of servers are reported (crash_reporter.hpp); empty: nowhere.
  std::filesystem::path crash_folder;
  log_function log;  ///< empty: nowhere
  /// The supervisor has given up: restarts came too fast. All supervised servers are stopped. Any thread.
  std::function<void(std::string_view why)> gave_up;
};

/// What an operator may say beside the release.
struct change_request {
  std::optional<upgrade::mode> mode;  ///< otherwise the manifest's
  servers::arguments arguments;       ///< for hooks; beside the manifest's, which they replace by name
  std::vector<std::string> accept_loss;
  bool keep_states = false;  ///< upgrade: as the manifest's keep_states, which it adds to
  bool from_kept = false;    ///< rollback: servers whose hooks fail become what was kept of them
  std::optional<std::chrono::milliseconds> switch_timeout{};  ///< otherwise the manifest's
  std::optional<replaying> replay{};                          ///< in a rehearsal; otherwise the manifest's
  std::string contents{};  ///< SHA-256 that the molt-contents of the release's folder must have; empty: any
  std::optional<std::uint64_t> adoption{};  ///< what adopt() gave whoever asks; none: asked by hand, never too late
};

/// One release as status shows it.
struct release_name {
  std::string id;
  std::filesystem::path folder;
};

struct box_status {
  release_name current;
  std::vector<release_name> parents;  ///< the nearest last
  std::size_t servers = 0;
  std::size_t connections = 0;
  std::size_t images_kept = 0;  ///< that no release has, and that cannot be unmapped
  std::vector<listener_status> listeners;
  upgrade::phase phase = upgrade::phase::idle;  ///< of the operation under way, or how the last one ended
  std::string changing_to;                      ///< not empty while one is under way
  std::string rehearsing;                       ///< the release whose rehearsal is under way, if one is
  bool committed = false;                       ///< the current release was, in this process
  std::uint64_t migrated = 0;
  std::uint64_t entries_left = 0;              ///< of evolving containers, while they are converted
  std::vector<upgrade::late_hook> late_hooks;  ///< that run, and are over hook_timeout
  std::optional<upgrade::kept_summary> kept;   ///< what servers were before the release, until it is committed
  std::optional<upgrade::report> last;
  servers::statistics statistics;
};

/// What an operator can do about a hook that runs too long.
[[nodiscard]] std::string what_to_do_about_late_hooks();

/// An image and what needs it.
struct image_status {
  std::string plugin;  ///< "kv 1.0.0"
  std::string build_id;
  std::size_t size = 0;  ///< bytes of address space
  image_state state = image_state::current;
  servers::image_uses uses;
  std::size_t releases = 0;  ///< that have it: the current one, and those that can be gone back to
  std::string why;           ///< it is still there, if no release has it
  std::vector<std::string> holders;
};

/// A call as JSON carries it.
struct json_call {
  std::string server;
  std::string message;
  std::string payload = "{}";
  bool words = false;                   ///< the payload's members are words of a command line: json_from_words
  std::chrono::nanoseconds timeout{0};  ///< 0: the default
};

/// Threading: any thread but a handler's.
class box {
 public:
  static result<std::unique_ptr<box>> start(const std::filesystem::path& release_folder, box_options);
  box(const box&) = delete;
  box& operator=(const box&) = delete;
  ~box();  ///< as stop(), without waiting for slow clients

  /// An upgrade under way rolls back soon; none begins any more. The first step of an orderly stop.
  void cancel_change() noexcept;
  /// Whether it was called: whatever a change came to, the servers end soon.
  [[nodiscard]] bool stops() const noexcept;
  /// For who takes the box over from another: changes and commits that the other has asked for and that have not begun
  /// are refused from here on; status() shows one that has. Returns the number to ask with; before the first, it is 0.
  std::uint64_t adopt();
  /// Stops accepting, answers what came in, closes the connections, stops the supervised servers in reverse order.
  /// Nothing else may be asked of the box afterwards.
  void stop(std::chrono::milliseconds patience);

  /// What upgrade() would do, from the plugins' notes; runs none of their code. `id` gets the release's. Errors: busy,
  /// and those of inspecting.
  result<upgrade::plan> plan_upgrade(const std::filesystem::path& release_folder, const change_request&,
                                     std::string* id = nullptr);
  /// `parent`: the folder of the parent release, needed when a commit or a restart has let go of it.
  result<upgrade::plan> plan_rollback(const change_request&, const std::filesystem::path& parent = {});
  /// Rehearses the upgrade in a copy of this process (rehearsal.hpp). What keeps it from passing is in the report, a
  /// refused plan too. `given_up`: asked now and then whether anybody still waits for the answer. Errors: busy, those
  /// of inspecting and of node::rehearse.
  result<rehearsal_report> rehearse(const std::filesystem::path& release_folder, const change_request&,
                                    std::function<bool()> given_up = {});
  /// Errors: busy, and those of loading; everything else is in the report.
  result<upgrade::report> upgrade(const std::filesystem::path& release_folder, const change_request&);
  /// Errors: busy, not_found (no parent).
  result<upgrade::report> rollback(const change_request&, const std::filesystem::path& parent = {});
  /// Makes the upgrade under way roll back; does not wait for it, and its report tells how it ended, which may be that
  /// it was done before. Ends a rehearsal under way, which is then refused. Threading: beside all others.
  /// Errors: not_found (neither is under way).
  result<void> cancel_upgrade();
  result<std::vector<loader::unload_report>> commit(std::chrono::nanoseconds timeout,
                                                    std::optional<std::uint64_t> adoption = {});

  /// Listening sockets for a release to come. They replace earlier offers of the same names.
  result<void> offer_listeners(std::vector<named_fd>);
  /// Duplicates of the sockets that are listened on.
  [[nodiscard]] std::vector<named_fd> duplicate_listeners() const;

  [[nodiscard]] box_status status() const;
  /// Those of releases, those on their way out, and the last that are gone.
  [[nodiscard]] std::vector<image_status> images() const;
  [[nodiscard]] last_look looked_for_holders() const;
  /// Waits until each image that was let go of is kept or gone. False: the time has passed.
  [[nodiscard]] bool settle_images(std::chrono::milliseconds patience) const;
  [[nodiscard]] std::vector<servers::server_info> servers() const;
  /// Returns the reply as JSON, "null" for a cast. Errors: no_such_server, unknown_message (names those that there
  /// are), invalid_argument (names the member), incompatible, and those of a call; server_failed says what became of
  /// the server; needs_attention: it was handled, but there is no reply to show.
  result<std::string> call(const json_call&);
  [[nodiscard]] servers::runtime& runtime() noexcept;

 private:
  class implementation;
  explicit box(std::unique_ptr<implementation>) noexcept;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace molt::node
