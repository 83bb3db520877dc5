// The how-to pages' servers (docs/how-to/examples), with their states, there and back.
#include "running_box.hpp"

#include <gmock/gmock.h>

namespace molt::upgrade {
namespace {

using testing::Contains;
using testing::HasSubstr;

constexpr const char* shop_1 = PLUGIN_FOLDER "/libshop-1.0.0.so";
constexpr const char* shop_2 = PLUGIN_FOLDER "/libshop-2.0.0.so";

class how_to : public running_box {
 protected:
  void SetUp() override {
    start(shop_1);
    for (const char* type : {"accounts", "catalogue", "stock", "audit"})
      servers_.push_back(server((std::string{"shop."} + type).c_str(), type));
    sessions_ = server("shop.server", "sessions");
  }

  struct id {
    std::uint64_t number;
  };
  struct text {
    std::string line;
  };
  struct pieces {
    std::string name;
    std::int64_t count;
  };

  /// The messages of one version, sent by whoever has that version.
  template <class Reply, class Payload>
  Reply ask(const char* speaks, molt_ref to, const char* type, const char* message, Payload payload) {
    const auto content = load(speaks);
    const auto* const found = content.plugins.at(0)->find_type(type)->find(std::string_view{message});
    EXPECT_NE(found, nullptr) << message;
    EXPECT_EQ(found->message->payload->size, sizeof payload);
    Reply reply{};
    EXPECT_EQ(runtime_.call(to, *found->message, &payload, &reply, std::chrono::seconds{30}), MOLT_OK) << message;
    return reply;
  }
  std::int64_t order(const char* speaks, std::uint64_t account) {
    return ask<std::int64_t>(speaks, servers_[0], "shop.accounts", "order", id{account});
  }
  std::uint64_t add_item(const char* speaks, std::string label) {
    return ask<std::uint64_t>(speaks, servers_[1], "shop.catalogue", "add_item", text{std::move(label)});
  }
  std::int64_t put(const char* speaks, std::string name, std::int64_t count) {
    return ask<std::int64_t>(speaks, servers_[2], "shop.stock", "put", pieces{std::move(name), count});
  }
  std::uint64_t note(const char* speaks, std::string line) {
    return ask<std::uint64_t>(speaks, servers_[3], "shop.audit", "note", text{std::move(line)});
  }
  std::int64_t touch(const char* speaks, std::uint64_t session) {
    return ask<std::int64_t>(speaks, sessions_, "shop.server", "touch", id{session});
  }

  void use_everything(const char* speaks) {
    for (std::uint64_t n = 0; n < 30; ++n) {
      order(speaks, n % 10);
      add_item(speaks, "item " + std::to_string(n));
      put(speaks, "thing " + std::to_string(29 - n), static_cast<std::int64_t>(n));
      note(speaks, "line " + std::to_string(n));
      touch(speaks, n % 10);
    }
  }
  std::vector<std::string> archives() {
    std::vector<std::string> all;
    for (const auto ref : servers_) all.push_back(archive_of(runtime_, ref));
    return all;
  }

  std::vector<molt_ref> servers_;
  molt_ref sessions_{};
};

TEST_F(how_to, goes_up_and_keeps_everything) {
  use_everything(shop_1);
  const auto done = upgrade(shop_2);
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(order(shop_2, 3), 4);
  EXPECT_EQ(ask<std::int64_t>(shop_2, servers_[0], "shop.accounts", "credit_of", id{3}), 100) << "what the hook gives";
  EXPECT_EQ(ask<std::int64_t>(shop_2, servers_[0], "shop.accounts", "credit_of", id{77}), 0) << "who came later";
  EXPECT_EQ(add_item(shop_2, "one more"), 31U);
  EXPECT_EQ(put(shop_2, "thing 0", 5), 34);
  EXPECT_EQ(note(shop_2, "one more"), 31U);
  EXPECT_EQ(touch(shop_2, 3), 4);
}

TEST_F(how_to, comes_back_to_the_same_states_but_for_what_is_said_to_be_lost) {
  use_everything(shop_1);
  const auto before = archives();
  ASSERT_EQ(upgrade(shop_2).result, phase::done);
  const auto refused = rollback();
  EXPECT_EQ(refused.result, phase::refused);
  EXPECT_THAT(refused.problems,
              Contains(HasSubstr("loses audit_lines (all lines but the last are only counted): accept "
                                 "it with --accept-loss audit_lines")));
  settings accepting;
  accepting.accept_loss = {"audit_lines"};
  const auto back = rollback(accepting);
  ASSERT_EQ(back.result, phase::done) << told(back);
  const auto after = archives();
  EXPECT_EQ(after[0], before[0]) << "accounts";
  EXPECT_EQ(after[1], before[1]) << "catalogue";
  EXPECT_EQ(after[2], before[2]) << "stock, in its old order";
  EXPECT_NE(after[3], before[3]) << "audit";
  EXPECT_EQ(note(shop_1, "one more"), 31U) << "as many lines as there were";
  EXPECT_EQ(touch(shop_1, 3), 4);
}

TEST_F(how_to, keeps_later_writes_on_the_way_back) {
  use_everything(shop_1);
  ASSERT_EQ(upgrade(shop_2).result, phase::done);
  use_everything(shop_2);
  settings accepting;
  accepting.accept_loss = {"audit_lines"};
  ASSERT_EQ(rollback(accepting).result, phase::done);
  EXPECT_EQ(order(shop_1, 3), 7);
  EXPECT_EQ(add_item(shop_1, "x"), 61U);
  EXPECT_EQ(put(shop_1, "thing 0", 1), 59);
  EXPECT_EQ(note(shop_1, "x"), 61U);
  EXPECT_EQ(touch(shop_1, 3), 7);
}

TEST_F(how_to, plans_no_way_back_from_a_release_that_says_one_way) {
  use_everything(shop_1);
  settings one_way;
  one_way.one_way = true;
  const auto done = upgrade(shop_2, one_way);
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_TRUE(done.plan.back.empty());
  EXPECT_THAT(done.notes, Contains(HasSubstr("the release is one_way")));
}

TEST_F(how_to, leaves_a_server_whose_hook_throws_with_what_it_had) {
  put(shop_1, "twice", 1);
  auto archive = archive_of(runtime_, servers_[2]);
  // Two entries of one name, which the 1.x handler never makes.
  archive[1] = 2;
  archive += archive.substr(2);
  const auto running = switcher_->current();
  const auto* const type = running.plugins.at(0)->find_type("shop.stock");
  ASSERT_TRUE(runtime_.replace_state(servers_[2], *type, archive, std::chrono::seconds{10}));
  settings all_or_none;
  all_or_none.mode = mode::atomic;
  const auto done = upgrade(shop_2, all_or_none);
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(told(done), HasSubstr("the stock has twice twice"));
  EXPECT_EQ(archive_of(runtime_, servers_[2]), archive);
  EXPECT_EQ(put(shop_1, "twice", 1), 2);
}

}  // namespace
}  // namespace molt::upgrade
