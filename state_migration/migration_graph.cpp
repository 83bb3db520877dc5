#include "state_migration/migration_graph.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

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

namespace {

using schema_index = std::uint32_t;

/// The schema that a type of one image handles, or none.
schema_index own_schema(const plugin_description& plugin, const server_type_description& type, const subject& of) {
  if (of.what == subject::kind::state) return type.state;
  for (const auto& handler : type.handlers)
    if (const auto& message = plugin.messages.at(handler.message); message.name == of.message)
      return of.what == subject::kind::message ? message.payload : message.reply;
  return no_schema;
}

const molt_schema* own_schema(const molt_server_type& type, const subject& of) {
  if (of.what == subject::kind::state) return type.state;
  for (std::uint32_t index = 0; index < type.handler_count; ++index)
    if (const auto& message = *type.handlers[index].message; of.message == message.name)
      return of.what == subject::kind::message ? message.payload : message.reply;
  return nullptr;
}

bool is_of(const subject& of, std::string_view edge_message) {
  return of.what == subject::kind::state || edge_message == of.message ||
         (of.what == subject::kind::reply && edge_message.empty());
}

const std::vector<edge_description>& edges_of(const plugin_description& plugin, const subject& of) {
  if (of.what == subject::kind::state) return plugin.state_edges;
  return of.what == subject::kind::message ? plugin.message_edges : plugin.reply_edges;
}

std::pair<const molt_edge*, std::uint32_t> edges_of(const molt_server_type& type, const subject& of) {
  if (of.what == subject::kind::state) return {type.state_edges, type.state_edge_count};
  if (of.what == subject::kind::message) return {type.message_edges, type.message_edge_count};
  return {type.reply_edges, type.reply_edge_count};
}

std::string text_of(const char* text) { return text == nullptr ? std::string{} : std::string{text}; }

}  // namespace

graph_schema describe(const molt_schema& schema, unsigned image) { return node_of(schema, image); }

unsigned migration_graph::add(const plugin_description& plugin, std::string_view server_type, const subject& of) {
  const auto number = static_cast<unsigned>(images_.size());
  images_.emplace_back();
  for (std::uint32_t index = 0; index < plugin.server_types.size(); ++index) {
    const auto& type = plugin.server_types[index];
    if (type.name != server_type) continue;
    if (const auto own = own_schema(plugin, type, of); own != no_schema)
      add_own(node_of(plugin.schemas.at(own), number));
    std::vector<graph_edge> edges;
    for (const auto& edge : edges_of(plugin, of))
      if (edge.server_type == index && is_of(of, edge.message))
        edges.push_back({node_of(plugin.schemas.at(edge.from), number), node_of(plugin.schemas.at(edge.to), number),
                         false, edge.flags, edge.loss, edge.loss_text, plugin.version, nullptr, !edge.message.empty()});
    add_edges(std::move(edges));
  }
  return number;
}

unsigned migration_graph::add(const molt_server_type& type, std::string_view plugin_version, const subject& of) {
  const auto number = static_cast<unsigned>(images_.size());
  images_.emplace_back();
  if (const auto* const own = own_schema(type, of)) add_own(node_of(*own, number));
  std::vector<graph_edge> edges;
  const auto [first, count] = edges_of(type, of);
  for (std::uint32_t index = 0; index < count; ++index) {
    const auto& edge = first[index];
    if (is_of(of, edge.message == nullptr ? std::string_view{} : std::string_view{edge.message}))
      edges.push_back({node_of(*edge.from, number), node_of(*edge.to, number), false, edge.flags, text_of(edge.loss),
                       text_of(edge.loss_text), std::string{plugin_version}, &edge,
                       edge.message != nullptr && *edge.message != '\0'});
  }
  add_edges(std::move(edges));
  return number;
}

void migration_graph::add_own(graph_schema own) {
  images_.back() = {true, std::move(own)};
  schemas_.push_back(images_.back().own);
}

/// Of two hooks with the same ends one may be meant more: for the replies to this message, not to all; else for the
/// very type that is answered, where another has the same structure.
void migration_graph::add_edges(std::vector<graph_edge> edges) {
  const auto rank = [this](const graph_edge& edge) {
    const bool down = (edge.flags & MOLT_EDGE_DOWN) != 0;
    const bool own = images_.back().has_type && (down ? edge.from : edge.to).name == images_.back().own.name;
    return (edge.for_one_message ? 2 : 0) + (own ? 1 : 0);
  };
  for (const auto& edge : edges) {
    const bool hidden = std::any_of(edges.begin(), edges.end(), [&](const auto& other) {
      return same_ends(edge, other) && ((edge.flags ^ other.flags) & MOLT_EDGE_DOWN) == 0 && rank(edge) < rank(other);
    });
    if (hidden) continue;
    edges_.push_back(edge);
    schemas_.push_back(edge.from);
    schemas_.push_back(edge.to);
  }
}

const graph_schema* migration_graph::state_of(unsigned image) const noexcept {
  return image < images_.size() && images_[image].has_type ? &images_[image].own : nullptr;
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
