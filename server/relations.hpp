// Who watches whom, and who belongs where: monitors, links and groups, by reference. The tables are the host's, so that
// upgrades do not touch them.
//
//   relation     event                                  next
//   monitor      its target ended                       free; the watcher is told
//                demonitor(), its watcher ended         free
//   link         one of both ended                      free; the other is told
//                unlink()                               free
//   membership   its server ended, leave()              free
//
// Invariants: each relation stands in the list of every server that it concerns (a membership also in its group's), so
// that the end of a server takes time only for relations of its own. A server with a relation has cell::related set
// before the relation is made, and whoever sets it for another looks afterwards whether that one has ended meanwhile.
//
// Threading: any thread.
#pragma once

#include "plugin/abi.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace molt::servers {

class relations {
 public:
  /// In bytes.
  static constexpr std::size_t group_name_max = 255;

  /// `relations_max`: monitors, links and memberships together.
  explicit relations(std::size_t relations_max) : relations_max_{relations_max} {}

  /// The monitor's id, unique in this process for a long time; 0 when full.
  std::uint64_t monitor(molt_ref watcher, molt_ref target);
  /// Whether that monitor was the watcher's and had not been taken.
  bool demonitor(molt_ref watcher, std::uint64_t id);
  /// False when full. A second link between two servers is the first.
  bool link(molt_ref, molt_ref);
  bool unlink(molt_ref, molt_ref);

  /// False when full, or the name is too long. A second membership is the first.
  bool join(molt_ref, std::string_view group);
  bool leave(molt_ref, std::string_view group);
  /// How many there are; up to `capacity` of them are written.
  std::size_t members(std::string_view group, molt_ref* to, std::size_t capacity) const;

  struct parted {
    std::vector<std::pair<molt_ref, std::uint64_t>> watchers;  ///< with their monitors
    std::vector<molt_ref> linked;
  };
  /// Takes everything that concerns a server which has ended.
  parted part(molt_ref gone);
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr std::uint32_t none = 0xffffffff;
  enum class kind : std::uint8_t { free, monitor, link, membership };
  struct group;
  struct side {
    molt_ref server{};
    std::uint32_t next = none;
    std::uint32_t previous = none;  // or none: first of its server's
  };
  struct relation {
    std::array<side, 2> sides;  // watcher and target; both ends of a link; a membership has one
    group* of = nullptr;        // a membership's
    std::uint32_t place = 0;    // there
    std::uint32_t generation = 1;
    kind what = kind::free;
  };
  struct group {
    std::vector<std::uint32_t> members;
    const std::string* name = nullptr;
  };
  using pair = std::pair<std::uint64_t, std::uint64_t>;
  struct hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
    std::size_t operator()(const pair& of) const noexcept {
      return std::hash<std::uint64_t>{}((of.first * 0x9e3779b97f4a7c15ULL) ^ of.second);
    }
  };

  static pair pair_of(molt_ref a, molt_ref b) noexcept { return std::minmax(a.bits, b.bits); }
  static pair pair_of(molt_ref server, const group& of) noexcept {
    return {server.bits, reinterpret_cast<std::uint64_t>(&of)};
  }
  [[nodiscard]] static unsigned sides_of(kind what) noexcept { return what == kind::membership ? 1 : 2; }
  std::uint32_t make(kind, molt_ref, molt_ref);  // none when full
  void release(std::uint32_t index);
  void enlist(std::uint32_t index, unsigned which);
  void strike(std::uint32_t index, unsigned which);
  side& side_of(std::uint32_t index, molt_ref server) noexcept;

  const std::size_t relations_max_;
  mutable std::mutex mutex_;
  std::vector<relation> relations_;
  std::vector<std::uint32_t> unused_;
  std::unordered_map<std::uint64_t, std::uint32_t> first_;  // by server
  std::unordered_map<pair, std::uint32_t, hash> links_;
  std::unordered_map<pair, std::uint32_t, hash> memberships_;
  std::unordered_map<std::string, group, hash, std::equal_to<>> groups_;
};

}  // namespace molt::servers
