#include "node/json_codec.hpp"

#include "plugin/archive.hpp"
#include "plugin/evolving_map.hpp"
#include "plugin/evolving_set.hpp"
#include "plugin/evolving_vector.hpp"
#include "plugin/schema.hpp"
#include "plugin/storage.hpp"
#include "state_migration/archive_buffer.hpp"

#include <gmock/gmock.h>
#include <boost/describe/class.hpp>
#include <boost/json.hpp>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace json_types {

enum class colour : std::uint8_t { red, green };
struct point {
  std::int32_t x = 0;
  std::int32_t y = 0;
};
struct numbers {
  bool yes = false;
  char letter = 'a';
  std::int8_t i8 = 0;
  std::uint8_t u8 = 0;
  std::int16_t i16 = 0;
  std::uint32_t u32 = 0;
  std::int64_t i64 = 0;
  std::uint64_t u64 = 0;
  float f32 = 0;
  double f64 = 0;
  colour paint = colour::red;
};
struct holder {
  std::string text;
  std::vector<point> points;
  std::map<std::string, std::int64_t> by_name;
  std::unordered_map<std::uint64_t, std::string> by_number;
  std::optional<point> perhaps;
  std::unique_ptr<std::string> owned;
  std::variant<std::int64_t, std::string> either;
  std::pair<bool, std::string> both;
  std::array<std::int16_t, 3> three{};
  std::set<std::string> names;
  std::chrono::milliseconds since{};
};
struct mark {
  std::int64_t at = 0;
  std::int64_t weight = 0;
  static mark evolve(const std::int64_t& old) noexcept { return {old, 1}; }
  static std::int64_t devolve(const mark& now) noexcept { return now.at; }
  friend auto operator<=>(const mark&, const mark&) = default;
};
struct evolving {
  molt::evolving_map<std::string, mark, std::map<std::string, std::int64_t>> map;
  molt::evolving_set<mark, std::set<std::int64_t>> set;
  molt::evolving_vector<mark, std::vector<std::int64_t>> vector;
};
struct tree {
  std::string name;
  std::vector<tree> children;
};
struct nothing {};
class owned {
  std::string owner_;
  BOOST_DESCRIBE_CLASS(owned, (), (), (), (owner_))
};
class account : owned {
  std::int64_t cents_ = 0;
  BOOST_DESCRIBE_CLASS(account, (owned), (), (), (cents_))
};

}  // namespace json_types

