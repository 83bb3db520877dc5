// Random edits of states and messages against the gate. Two plugins, written by schema_edits/generate.cpp, differ by
// one random edit in each server type, with the hooks for it, without, or with others. The gate must let through
// exactly what is covered; what it lets through is then done with real hooks to random states, there and back.
//
// MOLT_SCHEMA_EDITS, a list of folders with ':' between them, replaces the ordinary pair: the target `nightly` does
// that.
#include "loader/inspection.hpp"
#include "loader/plugin_image.hpp"
#include "plugin/storage.hpp"
#include "state_migration/archive_buffer.hpp"
#include "state_migration/archive_difference.hpp"
#include "state_migration/migration_graph.hpp"
#include "state_migration/transformation.hpp"
#include "tests/upgrade/random_archive.hpp"
#include "upgrade/gate.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace molt::upgrade {
namespace {

struct expectation {
  std::string type;
  std::string edit;
  std::string place;
  std::string hooks;
  bool two_way = false;
  bool one_way = false;
  std::string identity;
};

/// A generated pair.
struct edited {
  std::filesystem::path folder;
  std::string seed;
  std::vector<expectation> expected;

  explicit edited(std::filesystem::path from) : folder{std::move(from)} {
    std::ifstream file{folder / "edits.txt"};
    std::string line;
    while (std::getline(file, line)) {
      std::istringstream words{line};
      expectation one;
      std::string two_way;
      std::string one_way;
      words >> one.type >> one.edit;
      if (one.type == "seed") {
        seed = one.edit;
        continue;
      }
      words >> one.place >> one.hooks >> two_way >> one_way >> one.identity;
      one.two_way = two_way == "two_way=1";
      one.one_way = one_way == "one_way=1";
      one.identity.erase(0, one.identity.find('=') + 1);
      expected.push_back(one);
    }
  }
  [[nodiscard]] std::filesystem::path older() const { return folder / "libedits-1.0.0.so"; }
  [[nodiscard]] std::filesystem::path newer() const { return folder / "libedits-2.0.0.so"; }
};

std::vector<edited> pairs() {
  const char* const given = std::getenv("MOLT_SCHEMA_EDITS");
  std::istringstream folders{given != nullptr ? given : SCHEMA_EDITS};
  std::vector<edited> all;
  for (std::string folder; std::getline(folders, folder, ':');) {
    all.emplace_back(folder);
    std::cout << "edits of seed " << all.back().seed << " in " << folder << '\n';
    EXPECT_FALSE(all.back().expected.empty()) << folder;
  }
  return all;
}

/// The plugin as if it had this server type alone.
plugin_description only(plugin_description whole, const std::string& type) {
  const auto* const kept = whole.find_server_type(type);
  const auto index = static_cast<std::uint32_t>(kept - whole.server_types.data());
  const auto keep = [&](std::vector<edge_description>& edges) {
    std::erase_if(edges, [&](const auto& edge) { return edge.server_type != index; });
    for (auto& edge : edges) edge.server_type = 0;
  };
  keep(whole.state_edges);
  keep(whole.message_edges);
  keep(whole.reply_edges);
  whole.server_types = {*kept};
  return whole;
}

std::string told(const gate_verdict& verdict) {
  std::string all = loader::describe(verdict.difference);
  for (const auto& problem : verdict.problems) all += problem + '\n';
  return all;
}

TEST(schema_edits, pass_the_gate_exactly_when_hooks_cover_them) {
  for (const auto& pair : pairs()) {
    const auto older = loader::inspect(pair.older());
    const auto newer = loader::inspect(pair.newer());
    ASSERT_TRUE(older && newer);
    for (const auto& expected : pair.expected) {
      SCOPED_TRACE("seed " + pair.seed + ", " + expected.type + ": " + expected.edit + " in " + expected.place + ", " +
                   expected.hooks);
      const auto before = only(older->plugin, expected.type);
      const auto after = only(newer->plugin, expected.type);
      const auto two_way = check_replacement(before, after, false);
      EXPECT_EQ(two_way.passed(), expected.two_way) << told(two_way);
      EXPECT_EQ(check_replacement(before, after, true).passed(), expected.one_way) << told(two_way);
      EXPECT_EQ(two_way.difference.empty(), expected.edit == "nothing");
      for (const auto& problem : two_way.problems) EXPECT_EQ(problem.find(expected.type), 0U) << problem;
    }
  }
}

/// A state of a loaded plugin's type.
struct owned_state {
  const molt_schema& schema;
  void* object = nullptr;

