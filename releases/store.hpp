// The releases of a box: what is installed, which one runs, which one a restart runs, and what is under way.
//
//   status      event                                       next
//   (none)      install                                     unpacked
//   unpacked    start of the first release done             permanent
//   unpacked    upgrade to it done                          current      probation begins; its parent stays permanent
//   current     commit                                      permanent    the former permanent one becomes old
//   current     rollback to its parent done, or probation   old          the parent, still permanent, runs
//               ended by a crash of the node
//   permanent   rollback to its parent done                 old          the parent becomes permanent
//   old         upgrade to it done                          current
//   unpacked, old    remove                                 (none)
//   any         an upgrade or rollback that was not done    as it was
//
// On disk, below the store's folder:
//   lock             held (flock) by the one writer
//   store.json       all of the above; replaced durably; written BEFORE what it announces begins
//   releases/<id>/   read-only content with molt-contents; a folder that store.json does not
//                    know is debris, swept at open
// docs/reference/store.md has store.json in full.
//
// Invariants, checked after every read and before every write of store.json: at most one release is permanent; at most
// one is current, and then another is permanent and is its parent; a transition's releases are installed.
#pragma once

#include "base/file_system.hpp"
#include "base/result.hpp"
#include "releases/manifest.hpp"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::releases {

/// Raise when store.json changes so that an older molt would misread it.
inline constexpr unsigned store_format_version = 1;
inline constexpr std::size_t releases_max = 1000;
inline constexpr std::size_t history_max = 200;  ///< older transitions are forgotten
inline constexpr std::size_t store_bytes_max = std::size_t{16} << 20U;

enum class release_status { unpacked, current, permanent, old };
enum class transition_kind { start, upgrade, rollback };
/// planned: nothing has been asked of the node; switching: the node may run either release.
enum class transition_phase { planned, switching };
enum class transition_outcome { done, refused, rolled_back, failed, needs_attention };

[[nodiscard]] std::string_view to_string(release_status) noexcept;
[[nodiscard]] std::string_view to_string(transition_kind) noexcept;
[[nodiscard]] std::string_view to_string(transition_phase) noexcept;
[[nodiscard]] std::string_view to_string(transition_outcome) noexcept;

struct release_record {
  std::string id;
  std::string name;
  std::string version;
  release_status status = release_status::unpacked;
  std::string parent;        ///< the release it was last upgraded from; empty: none
  std::string installed_at;  ///< "2026-01-31T12:00:00Z"
  std::string contents;      ///< SHA-256 of its molt-contents; empty: installed before this was kept
};

struct transition {
  transition_kind kind = transition_kind::upgrade;
  std::string from;  ///< empty when kind is start
  std::string to;
  transition_phase phase = transition_phase::planned;
  std::string started_at;
};

/// A transition that has ended, or probation that a crash ended (kind rollback).
struct past_transition {
  transition_kind kind = transition_kind::upgrade;
  std::string from;
  std::string to;
  transition_outcome outcome = transition_outcome::done;
  std::string started_at;
  std::string finished_at;
  std::string detail;
};

/// A release that lies in the store's folder, checked, but is not part of it yet.
struct staged_release {
  manifest release;
  std::filesystem::path folder;
  std::filesystem::path source;  ///< for messages
  std::string contents;          ///< SHA-256 of its molt-contents
};

struct installed_release {
  std::string id;
  bool repaired = false;  ///< it was installed already, with the same contents: its files were replaced
};

/// Threading: one thread at a time; the caller locks. stage() alone may run beside everything else but another stage().
/// Ownership: holds the store's lock file until destroyed. Every function that changes something is durable when it
/// returns; when it returns an error, the store on disk and in memory is as before.
class store {
 public:
  /// Opens or makes a store, and sweeps what interrupted installs left.
  /// Errors: busy (another process has it open, named), corrupt (store.json), io.
  static result<store> open(const std::filesystem::path& folder, file_system& = file_system::real());