namespace molt::node {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

template <class T>
std::string there_and_back(std::string_view text) {
  const molt_schema& schema = schema_of<T>();
  const auto archive = archive_from_json(schema, *parse_json(text), "payload");
  if (!archive) return archive.error().message();
  // Through the real type, as a call goes.
  void* storage = allocate_storage(schema);
  molt_text why{};
  const int loaded = migration::load_all(schema, *archive, storage, why);
  if (loaded != MOLT_OK) {
    free_storage(schema, storage);
    return "load failed: " + std::string{why.data, why.size};
  }
  migration::archive_buffer saved;
  EXPECT_EQ(saved.save(schema, storage, why), MOLT_OK);
  destroy_and_free(schema, storage);
  const auto back = json_from_archive(schema, saved.bytes(), "reply");
  return back ? json::serialize(*back) : back.error().message();
}

template <class T>
std::string refusal(std::string_view text) {
  const auto archive = archive_from_json(schema_of<T>(), *parse_json(text), "payload");
  return archive ? "accepted" : archive.error().message();
}

TEST(json_codec, carries_every_number_at_its_ends) {
  const std::string low =
      R"({"yes":true,"letter":"z","i8":-128,"u8":0,"i16":-32768,"u32":0,"i64":-9223372036854775808,"u64":0,"f32":0E0,"f64":-1.5E0,"paint":1})";
  EXPECT_EQ(there_and_back<json_types::numbers>(low), low);
  const std::string high =
      R"({"yes":false,"letter":10,"i8":127,"u8":255,"i16":32767,"u32":4294967295,"i64":9223372036854775807,"u64":18446744073709551615,"f32":"inf","f64":"nan","paint":0})";
  EXPECT_EQ(there_and_back<json_types::numbers>(high), high);
}

TEST(json_codec, refuses_numbers_out_of_range_and_names_the_place) {
  const std::string good =
      R"({"yes":true,"letter":"z","i8":0,"u8":0,"i16":0,"u32":0,"i64":0,"u64":0,"f32":0,"f64":0,"paint":0})";
  const auto with = [&](std::string_view member, std::string_view value) {
    auto object = parse_json(good)->get_object();
    object[member] = *parse_json(value);
    return refusal<json_types::numbers>(json::serialize(object));
  };
  EXPECT_EQ(with("i8", "128"), "payload.i8: out of range for i8");
  EXPECT_EQ(with("i8", "-129"), "payload.i8: out of range for i8");
  EXPECT_EQ(with("u8", "-1"), "payload.u8: out of range for u8");
  EXPECT_EQ(with("u8", "256"), "payload.u8: out of range for u8");
  EXPECT_EQ(with("i64", "9223372036854775808"), "payload.i64: out of range for i64");
  EXPECT_EQ(with("u64", "18446744073709551616"), "payload.u64: expected an integer (u64)");
  EXPECT_EQ(with("u32", "1.5"), "payload.u32: expected an integer (u32)");
  EXPECT_EQ(with("f32", "1e39"), "payload.f32: out of range for f32");
  EXPECT_EQ(with("yes", "1"), "payload.yes: expected true or false");
  EXPECT_EQ(with("letter", "\"zz\""), "payload.letter: expected one ASCII character");
  EXPECT_EQ(with("paint", "256"), "payload.paint: out of range for u8");
}

TEST(json_codec, carries_bases_and_private_members) {
  const std::string account = R"json({"(base)":{"owner_":"me"},"cents_":12})json";
  EXPECT_EQ(there_and_back<json_types::account>(account), account);
}

TEST(json_codec, leaves_what_is_shared_to_code) {
  EXPECT_THAT(refusal<std::shared_ptr<int>>("1"), HasSubstr("shares objects"));
}

TEST(json_codec, carries_containers) {
  const std::string text =
      R"({"text":"a\u0000ü","points":[{"x":1,"y":-2},{"x":3,"y":4}],"by_name":{"a":1,"b":2},"by_number":[[7,"seven"]],)"
      R"("perhaps":{"x":5,"y":6},"owned":"mine","either":{"alternative":1,"value":"s"},"both":[true,"t"],"three":[1,2,3],)"
      R"("names":["n1","n2"],"since":1500})";
  EXPECT_EQ(there_and_back<json_types::holder>(text), json::serialize(*parse_json(text)));
}

TEST(json_codec, carries_both_parts_of_evolving_containers) {
  const std::string text = R"({"map":[{"a":{"at":1,"weight":1}},{"b":2}],"set":[[{"at":1,"weight":1}],[2,3]],)"
                           R"("vector":[[[{"at":1,"weight":1},{"at":2,"weight":1}]],[0,0]]})";
  EXPECT_EQ(there_and_back<json_types::evolving>(text), text);
  const std::string twice = R"({"map":[{"a":{"at":1,"weight":1}},{"a":2}],"set":[[],[]],"vector":[[],[]]})";
  EXPECT_THAT(there_and_back<json_types::evolving>(twice), HasSubstr("a key stands twice"));
}

TEST(json_codec, carries_what_is_empty) {
  const std::string text =
      R"({"text":"","points":[],"by_name":{},"by_number":[],"perhaps":null,"owned":null,"either":{"alternative":0,"value":-1},)"
      R"("both":[false,""],"three":[0,0,0],"names":[],"since":0})";
  EXPECT_EQ(there_and_back<json_types::holder>(text), text);
  EXPECT_EQ(there_and_back<json_types::nothing>("{}"), "{}");
}

TEST(json_codec, carries_recursive_types) {
  const std::string text =
      R"({"name":"a","children":[{"name":"b","children":[{"name":"c","children":[]}]},{"name":"d","children":[]}]})";
  EXPECT_EQ(there_and_back<json_types::tree>(text), text);
}

TEST(json_codec, carries_bytes_that_are_no_utf8_as_base64) {
  EXPECT_EQ(there_and_back<json_types::tree>(R"({"name":{"base64":"/wBhYg=="},"children":[]})"),
            R"({"name":{"base64":"/wBhYg=="},"children":[]})");
  EXPECT_EQ(there_and_back<json_types::tree>(R"({"name":{"base64":"aGVsbG8="},"children":[]})"),
            R"({"name":"hello","children":[]})");
  for (const char* bad : {"!!", "aGVsbG8", "a===", "aG=s", "====", "aGVs=A=="})
    EXPECT_THAT(refusal<json_types::tree>(std::string{R"({"name":{"base64":")"} + bad + R"("},"children":[]})"),
                HasSubstr("no base64"))
        << bad;
}

TEST(json_codec, names_a_missing_and_an_unknown_member) {
  EXPECT_EQ(refusal<json_types::point>(R"({"x":1})"), "payload.y: missing (i32)");
  EXPECT_THAT(refusal<json_types::point>(R"({"x":1,"y":2,"z":3})"),
              testing::StartsWith("payload.z: there is no such member"));
  EXPECT_EQ(refusal<json_types::point>("[1,2]"), "payload: expected an object");
  EXPECT_THAT(
      refusal<json_types::tree>(R"({"name":"a","children":[{"name":"b","children":[]},{"name":1,"children":[]}]})"),
      testing::StartsWith("payload.children[1].name: expected a string"));
}

TEST(json_codec, refuses_wrong_counts_and_alternatives) {
  EXPECT_THAT(
      refusal<json_types::holder>(
          R"({"text":"","points":[],"by_name":{},"by_number":[[1]],"perhaps":null,"owned":null,"either":0,"both":0,"three":0,"names":0,"since":0})"),
      HasSubstr("payload.by_number[0]: expected exactly 2 elements"));
  EXPECT_THAT(
      refusal<json_types::holder>(
          R"({"text":"","points":[],"by_name":{},"by_number":[],"perhaps":null,"owned":null,"either":{"alternative":2,"value":0},"both":0,"three":0,"names":0,"since":0})"),
      HasSubstr("payload.either: there is no alternative 2"));
}

TEST(json_codec, refuses_a_schema_that_is_not_transparent) {
  molt_schema schema = schema_of<json_types::point>();
  schema.flags &= ~static_cast<std::uint32_t>(MOLT_SCHEMA_TRANSPARENT);
  const auto archive = archive_from_json(schema, json::value(nullptr), "payload");
  ASSERT_FALSE(archive);
  EXPECT_EQ(archive.error().why(), reason::incompatible);
}

TEST(json_codec, types_the_words_of_a_command_line_by_their_members) {
  const auto typed = [](const molt_schema& schema, const json::object& words) {
    const auto value = json_from_words(schema, words, "payload");
    return value ? json::serialize(*value) : value.error().message();
  };
  const auto& holder = schema_of<json_types::holder>();
  EXPECT_EQ(typed(holder, {{"text", "5"}}), R"({"text":"5"})");
  EXPECT_EQ(typed(holder, {{"text", "null"}}), R"({"text":"null"})");
  EXPECT_EQ(typed(holder, {{"text", "\"quoted\""}}), R"({"text":"\"quoted\""})");
  EXPECT_EQ(typed(holder, {{"owned", "5"}}), R"({"owned":"5"})");
  EXPECT_EQ(typed(holder, {{"owned", "null"}}), R"({"owned":null})");
  EXPECT_EQ(typed(holder, {{"points", "[]"}, {"since", "15"}}), R"({"points":[],"since":15})");
  EXPECT_EQ(typed(holder, {{"since", "soon"}, {"other", "5"}}), R"({"since":"soon","other":"5"})") << "refused later";
  EXPECT_EQ(typed(schema_of<json_types::numbers>(), {{"letter", "5"}, {"yes", "true"}}),
            R"({"letter":"5","yes":true})");
  EXPECT_EQ(typed(schema_of<json_types::numbers>(), {{"letter", "65"}}), R"({"letter":65})");
}

TEST(json_codec, bounds_nesting) {
  std::string text = R"({"name":"","children":[]})";
  for (int i = 0; i < 1000; ++i) text = R"({"name":"","children":[)" + text + "]}";
  EXPECT_FALSE(parse_json(text));
  json::value deep = *parse_json(R"({"name":"","children":[]})");
  for (int i = 0; i < 1000; ++i) deep = json::object{{"name", ""}, {"children", json::array{std::move(deep)}}};
  const auto archive = archive_from_json(schema_of<json_types::tree>(), deep, "payload");
  ASSERT_FALSE(archive);
  EXPECT_EQ(archive.error().why(), reason::out_of_bounds);
}

TEST(json_codec, survives_cut_and_changed_archives) {
  const auto whole = archive_from_json(
      schema_of<json_types::holder>(),
      *parse_json(
          R"({"text":"abc","points":[{"x":1,"y":-2}],"by_name":{"a":1},"by_number":[[7,"seven"]],"perhaps":{"x":5,"y":6},)"
          R"("owned":"mine","either":{"alternative":1,"value":"s"},"both":[true,"t"],"three":[1,2,3],"names":["n"],"since":15})"),
      "payload");
  ASSERT_TRUE(whole) << whole.error().text();
  for (std::size_t size = 0; size < whole->size(); ++size)
    EXPECT_FALSE(json_from_archive(schema_of<json_types::holder>(), whole->substr(0, size), "reply")) << size;
  EXPECT_FALSE(json_from_archive(schema_of<json_types::holder>(), *whole + "x", "reply"));
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random{seed};
  for (int round = 0; round < 2000; ++round) {
    std::string changed = *whole;
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes)
      changed[random() % changed.size()] = static_cast<char>(random());
    const auto value = json_from_archive(schema_of<json_types::holder>(), changed, "reply");
    if (value) {
      EXPECT_TRUE(parse_json(json::serialize(*value)));
    }
  }
}

}  // namespace
}  // namespace molt::node
