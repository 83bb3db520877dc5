// Schemas from types: text, fingerprint, flags, code-freeness.
#include "tests/plugin/example_types.hpp"

#include <gtest/gtest.h>
#include <any>
#include <functional>
#include <memory_resource>

namespace {

using namespace example;

template <class T>
std::string text_of() {
  return molt::schema_of<T>().text;
}

TEST(schema, describes_the_tutorials_counter_as_the_note_format_says) {
  struct state {
    std::int64_t value = 0;
  };
  EXPECT_EQ(text_of<state>(), "struct(8,8){value:i64@0}");
  EXPECT_EQ(molt::schema_of<state>().size, 8U);
  EXPECT_EQ(molt::schema_of<state>().align, 8U);
}

TEST(schema, names_every_scalar_by_its_size_and_sign) {
  EXPECT_EQ(text_of<scalars>(),
            "struct(72,8){a:bool@0,b:char@1,c:i8@2,d:u8@3,e:i16@4,f:u16@6,g:i32@8,h:u32@12,i:i64@16,j:u64@24,k:i64@32,"
            "l:u64@40,"
            "m:f32@48,n:f64@56,o:enum<u8>@64,p:enum<i16>@66,q:enum<u8>@68}");
}

TEST(schema, names_every_container) {
  EXPECT_EQ(text_of<containers>(),
            "struct(" + std::to_string(sizeof(containers)) +
                ",8){vector:vector<i32>@0,bits:vector<bool>@24,deque:deque<string>@64,list:list<struct(8,4){x:i32@0,y:"
                "i32@4}>@144,"
                "set:set<string>@168,multiset:multiset<i16>@216,unordered_set:unordered_set<u64>@264,"
                "unordered_multiset:unordered_multiset<char>@320,map:map<string,vector<f64>>@376,multimap:multimap<i32,"
                "string>@424,"
                "unordered_map:unordered_map<u64,struct(32,8){inside:string@0}>@472,"
                "unordered_multimap:unordered_multimap<i32,i32>@528}");
}

TEST(schema, names_everything_else) {
  EXPECT_EQ(text_of<std::optional<std::string>>(), "optional<string>");
  EXPECT_EQ((text_of<std::pair<int, std::string>>()), "pair<i32,string>");
  EXPECT_EQ((text_of<std::tuple<bool, char>>()), "tuple<bool,char>");
  EXPECT_EQ((text_of<std::variant<std::monostate, int>>()), "variant<struct(1,1){},i32>");
  EXPECT_EQ((text_of<std::array<std::uint16_t, 3>>()), "array<u16,3>");
  EXPECT_EQ(text_of<std::chrono::milliseconds>(), "duration<i64,1,1000>");
  EXPECT_EQ(text_of<std::chrono::system_clock::time_point>(), "time_point<system,duration<i64,1,1000000000>>");
  EXPECT_EQ(text_of<std::chrono::steady_clock::time_point>(), "time_point<steady,duration<i64,1,1000000000>>");
  EXPECT_EQ(text_of<molt::ref>(), "ref");
  EXPECT_EQ(text_of<molt::reply_to<point>>(), "reply_to<struct(8,4){x:i32@0,y:i32@4}>");
  EXPECT_EQ(text_of<empty>(), "struct(1,1){}");
  struct with_array {
    char name[16];
    std::string labels[2];
    int after;
  };
  EXPECT_EQ(text_of<with_array>(), "struct(88,8){name:array<char,16>@0,labels:array<string,2>@16,after:i32@80}");
}

TEST(schema, points_recursive_types_back_to_the_enclosing_struct) {
  EXPECT_EQ(text_of<tree>(), "struct(56,8){label:string@0,children:vector<^0>@32}");
  EXPECT_EQ(text_of<chain>(), "struct(16,8){value:i64@0,next:unique_ptr<^0>@8}");
  EXPECT_EQ(text_of<outer>(), "struct(48,8){inside:struct(48,8){outers:vector<^1>@0,middles:vector<^0>@24}@0}");
}

TEST(schema, names_unusual_orders_without_their_arguments) {
  EXPECT_EQ(text_of<strange_order>(),
            "struct(96,8){falling:set<i32,=std::greater>@0,names:map<string,i32,=std::greater>@48}");
}

TEST(schema, reflects_forty_members) {
  const std::string text = text_of<forty>();
  EXPECT_EQ(text.substr(0, 30), "struct(160,4){a0:i32@0,a1:i32@");
  EXPECT_EQ(text.substr(text.size() - 11), "d9:i32@156}");
}

TEST(schema, describes_a_class_with_its_own_serialize_by_name_and_version) {
  EXPECT_EQ(text_of<account>(), "opaque(40,8)\"account\"v3");
  EXPECT_EQ(molt::schema_of<account>().version, 3U);
  EXPECT_EQ(molt::schema_of<account>().flags, static_cast<std::uint32_t>(MOLT_SCHEMA_READS_OLDER));
  EXPECT_EQ(text_of<geo::grid>(), "opaque(24,8)\"grid\"v7");
  EXPECT_EQ(molt::schema_of<geo::grid>().flags,
            static_cast<std::uint32_t>(MOLT_SCHEMA_READS_OLDER | MOLT_SCHEMA_CODE_FREE));
}

/// As docs/reference/note-format.md says, written again.
std::uint64_t fingerprint_by_hand(std::string_view toolchain, std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  const auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3U; };
  for (const char c : toolchain) add(static_cast<unsigned char>(c));
  add(0);
  for (const char c : text) add(static_cast<unsigned char>(c));
  return hash;
}

