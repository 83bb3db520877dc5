#include "loader/note.hpp"

#include "base/utf8.hpp"
#include "plugin/abi.h"
#include "plugin/schema_text.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace molt::loader {
namespace {

constexpr std::size_t plugin_name_max = 64;
constexpr std::uint32_t schema_flags = MOLT_SCHEMA_CODE_FREE | MOLT_SCHEMA_READS_OLDER | MOLT_SCHEMA_TRANSPARENT;
constexpr std::uint32_t edge_flags =
    MOLT_EDGE_DOWN | MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT | MOLT_EDGE_WHOLE | MOLT_EDGE_CONTEXT | MOLT_EDGE_OTHERS;
constexpr std::uint32_t align_max = 4096;

// Reads little-endian values; after the first that does not fit, everything is zero and bad() is true.
class byte_reader {
 public:
  explicit byte_reader(std::span<const std::byte> bytes) : bytes_{bytes} {}

  template <class T>
  T take() {
    T value{};
    const auto from = take_bytes(sizeof(T));
    if (from.size() == sizeof(T)) std::memcpy(&value, from.data(), sizeof(T));
    return value;
  }

  std::span<const std::byte> take_bytes(std::size_t size) {
    if (size > bytes_.size()) {
      bad_ = true;
      bytes_ = {};
      return {};
    }
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }

  std::string text() {
    const auto size = take<std::uint32_t>();
    const auto from = take_bytes(size);
    std::string value{reinterpret_cast<const char*>(from.data()), from.size()};
    if (value.find('\0') != std::string::npos) bad_ = true;
    return value;
  }

  // Zeros up to a multiple of 4.
  void skip_padding(std::size_t after) {
    for (const std::byte byte : take_bytes((4 - after % 4) % 4))
      if (byte != std::byte{0}) bad_ = true;
  }

  [[nodiscard]] bool bad() const { return bad_; }
  [[nodiscard]] std::size_t left() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  bool bad_ = false;
};

error corrupt(const std::string& what) { return error{reason::corrupt, "the note: " + what, "build the plugin again"}; }

bool plugin_name(std::string_view name) {
  return !name.empty() && name.size() <= plugin_name_max && name[0] >= 'a' && name[0] <= 'z' &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; });
}

bool dotted_numbers(std::string_view version) {
  if (version.empty() || version.size() > plugin_name_max) return false;
  char before = '.';
  for (const char c : version) {
    if (c != '.' && (c < '0' || c > '9')) return false;
    if (c == '.' && before == '.') return false;
    before = c;
  }
  return before != '.';
}

class note_decoder {
 public:
  result<plugin_description> decode(std::span<const std::byte> descriptor) {
    MOLT_TRY(const note_header header, read_note_header(descriptor));
    plugin_.abi_version = header.abi_version;
    byte_reader reader{descriptor.subspan(8)};
    const auto count = reader.take<std::uint32_t>();
    const auto size = reader.take<std::uint32_t>();
    if (reader.bad() || size > reader.left() || reader.left() - size >= 4) return corrupt("the size of its records");
    if (count == 0 || count > note_records_max) return corrupt(std::to_string(count) + " records");
    byte_reader records{reader.take_bytes(size)};
    for (std::uint32_t i = 0; i < count; ++i) {
      if (auto done = record(records, i == 0); !done)
        return std::move(done).error().with("record " + std::to_string(i));
    }
    if (records.left() != 0) return corrupt("bytes follow its last record");
    MOLT_CHECK(check_plugin());
    MOLT_CHECK(check_schemas());
    MOLT_CHECK(check_messages());
    MOLT_CHECK(check_server_types());
    MOLT_CHECK(check_edges(plugin_.state_edges));
    MOLT_CHECK(check_edges(plugin_.message_edges));
    MOLT_CHECK(check_edges(plugin_.reply_edges));
    for (const auto& edge : plugin_.message_edges)
      if (edge.message.empty()) return corrupt("a message edge of no message");
    return std::move(plugin_);
  }

