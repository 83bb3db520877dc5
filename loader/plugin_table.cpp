#include "loader/plugin_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace molt::loader {
namespace {

constexpr std::uint32_t items_max = 65'536;

std::string_view text_of(const char* text) { return text == nullptr ? std::string_view{} : std::string_view{text}; }

error differs(const std::string& what) {
  return error{reason::incompatible, "its table and its note disagree: " + what, "build the plugin again, from clean"};
}

class table_binder {
 public:
  table_binder(const molt_plugin_table& table, const plugin_description& note) : table_{table}, note_{note} {}

  result<bound_table> bind() {
    bound_.table = &table_;
    bound_.server_types.resize(note_.server_types.size());
    bound_.schemas.resize(note_.schemas.size());
    bound_.messages.resize(note_.messages.size());
    bound_.state_edges.resize(note_.state_edges.size());
    bound_.message_edges.resize(note_.message_edges.size());
    bound_.reply_edges.resize(note_.reply_edges.size());
    for (std::uint32_t i = 0; i < note_.schemas.size(); ++i) by_fingerprint_.emplace(note_.schemas[i].fingerprint, i);

    if (text_of(table_.name) != note_.name) return differs("the plugin's name");
    if (text_of(table_.version) != note_.version) return differs("the plugin's version");
    if (text_of(table_.toolchain) != note_.toolchain) return differs("the toolchain");
    if (text_of(table_.build) != note_.build) return differs("how it was built");
    if (table_.server_type_count != note_.server_types.size() || table_.server_types == nullptr)
      return differs("the number of server types");
    for (std::uint32_t i = 0; i < table_.server_type_count; ++i) MOLT_CHECK(bind_server_type(table_.server_types[i]));
    MOLT_CHECK(check_all_found());
    return std::move(bound_);
  }

 private:
  result<void> bind_server_type(const molt_server_type& type) {
    const auto name = text_of(type.name);
    const auto* described = note_.find_server_type(name);
    if (described == nullptr) return differs("server type " + std::string{name} + " is not in the note");
    const auto index = static_cast<std::uint32_t>(described - note_.server_types.data());
    if (bound_.server_types[index] != nullptr) return differs("server type " + described->name + " twice in the table");
    if (type.kind != described->kind) return differs("the kind of " + described->name);
    if (type.init == nullptr || (type.kind == MOLT_KIND_CONNECTION) != (type.handle_data != nullptr))
      return differs("the callbacks of " + described->name);
    bound_.server_types[index] = &type;
    MOLT_TRY(const std::uint32_t state, bind_schema(type.state, described->name));
    if (!same_schema(state, described->state)) return differs("the state of " + described->name);
    MOLT_CHECK(bind_handlers(type, *described));
    MOLT_CHECK(bind_edges(type.state_edges, type.state_edge_count, index, note_.state_edges, bound_.state_edges));
    MOLT_CHECK(
        bind_edges(type.message_edges, type.message_edge_count, index, note_.message_edges, bound_.message_edges));
    return bind_edges(type.reply_edges, type.reply_edge_count, index, note_.reply_edges, bound_.reply_edges);
  }

  [[nodiscard]] bool same_schema(std::uint32_t one, std::uint32_t other) const {
    return one == other || note_.schemas[one] == note_.schemas[other];
  }

  // The first index of an equal description; all equal ones are bound to it.
  result<std::uint32_t> bind_schema(const molt_schema* schema, const std::string& who) {
    if (schema == nullptr || schema->save == nullptr || schema->load == nullptr || schema->destroy == nullptr)
      return differs("a schema of " + who + " has no functions");
    std::optional<std::uint32_t> found;
    const auto [first, last] = by_fingerprint_.equal_range(schema->fingerprint);
    for (auto at = first; at != last; ++at) {
      const auto& known = note_.schemas[at->second];
      if (schema->size != known.size || schema->align != known.align || schema->flags != known.flags ||
          schema->version != known.version || text_of(schema->name) != known.name ||
          text_of(schema->text) != known.text)
        continue;
      if (bound_.schemas[at->second] == nullptr) bound_.schemas[at->second] = schema;
      if (!found || at->second < *found) found = at->second;
    }
    if (!found) return differs("schema " + std::string{text_of(schema->name)} + " of " + who);
    return *found;
  }

