#include "state_migration/migration_path.hpp"

#include "tests/state_migration/handmade.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace molt::migration {
namespace {

using handmade::edge;
using handmade::schema;
using testing::ElementsAre;

/// Two images: the old with state `before`, the new with `after` and hooks.
struct images {
  molt_schema before;
  molt_schema after;
  std::vector<molt_edge> hooks;

  [[nodiscard]] result<migration_path> choose(direction going = direction::up) const {
    const auto old_type = handmade::type(before, {});
    const auto new_type = handmade::type(after, hooks);
    migration_graph graph;
    graph.add(new_type, "2.0.0");
    graph.add(old_type, "1.0.0");
    const unsigned from = going == direction::up ? 1 : 0;
    return choose_path(graph, *graph.state_of(from), *graph.state_of(1 - from), going);
  }
};

std::vector<std::string> kinds(const migration_path& path) {
  std::vector<std::string> all;
  for (const auto& step : path.steps) all.emplace_back(step.what == path_step::kind::hook ? "hook" : "bridge");
  return all;
}

TEST(migration_path, keeps_a_code_free_state_of_equal_fingerprint) {
  const images both{schema<1>("state", 1), schema<1>("state", 1), {}};
  const auto path = both.choose();
  ASSERT_TRUE(path);
  EXPECT_EQ(path->way, way::keep);
  EXPECT_TRUE(path->steps.empty());
}

TEST(migration_path, archives_a_state_that_reaches_code_even_if_nothing_changed) {
  for (const std::uint32_t old_flags : {0U, unsigned{MOLT_SCHEMA_CODE_FREE}}) {
    const images both{schema<1>("state", 1, old_flags), schema<1>("state", 1, 0), {}};
    const auto path = both.choose();
    ASSERT_TRUE(path);
    EXPECT_EQ(path->way, way::archive);
    EXPECT_THAT(kinds(*path), ElementsAre("bridge"));
  }
}

TEST(migration_path, runs_a_hook_in_place_on_a_code_free_state) {
  const auto frozen = schema<1>("v1::state", 1);
  const auto state = schema<2>("state", 2, 0);  // the new type may reach code: the new image made it
  const images both{schema<1>("state", 1), state, {edge(frozen, state, handmade::copy<1, 2>)}};
  const auto path = both.choose();
  ASSERT_TRUE(path);
  EXPECT_EQ(path->way, way::in_place);
  EXPECT_THAT(kinds(*path), ElementsAre("hook"));
}

TEST(migration_path, bridges_a_state_that_reaches_code_to_the_frozen_type_before_the_hook) {
  const auto frozen = schema<1>("v1::state", 1, 0);
  const auto state = schema<2>("state", 2);
  const images both{
      schema<1>("state", 1, 0), state, {edge(frozen, state, handmade::consume<1, 2>, MOLT_EDGE_CONSUMES)}};
  const auto path = both.choose();
  ASSERT_TRUE(path);
  EXPECT_EQ(path->way, way::archive);
  EXPECT_THAT(kinds(*path), ElementsAre("bridge", "hook"));
  EXPECT_FALSE(path->needs_archive_to_undo()) << "the hook consumes the copy";
}

TEST(migration_path, bridges_after_a_down_hook_whose_result_reaches_code) {
  const auto frozen = schema<1>("v1::state", 1, 0);
  const auto state = schema<2>("state", 2);
  const images both{schema<1>("state", 1, 0), state, {edge(state, frozen, handmade::copy<2, 1>, MOLT_EDGE_DOWN)}};
  const auto path = both.choose(direction::down);
  ASSERT_TRUE(path);
  EXPECT_THAT(kinds(*path), ElementsAre("hook", "bridge"));
}

TEST(migration_path, archives_before_a_consuming_hook_that_may_throw) {
  const auto frozen = schema<1>("v1::state", 1);
  const auto middle = schema<2>("v2::state", 2);
  const auto state = schema<3>("state", 3);
  const auto path_with = [&](std::uint32_t first, std::uint32_t second) {
    const images both{
        schema<1>("state", 1),
        state,
        {edge(frozen, middle, handmade::copy<1, 2>, first), edge(middle, state, handmade::copy<2, 3>, second)}};
    return *both.choose();
  };
  EXPECT_FALSE(path_with(0, MOLT_EDGE_CONSUMES).needs_archive_to_undo());
  EXPECT_TRUE(path_with(MOLT_EDGE_CONSUMES, 0).needs_archive_to_undo());
  EXPECT_TRUE(path_with(MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT, 0).needs_archive_to_undo()) << "the second may throw";
  EXPECT_FALSE(path_with(MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT, MOLT_EDGE_NOEXCEPT).needs_archive_to_undo());
  EXPECT_TRUE(path_with(MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT, MOLT_EDGE_NOEXCEPT).needs_archive_to_revert());
}

TEST(migration_path, lists_its_losses_and_steps) {
  const auto frozen = schema<1>("v1::state", 1);
  const auto state = schema<2>("state", 2);
  const images both{schema<1>("state", 1), state, {edge(state, frozen, handmade::copy<2, 1>, MOLT_EDGE_DOWN, "lists")}};
  const auto path = both.choose(direction::down);
  ASSERT_TRUE(path);
  EXPECT_THAT(path->losses(), ElementsAre(path_loss{"lists", "some of it is lost"}));
  EXPECT_THAT(path->step_texts(), ElementsAre("state to v1::state (hook of 2.0.0)"));
}

}  // namespace
}  // namespace molt::migration
