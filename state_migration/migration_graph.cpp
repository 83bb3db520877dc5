#include "state_migration/migration_graph.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>

namespace molt::migration {
namespace {

graph_schema node_of(const schema_description& schema, unsigned image) {
  return {schema.fingerprint, schema.flags, schema.version, image, schema.name, schema.text, nullptr};
}

graph_schema node_of(const molt_schema& schema, unsigned image) {
  return {schema.fingerprint, schema.flags, schema.version, image, schema.name, schema.text, &schema};
}

bool same_ends(const graph_edge& a, const graph_edge& b) noexcept {
  return a.from.fingerprint == b.from.fingerprint && a.to.fingerprint == b.to.fingerprint;
}

std::string spell(const route& way) {
  std::string text = way.empty() ? std::string{"nothing"} : way.front().from.name;
  for (const auto& edge : way) text += " to " + edge.to.name;
  return text;
}

}  // namespace

std::string graph_edge::text() const {
  std::string result = from.name + " to " + to.name;
  if (archive) return result + " (archive of version " + std::to_string(from.version) + ")";
  result += " (hook of " + plugin_version;
  if ((flags & MOLT_EDGE_OTHERS) != 0) return result + ", with other servers)";
  return result + ((flags & MOLT_EDGE_CONTEXT) != 0 ? ", with context)" : ")");
}

unsigned migration_graph::add(const plugin_description& plugin, std::string_view server_type) {
  const auto number = static_cast<unsigned>(images_.size());
  images_.emplace_back();
  for (std::uint32_t index = 0; index < plugin.server_types.size(); ++index) {
    const auto& type = plugin.server_types[index];
    if (type.name != server_type) continue;
    images_.back() = {true, node_of(plugin.schemas.at(type.state), number)};
    add_schema(images_.back().state);
    for (const auto& edge : plugin.state_edges) {
      if (edge.server_type != index) continue;
      edges_.push_back({node_of(plugin.schemas.at(edge.from), number), node_of(plugin.schemas.at(edge.to), number),
                        false, edge.flags, edge.loss, edge.loss_text, plugin.version, nullptr});
      add_schema(edges_.back().from);
      add_schema(edges_.back().to);
    }
  }
  return number;
}

unsigned migration_graph::add(const molt_server_type& type, std::string_view plugin_version) {
  const auto number = static_cast<unsigned>(images_.size());
  images_.push_back({true, node_of(*type.state, number)});
  add_schema(images_.back().state);
  for (std::uint32_t index = 0; index < type.state_edge_count; ++index) {
    const auto& edge = type.state_edges[index];
    edges_.push_back({node_of(*edge.from, number), node_of(*edge.to, number), false, edge.flags,
                      edge.loss == nullptr ? "" : edge.loss, edge.loss_text == nullptr ? "" : edge.loss_text,
                      std::string{plugin_version}, &edge});
    add_schema(edges_.back().from);
    add_schema(edges_.back().to);
  }
  return number;
}

void migration_graph::add_schema(const graph_schema& schema) { schemas_.push_back(schema); }

const graph_schema* migration_graph::state_of(unsigned image) const noexcept {
  return image < images_.size() && images_[image].has_type ? &images_[image].state : nullptr;
}

const graph_schema* migration_graph::find_schema(std::uint64_t fingerprint) const noexcept {
  for (const auto& schema : schemas_)
    if (schema.fingerprint == fingerprint) return &schema;
  return nullptr;
}

std::string migration_graph::name_of(std::uint64_t fingerprint) const {
  const auto* const schema = find_schema(fingerprint);
  return schema == nullptr ? "an unknown schema" : schema->name;
}

/// Of the first `images` images, in order of preference and without duplicates.
std::vector<graph_edge> migration_graph::usable_edges(unsigned images, direction way) const {
  std::vector<graph_edge> usable;
  const auto add_unless_present = [&](const graph_edge& edge) {
    const bool present = std::any_of(usable.begin(), usable.end(), [&](const auto& other) {
      return same_ends(edge, other) && (edge.archive || other.from.image != edge.from.image);
    });
    if (!present) usable.push_back(edge);
  };
  for (const auto& edge : edges_) {
    const bool down = (edge.flags & MOLT_EDGE_DOWN) != 0;
    if (edge.from.image < images && down == (way == direction::down)) add_unless_present(edge);
  }
  if (way == direction::down) return usable;
  // An archive is written by the image that runs, whichever that is, and read by a preferred one.
  for (const auto& to : schemas_) {
    if (!to.reads_older() || to.image >= images) continue;
    for (const auto& from : schemas_)
      if (from.name == to.name && from.version < to.version && from.fingerprint != to.fingerprint)
        add_unless_present({from, to, true, 0, {}, {}, {}, nullptr});
  }
  return usable;
}

result<route> migration_graph::find(std::uint64_t from, std::uint64_t to, direction way) const {
  if (from == to) return route{};
  for (unsigned images = 1; images <= images_.size(); ++images) {
    auto found = search(from, to, usable_edges(images, way));
    if (found || found.error().why() != reason::incompatible) return found;
  }
  return error{reason::incompatible,
               "no way " + std::string{to_string(way)} + " from " + name_of(from) + " to " + name_of(to)};
}

/// Breadth first, counting the shortest ways to each node: two of them to the destination are one too many.
result<route> migration_graph::search(std::uint64_t from, std::uint64_t to,
                                      const std::vector<graph_edge>& edges) const {
  struct visit {
    std::size_t distance = 0;
    std::vector<const graph_edge*> arrivals;  // the last edges of shortest ways
  };
  std::unordered_map<std::uint64_t, visit> visits{{from, {}}};
  std::deque<std::uint64_t> queue{from};
  while (!queue.empty()) {
    const auto here = queue.front();
    queue.pop_front();
    const auto distance = visits[here].distance + 1;
    if (here == to || distance > route_length_max) break;
    for (const auto& edge : edges) {
      if (edge.from.fingerprint != here) continue;
      const auto [entry, fresh] = visits.try_emplace(edge.to.fingerprint, visit{distance, {}});
      if (fresh) queue.push_back(edge.to.fingerprint);
      if (entry->second.distance == distance) entry->second.arrivals.push_back(&edge);
    }
  }
  if (!visits.contains(to)) return error{reason::incompatible, "no way from " + name_of(from) + " to " + name_of(to)};

  const auto way_back = [&](std::uint64_t fork, std::size_t choice) {
    route way;
    for (auto node = to; node != from;) {
      const auto* const edge = visits[node].arrivals[node == fork ? choice : 0];
      way.push_back(*edge);
      node = edge->from.fingerprint;
    }
    std::reverse(way.begin(), way.end());
    return way;
  };
  for (auto node = to; node != from; node = visits[node].arrivals.front()->from.fingerprint)
    if (visits[node].arrivals.size() > 1)
      return error{reason::refused,
                   "two ways of " + std::to_string(visits[to].distance) + " hooks from " + name_of(from) + " to " +
                       name_of(to) + ": " + spell(way_back(node, 0)) + ", or " + spell(way_back(node, 1)),
                   "add a hook that goes the way you mean in one step"};
  return way_back(from, 0);
}

}  // namespace molt::migration
