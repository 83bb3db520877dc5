// The migration graph of one server type's state, of one of its messages, or of the replies to that: schemas are its
// nodes, by fingerprint; hooks are its edges.
//
// It is made from descriptions alone (to plan, before anything is loaded) or from the tables of loaded images (to run);
// the same search answers both, so that what was planned is what happens.
//
//   add images, the preferred one first -> find() a route between two schemas -> choose the way (migration_path.hpp)
//
// Invariants: an edge of a preferred image hides the edges between the same two fingerprints of the images added after
// it; a hook hides an archive edge; a hook for the replies to one message hides one for all; a route uses edges of
// later images only where the earlier ones have no route.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "plugin/description.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt::migration {

enum class direction { up, down };

[[nodiscard]] constexpr direction opposite(direction way) noexcept {
  return way == direction::up ? direction::down : direction::up;
}

[[nodiscard]] constexpr std::string_view to_string(direction way) noexcept {
  return way == direction::up ? "up" : "down";
}

/// What a graph is of.
struct subject {
  enum class kind { state, message, reply };
  kind what = kind::state;
  std::string_view message{};  ///< its name; not of a state
};

/// A schema as one image knows it.
struct graph_schema {
  std::uint64_t fingerprint = 0;
  std::uint32_t flags = 0;    ///< MOLT_SCHEMA_...
  std::uint32_t version = 0;  ///< declared class version
  unsigned image = 0;         ///< which image's type it is: the order of adding, from 0
  std::string name;
  std::string text;
  const molt_schema* schema = nullptr;  ///< null in a graph made from descriptions

  [[nodiscard]] bool code_free() const noexcept { return (flags & MOLT_SCHEMA_CODE_FREE) != 0; }
  [[nodiscard]] bool reads_older() const noexcept { return (flags & MOLT_SCHEMA_READS_OLDER) != 0; }
};

/// Of a loaded image. `image`: its number in a graph.
[[nodiscard]] graph_schema describe(const molt_schema&, unsigned image);

/// A hook, or (READS_OLDER) an archive of a lower version read by a newer type of the same name.
struct graph_edge {
  graph_schema from;
  graph_schema to;
  bool archive = false;     ///< no hook: the archive form carries the change
  std::uint32_t flags = 0;  ///< MOLT_EDGE_..., 0 for an archive edge
  std::string loss;         ///< empty: nothing is lost
  std::string loss_text;
  std::string plugin_version;       ///< of the image that has the hook
  const molt_edge* hook = nullptr;  ///< null in a graph made from descriptions, and for archive edges
  bool for_one_message = false;     ///< of a reply edge: not for the replies to all

  /// For people: "counter::v1::state to counter::state (hook of 2.0.0)"; a hook of more than the state says so.
  [[nodiscard]] std::string text() const;
};

/// Edges in the order of travel; empty where source and destination are equal.
using route = std::vector<graph_edge>;

/// Routes longer than this are not searched for.
inline constexpr std::size_t route_length_max = 1000;

class migration_graph {
 public:
  /// Adds what one image knows of a server type; images are preferred in the order of adding. An image without the type
  /// adds nothing. Returns the image's number.
  unsigned add(const plugin_description&, std::string_view server_type, const subject& = {});
  unsigned add(const molt_server_type&, std::string_view plugin_version, const subject& = {});

  /// The shortest route from one fingerprint to another. Up goes by hooks that are not flagged DOWN (and archive
  /// edges), down by those that are. Errors: incompatible (no route; the text names both schemas), refused (two
  /// different shortest routes; names both).
  [[nodiscard]] result<route> find(std::uint64_t from, std::uint64_t to, direction) const;

  /// The type's own state in an image, or the message or reply that it has a handler for; null if the image lacks that.
  [[nodiscard]] const graph_schema* state_of(unsigned image) const noexcept;
  /// Any schema with that fingerprint, of the most preferred image; null if none.
  [[nodiscard]] const graph_schema* find_schema(std::uint64_t fingerprint) const noexcept;
  [[nodiscard]] const std::vector<graph_edge>& edges() const noexcept { return edges_; }

 private:
  struct image {
    bool has_type = false;
    graph_schema own;
  };

  void add_own(graph_schema);
  void add_edges(std::vector<graph_edge>);
  [[nodiscard]] std::vector<graph_edge> usable_edges(unsigned images, direction) const;
  [[nodiscard]] result<route> search(std::uint64_t from, std::uint64_t to, const std::vector<graph_edge>&) const;
  [[nodiscard]] std::string name_of(std::uint64_t fingerprint) const;

  std::vector<image> images_;
  std::vector<graph_schema> schemas_;
  std::vector<graph_edge> edges_;
};

}  // namespace molt::migration
