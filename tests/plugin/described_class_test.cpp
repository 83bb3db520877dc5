// Classes with bases and private members by Boost.Describe, described enums, declared meanings, and shared pointers.
#include "plugin/schema_text.hpp"
#include "tests/plugin/described_types.hpp"
#include "tests/plugin/memory_archive.hpp"
#include "tests/plugin/random_value.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace example;
using ::testing::ElementsAre;

template <class T>
std::string text_of() {
  return molt::schema_of<T>().text;
}

template <class T>
std::string saved(const T& value) {
  int status = -1;
  std::string bytes = molt::tests::save_bytes(molt::schema_of<T>(), &value, &status);
  EXPECT_EQ(status, MOLT_OK);
  return bytes;
}

/// Reads a T from `bytes`, hands it to `look`, and destroys it; the reason if it cannot be read.
template <class T, class Look>
std::string with_loaded(std::string_view bytes, Look&& look) {
  alignas(T) char storage[sizeof(T)];
  std::string why;
  if (molt::tests::load_bytes(molt::schema_of<T>(), storage, bytes, &why) != MOLT_OK) return why;
  look(*reinterpret_cast<T*>(storage));
  molt::schema_of<T>().destroy(storage);
  return {};
}

const std::string purse_text = "struct(48,8){cents_:i64@0,owner_:string@8,grade_:char@40}";

TEST(described_class, lists_private_members_and_no_functions) {
  EXPECT_EQ(text_of<purse>(), purse_text);
  EXPECT_TRUE(molt::code_free<purse>);
  EXPECT_NE(molt::schema_of<purse>().flags & MOLT_SCHEMA_TRANSPARENT, 0U);
}

TEST(described_class, lists_members_as_they_lie_whatever_the_description_says) {
  EXPECT_EQ(text_of<mixed>(), "struct(64,8){a_:i8@0,b:string@8,c_:i32@40,d:f64@48,e_:i16@56}");
}

TEST(described_class, lists_bases_first_and_knows_what_lies_in_their_padding) {
  EXPECT_EQ(text_of<wallet>(), "struct(88,8){+" + purse_text +
                                   "@0,+struct(1,1){}@0,+struct(8,4){x:i32@0,y:i32@4}@44,notes:vector<u8>@56,"
                                   "open_:bool@80,mood_:enum<i16,calm=0,angry=1>@82}");
}

TEST(described_class, may_be_an_aggregate_with_a_base) {
  EXPECT_EQ(text_of<labelled>(), "struct(40,8){+struct(8,4){x:i32@0,y:i32@4}@0,label:string@8}");
}

TEST(described_class, cannot_hide_a_member_of_an_aggregate) {
  EXPECT_EQ(text_of<half_described>(), "struct(8,4){told:i32@0,untold:i32@4}");
}

TEST(described_class, has_the_offsets_that_it_states) { EXPECT_TRUE(molt::detail::all_offsets_real<described_all>()); }

TEST(described_class, is_compared_member_by_member) {
  EXPECT_THAT(
      molt::describe_difference(text_of<purse>(), "struct(48,8){cents_:i64@0,owner_:string@8,level_:char@40}", "s"),
      ElementsAre("s: removed grade_: char, added level_ in its place"));
}

TEST(described_class, goes_through_its_archive) {
  molt::tests::random random{20261121};
  for (int round = 0; round < 200; ++round) {
    const auto value = molt::tests::random_value<described_all>(random);
    EXPECT_EQ(with_loaded<described_all>(saved(value), [&](const described_all& back) { EXPECT_EQ(back, value); }), "");
  }
}

TEST(described_class, is_archived_bases_first_then_members) {
  const purse money{5, "me"};
  EXPECT_EQ(saved(money), (std::string{"\1\5\0\0\0\0\0\0\0\2mea", 13}));
  labelled spot;
  spot.x = 1;
  spot.label = "z";
  EXPECT_EQ(saved(spot), (std::string{"\1\1\0\0\0\0\0\0\0\1z", 11}));
}

