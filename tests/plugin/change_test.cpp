// Hooks of the state alone, hooks with context and hooks with other servers' states: told apart when compiled.
#include "plugin/change.hpp"

#include "plugin/server.hpp"
#include "plugin/table.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace v1 {
struct state {
  std::int32_t value = 0;
};
}  // namespace v1
namespace v2 {
struct state {
  std::int32_t value = 0;
  std::int32_t more = 0;
};
}  // namespace v2

struct state {
  std::int64_t value = 0;
};

struct server : molt::server<state> {
  using history = molt::history<v1::state, v2::state>;
  static state code_change(const v1::state& old) { return {old.value}; }
  static state code_change(v2::state&& old, molt::change& with) {
    with.give("spare", v1::state{old.more});
    const auto* const other = with.other<v1::state>("neighbour");
    return {old.value + (other != nullptr ? other->value : 0)};
  }
  static v1::state code_change_down(const state& now, const molt::change& told) {
    return {static_cast<std::int32_t>(now.value + static_cast<std::int64_t>(told.server_name().size()) +
                                      told.config().number<std::int64_t>("plus", 0))};
  }
};

const molt_server_type& type = molt::server_type_of<server, "test">();

const molt_edge& edge_from(const molt_schema& from) {
  for (std::uint32_t i = 0; i < type.state_edge_count; ++i)
    if (type.state_edges[i].from == &from) return type.state_edges[i];
  throw std::logic_error{"no such edge"};
}

/// What a host would answer.
struct host {
  v1::state neighbour{100};
  bool has_neighbour = true;
  std::int32_t given = 0;
  int give_status = MOLT_OK;
  int threads = 1;

  static host& of(const molt_change* change) { return *static_cast<host*>(change->with); }
  static constexpr molt_argument plus{"plus", "1000"};
  molt_change_host functions{
      sizeof(molt_change_host),
      0,
      [](const molt_change*) { return "a name"; },
      [](const molt_change*) {
        return molt_arguments{&plus, 1};
      },
      [](const molt_change*) { return std::int64_t{-1}; },
      [](const molt_change*, std::size_t count, std::size_t least, int (*part)(void*, std::size_t, std::size_t),
         void* with, molt_text*) {
        for (std::size_t at = 0; at < count; at += least)
          if (const int status = part(with, at, std::min(at + least, count)); status != MOLT_OK) return status;
        return int{MOLT_OK};
      },
      [](const molt_change* c, const char* name, const molt_schema*, const void** found, molt_text*) {
        *found = of(c).has_neighbour && std::strcmp(name, "neighbour") == 0 ? &of(c).neighbour : nullptr;
        return int{MOLT_OK};
      },
      [](const molt_change* c, const char*, const molt_schema*, void* made, molt_text* text) {
        of(c).given = static_cast<v1::state*>(made)->value;
        text->size = 5;
        std::memcpy(text->data, "taken", 5);
        return of(c).give_status;
      }};
  molt_change change{"2.0", "3.0", {nullptr, 0}, &functions, this};
  molt_text text{};
};

TEST(a_hook, says_by_its_second_parameter_what_it_may_use) {
  EXPECT_EQ(edge_from(molt::schema_of<v1::state>()).flags, 0U) << "of the state alone";
  EXPECT_EQ(edge_from(molt::schema_of<v2::state>()).flags,
            unsigned{MOLT_EDGE_CONSUMES | MOLT_EDGE_CONTEXT | MOLT_EDGE_OTHERS});
  EXPECT_EQ(edge_from(molt::schema_of<state>()).flags, unsigned{MOLT_EDGE_DOWN | MOLT_EDGE_CONTEXT});
}

TEST(a_hook, reads_its_servers_name_and_configuration) {
  host answers;
  state now{1};
  v1::state made;
  ASSERT_EQ(edge_from(molt::schema_of<state>()).apply(&now, &made, &answers.change, &answers.text), MOLT_OK);
  EXPECT_EQ(made.value, 1007);
}

TEST(a_hook, finds_nothing_where_there_is_no_host) {
  const molt_change bare{"2.0", "3.0", {nullptr, 0}, nullptr, nullptr};
  const molt::change told{bare};
  EXPECT_EQ(told.server_name(), "");
  EXPECT_EQ(told.config().size(), 0U);
  EXPECT_FALSE(told.expired());
  v2::state old{1, 2};
  state made;
  molt_text text{};
  EXPECT_EQ(edge_from(molt::schema_of<v2::state>()).apply(&old, &made, &bare, &text), MOLT_THREW);
  EXPECT_NE(std::string(text.data, text.size).find("only while everything rests"), std::string::npos);
}

TEST(a_hook, takes_from_one_server_and_gives_to_another) {
  host answers;
  v2::state old{1, 2};
  state made;
  ASSERT_EQ(edge_from(molt::schema_of<v2::state>()).apply(&old, &made, &answers.change, &answers.text), MOLT_OK);
  EXPECT_EQ(answers.given, 2);
  EXPECT_EQ(made.value, 101);
  answers.has_neighbour = false;
  ASSERT_EQ(edge_from(molt::schema_of<v2::state>()).apply(&old, &made, &answers.change, &answers.text), MOLT_OK);
  EXPECT_EQ(made.value, 1);
}

TEST(a_hook, fails_with_the_hosts_words_when_nobody_takes_what_it_gives) {
  host answers;
  answers.give_status = MOLT_NAME_TAKEN;
  v2::state old{1, 2};
  state made;
  ASSERT_EQ(edge_from(molt::schema_of<v2::state>()).apply(&old, &made, &answers.change, &answers.text), MOLT_THREW);
  EXPECT_EQ(std::string(answers.text.data, answers.text.size), "a state for spare: taken");
}

TEST(entries, are_converted_in_parts_and_keep_their_order) {
  host answers;
  const molt::change told{answers.change};
  EXPECT_TRUE(told.expired());
  std::vector<int> many(5000);
  std::iota(many.begin(), many.end(), 0);
  const auto made = molt::converted(told, many, [](const int& each) { return std::to_string(each); });
  ASSERT_EQ(made.size(), many.size());
  for (std::size_t i = 0; i < made.size(); ++i) ASSERT_EQ(made[i], std::to_string(i));
  std::deque<std::string> words(3000, "long enough not to fit into the string itself");
  const auto taken = molt::converted(told, std::move(words), [](std::string&& each) { return std::move(each); });
  EXPECT_EQ(taken.size(), 3000U);
  EXPECT_EQ(taken.back(), "long enough not to fit into the string itself");
  std::unordered_map<int, int> numbers;
  for (int i = 0; i < 4000; ++i) numbers[i] = i;
  const auto doubled = molt::converted(told, numbers, [](int each) { return std::int64_t{2} * each; });
  ASSERT_EQ(doubled.size(), 4000U);
  for (const auto& [key, value] : doubled) ASSERT_EQ(value, 2 * key);
  const std::map<int, int> ordered{numbers.begin(), numbers.end()};
  EXPECT_EQ(molt::converted(told, ordered, [](int each) { return each + 1; }).at(9), 10);
}

TEST(entries, that_cannot_be_converted_end_the_hook_with_their_own_exception) {
  host answers;
  const molt::change told{answers.change};
  const std::vector<int> many(5000, 7);
  EXPECT_THROW(static_cast<void>(molt::converted(told, many,
                                                 [](int each) -> int {
                                                   if (each == 7) throw std::out_of_range{"seven"};
                                                   return each;
                                                 })),
               std::out_of_range);
}

}  // namespace
