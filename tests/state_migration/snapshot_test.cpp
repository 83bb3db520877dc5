#include "state_migration/snapshot.hpp"

#include "tests/state_migration/handmade.hpp"

#include <gtest/gtest.h>

namespace molt::migration {
namespace {

using handmade::schema;

std::string some_snapshot(const molt_schema& of) {
  handmade::state<1> state;
  state.numbers = {1, -2, 3};
  state.text = "hello";
  auto bytes = write_snapshot(of, &state, 1U << 20U);
  EXPECT_TRUE(bytes);
  return *bytes;
}

TEST(snapshot, comes_back_as_it_was) {
  const auto type = schema<1>("fixture::state", 77, MOLT_SCHEMA_CODE_FREE, 3);
  const auto bytes = some_snapshot(type);
  const auto view = read_snapshot(bytes);
  ASSERT_TRUE(view) << view.error().text();
  EXPECT_EQ(view->name, "fixture::state");
  EXPECT_EQ(view->fingerprint, 77U);
  EXPECT_EQ(view->version, 3U);
  EXPECT_EQ(view->text, type.text);
  alignas(16) char storage[sizeof(handmade::state<1>)];
  ASSERT_TRUE(load_snapshot(*view, type, storage));
  EXPECT_EQ(reinterpret_cast<handmade::state<1>*>(storage)->text, "hello");
  type.destroy(storage);
}

TEST(snapshot, begins_with_the_bytes_that_the_reference_gives) {
  const auto bytes = some_snapshot(schema<1>("fixture::state", 0x0102030405060708U, MOLT_SCHEMA_CODE_FREE, 9));
  EXPECT_EQ(bytes.substr(0, 8), "MOLTSNAP");
  EXPECT_EQ(bytes.substr(8, 4), (std::string{1, 0, 0, 0}));
  EXPECT_EQ(bytes.substr(12, 4), (std::string{9, 0, 0, 0}));
  EXPECT_EQ(bytes.substr(16, 8), (std::string{8, 7, 6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(bytes.substr(24, 4), (std::string{14, 0, 0, 0}));
  EXPECT_EQ(bytes.substr(48, 14), "fixture::state");
}

TEST(snapshot, refuses_every_flipped_byte_and_every_cut) {
  const auto type = schema<1>("fixture::state", 77);
  const auto bytes = some_snapshot(type);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_FALSE(read_snapshot(damaged)) << at;
    EXPECT_FALSE(read_snapshot(std::string_view{bytes}.substr(0, at))) << at;
  }
  EXPECT_FALSE(read_snapshot(bytes + "x"));
}

TEST(snapshot, is_loaded_only_as_its_own_type_or_a_newer_version_that_reads_older_ones) {
  const auto bytes = some_snapshot(schema<1>("fixture::state", 77, 0, 1));
  const auto view = *read_snapshot(bytes);
  alignas(16) char storage[sizeof(handmade::state<1>)];
  EXPECT_EQ(load_snapshot(view, schema<1>("fixture::state", 78, 0, 2), storage).error().why(), reason::incompatible);
  EXPECT_EQ(load_snapshot(view, schema<1>("fixture::other", 78, MOLT_SCHEMA_READS_OLDER, 2), storage).error().why(),
            reason::incompatible);
  EXPECT_EQ(load_snapshot(view, schema<1>("fixture::state", 76, MOLT_SCHEMA_READS_OLDER, 0), storage).error().why(),
            reason::incompatible);
  const auto newer = schema<1>("fixture::state", 78, MOLT_SCHEMA_READS_OLDER, 2);
  ASSERT_TRUE(load_snapshot(view, newer, storage));
  newer.destroy(storage);
}

TEST(snapshot, has_a_bound) {
  handmade::state<1> state;
  state.text.assign(1000, 'x');
  EXPECT_EQ(write_snapshot(schema<1>("fixture::state", 1), &state, 100).error().why(), reason::out_of_bounds);
}

}  // namespace
}  // namespace molt::migration
