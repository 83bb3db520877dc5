#include "loader/note.hpp"

#include "plugins/note_writer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace molt::loader {
namespace {

using testing::counter_note;
using ::testing::HasSubstr;
using testing::note_writer;

std::vector<std::byte> bytes_of(const note_writer& note) {
  std::vector<std::byte> bytes(note.size);
  for (std::size_t i = 0; i < note.size; ++i) bytes[i] = std::byte{note.bytes[i]};
  return bytes;
}

void expect_corrupt(const note_writer& note, const std::string& text) {
  const auto plugin = decode_note(bytes_of(note));
  ASSERT_FALSE(plugin);
  EXPECT_EQ(plugin.error().why(), reason::corrupt);
  EXPECT_THAT(plugin.error().message(), HasSubstr(text));
}

note_writer with_plugin() {
  note_writer note;
  note.plugin("p", "1");
  return note;
}
note_writer with_schema(std::uint32_t size = 8, std::uint32_t align = 8, std::uint32_t flags = 0,
                        std::string_view text = testing::state_v1) {
  note_writer note = with_plugin();
  note.schema("state", text, size, align, flags);
  return note;
}

TEST(note, states_what_was_written) {
  const auto plugin = decode_note(bytes_of(counter_note(2, "2.0.0")));
  ASSERT_TRUE(plugin) << plugin.error().text();
  EXPECT_EQ(plugin->name, "counter");
  EXPECT_EQ(plugin->version, "2.0.0");
  EXPECT_EQ(plugin->toolchain, testing::toolchain);
  ASSERT_EQ(plugin->schemas.size(), 4U);
  EXPECT_EQ(plugin->schemas[3].text, testing::state_v2);
  EXPECT_EQ(plugin->schemas[3].size, 16U);
  ASSERT_EQ(plugin->messages.size(), 1U);
  EXPECT_EQ(plugin->messages[0].name, "add");
  EXPECT_EQ(plugin->messages[0].reply, 2U);
  ASSERT_EQ(plugin->server_types.size(), 1U);
  EXPECT_EQ(plugin->server_types[0].state, 3U);
  EXPECT_EQ(plugin->server_types[0].handlers.size(), 1U);
  ASSERT_EQ(plugin->state_edges.size(), 2U);
  EXPECT_EQ(plugin->state_edges[1].loss, "hits");
}

TEST(note, says_of_which_message_an_edge_is) {
  note_writer whole = with_schema();
  whole.server_type("p.server", 0, 0, std::array<std::uint32_t, 0>{});
  whole.edge(6, 0, 0, 0, 0, {}, {}, "touch");
  whole.edge(7, 0, 0, 0, 1, {}, {}, "touch");
  whole.edge(7, 0, 0, 0, 1);
  const auto plugin = decode_note(bytes_of(whole));
  ASSERT_TRUE(plugin) << plugin.error().text();
  EXPECT_EQ(plugin->message_edges.at(0).message, "touch");
  EXPECT_EQ(plugin->reply_edges.at(0).message, "touch");
  EXPECT_EQ(plugin->reply_edges.at(1).message, "") << "replies to all messages";
  note_writer none = with_schema();
  none.server_type("p.server", 0, 0, std::array<std::uint32_t, 0>{});
  none.edge(6, 0, 0, 0, 0);
  expect_corrupt(none, "a message edge of no message");
  note_writer odd = with_schema();
  odd.server_type("p.server", 0, 0, std::array<std::uint32_t, 0>{});
  odd.edge(7, 0, 0, 0, 0, {}, {}, "\x1b[31m");
  expect_corrupt(odd, "an edge's message");
}

TEST(note, is_refused_when_cut_anywhere) {
  const auto whole = bytes_of(counter_note(2, "2.0.0"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    ASSERT_FALSE(decode_note(cut)) << size;
  }
}

TEST(note, survives_a_changed_byte_anywhere) {
  auto bytes = bytes_of(counter_note(2, "2.0.0"));
  for (auto& byte : bytes) {
    const std::byte before = byte;
    for (unsigned value = 0; value < 256; value += 15) {
      byte = static_cast<std::byte>(value);
      (void)decode_note(bytes);
    }
    byte = before;
  }
}

TEST(note, has_a_format_version) {
  const auto plugin = decode_note(bytes_of(note_writer{1, 2}));
  ASSERT_FALSE(plugin);
  EXPECT_EQ(plugin.error().why(), reason::incompatible);
  EXPECT_THAT(plugin.error().message(), HasSubstr("format 2"));
}

TEST(note, bounds_its_counts) {
  note_writer none = with_plugin();
  none.patch(8, 0);
  expect_corrupt(none, "0 records");
  note_writer many = with_plugin();
  many.patch(8, note_records_max + 1);
  expect_corrupt(many, "65537 records");
  note_writer more = with_plugin();
  more.patch(8, 2);
  expect_corrupt(more, "record 1");
  note_writer longer = with_plugin();
  longer.patch(12, 0xffffffffU);
  expect_corrupt(longer, "size of its records");
  note_writer text = with_plugin();
  text.patch(24, 0xffffffffU);
  expect_corrupt(text, "kind 1 is malformed");
}

TEST(note, bounds_the_number_of_handlers) {
  note_writer note = with_schema();
  note.begin(4), note.u32(0), note.u32(0), note.str("p.server"), note.u32(0xffffffffU), note.end();
  expect_corrupt(note, "kind 4 is malformed");
}

TEST(note, begins_with_the_plugin_and_states_it_once) {
  note_writer late;
  late.schema("state", testing::state_v1, 8, 8, 0);
  expect_corrupt(late, "must be the first");
  note_writer twice = with_plugin();
  twice.plugin("p", "1");
  expect_corrupt(twice, "must be the first");
}

TEST(note, holds_no_unknown_records_flags_or_kinds) {
  note_writer record = with_plugin();
  record.begin(8), record.end();
  expect_corrupt(record, "unknown kind 8");
  expect_corrupt(with_schema(8, 8, 0x80000000U), "unknown flags");
  note_writer type = with_schema();
  type.server_type("p.server", 2, 0, std::array<std::uint32_t, 0>{});
  expect_corrupt(type, "unknown kind");
  note_writer edge = with_schema();
  edge.server_type("p.server", 0, 0, std::array<std::uint32_t, 0>{});
  edge.edge(5, 0, 0, 0, 0x80000000U);
  expect_corrupt(edge, "unknown flags");
}

TEST(note, refers_only_to_what_is_there) {
  note_writer type = with_schema();
  type.server_type("p.server", 0, 1, std::array<std::uint32_t, 0>{});
  expect_corrupt(type, "a schema that is not there");
  note_writer message = with_schema();
  message.message("add", 0, 1, no_schema);
  message.server_type("p.server", 0, 0, std::array<std::uint32_t, 0>{});
  expect_corrupt(message, "a schema that is not there");
  note_writer handler = with_schema();
  handler.server_type("p.server", 0, 0, std::array<std::uint32_t, 1>{0});
  expect_corrupt(handler, "a message that is not there");
  note_writer edge = with_schema();
  edge.server_type("p.server", 0, 0, std::array<std::uint32_t, 0>{});
  edge.edge(6, 1, 0, 0, 0);
  expect_corrupt(edge, "what is not there");
}

TEST(note, holds_names_fit_to_be_printed) {
  for (const std::string_view name : {"", "Counter", "9p", "p q", "p\x1b[31m"}) {
    note_writer note;
    note.plugin(name, "1");
    expect_corrupt(note, "plugin's name");
  }
  for (const std::string_view version : {"", "1.", ".1", "1..2", "1.0-rc", "v1"}) {
    note_writer note;
    note.plugin("p", version);
    expect_corrupt(note, "plugin's version");
  }
  note_writer foreign = with_schema();
  foreign.server_type("q.server", 0, 0, std::array<std::uint32_t, 0>{});
  expect_corrupt(foreign, "does not begin with \"p.\"");
  // Too long for the character that it is, half of a pair, and a control character of two bytes.
  for (const std::string_view name : {"p.\xe0\x80\x80", "p.\xed\xa0\x80", "p.\xc2\x9b"}) {
    note_writer odd = with_schema();
    odd.server_type(name, 0, 0, std::array<std::uint32_t, 0>{});
    expect_corrupt(odd, "does not begin with \"p.\"");
  }
}

TEST(note, holds_schemas_that_agree_with_their_text) {
  note_writer hash = with_schema();
  hash.patch(hash.open_record, 1);
  expect_corrupt(hash, "fingerprint");
  expect_corrupt(with_schema(16, 8), "another size");
  expect_corrupt(with_schema(8, 3), "alignment");
  expect_corrupt(with_schema(8, 8, 0, "struct(8,8){value:i63@0}"), "expected a type at byte 18");
}

TEST(note, holds_messages_whose_keys_are_right) {
  note_writer note = with_schema();
  note.message("add", 1, 0, no_schema);
  note.server_type("p.server", 0, 0, std::array<std::uint32_t, 1>{0});
  expect_corrupt(note, "its key");
}

TEST(note, survives_random_bytes) {
  std::mt19937 random{7};
  for (int round = 0; round < 5'000; ++round) {
    auto bytes = bytes_of(counter_note(2, "2.0.0"));
    for (unsigned i = 0; i < 1 + random() % 6; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    (void)decode_note(bytes);
  }
}

}  // namespace
}  // namespace molt::loader