TEST(described_enum, has_its_enumerators_in_the_fingerprint) {
  EXPECT_EQ(text_of<sign>(), "enum<i8,minus=-1,none=0,plus=1>");
  EXPECT_EQ(text_of<mood>(), "enum<i16,calm=0,angry=1>");
  EXPECT_EQ(text_of<colour>(), "enum<u8>");
}

TEST(meaning, is_part_of_the_fingerprint) {
  struct plain {
    std::int64_t amount = 0;
  };
  EXPECT_EQ(text_of<cents>(), "struct(8,8,2){amount:i64@0}");
  EXPECT_NE(molt::schema_of<cents>().fingerprint, molt::schema_of<plain>().fingerprint);
}

// -- Shared pointers

static_assert(!molt::code_free<node> && !molt::code_free<std::weak_ptr<int>>);

TEST(shared_pointers, are_named_and_go_by_archive_only) {
  EXPECT_EQ(text_of<node>(), "struct(48,8){value:i32@0,next:vector<shared_ptr<^0>>@8,parent:weak_ptr<^0>@32}");
  EXPECT_EQ(molt::schema_of<node>().flags, 0U);
}

TEST(shared_pointers, lead_to_one_object_again) {
  using pair = std::vector<std::shared_ptr<std::string>>;
  const auto one = std::make_shared<std::string>("x");
  const std::string bytes = saved(pair{one, nullptr, std::make_shared<std::string>("y"), one});
  EXPECT_EQ(bytes, (std::string{"\1\4\1\1x\0\2\1y\1", 10}));
  EXPECT_EQ(with_loaded<pair>(bytes,
                              [](const pair& back) {
                                ASSERT_EQ(back.size(), 4U);
                                EXPECT_EQ(back[0], back[3]);
                                EXPECT_NE(back[0], back[2]);
                                EXPECT_EQ(back[1], nullptr);
                                EXPECT_EQ(*back[0] + *back[2], "xy");
                              }),
            "");
}

TEST(shared_pointers, may_form_cycles_and_be_weak) {
  node root;
  const auto child = std::make_shared<node>();
  child->value = 7;
  child->parent = child;  // a cycle that holds nothing
  root.next = {child, child};
  root.parent = child;
  EXPECT_EQ(with_loaded<node>(saved(root),
                              [](const node& back) {
                                ASSERT_EQ(back.next.size(), 2U);
                                EXPECT_EQ(back.next[0]->value, 7);
                                EXPECT_EQ(back.next[0], back.next[1]);
                                EXPECT_EQ(back.parent.lock(), back.next[0]);
                                EXPECT_EQ(back.next[0]->parent.lock(), back.next[0]);
                                EXPECT_EQ(back.next[0].use_count(), 2);
                              }),
            "");
}

TEST(shared_pointers, refuse_what_no_archive_says) {
  using pointers = std::vector<std::shared_ptr<bool>>;
  const auto no_look = [](const auto&) {};
  EXPECT_EQ(with_loaded<pointers>(std::string{"\1\2\1\1\3", 5}, no_look), "a shared object has not been read yet");
  EXPECT_EQ(with_loaded<pointers>(std::string{"\1\1\2\1", 4}, no_look), "a shared object has not been read yet");
  struct two_types {
    std::shared_ptr<bool> first;
    std::shared_ptr<char> second;
  };
  EXPECT_EQ(with_loaded<two_types>(std::string{"\1\1\1\1", 4}, no_look), "a shared object is of another type");
}

TEST(shared_pointers, are_bounded_in_depth) {
  node root;
  auto* last = &root;
  for (int i = 0; i < 600; ++i) last = last->next.emplace_back(std::make_shared<node>()).get();
  int status = MOLT_OK;
  (void)molt::tests::save_bytes(molt::schema_of<node>(), &root, &status);
  EXPECT_EQ(status, MOLT_OUT_OF_BOUNDS);
}

}  // namespace
