#include "state_migration/migration_graph.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace molt::migration {
namespace {

using testing::HasSubstr;

/// A plugin with one server type whose schemas are numbered; schema n has fingerprint n and is called "vn".
plugin_description plugin(std::string version, std::uint32_t state, const std::vector<edge_description>& edges,
                          std::uint32_t schemas = 10) {
  plugin_description made{1, "fixture", std::move(version), "toolchain", {}, {}, {}, edges, {}, {}};
  for (std::uint32_t n = 0; n < schemas; ++n)
    made.schemas.push_back({n, 8, 8, MOLT_SCHEMA_CODE_FREE, 0, "v" + std::to_string(n), "i64"});
  made.server_types.push_back({"fixture.server", MOLT_KIND_SERVER, state, {}});
  return made;
}

edge_description up(std::uint32_t from, std::uint32_t to) { return {0, from, to, 0, {}, {}, {}}; }
edge_description down(std::uint32_t from, std::uint32_t to) { return {0, from, to, MOLT_EDGE_DOWN, {}, {}, {}}; }

migration_graph graph(const std::vector<plugin_description>& plugins) {
  migration_graph made;
  for (const auto& one : plugins) made.add(one, "fixture.server");
  return made;
}

std::string stations(const result<route>& way) {
  if (!way) return way.error().text();
  std::string text;
  for (const auto& edge : *way) text += edge.from.name + ">" + edge.to.name + " ";
  return text;
}

TEST(migration_graph, composes_hooks) {
  const auto all = graph({plugin("3.0.0", 3, {up(1, 2), up(2, 3)})});
  EXPECT_EQ(stations(all.find(1, 3, direction::up)), "v1>v2 v2>v3 ");
}

TEST(migration_graph, takes_the_shortest_way) {
  const auto all = graph({plugin("4.0.0", 4, {up(1, 2), up(2, 3), up(3, 4), up(1, 3)})});
  EXPECT_EQ(stations(all.find(1, 4, direction::up)), "v1>v3 v3>v4 ");
  EXPECT_EQ(stations(all.find(2, 4, direction::up)), "v2>v3 v3>v4 ");
}

TEST(migration_graph, goes_nowhere_to_stay) {
  const auto all = graph({plugin("1.0.0", 1, {})});
  EXPECT_EQ(stations(all.find(1, 1, direction::up)), "");
}

TEST(migration_graph, refuses_two_shortest_ways_and_names_both) {
  const auto all = graph({plugin("4.0.0", 4, {up(1, 2), up(1, 3), up(2, 4), up(3, 4)})});
  const auto way = all.find(1, 4, direction::up);
  ASSERT_FALSE(way);
  EXPECT_EQ(way.error().why(), reason::refused);
  EXPECT_THAT(way.error().text(), HasSubstr("v1 to v2 to v4"));
  EXPECT_THAT(way.error().text(), HasSubstr("v1 to v3 to v4"));
}

TEST(migration_graph, sees_an_ambiguity_in_the_middle_of_the_way) {
  const auto all = graph({plugin("6.0.0", 6, {up(0, 1), up(1, 2), up(1, 3), up(2, 4), up(3, 4), up(4, 5), up(5, 6)})});
  const auto way = all.find(0, 6, direction::up);
  ASSERT_FALSE(way);
  EXPECT_THAT(way.error().text(), HasSubstr("v0 to v1 to v2 to v4 to v5 to v6"));
  EXPECT_THAT(way.error().text(), HasSubstr("v0 to v1 to v3 to v4 to v5 to v6"));
}

TEST(migration_graph, names_both_ends_where_there_is_no_way) {
  const auto all = graph({plugin("3.0.0", 3, {up(1, 2)})});
  const auto way = all.find(1, 3, direction::up);
  ASSERT_FALSE(way);
  EXPECT_EQ(way.error().why(), reason::incompatible);
  EXPECT_THAT(way.error().text(), HasSubstr("no way up from v1"));
  EXPECT_THAT(way.error().text(), HasSubstr("v3"));
}

TEST(migration_graph, goes_down_only_by_down_hooks) {
  const auto all = graph({plugin("3.0.0", 3, {up(1, 2), up(2, 3), down(3, 2), down(2, 1)})});
  EXPECT_EQ(stations(all.find(3, 1, direction::down)), "v3>v2 v2>v1 ");
  EXPECT_FALSE(all.find(3, 1, direction::up));
  EXPECT_FALSE(all.find(1, 3, direction::down));
}

TEST(migration_graph, prefers_the_newer_plugins_hook_of_two_alike) {
  const auto all = graph({plugin("3.0.0", 3, {up(1, 2), up(2, 3)}), plugin("2.0.0", 2, {up(1, 2)})});
  const auto way = all.find(1, 3, direction::up);
  ASSERT_TRUE(way) << way.error().text();
  EXPECT_EQ(way->front().plugin_version, "3.0.0");
}

TEST(migration_graph, uses_the_other_plugins_hooks_where_the_newer_has_no_way) {
  const auto all = graph({plugin("3.0.0", 3, {up(2, 3)}), plugin("2.0.0", 2, {up(1, 2)})});
  const auto way = all.find(1, 3, direction::up);
  ASSERT_TRUE(way) << way.error().text();
  EXPECT_EQ((*way)[0].plugin_version, "2.0.0");
  EXPECT_EQ((*way)[1].plugin_version, "3.0.0");
}

TEST(migration_graph, keeps_to_the_newer_plugin_even_if_the_other_knows_a_shorter_way) {
  const auto all = graph({plugin("3.0.0", 3, {up(1, 2), up(2, 3)}), plugin("2.0.0", 2, {up(1, 3)})});
  EXPECT_EQ(stations(all.find(1, 3, direction::up)), "v1>v2 v2>v3 ");
}

plugin_description versioned(std::string version, std::uint64_t fingerprint, std::uint32_t class_version,
                             std::uint32_t flags) {
  plugin_description made{1, "fixture", std::move(version), "toolchain", {}, {}, {}, {}, {}, {}};
  made.schemas.push_back({fingerprint, 8, 8, flags, class_version, "fixture::state", "opaque"});
  made.server_types.push_back({"fixture.server", MOLT_KIND_SERVER, 0, {}});
  return made;
}

TEST(migration_graph, reads_an_archive_of_an_older_version_of_the_same_name) {
  const auto all =
      graph({versioned("2.0.0", 12, 2, MOLT_SCHEMA_READS_OLDER), versioned("1.0.0", 11, 1, MOLT_SCHEMA_READS_OLDER)});
  const auto way = all.find(11, 12, direction::up);
  ASSERT_TRUE(way) << way.error().text();
  EXPECT_TRUE(way->front().archive);
  EXPECT_FALSE(all.find(12, 11, direction::down)) << "an older type cannot read a newer archive";
}

TEST(migration_graph, reads_no_archive_unless_the_type_says_so) {
  const auto all = graph({versioned("2.0.0", 12, 2, 0), versioned("1.0.0", 11, 1, 0)});
  EXPECT_FALSE(all.find(11, 12, direction::up));
}

TEST(migration_graph, prefers_a_hook_to_an_archive) {
  auto newer = versioned("2.0.0", 12, 2, MOLT_SCHEMA_READS_OLDER);
  newer.schemas.push_back({11, 8, 8, 0, 1, "fixture::v1::state", "opaque"});
  newer.state_edges.push_back({0, 1, 0, 0, {}, {}, {}});
  const auto way = graph({newer, versioned("1.0.0", 11, 1, 0)}).find(11, 12, direction::up);
  ASSERT_TRUE(way) << way.error().text();
  EXPECT_FALSE(way->front().archive);
}

/// Against a plain count of all shortest ways by dynamic programming.
TEST(migration_graph, agrees_with_counting_on_random_graphs) {
  const auto seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 random{seed};
  for (int round = 0; round < 300; ++round) {
    const auto nodes = static_cast<std::uint32_t>(2 + random() % 7);
    std::vector<edge_description> edges;
    for (std::uint32_t from = 0; from < nodes; ++from)
      for (std::uint32_t to = 0; to < nodes; ++to)
        if (from != to && random() % 4 == 0) edges.push_back(up(from, to));
    const auto all = graph({plugin("1.0.0", 0, edges, nodes)});
    std::map<std::uint32_t, std::uint64_t> ways{{0, 1}};  // to each node in exactly `length` steps
    std::size_t length = 0;
    while (!ways.contains(nodes - 1) && length < nodes) {
      std::map<std::uint32_t, std::uint64_t> longer;
      for (const auto& edge : edges)
        if (ways.contains(edge.from)) longer[edge.to] += ways[edge.from];
      ways = std::move(longer);
      ++length;
    }
    const auto found = all.find(0, nodes - 1, direction::up);
    if (!ways.contains(nodes - 1)) {
      EXPECT_EQ(found.error().why(), reason::incompatible) << "seed " << seed;
    } else if (ways[nodes - 1] > 1) {
      ASSERT_FALSE(found) << "seed " << seed;
      EXPECT_EQ(found.error().why(), reason::refused) << "seed " << seed;
    } else {
      ASSERT_TRUE(found) << "seed " << seed << ": " << found.error().text();
      EXPECT_EQ(found->size(), length) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace molt::migration