 private:
  result<void> record(byte_reader& records, bool first) {
    const auto kind = records.take<std::uint16_t>();
    const auto zero = records.take<std::uint16_t>();
    const auto size = records.take<std::uint32_t>();
    byte_reader payload{records.take_bytes(size)};
    records.skip_padding(size);
    if (records.bad() || zero != 0) return corrupt("a record's head or size");
    if (first != (kind == 1)) return corrupt("the plugin's own record must be the first, and once");
    switch (kind) {
      case 1:
        read_plugin(payload);
        break;
      case 2:
        read_schema(payload);
        break;
      case 3:
        read_message(payload);
        break;
      case 4:
        read_server_type(payload);
        break;
      case 5:
        read_edge(payload, plugin_.state_edges);
        break;
      case 6:
        read_edge(payload, plugin_.message_edges);
        plugin_.message_edges.back().message = payload.text();
        break;
      case 7:
        read_edge(payload, plugin_.reply_edges);
        plugin_.reply_edges.back().message = payload.text();
        break;
      default:
        return corrupt("a record of unknown kind " + std::to_string(kind));
    }
    if (payload.bad() || payload.left() != 0)
      return corrupt("a record of kind " + std::to_string(kind) + " is malformed");
    return ok();
  }

  void read_plugin(byte_reader& from) {
    plugin_.name = from.text();
    plugin_.version = from.text();
    plugin_.toolchain = from.text();
    if (from.left() != 0) plugin_.build = from.text();  // appended later
  }

  void read_schema(byte_reader& from) {
    auto& schema = plugin_.schemas.emplace_back();
    schema.fingerprint = from.take<std::uint64_t>();
    schema.size = from.take<std::uint32_t>();
    schema.align = from.take<std::uint32_t>();
    schema.flags = from.take<std::uint32_t>();
    schema.version = from.take<std::uint32_t>();
    schema.name = from.text();
    schema.text = from.text();
  }

  void read_message(byte_reader& from) {
    auto& message = plugin_.messages.emplace_back();
    message.key = from.take<std::uint64_t>();
    message.payload = from.take<std::uint32_t>();
    message.reply = from.take<std::uint32_t>();
    message.name = from.text();
  }

  void read_server_type(byte_reader& from) {
    auto& type = plugin_.server_types.emplace_back();
    type.kind = from.take<std::uint32_t>();
    type.state = from.take<std::uint32_t>();
    type.name = from.text();
    const auto handlers = from.take<std::uint32_t>();
    for (std::uint32_t i = 0; i < handlers && !from.bad(); ++i) {
      auto& handler = type.handlers.emplace_back();
      handler.message = from.take<std::uint32_t>();
      handler.flags = from.take<std::uint32_t>();
    }
  }

  static void read_edge(byte_reader& from, std::vector<edge_description>& to) {
    auto& edge = to.emplace_back();
    edge.server_type = from.take<std::uint32_t>();
    edge.from = from.take<std::uint32_t>();
    edge.to = from.take<std::uint32_t>();
    edge.flags = from.take<std::uint32_t>();
    edge.loss = from.text();
    edge.loss_text = from.text();
  }

  [[nodiscard]] result<void> check_plugin() const {
    if (!plugin_name(plugin_.name)) return corrupt("the plugin's name is not lower-case letters, digits, _ and -");
    if (!dotted_numbers(plugin_.version)) return corrupt("the plugin's version is not dotted numbers");
    if (plugin_.toolchain.empty() || !is_printable(plugin_.toolchain)) return corrupt("the toolchain");
    if (!is_printable(plugin_.build)) return corrupt("how it was built");
    return ok();
  }

  [[nodiscard]] result<void> check_schemas() const {
    for (const auto& schema : plugin_.schemas) {
      if (schema.name.empty() || !is_printable(schema.name)) return corrupt("a schema's name");
      const std::string who = "schema " + schema.name;
      if (schema.fingerprint != schema_fingerprint(plugin_.toolchain, schema.text))
        return corrupt(who + ": its fingerprint is not that of its text");
      if ((schema.flags & ~schema_flags) != 0) return corrupt(who + ": unknown flags");
      if (schema.align == 0 || (schema.align & (schema.align - 1)) != 0 || schema.align > align_max ||
          schema.size % schema.align != 0)
        return corrupt(who + ": its size or alignment");
      if (!is_printable(schema.text)) return corrupt(who + ": its text");
      auto tree = parse_schema_text(schema.text);
      if (!tree) return corrupt(who + ": " + tree.error().message());
      const bool sized = tree->what == schema_node::kind::structure || tree->what == schema_node::kind::opaque;
      if (sized && (tree->size != schema.size || tree->align != schema.align))
        return corrupt(who + ": its text has another size or alignment");
    }
    return ok();
  }