  owned_state(const molt_schema& of, const std::string& archive) : schema{of}, object{allocate_storage(of)} {
    molt_text why{};
    if (migration::load_all(schema, archive, object, why) == MOLT_OK) return;
    ADD_FAILURE() << std::string{why.data, why.size};
    free_storage(schema, std::exchange(object, nullptr));
  }
  owned_state(const owned_state&) = delete;
  owned_state& operator=(const owned_state&) = delete;
  ~owned_state() {
    if (object != nullptr) destroy_and_free(schema, object);
  }
};

std::string archive_of(const molt_schema& schema, const void* object) {
  migration::archive_buffer buffer;
  molt_text why{};
  EXPECT_EQ(buffer.save(schema, object, why), MOLT_OK);
  return std::string{buffer.bytes()};
}

/// One type of both plugins, and the ways between its states.
struct two_versions {
  const molt_server_type& older;
  const molt_server_type& newer;

  /// The archive of the state after the way, or an empty one, with a failure.
  [[nodiscard]] std::string taken(const std::string& archive, migration::direction going) const {
    const bool up = going == migration::direction::up;
    migration::migration_graph graph;
    graph.add(newer, "2.0.0");
    graph.add(older, "1.0.0");
    const auto path = migration::choose_path(graph, *graph.state_of(up ? 1 : 0), *graph.state_of(up ? 0 : 1), going);
    if (!path) {
      ADD_FAILURE() << path.error().text();
      return {};
    }
    owned_state state{up ? *older.state : *newer.state, archive};
    if (state.object == nullptr) return {};
    const molt_change about{up ? "1.0.0" : "2.0.0", up ? "2.0.0" : "1.0.0", {nullptr, 0}, nullptr, nullptr};
    migration::transformation done{*path, std::exchange(state.object, nullptr), about, {}};
    if (done.outcome() != migration::transformation::state::complete) {
      ADD_FAILURE() << done.failure().step << ": " << done.failure().error;
      destroy_and_free(state.schema, done.current());
      return {};
    }
    const auto& made = up ? *newer.state : *older.state;
    done.keep_new();
    auto bytes = archive_of(made, done.current());
    destroy_and_free(made, done.current());
    return bytes;
  }
};

void go_there_and_back(const two_versions& between, bool from_older, std::mt19937_64& random) {
  using migration::direction;
  const molt_schema& schema = from_older ? *between.older.state : *between.newer.state;
  const auto type = parse_schema_text(schema.text);
  ASSERT_TRUE(type);
  for (int round = 0; round < 20; ++round) {
    const owned_state random_state{schema, tests::random_archive{random}.of(*type)};
    ASSERT_NE(random_state.object, nullptr);
    const auto before = archive_of(schema, random_state.object);
    const auto there = between.taken(before, from_older ? direction::up : direction::down);
    const auto back = between.taken(there, from_older ? direction::down : direction::up);
    const auto same = migration::compare_archives(schema, before, back);
    ASSERT_EQ(same.found, migration::likeness::same) << same.text;
  }
}

TEST(schema_edits, that_pass_take_random_states_there_and_back) {
  std::size_t tried = 0;
  for (const auto& pair : pairs()) {
    std::mt19937_64 random{std::stoull(pair.seed)};
    const auto older = loader::load(pair.older());
    const auto newer = loader::load(pair.newer());
    ASSERT_TRUE(older && newer);
    for (const auto& expected : pair.expected) {
      if (!expected.two_way || expected.identity == "none") continue;
      SCOPED_TRACE("seed " + pair.seed + ", " + expected.type + ": " + expected.edit + " in " + expected.place);
      const two_versions between{*(*older)->find_server_type(expected.type),
                                 *(*newer)->find_server_type(expected.type)};
      if (expected.identity != "newer") go_there_and_back(between, true, random);
      if (expected.identity != "older") go_there_and_back(between, false, random);
      ++tried;
    }
  }
  EXPECT_GT(tried, 0U);
}

}  // namespace
}  // namespace molt::upgrade
