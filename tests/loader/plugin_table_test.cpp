#include "loader/plugin_table.hpp"

#include "hand_made.hpp"
#include "loader/plugin_image.hpp"

#include <gmock/gmock.h>

#include <ostream>

namespace molt::loader {
namespace {

using ::testing::HasSubstr;

struct lie {
  int number;
  reason why;
  const char* text;
  // Without it a test's name would show the addresses within, and differ from run to run.
  friend void PrintTo(const lie& each, std::ostream* out) { *out << "lie_" << each.number; }
};

class lying_table : public ::testing::TestWithParam<lie> {};

TEST_P(lying_table, is_refused_and_what_differs_is_named) {
  const auto path = testing::hand_made("hand_lie_" + std::to_string(GetParam().number));
  ASSERT_TRUE(inspect(path)->replaceable());
  const auto loaded = load(path);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().why(), GetParam().why);
  EXPECT_THAT(loaded.error().message(), HasSubstr(path.string()));
  EXPECT_THAT(loaded.error().message(), HasSubstr(GetParam().text));
}

INSTANTIATE_TEST_SUITE_P(
    plugin_table, lying_table,
    ::testing::Values(lie{1, reason::incompatible, "handler 0 of counter.server"},
                      lie{2, reason::incompatible, "the flags of counter.server's add"},
                      lie{3, reason::incompatible, "an edge is only in the note"},
                      lie{4, reason::incompatible, "edge of counter.server from counter::state to"},
                      lie{5, reason::incompatible, "schema counter::add"},
                      lie{6, reason::incompatible, "the reply of counter.server's add"},
                      lie{7, reason::incompatible, "ABI version 2"}, lie{8, reason::incompatible, "16 bytes"},
                      lie{9, reason::incompatible, "the plugin's version"},
                      lie{10, reason::incompatible, "the number of server types"},
                      lie{11, reason::refused, "member hits is not where it should be"}),
    [](const auto& one) { return "lie_" + std::to_string(one.param.number); });

TEST(plugin_table, gives_the_code_for_each_index_of_the_note) {
  const auto loaded = load(testing::hand_made("hand_counter_2"));
  ASSERT_TRUE(loaded) << loaded.error().text();
  const plugin_image& image = **loaded;
  const auto& note = image.description();
  for (std::uint32_t i = 0; i < note.schemas.size(); ++i) {
    EXPECT_EQ(image.schema(i).text, note.schemas[i].text);
    EXPECT_TRUE(image.contains(&image.schema(i)));
  }
  EXPECT_EQ(image.message(0).key, note.messages[0].key);
  EXPECT_EQ(&image.server_type(0), image.find_server_type("counter.server"));
  EXPECT_EQ(image.find_server_type("counter.client"), nullptr);
  // The table has the edges in the other order.
  ASSERT_EQ(note.state_edges.size(), 2U);
  for (std::uint32_t i = 0; i < 2; ++i) EXPECT_EQ(image.state_edge(i).flags, note.state_edges[i].flags);
  EXPECT_EQ(&image.table(), image.find_server_type("counter.server") == nullptr ? nullptr : &image.table());
}

}  // namespace
}  // namespace molt::loader
