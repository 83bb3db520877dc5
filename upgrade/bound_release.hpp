// A release in memory: its loaded plugins, and for each server type the bound paths from every type that may be running
// when it becomes current. It is what the runtime asks to bring a server over.
//
// Invariants: every pointer into an image is covered by a lease held here; adopt() leaves a server wholly new or wholly
// as it was (except `lost`, which needs memory to run out at the worst moment, and is counted apart).
#pragma once

#include "base/result.hpp"
#include "loader/plugin_image.hpp"
#include "plugin/description.hpp"
#include "server/runtime.hpp"
#include "state_migration/migration_path.hpp"
#include "state_migration/transformation.hpp"
#include "upgrade/handed_states.hpp"
#include "upgrade/hook_host.hpp"
#include "upgrade/hook_watch.hpp"
#include "upgrade/kept_states.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace molt::upgrade {

using migration::direction;

/// One loaded plugin with its server types prepared for dispatch. Shared by every release that contains the plugin, so
/// that servers of an unchanged plugin are not touched by an upgrade.
///
/// Threading: immutable. Ownership: shares the image.
class loaded_plugin {
 public:
  [[nodiscard]] static result<std::shared_ptr<const loaded_plugin>> load(const loader::plugin_file&);
  [[nodiscard]] static std::shared_ptr<const loaded_plugin> make(loader::lease);

  [[nodiscard]] const plugin_description& description() const noexcept { return lease_->description(); }
  [[nodiscard]] const loader::plugin_image& image() const noexcept { return *lease_; }
  [[nodiscard]] const loader::lease& lease() const noexcept { return lease_; }
  [[nodiscard]] const std::vector<std::shared_ptr<const servers::server_type>>& types() const noexcept {
    return types_;
  }
  [[nodiscard]] const servers::server_type* find_type(std::string_view name) const noexcept;

  explicit loaded_plugin(loader::lease);  // used by make()

 private:
  loader::lease lease_;
  std::vector<std::shared_ptr<const servers::server_type>> types_;
};

/// A release's name and its plugins, loaded.
struct release_content {
  std::string id;  ///< "kv-2.0.0"
  std::vector<std::shared_ptr<const loaded_plugin>> plugins;

  [[nodiscard]] std::vector<plugin_description> descriptions() const;
  [[nodiscard]] const servers::server_type* find_type(std::string_view name) const noexcept;  ///< null: has none
};

/// Loads every file, or none. Errors: those of loader::load.
[[nodiscard]] result<release_content> load_release(std::string id, std::span<const loader::plugin_file> plugins);

/// A plugin already loaded is one object, however often it was asked for: its servers are not touched by an upgrade.
void share_loaded_plugins(std::span<const release_content> loaded, release_content& next);

/// A server that could not be brought over.
struct server_failure {
  molt_ref ref{};
  std::string server;  ///< its name, or "counter.server <ref>" if it has none
  std::string type;
  std::string hook;
  std::string error;
  bool timed_out = false;
  bool lost = false;
  bool entry = false;  ///< it has come over, but an entry of its state could not be converted
};

/// Failures beyond these are counted, not listed.
inline constexpr std::size_t failures_listed_max = 1000;

struct adopt_settings {
  direction going = direction::up;
  std::chrono::nanoseconds hook_timeout = std::chrono::seconds{5};
  servers::arguments arguments;          ///< for the hooks
  std::vector<std::string> accept_loss;  ///< names of losses that the operator accepted; others fail the server
  std::vector<std::string> leaving{};    ///< types that the release lacks and whose servers are left as they are
  unsigned hook_threads = 0;             ///< that run one hook at once, if it lets them; 0: one per core
  /// Where each state is written down before hooks run, as long as somebody else owns it. A server whose state cannot
  /// be fails.
  std::weak_ptr<kept_states> keep{};
  std::size_t hook_memory_max = 0;  ///< as in transformation_settings
  /// What servers become again where their hooks fail or are missing, in mode atomic. Only what is not older than
  /// `lose_since`: what happened since the others were kept was not accepted to be lost.
  std::weak_ptr<const kept_states> from_kept{};
  std::optional<second> lose_since{};
  /// As in transformation_settings.
  void (*begins)(const migration::path_step*, void* with) noexcept = nullptr;
  void* begins_with = nullptr;
  /// Where hooks are listed while they run; null: nowhere.
  std::shared_ptr<hook_watch> watch{};
};

/// A server that did not come over by its hooks.
struct server_restoration {
  server_failure failed;
  second since{};                ///< it is again what it was then; or would be, had that been accepted
  std::chrono::seconds lost{0};  ///< what happened for so long
};

/// Counts of one server type, since the release was made.
struct type_count {
  std::string type;
  migration::way way = migration::way::keep;
  std::vector<std::string> steps;
  std::uint64_t servers = 0;
};

/// Threading: any thread. Immutable but for its counts.
class bound_release final : public servers::release {
 public:
  /// Binds paths from every type of `sources` (what may be running) to this content's. A type without a path is not an
  /// error here (the plan says so beforehand): its servers fail to be adopted, each one recorded.
  [[nodiscard]] static std::shared_ptr<bound_release> make(release_content, std::span<const release_content> sources,
                                                           adopt_settings);

  void adopt(servers::resting_server&) const noexcept override;
  [[nodiscard]] const servers::server_type* find_type(std::string_view name) const noexcept override;
  /// By the hooks of the versions of that type that are its own or a source's, as planned (bound_release_messages.cpp).
  [[nodiscard]] servers::message_route find_route(const servers::server_type& receiver, const molt_message& sent,
                                                  const molt_schema* answered) const override;