  result<void> bind_handlers(const molt_server_type& type, const server_type_description& described) {
    if (type.handler_count != described.handlers.size() || (type.handler_count != 0 && type.handlers == nullptr))
      return differs("the number of handlers of " + described.name);
    for (std::uint32_t i = 0; i < type.handler_count; ++i) {
      const molt_handler& handler = type.handlers[i];
      const handler_description& expected = described.handlers[i];
      const message_description& message = note_.messages[expected.message];
      const std::string who = described.name + "'s " + message.name;
      if (handler.message == nullptr || handler.handle == nullptr || text_of(handler.message->name) != message.name)
        return differs("handler " + std::to_string(i) + " of " + described.name);
      if (handler.flags != expected.flags) return differs("the flags of " + who);
      if (handler.message->key != message.key) return differs("the key of " + who);
      MOLT_TRY(const std::uint32_t payload, bind_schema(handler.message->payload, who));
      if (!same_schema(payload, message.payload)) return differs("the payload of " + who);
      if ((handler.message->reply == nullptr) != (message.reply == no_schema)) return differs("the reply of " + who);
      if (handler.message->reply != nullptr) {
        MOLT_TRY(const std::uint32_t reply, bind_schema(handler.message->reply, who));
        if (!same_schema(reply, message.reply)) return differs("the reply of " + who);
      }
      if (bound_.messages[expected.message] == nullptr) bound_.messages[expected.message] = handler.message;
    }
    return ok();
  }

  result<void> bind_edges(const molt_edge* edges, std::uint32_t count, std::uint32_t type,
                          const std::vector<edge_description>& described, std::vector<const molt_edge*>& to) {
    const std::string& who = note_.server_types[type].name;
    if (count > items_max || (count != 0 && edges == nullptr)) return differs("the number of edges of " + who);
    for (std::uint32_t i = 0; i < count; ++i) {
      const molt_edge& edge = edges[i];
      if (edge.apply == nullptr) return differs("an edge of " + who + " has no function");
      MOLT_TRY(const std::uint32_t from, bind_schema(edge.from, who));
      MOLT_TRY(const std::uint32_t destination, bind_schema(edge.to, who));
      bool found = false;
      for (std::size_t at = 0; at < described.size() && !found; ++at) {
        const auto& known = described[at];
        found = to[at] == nullptr && known.server_type == type && same_schema(known.from, from) &&
                same_schema(known.to, destination) && known.flags == edge.flags && known.loss == text_of(edge.loss) &&
                known.loss_text == text_of(edge.loss_text) && known.message == text_of(edge.message);
        if (found) to[at] = &edge;
      }
      if (!found)
        return differs("an edge of " + who + " from " + note_.schemas[from].name + " to " +
                       note_.schemas[destination].name);
    }
    return ok();
  }

  [[nodiscard]] result<void> check_all_found() const {
    for (std::size_t i = 0; i < bound_.schemas.size(); ++i)
      if (bound_.schemas[i] == nullptr) return differs("schema " + note_.schemas[i].name + " is only in the note");
    for (std::size_t i = 0; i < bound_.messages.size(); ++i)
      if (bound_.messages[i] == nullptr) return differs("message " + note_.messages[i].name + " is only in the note");
    const auto missing = [](const auto& edges) {
      return std::find(edges.begin(), edges.end(), nullptr) != edges.end();
    };
    if (missing(bound_.state_edges) || missing(bound_.message_edges) || missing(bound_.reply_edges))
      return differs("an edge is only in the note");
    return ok();
  }

  const molt_plugin_table& table_;
  const plugin_description& note_;
  bound_table bound_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> by_fingerprint_;
};

}  // namespace

result<bound_table> bind_table(const molt_plugin_table* table, const plugin_description& note) {
  if (table == nullptr) return error{reason::refused, MOLT_PLUGIN_SYMBOL "() returned no table"};
  if (table->abi_version != MOLT_ABI_VERSION)
    return error{reason::incompatible,
                 "its table is for plugin ABI version " + std::to_string(table->abi_version) +
                     ", this host has version " + std::to_string(MOLT_ABI_VERSION),
                 "build it against the molt that will run it"};
  if (table->size != sizeof(molt_plugin_table))
    return error{reason::incompatible, "its table has " + std::to_string(table->size) + " bytes, expected are " +
                                           std::to_string(sizeof(molt_plugin_table))};
  if (table->defect != nullptr)
    return error{reason::refused, std::string{"it finds itself unfit: "} + table->defect,
                 "correct the type that it names and build it again"};
  return table_binder{*table, note}.bind();
}

}  // namespace molt::loader
