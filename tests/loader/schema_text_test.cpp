#include "plugin/schema_text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace molt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string parsed(std::string_view text) {
  const auto tree = parse_schema_text(text);
  return tree ? to_string(*tree) : tree.error().message();
}

TEST(schema_text, is_read_into_a_tree) {
  const auto tree =
      parse_schema_text("struct(64,8){live:unordered_map<u64,struct(48,8){user:string@0,hits:i64@32}>@0,on:bool@56}");
  ASSERT_TRUE(tree) << tree.error().text();
  EXPECT_EQ(tree->what, schema_node::kind::structure);
  EXPECT_EQ(tree->size, 64U);
  ASSERT_EQ(tree->members.size(), 2U);
  EXPECT_EQ(tree->members[1].offset, 56U);
  const schema_node& live = tree->members[0].type;
  ASSERT_TRUE(live.is("unordered_map"));
  ASSERT_EQ(live.arguments.size(), 2U);
  EXPECT_EQ(live.arguments[1].members[1].name, "hits");
}

TEST(schema_text, knows_every_form) {
  EXPECT_EQ(parsed("array<u8,4>"), "array<u8, 4>");
  EXPECT_EQ(parsed("duration<i64,1,1000>"), "duration<i64, 1, 1000>");
  EXPECT_EQ(parsed("time_point<system,duration<i64,1,1000000000>>"),
            "time_point<system, duration<i64, 1, 1000000000>>");
  EXPECT_EQ(parsed("set<i32,=my::less<int, char>>"), "set<i32, my::less<int, char>>");
  EXPECT_EQ(parsed("unordered_map<i32,string,=h,=e>"), "unordered_map<i32, string, h, e>");
  EXPECT_EQ(parsed("reply_to<vector<string>>"), "reply_to<vector<string>>");
  EXPECT_EQ(parsed("enum<u8>"), "enum<u8>");
  EXPECT_EQ(parsed("enum<i8,low=-1,high=1>"), "enum<i8>{low=-1, high=1}");
  EXPECT_EQ(parsed("struct(8,4,3){+struct(4,4){a:i32@0}@0,+string@4,b:weak_ptr<^0>@4}"),
            "struct{(base): struct{a: i32}, (base 2): string, b: weak_ptr<the enclosing struct>}");
  EXPECT_EQ(parsed("opaque(8,8)\"my::handle<1, 2>\"v3"), "my::handle<1, 2> version 3");
  EXPECT_EQ(parsed("variant<bool,ref,tuple<>,tuple<f32,f64>>"), "variant<bool, ref, tuple<>, tuple<f32, f64>>");
  EXPECT_EQ(parsed("struct(1,1){}"), "struct{}");
  EXPECT_EQ(parsed("struct(24,8){next:vector<^0>@0}"), "struct{next: vector<the enclosing struct>}");
}

TEST(schema_text, is_refused_with_the_byte_at_which_it_stops_making_sense) {
  EXPECT_EQ(parsed(""), "schema text: expected a type at byte 0");
  EXPECT_EQ(parsed("i128"), "schema text: expected a type at byte 0");
  EXPECT_EQ(parsed("i64 "), "schema text: expected the end at byte 3");
  EXPECT_EQ(parsed("vector<i32"), "schema text: expected \">\" at byte 10");
  EXPECT_EQ(parsed("struct(8,8){a:i64}"), "schema text: expected \"@\" at byte 17");
  EXPECT_EQ(parsed("^0"), "schema text: expected the number of an enclosing struct at byte 2");
  EXPECT_EQ(parsed("struct(8,8){a:^1@0}"), "schema text: expected the number of an enclosing struct at byte 16");
  EXPECT_EQ(parsed("enum<string>"), "schema text: expected a scalar at byte 11");
  EXPECT_EQ(parsed("opaque(8,8)\"x"), "schema text: expected a closing quote at byte 12");
  EXPECT_EQ(parsed("struct(99999999999999999999,8){}"), "schema text: expected a number at byte 7");
  for (const std::string_view text : {"map<i32>", "array<i32>", "vector<i32,i32>", "vector<4>", "variant<>",
                                      "duration<i64,1>", "vector<i32,=x>", "time_point<duration<i64,1,1>>"})
    EXPECT_THAT(parsed(text), HasSubstr("expected")) << text;
}

TEST(schema_text, is_bounded_in_depth_and_length) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "vector<";
  EXPECT_THAT(parsed(deep), HasSubstr("at most 64 levels"));
  EXPECT_THAT(parsed(std::string(schema_text_max + 1, 'x')), HasSubstr("longer than"));
}

TEST(schema_text, survives_being_cut_and_changed_anywhere) {
  const std::string whole =
      "struct(64,8){a:map<u64,struct(48,8){b:string@0,c:set<i32,=x<y>>@32}>@0,d:opaque(1,1)\"n\"v1@56}";
  ASSERT_TRUE(parse_schema_text(whole));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(parse_schema_text(std::string_view{whole}.substr(0, size))) << size;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = whole;
      changed[at] = static_cast<char>(value);
      (void)parse_schema_text(changed);
    }
  }
}

std::vector<std::string> difference(std::string_view before, std::string_view after) {
  return describe_difference(before, after, "s.state");
}

TEST(schema_difference, is_empty_between_equals) { EXPECT_THAT(difference("i64", "i64"), IsEmpty()); }

