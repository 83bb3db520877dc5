// Plugins written with the SDK: its note and table against this layer's independent reading of them.
#include "hand_made.hpp"
#include "loader/plugin_image.hpp"
#include "loader/plugin_report.hpp"

#include <gmock/gmock.h>
#include <fixture_paths.hpp>

namespace molt::loader {
namespace {

using ::testing::HasSubstr;

TEST(sdk_plugins, are_loaded_side_by_side_without_a_finding) {
  std::vector<lease> leases;
  for (const char* path : {fixtures::counter_1_0_0, fixtures::counter_1_1_0, fixtures::counter_2_0_0,
                           fixtures::counter_3_0_0, fixtures::shared_1_0_0, fixtures::shared_2_0_0}) {
    auto image = load(path);
    ASSERT_TRUE(image) << image.error().text();
    for (const auto& one : (*image)->facts().findings) ADD_FAILURE() << path << ": " << one.text;
    leases.push_back(*image);
  }
  for (lease& one : leases) {
    const auto report = unload(one);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_EQ(report->unmapped, unmaps_images()) << report->plugin << ": " << report->why;
  }
}

TEST(sdk_plugins, show_their_changes_and_hooks) {
  const auto older = inspect(fixtures::counter_1_0_0);
  const auto newer = inspect(fixtures::counter_2_0_0);
  ASSERT_TRUE(older && newer);
  const auto found = compare(older->plugin, newer->plugin);
  EXPECT_TRUE(found.covered()) << describe(found);
  EXPECT_THAT(describe(found), HasSubstr("counter.server.state: added label: string"));
  const auto without = compare(older->plugin, inspect(fixtures::counter_2_0_2_no_edge)->plugin);
  EXPECT_FALSE(without.covered());
}

void expect_refused(const char* path, reason why, const std::string& text) {
  const auto image = load(path);
  ASSERT_FALSE(image) << path;
  EXPECT_EQ(image.error().why(), why);
  EXPECT_THAT(image.error().message(), HasSubstr(path));
  EXPECT_THAT(image.error().message(), HasSubstr(text));
  EXPECT_FALSE(image.error().hint().empty());
}

TEST(sdk_plugins, are_refused_each_for_its_reason) {
  expect_refused(fixtures::lying, reason::incompatible, "table and its note disagree: schema odd::state");
  expect_refused(fixtures::foreign_abi, reason::refused, "ABI version 42");
  expect_refused(fixtures::misplaced, reason::refused, "finds itself unfit");
  expect_refused(fixtures::no_build_id, reason::refused, "no build ID");
#ifndef __clang__
  expect_refused(fixtures::unique_symbol, reason::refused, "STB_GNU_UNIQUE");
#endif
}

}  // namespace
}  // namespace molt::loader
