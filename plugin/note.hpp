// The ELF note, encoded from the table at compile time, so that the two agree by construction.
//
// Order of records: the plugin; schemas and messages in the order in which the table first mentions them, walking
// server type by server type (state, then handlers' messages with payload and reply, then state edges, then message
// edges, then reply edges); server types; state edges; message edges; reply edges. Format:
// docs/reference/note-format.md.
#pragma once

#include "plugin/abi.h"
#include "plugin/table.hpp"

#include <array>
#include <cstdint>
#include <string_view>

namespace molt::detail {

// By content: with -fsanitize=undefined g++ will not compare addresses at compile time.
constexpr bool same(const molt_schema& a, const molt_schema& b) noexcept {
  return a.fingerprint == b.fingerprint && std::string_view{a.name} == b.name && std::string_view{a.text} == b.text;
}
constexpr bool same(const molt_message& a, const molt_message& b) noexcept {
  return a.key == b.key && std::string_view{a.name} == b.name && same(*a.payload, *b.payload);
}
/// Whether a message has no reply, by its key.
constexpr bool is_cast_by_key(const molt_message& message) noexcept {
  fnv1a key;
  key.text(message.name);
  key.byte(0);
  key.u64(message.payload->fingerprint);
  key.u64(0);
  return key.value == message.key;
}

/// Distinct schemas or messages in the order of their first appearance.
template <class T, std::size_t Capacity>
struct index_of {
  std::array<const T*, Capacity> items{};
  std::uint32_t size = 0;

  constexpr void add(const T* item) noexcept {
    if (find(item) != size) return;
    items[size++] = item;
  }
  [[nodiscard]] constexpr std::uint32_t find(const T* item) const noexcept {
    std::uint32_t i = 0;
    while (i < size && !same(*items[i], *item)) ++i;
    return i;
  }
};

struct note_bounds {
  std::size_t schemas = 0;
  std::size_t messages = 0;
};

constexpr note_bounds count_mentions(const molt_plugin_table& table) {
  note_bounds bounds;
  for (std::uint32_t i = 0; i < table.server_type_count; ++i) {
    const molt_server_type& type = table.server_types[i];
    bounds.messages += type.handler_count;
    bounds.schemas +=
        1 + 2 * (type.handler_count + type.state_edge_count + type.message_edge_count + type.reply_edge_count);
  }
  return bounds;
}

/// Writes little-endian bytes; counts when it has no room.
struct note_writer {
  text_writer out;

  constexpr void u16(std::uint32_t value) noexcept {
    out.put(static_cast<char>(value & 0xffU));
    out.put(static_cast<char>(value >> 8U & 0xffU));
  }
  constexpr void u32(std::uint32_t value) noexcept {
    u16(value & 0xffffU);
    u16(value >> 16U);
  }
  constexpr void u64(std::uint64_t value) noexcept {
    u32(static_cast<std::uint32_t>(value & 0xffffffffU));
    u32(static_cast<std::uint32_t>(value >> 32U));
  }
  constexpr void str(std::string_view text) noexcept {
    u32(static_cast<std::uint32_t>(text.size()));
    out.put(text);
  }
  constexpr void str_or_empty(const char* text) noexcept { str(text == nullptr ? std::string_view{} : text); }
  constexpr void pad(std::size_t from) noexcept {
    while ((out.size - from) % 4 != 0) out.put('\0');
  }
  /// Fills in a number written before.
  constexpr void patch_u32(std::size_t at, std::size_t value) noexcept {
    if (out.to == nullptr) return;
    for (std::size_t i = 0; i < 4; ++i) out.to[at + i] = static_cast<char>(value >> (8 * i) & 0xffU);
  }
  template <class Payload>
  constexpr void record(std::uint32_t kind, Payload&& payload) {
    u16(kind);
    u16(0);
    const std::size_t size_at = out.size;
    u32(0);
    const std::size_t from = out.size;
    payload();
    patch_u32(size_at, out.size - from);
    pad(from);
    ++records;
  }
  std::uint32_t records = 0;
};

template <std::size_t Schemas, std::size_t Messages>
struct note_encoder {
  const molt_plugin_table& table;
  index_of<molt_schema, Schemas> schemas{};
  index_of<molt_message, Messages> messages{};

