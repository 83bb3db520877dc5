// What a plugin says of itself, as host-side values: decoded from its ELF note, without running its code.
//
// Threading: plain values; immutable once made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt {

inline constexpr std::uint32_t no_schema = 0xffffffffU;

/// A state or message type. Mirrors molt_schema without its functions.
struct schema_description {
  std::uint64_t fingerprint = 0;
  std::uint32_t size = 0;
  std::uint32_t align = 0;
  std::uint32_t flags = 0;    ///< MOLT_SCHEMA_...
  std::uint32_t version = 0;  ///< declared class version
  std::string name;           ///< as the author spells it; for people only
  std::string text;           ///< canonical structure, docs/reference/note-format.md

  friend bool operator==(const schema_description&, const schema_description&) = default;
};

struct message_description {
  std::string name;
  std::uint64_t key = 0;
  std::uint32_t payload = no_schema;  ///< index into plugin_description::schemas
  std::uint32_t reply = no_schema;    ///< the same; no_schema for a cast

  friend bool operator==(const message_description&, const message_description&) = default;
};

struct handler_description {
  std::uint32_t message = 0;  ///< index into plugin_description::messages
  std::uint32_t flags = 0;    ///< MOLT_HANDLER_...

  friend bool operator==(const handler_description&, const handler_description&) = default;
};

struct server_type_description {
  std::string name;         ///< "counter.server"
  std::uint32_t kind = 0;   ///< MOLT_KIND_...
  std::uint32_t state = 0;  ///< index into plugin_description::schemas
  std::vector<handler_description> handlers;

  friend bool operator==(const server_type_description&, const server_type_description&) = default;
};

/// A hook from one schema to another, of one server type. `from` and `to` are of its state, of one message's payload, or of
/// replies.
struct edge_description {
  std::uint32_t server_type = 0;  ///< index into plugin_description::server_types
  std::uint32_t from = 0;         ///< index into plugin_description::schemas
  std::uint32_t to = 0;
  std::uint32_t flags = 0;  ///< MOLT_EDGE_...
  std::string loss;         ///< empty: nothing is lost
  std::string loss_text;
  std::string message;  ///< whose payload or reply; empty for a state, and for the replies to all messages

  friend bool operator==(const edge_description&, const edge_description&) = default;
};

struct plugin_description {
  std::uint32_t abi_version = 0;
  std::string name;
  std::string version;
  std::string toolchain;  ///< what decides layouts; part of every fingerprint
  std::vector<schema_description> schemas;
  std::vector<message_description> messages;
  std::vector<server_type_description> server_types;
  std::vector<edge_description> state_edges;
  std::vector<edge_description> message_edges;
  std::vector<edge_description> reply_edges;
  std::string build = {};  ///< the rest of how it was compiled, key=value words; empty: not stated

  [[nodiscard]] const server_type_description* find_server_type(std::string_view type) const noexcept {
    for (const auto& candidate : server_types)
      if (candidate.name == type) return &candidate;
    return nullptr;
  }

  friend bool operator==(const plugin_description&, const plugin_description&) = default;
};

}  // namespace molt