  store(store&&) noexcept;
  store& operator=(store&&) noexcept;
  ~store();

  // -- Asking
  [[nodiscard]] const std::vector<release_record>& releases() const noexcept;
  [[nodiscard]] const std::vector<past_transition>& history() const noexcept;  ///< oldest first
  [[nodiscard]] const std::optional<transition>& in_flight() const noexcept;
  /// What an operator must decide about; empty: nothing.
  [[nodiscard]] const std::string& attention() const noexcept;
  /// The release that runs: the current one, else the permanent one; empty: none.
  [[nodiscard]] std::string running() const;
  [[nodiscard]] std::string permanent() const;
  /// A release runs that has not been committed.
  [[nodiscard]] bool in_probation() const noexcept;
  /// "kv-1.0.0", or "1.0.0" when only one release has that version. Errors: not_found, refused (several), with what
  /// there is.
  result<release_record> find(std::string_view id_or_version) const;
  [[nodiscard]] std::filesystem::path folder_of(std::string_view id) const;
  /// SHA-256 that its molt-contents had when it was installed: for verify_contents, and for a node that loads it.
  /// Empty: no such release, or installed before this was written down.
  [[nodiscard]] std::string contents_of(std::string_view id) const;
  /// The release to go back to: the running one's parent. Errors: refused (there is none, it was removed, or a
  /// transition runs).
  result<release_record> rollback_target() const;
  /// What a node started now must run: the permanent release. It is the parent while in probation. Empty: none yet.
  [[nodiscard]] std::string boot_release() const;

  // -- Changing
  /// Installs a package or a release folder; returns its id. Its plugins are inspected, nothing is run. One that is
  /// installed already, with the same contents but damaged files, gets its files back, whatever its status.
  /// Errors: already_exists, out_of_bounds, and those of unpack, copy_release and check_plugins.
  result<std::string> install(const std::filesystem::path& package_or_folder);
  /// The long half of install: unpacks and inspects. A staged release that is not admitted is swept by the next one.
  /// Error, before anything is unpacked: already_exists (and undamaged).
  result<staged_release> stage(const std::filesystem::path& package_or_folder) const;
  /// The short half: the release becomes part of the store, or takes the place of its damaged self in one step.
  /// Errors: already_exists (with other contents), out_of_bounds, io.
  result<installed_release> admit(const staged_release&);
  /// Errors: not_found; refused: it is current, permanent or part of the transition under way; io: on a full disk its
  /// files may be gone and it listed all the same.
  result<void> remove(std::string_view id);

  /// Journals what is about to happen, before it does. `to` is an id.
  /// Errors: not_found; busy (one is under way); refused: upgrade during probation (commit or roll back first), to the
  /// running release, start when something runs, rollback to another than the parent.
  result<void> begin_transition(transition_kind, std::string_view to);
  /// planned → switching: from now on the node may run either.
  result<void> begin_switch();
  /// done: `to` runs. needs_attention: `runs` says which release does, or empty when nobody knows. Otherwise `from`
  /// runs.
  result<void> finish_transition(transition_outcome, std::string detail = {}, std::string_view runs = {});
  /// Probation ends well. Errors: refused (nothing is in probation), busy.
  result<void> commit();
  /// The node is gone with everything in its memory: ends the transition under way and probation. Afterwards the
  /// permanent release is the one to run. True: something was ended.
  result<bool> node_lost(std::string_view why);
  /// For a supervisor that found a living node: ends the transition under way by what the node says it runs.
  /// Error: refused: the node runs neither of the two; attention() is set.
  result<void> resolve_by(std::string_view release_the_node_runs);
  /// Writes the store as it is. For a caller that is about to do what cannot be undone, and will have to write it down
  /// then: a full disk is found out before.
  result<void> check_writable();
  /// Sets or clears what an operator must decide about.
  result<void> set_attention(std::string text);

 private:
  class implementation;
  explicit store(std::unique_ptr<implementation>) noexcept;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace molt::releases
