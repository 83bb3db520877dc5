#include "upgrade/bound_release.hpp"

#include "tests/upgrade/running_box.hpp"

#include <gmock/gmock.h>

namespace molt::upgrade {
namespace {

using testing::HasSubstr;

TEST(bound_release, knows_the_path_of_every_type_that_may_be_running) {
  const auto old = load(fixtures::counter_1_0_0);
  const auto middle = load(fixtures::counter_2_0_0);
  const auto next = load(fixtures::counter_3_0_0);
  const std::vector sources{old, middle};
  const auto image = bound_release::make(next, sources, {});
  const auto from_old = image->path_for(*old.plugins[0]->types()[0]);
  ASSERT_TRUE(from_old) << from_old.error().text();
  EXPECT_EQ((*from_old)->steps.size(), 2U);
  EXPECT_EQ((*image->path_for(*middle.plugins[0]->types()[0]))->steps.size(), 1U);
  EXPECT_EQ(*image->path_for(*next.plugins[0]->types()[0]), nullptr) << "already there";
  EXPECT_EQ(image->find_type("counter.server"), next.plugins[0]->types()[0].get());
  EXPECT_EQ(image->find_type("counter.other"), nullptr);
}

TEST(bound_release, has_no_lossy_path_unless_the_loss_is_accepted) {
  const auto old = load(ledger_1);
  const std::vector sources{load(ledger_2)};
  adopt_settings down{direction::down, std::chrono::seconds{1}, {}, {}};
  const auto& type = *sources[0].plugins[0]->types()[0];
  EXPECT_THAT(bound_release::make(old, sources, down)->path_for(type).error().text(), HasSubstr("would lose tags"));
  down.accept_loss = {"tags"};
  EXPECT_TRUE(bound_release::make(old, sources, down)->path_for(type));
}

TEST(bound_release, says_why_there_is_no_path) {
  const auto next = load(fixtures::shared_1_0_0);
  const std::vector sources{load(fixtures::counter_1_0_0)};
  const auto image = bound_release::make(next, sources, {});
  EXPECT_THAT(image->path_for(*sources[0].plugins[0]->types()[0]).error().text(),
              HasSubstr("has no type counter.server"));
  const auto stranger = load(ledger_1);
  EXPECT_EQ(image->path_for(*stranger.plugins[0]->types()[0]).error().why(), reason::internal);
}

TEST(load_release, loads_every_plugin_or_none) {
  const std::vector<loader::plugin_file> files{fixtures::counter_1_0_0, "/nonexistent/libnothing.so"};
  const auto loaded = load_release("pair-1.0.0", files);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text(), HasSubstr("pair-1.0.0"));
  EXPECT_THAT(loaded.error().text(), HasSubstr("libnothing.so"));
}

}  // namespace
}  // namespace molt::upgrade
