#include "state_migration/archive_difference.hpp"

#include "plugin/archive.hpp"
#include "plugin/schema.hpp"
#include "state_migration/archive_buffer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace molt::migration {
namespace {

struct entry {
  std::string user;
  std::int64_t hits = 0;
  std::unordered_set<std::int32_t> seen;
};
struct state {
  bool open = true;
  std::vector<double> rates;
  std::unordered_map<std::string, entry> live;
  std::optional<std::uint16_t> port;
  std::variant<std::int32_t, std::string> last;
};

std::string archive_of(const state& value) {
  archive_buffer buffer;
  molt_text text;
  EXPECT_EQ(buffer.save(detail::schema_constant<state>, &value, text), MOLT_OK);
  return std::string{buffer.bytes()};
}

archive_difference compare(const state& before, const state& after) {
  return compare_archives(detail::schema_constant<state>, archive_of(before), archive_of(after));
}

state example() {
  state made;
  made.rates = {1.5, 2.5};
  for (int n = 0; n < 100; ++n) {
    auto& each = made.live["user " + std::to_string(n)];
    each = {"name " + std::to_string(n), n, {}};
    for (int m = 0; m < 10; ++m) each.seen.insert(n * m);
  }
  made.port = std::uint16_t{80};
  made.last = std::string{"x"};
  return made;
}

TEST(archive_difference, does_not_mind_the_order_of_unordered_elements) {
  const auto before = example();
  state after = before;
  after.live.clear();
  after.live.rehash(10'000);
  for (int n = 99; n >= 0; --n) {
    auto each = before.live.at("user " + std::to_string(n));
    each.seen.rehash(1000);
    after.live.emplace("user " + std::to_string(n), std::move(each));
  }
  ASSERT_NE(archive_of(before), archive_of(after)) << "the test compares nothing";
  EXPECT_EQ(compare(before, after).found, likeness::same);
}

TEST(archive_difference, says_where_and_what) {
  const auto text = [](auto change) {
    auto after = example();
    change(after);
    const auto found = compare(example(), after);
    EXPECT_EQ(found.found, likeness::different);
    return found.text;
  };
  EXPECT_EQ(text([](state& s) { s.open = false; }), "open: true became false");
  EXPECT_EQ(text([](state& s) { s.rates[1] = 3; }), "rates[1]: 2.500000 became 3.000000");
  EXPECT_EQ(text([](state& s) { s.rates.pop_back(); }), "rates: 2 elements became 1");
  EXPECT_EQ(text([](state& s) { s.port.reset(); }), "port: a value became none");
  EXPECT_EQ(text([](state& s) { s.port = std::uint16_t{81}; }), "port: 80 became 81");
  EXPECT_EQ(text([](state& s) { s.last = 5; }), "last: alternative 1 became 0");
  EXPECT_EQ(text([](state& s) { s.last = std::string{"y"}; }), "last: \"x\" became \"y\"");
  EXPECT_NE(text([](state& s) { s.live["user 7"].hits = -1; }).find("].hits: 7 became -1"), std::string::npos);
  EXPECT_EQ(text([](state& s) { s.live.erase("user 7"); }), "live: 100 elements became 99");
}

TEST(archive_difference, of_bytes_that_are_no_archive_is_told_too) {
  const auto whole = archive_of(example());
  std::mt19937_64 random{20261121};
  for (int n = 0; n < 2000; ++n) {
    auto other = whole.substr(0, random() % whole.size());
    if (!other.empty()) other[random() % other.size()] = static_cast<char>(random());
    const auto found = compare_archives(detail::schema_constant<state>, whole, other);
    EXPECT_EQ(found.found, likeness::different);
    EXPECT_FALSE(found.text.empty());
  }
}

TEST(archive_difference, is_unclear_where_only_code_could_tell) {
  molt_schema opaque = detail::schema_constant<state>;
  opaque.flags &= ~static_cast<std::uint32_t>(MOLT_SCHEMA_TRANSPARENT);
  EXPECT_EQ(compare_archives(opaque, "abcd", "abdc").found, likeness::unclear);
  EXPECT_EQ(compare_archives(opaque, "abcd", "abc").found, likeness::different);
  EXPECT_EQ(compare_archives(opaque, "abcd", "abcd").found, likeness::same);
}

}  // namespace
}  // namespace molt::migration