  [[nodiscard]] result<void> check_messages() const {
    for (const auto& message : plugin_.messages) {
      if (message.name.empty() || !is_printable(message.name)) return corrupt("a message's name");
      const std::string who = "message " + message.name;
      const bool has_reply = message.reply != no_schema;
      if (message.payload >= plugin_.schemas.size() || (has_reply && message.reply >= plugin_.schemas.size()))
        return corrupt(who + " refers to a schema that is not there");
      const std::uint64_t reply = has_reply ? plugin_.schemas[message.reply].fingerprint : 0;
      if (message.key != message_key(message.name, plugin_.schemas[message.payload].fingerprint, reply))
        return corrupt(who + ": its key is not that of its name and schemas");
    }
    return ok();
  }

  [[nodiscard]] result<void> check_server_types() const {
    if (plugin_.server_types.empty()) return corrupt("no server type");
    std::set<std::string_view> names;
    for (const auto& type : plugin_.server_types) {
      const std::string prefix = plugin_.name + ".";
      if (!is_printable(type.name) || !type.name.starts_with(prefix) || type.name.size() == prefix.size())
        return corrupt("a server type's name does not begin with \"" + prefix + '"');
      if (!names.insert(type.name).second) return corrupt("server type " + type.name + " twice");
      if (type.kind > MOLT_KIND_CONNECTION) return corrupt(type.name + ": unknown kind");
      if (type.state >= plugin_.schemas.size()) return corrupt(type.name + " refers to a schema that is not there");
      std::set<std::string_view> handled;
      for (const auto& handler : type.handlers) {
        if (handler.message >= plugin_.messages.size())
          return corrupt(type.name + " refers to a message that is not there");
        if ((handler.flags & ~std::uint32_t{MOLT_HANDLER_DEFERS}) != 0) return corrupt(type.name + ": unknown flags");
        if (!handled.insert(plugin_.messages[handler.message].name).second)
          return corrupt(type.name + " handles " + plugin_.messages[handler.message].name + " twice");
      }
    }
    return ok();
  }

  [[nodiscard]] result<void> check_edges(const std::vector<edge_description>& edges) const {
    for (const auto& edge : edges) {
      if (edge.server_type >= plugin_.server_types.size() || edge.from >= plugin_.schemas.size() ||
          edge.to >= plugin_.schemas.size())
        return corrupt("an edge refers to what is not there");
      if ((edge.flags & ~edge_flags) != 0) return corrupt("an edge has unknown flags");
      if (!is_printable(edge.loss) || !is_printable(edge.loss_text)) return corrupt("an edge's loss");
      if (!is_printable(edge.message)) return corrupt("an edge's message");
    }
    return ok();
  }

  plugin_description plugin_;
};

constexpr std::uint64_t fnv_basis = 0xcbf29ce484222325U;
constexpr std::uint64_t fnv_prime = 0x100000001b3U;

void hash_byte(std::uint64_t& hash, unsigned char byte) noexcept { hash = (hash ^ byte) * fnv_prime; }

void hash_text(std::uint64_t& hash, std::string_view text) noexcept {
  for (const char c : text) hash_byte(hash, static_cast<unsigned char>(c));
}

void hash_number(std::uint64_t& hash, std::uint64_t value) noexcept {
  for (unsigned shift = 0; shift < 64; shift += 8) hash_byte(hash, static_cast<unsigned char>(value >> shift));
}

}  // namespace

result<note_header> read_note_header(std::span<const std::byte> descriptor) {
  byte_reader reader{descriptor};
  note_header header;
  header.format = reader.take<std::uint32_t>();
  header.abi_version = reader.take<std::uint32_t>();
  if (reader.bad()) return corrupt("shorter than its head");
  if (header.format != note_format_version)
    return error{reason::incompatible, "the note has format " + std::to_string(header.format) + ", known is 1",
                 "build the plugin with this version of molt"};
  return header;
}

result<plugin_description> decode_note(std::span<const std::byte> descriptor) {
  return note_decoder{}.decode(descriptor);
}

std::uint64_t schema_fingerprint(std::string_view toolchain, std::string_view text) noexcept {
  std::uint64_t hash = fnv_basis;
  hash_text(hash, toolchain);
  hash_byte(hash, 0);
  hash_text(hash, text);
  return hash;
}

std::uint64_t message_key(std::string_view name, std::uint64_t payload, std::uint64_t reply) noexcept {
  std::uint64_t hash = fnv_basis;
  hash_text(hash, name);
  hash_byte(hash, 0);
  hash_number(hash, payload);
  hash_number(hash, reply);
  return hash;
}

}  // namespace molt::loader