  /// The path a server of that type would take: null when it is already this release's, or when there is none; then the
  /// error says why.
  [[nodiscard]] result<const migration::migration_path*> path_for(const servers::server_type&) const;
  [[nodiscard]] const release_content& content() const noexcept { return content_; }

  // -- What adopt() did so far
  [[nodiscard]] std::uint64_t adopted() const noexcept { return adopted_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t failed() const noexcept { return failed_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t late() const noexcept { return late_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::vector<server_failure> failures() const;
  [[nodiscard]] std::vector<type_count> counts() const;
  /// Servers that became again what was kept of them, and those that would, had that been accepted.
  struct restorations {
    std::uint64_t count = 0;
    std::vector<server_restoration> servers;  ///< at most failures_listed_max
    std::optional<second> since;              ///< the oldest
  };
  [[nodiscard]] restorations restored() const;
  [[nodiscard]] restorations not_accepted() const;
  [[nodiscard]] std::chrono::nanoseconds largest_migration() const noexcept;

  /// Converts entries of the server's evolving containers for a few microseconds; `down`: back to what they were
  /// adopted from. Returns how many are left; nullopt if one could not be converted, which is recorded if the way was
  /// up.
  [[nodiscard]] std::optional<std::uint64_t> convert_entries(servers::resting_server&, bool down) const noexcept;

  /// One server moved in mode atomic: to be kept or reverted when all are. Its old state lives as long.
  class move {
   public:
    move(migration::transformation done, const servers::server_type& before) noexcept
        : done_{std::move(done)}, before_{&before} {}
    /// Restored from what was kept; owns the state that it had.
    move(const servers::server_type& before, void* state) noexcept : before_{&before}, replaced_{state} {}
    move(move&& other) noexcept
        : done_{std::move(other.done_)}, before_{other.before_}, replaced_{std::exchange(other.replaced_, nullptr)} {}
    move& operator=(move&&) = delete;
    ~move();
    /// The state that the server had.
    [[nodiscard]] state_view before() const noexcept {
      if (!done_) return {before_->abi().state, replaced_, {}};
      return {before_->abi().state, done_->whole_old(), done_->archive_of_old()};
    }

   private:
    friend class bound_release;
    std::optional<migration::transformation> done_;
    const servers::server_type* before_;
    void* replaced_ = nullptr;
  };
  enum class moved { nothing_to_do, moved, failed };
  /// Brings one server over and keeps in `undo` what is needed to revert it. A failure is recorded.
  moved adopt_revertibly(servers::resting_server&, std::optional<move>& undo) const noexcept;
  /// Whether a hook on the way of such servers uses other servers' states: then it runs while everything rests, and one
  /// after the other.
  [[nodiscard]] bool uses_others(const servers::server_type&) const noexcept;
  /// The same of any type of a release.
  [[nodiscard]] bool uses_others(const release_content&) const noexcept;
  /// Through which they do; null: they may not.
  void hand_states(handed_states* through) const noexcept { handed_.store(through, std::memory_order_release); }
  /// Puts a moved server back. False: its state is lost (memory ran out), which is recorded.
  bool revert(servers::resting_server&, move&) const noexcept;

  /// Destroys old states that were too large to be destroyed while their server waited. Called by the upgrade's thread.
  void destroy_old_states() const noexcept;

  bound_release(release_content, adopt_settings);  // used by make()
  ~bound_release() override;

 private:
  struct binding;
  struct not_moved {
    migration::step_failure why;
    bool lost = false;
  };
  using transformation = migration::transformation;

  void bind(const release_content& source);
  void bind(const loaded_plugin& source, const servers::server_type& from);
  /// Another version of that type, which has a handler for this very message; null if there is none.
  [[nodiscard]] const servers::server_type* sender_of(const servers::server_type& receiver,
                                                      std::uint64_t key) const noexcept;
  /// The binding to take; null where there is nothing to do.
  [[nodiscard]] const binding* find_binding(const servers::server_type&) const noexcept;
  /// Moves the server, or leaves it as it was and says why. Throws bad_alloc for want of memory to say it.
  [[nodiscard]] std::optional<transformation> move_state(servers::resting_server&, const binding&, bool revertible,
                                                         not_moved&) const;
  [[nodiscard]] bool keep_state(const servers::resting_server&, const binding&,
                                std::shared_ptr<const migration::archive_buffer>&, not_moved&) const;
  moved restore(servers::resting_server&, const binding&, const not_moved&, std::optional<move>&) const;
  void record_failure(const servers::resting_server&, const migration::step_failure&, bool lost,
                      bool entry = false) const noexcept;
  void record_move(const binding&, const transformation&) const noexcept;

  release_content content_;
  adopt_settings settings_;
  std::vector<release_content> sources_;  // keeps the images of every source type mapped
  std::vector<molt_argument> arguments_;
  hook_settings hooks_;
  std::unordered_map<const molt_server_type*, std::unique_ptr<binding>> bindings_;  // by what the server has
  std::unordered_map<std::string_view, const servers::server_type*> by_name_;

  mutable std::atomic<handed_states*> handed_{nullptr};
  mutable std::atomic<std::uint64_t> adopted_{0};
  mutable std::atomic<std::uint64_t> failed_{0};
  mutable std::atomic<std::uint64_t> lost_{0};
  mutable std::atomic<std::uint64_t> late_{0};
  mutable std::atomic<std::int64_t> largest_ns_{0};
  mutable std::mutex mutex_;
  mutable std::vector<server_failure> failures_;
  mutable restorations restored_;
  mutable restorations not_accepted_;
  mutable std::vector<transformation> graves_;  // complete; destroyed by destroy_old_states
};

}  // namespace molt::upgrade
