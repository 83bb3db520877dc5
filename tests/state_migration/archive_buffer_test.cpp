#include "state_migration/archive_buffer.hpp"

#include "tests/state_migration/handmade.hpp"

#include <gtest/gtest.h>

namespace molt::migration {
namespace {

TEST(archive_buffer, keeps_what_is_written_while_it_grows) {
  archive_buffer buffer;
  std::string expected;
  for (int chunk = 0; chunk < 1000; ++chunk) {
    const std::string bytes(static_cast<std::size_t>(chunk), static_cast<char>('a' + chunk % 26));
    ASSERT_EQ(handmade::put(&buffer.sink(), bytes.data(), bytes.size()), MOLT_OK);
    expected += bytes;
  }
  EXPECT_EQ(buffer.bytes(), expected);
  buffer.clear();
  EXPECT_TRUE(buffer.bytes().empty());
}

TEST(archive_buffer, shrinks_to_what_it_holds_and_grows_again) {
  archive_buffer buffer;
  buffer.shrink();
  ASSERT_EQ(handmade::put(&buffer.sink(), "12345678", 8), MOLT_OK);
  EXPECT_GT(buffer.sink().end, buffer.sink().cursor);
  buffer.shrink();
  EXPECT_EQ(buffer.sink().end, buffer.sink().cursor);
  EXPECT_EQ(buffer.bytes(), "12345678");
  ASSERT_EQ(handmade::put(&buffer.sink(), "9", 1), MOLT_OK);
  EXPECT_EQ(buffer.bytes(), "123456789");
}

TEST(archive_buffer, stops_at_its_bound_and_keeps_what_it_has) {
  archive_buffer buffer{10};
  ASSERT_EQ(handmade::put(&buffer.sink(), "12345678", 8), MOLT_OK);
  EXPECT_EQ(handmade::put(&buffer.sink(), "abc", 3), MOLT_OUT_OF_BOUNDS);
  EXPECT_EQ(handmade::put(&buffer.sink(), "ab", 2), MOLT_OK);
  EXPECT_EQ(buffer.bytes(), "12345678ab");
  EXPECT_EQ(buffer.sink().grow(&buffer.sink(), ~std::size_t{0}), MOLT_OUT_OF_BOUNDS);
}

TEST(archive_buffer, says_that_a_state_is_larger_than_its_bound) {
  archive_buffer buffer{64};
  handmade::state<1> state;
  state.numbers.assign(100, 7);
  const auto schema = handmade::schema<1>("state", 1);
  molt_text text;
  EXPECT_EQ(buffer.save(schema, &state, text), MOLT_OUT_OF_BOUNDS);
  EXPECT_GT(text.size, 0U);
}

TEST(load_all, refuses_bytes_left_over_and_destroys_what_it_made) {
  archive_buffer buffer;
  const auto schema = handmade::schema<1>("state", 1);
  const auto before = handmade::living;
  {
    const handmade::state<1> state;
    molt_text text;
    ASSERT_EQ(buffer.save(schema, &state, text), MOLT_OK);
    const std::string longer = std::string{buffer.bytes()} + "x";
    alignas(16) char storage[sizeof(handmade::state<1>)];
    EXPECT_EQ(load_all(schema, longer, storage, text), MOLT_BAD_ARCHIVE);
    EXPECT_EQ(load_all(schema, buffer.bytes().substr(1), storage, text), MOLT_BAD_ARCHIVE);
    ASSERT_EQ(load_all(schema, buffer.bytes(), storage, text), MOLT_OK);
    schema.destroy(storage);
  }
  EXPECT_EQ(handmade::living, before);
}

}  // namespace
}  // namespace molt::migration
