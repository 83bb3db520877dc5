// What servers were when they migrated, kept until commit or rollback: for a rollback whose hooks are the faulty part.
//
//   entry     event                                             next
//   (none)    its server is about to be migrated                kept: its state is written down before any hook runs
//   kept      the migration failed, so the server is as before  (none)
//   kept      commit; or the rollback is done                   (none), all at once, with this
//
// Going back to an entry loses what its server did since: an operator must accept that by the time from which on it is
// lost, since=2026-01-31T12:00:00Z, as loss_since() spells it.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "server/runtime.hpp"
#include "state_migration/archive_buffer.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace molt::upgrade {

/// To the second; UTC.
using second = std::chrono::sys_seconds;

/// "2026-01-31T12:00:00Z"
[[nodiscard]] std::string to_text(second);
/// "since=2026-01-31T12:00:00Z": the name under which an operator accepts to lose what happened from then on.
[[nodiscard]] std::string loss_since(second);
[[nodiscard]] bool is_loss_since(std::string_view name) noexcept;
/// Of the names that an operator gave, the earliest that is such a loss; nothing if there is none. Errors:
/// invalid_argument (it begins as one, and is none).
[[nodiscard]] result<std::optional<second>> accepted_since(std::span<const std::string> names);

/// Of one server type, or of all.
struct kept_summary {
  std::string type;
  std::uint64_t servers = 0;
  std::uint64_t bytes = 0;
  second since{};  ///< the oldest
};

/// Threading: any thread. Ownership: owns archives, which need no image.
class kept_states {
 public:
  /// Keeps at most so many bytes of archives.
  explicit kept_states(std::size_t bytes_max = migration::archive_size_max) noexcept : bytes_max_{bytes_max} {}

  using archive = std::shared_ptr<const migration::archive_buffer>;

  /// Writes down the state of a server that is held or at rest; replaces what was kept of it. Returns what it wrote.
  /// Errors, and then what was kept of it is as before: hook_failed (writing it threw), out_of_bounds (no memory, or
  /// the bound is reached).
  [[nodiscard]] result<archive> keep(const servers::resting_server&);
  void forget(molt_ref) noexcept;

  /// When the server was that which is kept of it; nothing if that is nothing, or a state of another type than `as`.
  [[nodiscard]] std::optional<second> since(molt_ref, const molt_server_type& as) const noexcept;
  /// For how long it has been something else.
  [[nodiscard]] std::chrono::seconds lost(molt_ref) const noexcept;
  /// Its state, made again of type `as`; the caller's to destroy and free. Errors: not_found, corrupt, out_of_bounds
  /// (no memory), hook_failed (reading it threw, perhaps for want of memory).
  [[nodiscard]] result<void*> make(molt_ref, const molt_server_type& as) const;

  /// What is kept; empty if nothing is. Valid until that server is forgotten or kept anew.
  [[nodiscard]] std::string_view archive_of(molt_ref) const noexcept;

  /// Of all together, without a type's name.
  [[nodiscard]] kept_summary summary() const noexcept;
  /// Looks at every entry.
  [[nodiscard]] std::vector<kept_summary> by_type() const;

 private:
  struct entry {
    kept_states::archive archive;
    std::uint64_t checksum = 0;
    const molt_server_type* type = nullptr;
    second at{};
    std::chrono::steady_clock::time_point kept;
  };
  struct shard {
    mutable std::mutex mutex;
    std::unordered_map<std::uint64_t, entry> of;  // by reference
  };
  [[nodiscard]] shard& shard_of(molt_ref ref) const noexcept { return shards_[ref.bits % shards_.size()]; }

  std::size_t bytes_max_;
  mutable std::array<shard, 64> shards_;
  std::atomic<std::uint64_t> servers_{0};
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::int64_t> since_{std::numeric_limits<std::int64_t>::max()};
};

}  // namespace molt::upgrade