TEST(schema_difference, names_the_place_of_what_was_added_removed_and_changed) {
  EXPECT_THAT(difference("struct(8,8){live:map<u64,struct(8,8){hits:i64@0}>@0}",
                         "struct(8,8){live:map<u64,struct(16,8){hits:i64@0,last_seen:i64@8}>@0}"),
              ElementsAre("s.state.live.value: added last_seen: i64"));
  EXPECT_THAT(difference("struct(8,8){n:i32@0,x:string@8}", "struct(8,8){n:i64@0}"),
              ElementsAre("s.state: removed x: string", "s.state.n: i32 became i64"));
  EXPECT_THAT(difference("i32", "string"), ElementsAre("s.state: i32 became string"));
  EXPECT_THAT(difference("optional<i32>", "optional<i64>"), ElementsAre("s.state.value: i32 became i64"));
  EXPECT_THAT(difference("vector<pair<i8,i8>>", "vector<pair<i8,u8>>"),
              ElementsAre("s.state.element.second: i8 became u8"));
  EXPECT_THAT(difference("vector<i8>", "deque<i8>"), ElementsAre("s.state: vector<i8> became deque<i8>"));
  EXPECT_THAT(difference("array<i8,3>", "array<i8,4>"), ElementsAre("s.state: array<i8, 3> became array<i8, 4>"));
  EXPECT_THAT(difference("variant<i8>", "variant<i8,string>"), ElementsAre("s.state: added alternative 1: string"));
  EXPECT_THAT(difference("variant<i8,string>", "variant<string,i8>"),
              ElementsAre("s.state.0: i8 became string", "s.state.1: string became i8"));
  EXPECT_THAT(difference("variant<i8,string>", "variant<string>"),
              ElementsAre("s.state: variant<i8, string> became variant<string>"));
  EXPECT_THAT(difference("tuple<i8,string>", "tuple<i8>"), ElementsAre("s.state: removed element 1: string"));
  EXPECT_THAT(difference("map<struct(4,4){a:i32@0},bool>", "map<struct(4,4){b:i32@0},bool>"),
              ElementsAre("s.state.key: removed a: i32, added b in its place"));
  EXPECT_THAT(difference("set<i8>", "set<i8,=falling>"),
              ElementsAre("s.state: order or hash: the standard one became falling"));
  EXPECT_THAT(difference("time_point<system,duration<i64,1,1>>", "time_point<steady,duration<i64,1,1>>"),
              ElementsAre("s.state: the clock system became the clock steady"));
}

TEST(schema_difference, looks_into_a_container_that_takes_over_the_old_one) {
  EXPECT_THAT(difference("unordered_map<u64,struct(8,8){hits:i64@0}>",
                         "evolving_map<steady_map<u64,struct(16,8){hits:i64@0,quota:i64@8}>,unordered_map<u64,struct("
                         "8,8){hits:i64@0}>>"),
              ElementsAre("s.state: unordered_map became evolving_map, which changes its elements one by one",
                          "s.state.value: added quota: i64"));
}

TEST(schema_difference, tells_a_renamed_member_from_one_added_elsewhere) {
  EXPECT_THAT(difference("struct(16,8){hits:i64@0,n:i64@8}", "struct(16,8){count:i64@0,n:i64@8}"),
              ElementsAre("s.state: removed hits: i64, added count in its place"));
  EXPECT_THAT(difference("struct(16,8){hits:i64@0,n:i64@8}", "struct(16,8){n:i64@0,count:i64@8}"),
              ElementsAre("s.state: removed hits: i64", "s.state: added count: i64"));
}

TEST(schema_difference, knows_described_enums_meanings_and_bases) {
  EXPECT_THAT(difference("enum<u8>", "enum<u16>"), ElementsAre("s.state: enum<u8> became enum<u16>"));
  EXPECT_THAT(difference("enum<u8,red=0,green=1,blue=2>", "enum<u8,red=0,green=3,white=4>"),
              ElementsAre("s.state: green=1 became green=3", "s.state: removed blue=2", "s.state: added white=4"));
  EXPECT_THAT(difference("enum<u8>", "enum<u8,red=0>"), ElementsAre("s.state: its enumerators are now described"));
  EXPECT_THAT(difference("struct(4,4){cents:i32@0}", "struct(4,4,2){cents:i32@0}"),
              ElementsAre("s.state: means something else: molt_meaning 0 became 2"));
  EXPECT_THAT(
      difference("struct(8,4){+struct(4,4){a:i32@0}@0,b:i32@4}", "struct(8,4){+struct(4,4){a:u32@0}@0,b:i32@4}"),
      ElementsAre("s.state.(base).a: i32 became u32"));
  EXPECT_THAT(difference("struct(8,4){a:i32@0}", "struct(8,4){a:i32@0,b:shared_ptr<^0>@8}"),
              ElementsAre("s.state: added b: shared_ptr<the enclosing struct>"));
}

TEST(schema_difference, tells_a_changed_layout_only_where_nothing_else_explains_it) {
  EXPECT_THAT(difference("struct(8,4){a:i32@0,b:i32@4}", "struct(8,4){b:i32@0,a:i32@4}"),
              ElementsAre("s.state: the order a, b became b, a"));
  EXPECT_THAT(difference("struct(4,4){a:i32@0}", "struct(8,8){a:i32@0}"),
              ElementsAre("s.state: size and alignment 4, 4 became 8, 8"));
  EXPECT_THAT(difference("opaque(8,8)\"x\"v1", "opaque(16,8)\"x\"v1"),
              ElementsAre("s.state: x version 1 has another size or alignment"));
  EXPECT_THAT(difference("opaque(8,8)\"x\"v1", "opaque(8,8)\"x\"v2"),
              ElementsAre("s.state: x version 1 became x version 2"));
}

TEST(schema_difference, says_so_when_a_text_makes_no_sense) {
  EXPECT_THAT(difference("i64", "i63"), ElementsAre(HasSubstr("the newer schema text")));
}

}  // namespace
}  // namespace molt