TEST(schema, fingerprint_is_fnv1a_over_toolchain_and_text) {
  const std::string_view toolchain = molt::detail::toolchain_text;
  EXPECT_EQ(molt::schema_of<containers>().fingerprint, fingerprint_by_hand(toolchain, text_of<containers>()));
  EXPECT_EQ(molt::schema_of<std::string>().fingerprint, fingerprint_by_hand(toolchain, "string"));
}

namespace now {
struct part {
  std::string user;
  std::int64_t hits = 0;
};
struct state {
  std::unordered_map<std::uint64_t, part> live;
};
}  // namespace now
namespace frozen::v1 {
struct old_part {
  std::string user;
  std::int64_t hits = 0;
};
struct state {
  std::unordered_map<std::uint64_t, old_part> live;
};
}  // namespace frozen::v1
namespace renamed {
struct part {
  std::string user;
  std::int64_t count = 0;
};
struct state {
  std::unordered_map<std::uint64_t, part> live;
};
}  // namespace renamed

TEST(schema, a_frozen_copy_has_the_same_fingerprint_and_a_renamed_member_another) {
  EXPECT_EQ(molt::schema_of<now::state>().fingerprint, molt::schema_of<frozen::v1::state>().fingerprint);
  EXPECT_NE(molt::schema_of<now::state>().fingerprint, molt::schema_of<renamed::state>().fingerprint);
  EXPECT_NE(std::string{molt::schema_of<now::state>().name}, molt::schema_of<frozen::v1::state>().name);
}

struct interface {
  virtual ~interface() = default;
};
struct with_function {
  std::function<void()> callback;
};
struct with_shared {
  std::vector<std::shared_ptr<int>> shared;
};

static_assert(molt::code_free<containers> && molt::code_free<others> && molt::code_free<tree> &&
              molt::code_free<chain>);
static_assert(molt::code_free<strange_order> && molt::code_free<outer>);
static_assert(!molt::code_free<int*> && !molt::code_free<void (*)()> && !molt::code_free<std::string_view>);
static_assert(!molt::code_free<std::function<void()>> && !molt::code_free<std::shared_ptr<int>> &&
              !molt::code_free<std::any>);
static_assert(!molt::code_free<interface> && !molt::code_free<std::unique_ptr<interface>>);
static_assert(!molt::code_free<with_function> && !molt::code_free<with_shared> &&
              !molt::code_free<std::vector<with_function>>);
static_assert(!molt::code_free<std::pmr::string> && !molt::code_free<std::pmr::vector<int>>);
static_assert(!molt::code_free<std::unique_ptr<int, void (*)(int*)>> &&
              !molt::code_free<std::set<int, bool (*)(int, int)>>);
static_assert(!molt::code_free<account> && molt::code_free<geo::grid>);

TEST(schema, flags_say_what_the_host_may_do) {
  EXPECT_EQ(molt::schema_of<others>().flags,
            static_cast<std::uint32_t>(MOLT_SCHEMA_CODE_FREE | MOLT_SCHEMA_TRANSPARENT));
  EXPECT_EQ(molt::schema_of<box<account>>().flags, 0U);
}

TEST(schema, move_and_destroy_work_in_place) {
  using type = std::vector<std::string>;
  alignas(type) char from[sizeof(type)];
  alignas(type) char to[sizeof(type)];
  new (from) type{"one", std::string(100, 'x')};
  const molt_schema& schema = molt::schema_of<type>();
  schema.move(to, from);
  EXPECT_EQ(reinterpret_cast<type*>(to)->at(1).size(), 100U);
  schema.destroy(from);
  schema.destroy(to);
}

struct add {
  using reply = std::int64_t;
  std::int64_t by = 1;
};
struct tick {};
struct flush {
  using reply = void;
};

TEST(message, key_covers_name_payload_and_reply) {
  const molt_message& message = molt::message_of<add>();
  EXPECT_STREQ(message.name, "add");
  ASSERT_NE(message.reply, nullptr);
  std::string bytes = "add";
  bytes += '\0';
  const auto append = [&](std::uint64_t value) {
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i));
  };
  append(message.payload->fingerprint);
  append(message.reply->fingerprint);
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  EXPECT_EQ(message.key, hash);
  EXPECT_EQ(molt::message_of<tick>().reply, nullptr);
  EXPECT_EQ(molt::message_of<flush>().reply, &molt::schema_of<molt::done>());
}

}  // namespace
