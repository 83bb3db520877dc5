// Writes notes (docs/reference/note-format.md) byte by byte, right ones and wrong ones; at compile time for the
// hand-made plugins, at run time for the tests. Independent of the SDK's writer on purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace molt::testing {

constexpr std::uint64_t fnv(std::string_view text, std::uint64_t hash = 0xcbf29ce484222325U) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}
constexpr std::uint64_t fnv_byte(unsigned char byte, std::uint64_t hash) { return (hash ^ byte) * 0x100000001b3U; }
constexpr std::uint64_t fnv_number(std::uint64_t value, std::uint64_t hash) {
  for (int i = 0; i < 8; ++i) hash = fnv_byte(static_cast<unsigned char>(value >> (8 * i)), hash);
  return hash;
}

#ifndef TEST_TOOLCHAIN
#define TEST_TOOLCHAIN "x86_64 itanium libstdc++ cxx11"
#endif
inline constexpr std::string_view toolchain = TEST_TOOLCHAIN;

constexpr std::uint64_t fingerprint(std::string_view text) { return fnv(text, fnv_byte(0, fnv(toolchain))); }
constexpr std::uint64_t key(std::string_view name, std::uint64_t payload, std::uint64_t reply) {
  return fnv_number(reply, fnv_number(payload, fnv_byte(0, fnv(name))));
}

struct note_writer {
  std::array<unsigned char, 4096> bytes{};
  std::size_t size = 0;
  std::uint32_t records = 0;
  std::size_t open_record = 0;

  constexpr void u8(unsigned value) { bytes[size++] = static_cast<unsigned char>(value); }
  constexpr void u16(unsigned value) { u8(value & 255U), u8(value >> 8U & 255U); }
  constexpr void u32(std::uint32_t value) { u16(value & 65535U), u16(value >> 16U); }
  constexpr void u64(std::uint64_t value) {
    u32(static_cast<std::uint32_t>(value)), u32(static_cast<std::uint32_t>(value >> 32U));
  }
  constexpr void str(std::string_view text) {
    u32(static_cast<std::uint32_t>(text.size()));
    for (const char c : text) u8(static_cast<unsigned char>(c));
  }
  constexpr void patch(std::size_t at, std::uint32_t value) {
    for (unsigned i = 0; i < 4; ++i) bytes[at + i] = static_cast<unsigned char>(value >> (8U * i));
  }

  constexpr explicit note_writer(std::uint32_t abi = 1, std::uint32_t format = 1) {
    u32(format), u32(abi), u32(0), u32(0);
  }
  constexpr void begin(unsigned kind) {
    u16(kind), u16(0), u32(0);
    open_record = size;
    ++records;
  }
  constexpr void end() {
    patch(open_record - 4, static_cast<std::uint32_t>(size - open_record));
    while (size % 4 != 0) u8(0);
    patch(8, records);
    patch(12, static_cast<std::uint32_t>(size - 16));
  }

  constexpr void plugin(std::string_view name, std::string_view version) {
    begin(1), str(name), str(version), str(toolchain);
#ifdef TEST_BUILD
    str(TEST_BUILD);
#endif
    end();
  }
  constexpr void schema(std::string_view name, std::string_view text, std::uint32_t bytes_each, std::uint32_t align,
                        std::uint32_t flags, std::uint32_t version = 0) {
    begin(2), u64(fingerprint(text)), u32(bytes_each), u32(align), u32(flags), u32(version), str(name), str(text),
        end();
  }
  constexpr void message(std::string_view name, std::uint64_t message_key, std::uint32_t payload, std::uint32_t reply) {
    begin(3), u64(message_key), u32(payload), u32(reply), str(name), end();
  }
  template <std::size_t N>
  constexpr void server_type(std::string_view name, std::uint32_t kind, std::uint32_t state,
                             const std::array<std::uint32_t, N>& messages) {
    begin(4), u32(kind), u32(state), str(name), u32(N);
    for (const auto message_index : messages) u32(message_index), u32(0);
    end();
  }
  constexpr void edge(unsigned kind, std::uint32_t type, std::uint32_t from, std::uint32_t to, std::uint32_t flags,
                      std::string_view loss = {}, std::string_view loss_text = {}, std::string_view message = {}) {
    begin(kind), u32(type), u32(from), u32(to), u32(flags), str(loss), str(loss_text);
    if (kind != 5) str(message);
    end();
  }
};

inline constexpr std::string_view i64_text = "i64";
inline constexpr std::string_view state_v1 = "struct(8,8){value:i64@0}";
inline constexpr std::string_view state_v2 = "struct(16,8){value:i64@0,hits:i64@8}";
inline constexpr std::string_view add_text = "struct(8,8){by:i64@0}";

/// The note of the hand-made counter: 1 without edges, 2 with one edge in each direction.
constexpr note_writer counter_note(int generation, std::string_view version, std::uint32_t abi = 1) {
  note_writer note{abi};
  note.plugin("counter", version);
  note.schema(generation == 1 ? "counter::state" : "counter::v1::state", state_v1, 8, 8, 5);
  note.schema("counter::add", add_text, 8, 8, 5);
  note.schema("std::int64_t", i64_text, 8, 8, 5);
  if (generation == 2) note.schema("counter::state", state_v2, 16, 8, 5);
  note.message("add", key("add", fingerprint(add_text), fingerprint(i64_text)), 1, 2);
  note.server_type("counter.server", 0, generation == 1 ? 0 : 3, std::array<std::uint32_t, 1>{0});
  if (generation == 2) {
    note.edge(5, 0, 0, 3, 0);
    note.edge(5, 0, 3, 0, 1, "hits", "the number of hits");
  }
  return note;
}

}  // namespace molt::testing