  constexpr void collect() {
    for (std::uint32_t i = 0; i < table.server_type_count; ++i) {
      const molt_server_type& type = table.server_types[i];
      schemas.add(type.state);
      for (std::uint32_t h = 0; h < type.handler_count; ++h) {
        messages.add(type.handlers[h].message);
        schemas.add(type.handlers[h].message->payload);
        if (!is_cast_by_key(*type.handlers[h].message)) schemas.add(type.handlers[h].message->reply);
      }
      add_ends(type.state_edges, type.state_edge_count);
      add_ends(type.message_edges, type.message_edge_count);
      add_ends(type.reply_edges, type.reply_edge_count);
    }
  }
  constexpr void add_ends(const molt_edge* edges, std::uint32_t count) {
    for (std::uint32_t e = 0; e < count; ++e) {
      schemas.add(edges[e].from);
      schemas.add(edges[e].to);
    }
  }

  constexpr void write(note_writer& note) const {
    note.u32(sizeof MOLT_NOTE_OWNER);
    const std::size_t description_size_at = note.out.size;
    note.u32(0);
    note.u32(MOLT_NOTE_TYPE);
    note.out.put(std::string_view{MOLT_NOTE_OWNER "\0\0\0", 8});
    const std::size_t description = note.out.size;
    note.u32(1);
    note.u32(table.abi_version);
    const std::size_t counts_at = note.out.size;
    note.u32(0);
    note.u32(0);
    const std::size_t records = note.out.size;
    write_records(note);
    note.patch_u32(counts_at, note.records);
    note.patch_u32(counts_at + 4, note.out.size - records);
    note.patch_u32(description_size_at, note.out.size - description);
  }

  constexpr void write_records(note_writer& note) const {
    note.record(1, [&] {
      note.str(table.name);
      note.str(table.version);
      note.str(table.toolchain);
      note.str_or_empty(table.build);
    });
    for (std::uint32_t i = 0; i < schemas.size; ++i) {
      const molt_schema& schema = *schemas.items[i];
      note.record(2, [&] {
        note.u64(schema.fingerprint);
        note.u32(schema.size);
        note.u32(schema.align);
        note.u32(schema.flags);
        note.u32(schema.version);
        note.str(schema.name);
        note.str(schema.text);
      });
    }
    for (std::uint32_t i = 0; i < messages.size; ++i) {
      const molt_message& message = *messages.items[i];
      note.record(3, [&] {
        note.u64(message.key);
        note.u32(schemas.find(message.payload));
        note.u32(is_cast_by_key(message) ? 0xffffffffU : schemas.find(message.reply));
        note.str(message.name);
      });
    }
    for (std::uint32_t i = 0; i < table.server_type_count; ++i) write_server_type(note, table.server_types[i]);
    for (std::uint32_t i = 0; i < table.server_type_count; ++i)
      write_edges(note, 5, i, table.server_types[i].state_edges, table.server_types[i].state_edge_count);
    for (std::uint32_t i = 0; i < table.server_type_count; ++i)
      write_edges(note, 6, i, table.server_types[i].message_edges, table.server_types[i].message_edge_count);
    for (std::uint32_t i = 0; i < table.server_type_count; ++i)
      write_edges(note, 7, i, table.server_types[i].reply_edges, table.server_types[i].reply_edge_count);
  }

  constexpr void write_server_type(note_writer& note, const molt_server_type& type) const {
    note.record(4, [&] {
      note.u32(type.kind);
      note.u32(schemas.find(type.state));
      note.str(type.name);
      note.u32(type.handler_count);
      for (std::uint32_t h = 0; h < type.handler_count; ++h) {
        note.u32(messages.find(type.handlers[h].message));
        note.u32(type.handlers[h].flags);
      }
    });
  }

  constexpr void write_edges(note_writer& note, std::uint32_t kind, std::uint32_t type, const molt_edge* edges,
                             std::uint32_t count) const {
    for (std::uint32_t e = 0; e < count; ++e) {
      note.record(kind, [&] {
        note.u32(type);
        note.u32(schemas.find(edges[e].from));
        note.u32(schemas.find(edges[e].to));
        note.u32(edges[e].flags);
        note.str_or_empty(edges[e].loss);
        note.str_or_empty(edges[e].loss_text);
        // Never null there, and no comparison: with sanitizers g++ holds none with a template's static data constant.
        if (kind != 5) note.str(std::string_view{edges[e].message});
      });
    }
  }
};

/// The note of a table that is a constant.
template <const molt_plugin_table& Table>
constexpr auto make_note() {
  constexpr note_bounds bounds = count_mentions(Table);
  constexpr auto encoder = [&] {
    note_encoder<bounds.schemas, bounds.messages> made{Table};
    made.collect();
    return made;
  }();
  constexpr std::size_t size = [&] {
    note_writer counting;
    encoder.write(counting);
    return counting.out.size;
  }();
  std::array<char, size> bytes{};
  note_writer filling{text_writer{bytes.data()}};
  encoder.write(filling);
  return bytes;
}

}  // namespace molt::detail
