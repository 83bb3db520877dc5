// The tree of supervisors of a running node, and what an upgrade makes of it.
#include "node/box.hpp"
#include "node_fixture.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

namespace molt::node {
namespace {

using testing::HasSubstr;
using upgrade::phase;

class supervision_test : public box_test {
 protected:
  std::filesystem::path release(const std::string& version, const char* plugin, const std::string& rest) const {
    const auto folder = folder_ / ("tree-" + version);
    std::filesystem::create_directories(folder / "plugins");
    std::filesystem::copy_file(plugin, folder / "plugins/tree.so", std::filesystem::copy_options::overwrite_existing);
    std::ofstream{folder / "release.toml"} << "[release]\nname = \"tree\"\nversion = \"" << version
                                           << "\"\n[[plugin]]\nname = \"tree\"\nversion = \"" << version
                                           << "\"\nfile = \"plugins/tree.so\"\n"
                                           << rest;
    return folder;
  }
  void start_tree(const std::string& rest, box_options options = {}) {
    auto made = box::start(release("1.0.0", fixtures::tree_1_0_0, rest), std::move(options));
    ASSERT_TRUE(made) << made.error().text();
    box_ = std::move(*made);
  }
  upgrade::report go_up(const std::filesystem::path& to, upgrade::mode mode = upgrade::mode::lazy) const {
    const auto report = box_->upgrade(to, {mode, {}, {}});
    EXPECT_TRUE(report) << report.error().text();
    return report ? *report : upgrade::report{};
  }
  upgrade::report go_down() const {
    const auto report = box_->rollback({});
    EXPECT_TRUE(report) << report.error().text();
    return report ? *report : upgrade::report{};
  }
  [[nodiscard]] std::uint64_t ref(const std::string& name) const { return box_->runtime().lookup(name).bits; }
  std::string count(const std::string& name, int more = 0) const {
    return call(name, "add", "{\"by\":" + std::to_string(more) + "}");
  }
  void crash(const std::string& name) const { call(name, "fail", "{}"); }

  static std::string worker(const std::string& name, const std::string& more = "") {
    return "[[server]]\nname = \"" + name + "\"\ntype = \"tree.worker\"\n" + more;
  }
  static std::string kids(const std::string& type = "tree.kid") {
    return "[supervisor.kids]\nstrategy = \"dynamic\"\n[supervisor.kids.child]\ntype = \"" + type +
           "\"\nrestart = \"permanent\"\n[[server]]\nname = \"nursery\"\ntype = \"tree.nursery\"\n";
  }
};

TEST_F(supervision_test, starts_the_tree_in_the_order_of_the_file) {
  start_tree(worker("a") + "[supervisor.inner]\nstrategy = \"one_for_all\"\n" +
             worker("c", "supervisor = \"inner\"\n") + worker("d", "supervisor = \"inner\"\n") + worker("b"));
  EXPECT_EQ(box_->status().servers, 4U);
  const auto a = ref("a");
  const auto d = ref("d");
  crash("c");
  EXPECT_TRUE(eventually([&] { return ref("d") != 0 && ref("d") != d; }));
  EXPECT_EQ(ref("a"), a);
  std::vector<std::string> names;
  for (const auto& each : box_->servers()) names.push_back(each.name);
  EXPECT_THAT(names, testing::UnorderedElementsAre("a", "b", "c", "d"));
}

TEST_F(supervision_test, refuses_a_dynamic_supervisor_whose_type_no_plugin_has) {
  const auto made = box::start(release("1.0.0", fixtures::tree_1_0_0, kids("tree.kit")), {});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(),
              HasSubstr("release.toml:10: kids: no plugin of the release has the type tree.kit"));
}

TEST_F(supervision_test, upgrade_supervisor) {
  start_tree(worker("a") + worker("b"));
  EXPECT_EQ(count("a", 5), "5");
  const auto b = ref("b");
  ASSERT_EQ(go_up(release("2.0.0", fixtures::tree_2_0_0,
                          "[supervisor]\nstrategy = \"one_for_all\"\n" + worker("a") + worker("b")))
                .result,
            phase::done);
  EXPECT_EQ(count("a"), "5");
  EXPECT_EQ(ref("b"), b);
  crash("a");
  EXPECT_TRUE(eventually([&] { return ref("b") != 0 && ref("b") != b; }));
  ASSERT_EQ(go_down().result, phase::done);
  const auto now = ref("b");
  const auto a = ref("a");
  crash("a");
  EXPECT_TRUE(eventually([&] { return ref("a") != 0 && ref("a") != a; }));
  EXPECT_EQ(ref("b"), now);
}

TEST_F(supervision_test, added_children_come_removed_ones_go_and_moved_ones_stay) {
  start_tree(worker("stays") + worker("moves") + worker("goes"));
  EXPECT_EQ(count("moves", 3), "3");
  EXPECT_EQ(count("goes", 9), "9");
  const auto second = release("2.0.0", fixtures::tree_2_0_0,
                              worker("stays") + "[supervisor.inner]\nstrategy = \"rest_for_one\"\n" +
                                  worker("moves", "supervisor = \"inner\"\n") +
                                  "[[server]]\nname = \"comes\"\ntype = \"tree.fresh\"\nsupervisor = \"inner\"\n");
  for (const auto mode : {upgrade::mode::lazy, upgrade::mode::atomic}) {
    const auto moves = ref("moves");
    const auto up = go_up(second, mode);
    ASSERT_EQ(up.result, phase::done) << testing::PrintToString(up.problems);
    EXPECT_EQ(ref("moves"), moves);
    EXPECT_EQ(count("moves"), "3");
    EXPECT_EQ(count("comes"), "0");
    EXPECT_EQ(ref("goes"), 0U);
    const auto comes = ref("comes");
    crash("moves");
    EXPECT_TRUE(eventually([&] { return ref("comes") != 0 && ref("comes") != comes; })) << "rest_for_one";
    EXPECT_EQ(count("moves", 3), "3");
    const auto down = go_down();
    ASSERT_EQ(down.result, phase::done) << testing::PrintToString(down.problems);
    EXPECT_EQ(ref("comes"), 0U);
    EXPECT_EQ(count("goes"), "0");  // started anew
    EXPECT_EQ(count("moves"), "3");
  }
}

TEST_F(supervision_test, removed_children_handle_what_waits_for_them) {
  start_tree(worker("stays") + worker("goes"));
  const auto goes = box_->runtime().lookup("goes");
  ASSERT_TRUE(box_->runtime().suspend(goes, 1s));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(call("goes", "tell", R"({"name":"stays","pause_ms":1})"), "null");
  ASSERT_TRUE(box_->runtime().resume(goes));
  const auto up = go_up(release("2.0.0", fixtures::tree_2_0_0, worker("stays")));
  ASSERT_EQ(up.result, phase::done) << testing::PrintToString(up.problems);
  EXPECT_EQ(ref("goes"), 0U);
  EXPECT_TRUE(eventually([&] { return count("stays") == "20"; })) << count("stays");
}

// In OTP a bad child spec fails the upgrade after its point of no return, and the node goes down.
TEST_F(supervision_test, upgrade_supervisor_fail) {
  start_tree(worker("a") + worker("goes"));
  EXPECT_EQ(count("a", 4), "4");
  EXPECT_EQ(count("goes", 6), "6");
  const auto second = release("2.0.0", fixtures::tree_2_0_0,
                              "[supervisor]\nstrategy = \"one_for_all\"\n" + worker("a") + worker("fine") +
                                  worker("bad", "arguments = { fail = \"yes\" }\n"));
  for (const auto mode : {upgrade::mode::lazy, upgrade::mode::atomic}) {
    const auto up = go_up(second, mode);
    EXPECT_EQ(up.result, phase::rolled_back) << testing::PrintToString(up.problems);
    EXPECT_THAT(up.problems, testing::Contains(HasSubstr("starting bad")));
    EXPECT_EQ(box_->status().current.id, "tree-1.0.0");
    EXPECT_TRUE(box_->status().parents.empty());
    EXPECT_EQ(ref("fine"), 0U);
    EXPECT_EQ(count("a"), "4");
    EXPECT_EQ(count("goes"), "6") << "what the next release lacks was not stopped for nothing";
    const auto goes = ref("goes");
    const auto a = ref("a");
    crash("a");
    EXPECT_TRUE(eventually([&] { return ref("a") != 0 && ref("a") != a; }));
    EXPECT_EQ(ref("goes"), goes) << "one_for_one, as before";
    EXPECT_EQ(count("a", 4), "4");
  }
}

TEST_F(supervision_test, a_failed_migration_takes_the_tree_back) {
  start_tree(worker("a") + worker("goes") + "[[server]]\nname = \"old\"\ntype = \"tree.old_kid\"\n");
  EXPECT_EQ(count("a", 13), "13");
  EXPECT_EQ(count("goes", 6), "6");
  EXPECT_EQ(count("old", 7), "7");
  const auto second = release("2.0.1", fixtures::tree_2_0_1_failing,
                              worker("a") + "[[server]]\nname = \"comes\"\ntype = \"tree.fresh\"\n");
  for (const auto mode : {upgrade::mode::lazy, upgrade::mode::atomic}) {
    const auto up = go_up(second, mode);
    EXPECT_EQ(up.result, phase::rolled_back) << testing::PrintToString(up.problems);
    EXPECT_EQ(ref("comes"), 0U);
    EXPECT_EQ(count("a"), "13");
    EXPECT_EQ(count("goes"), "6");
    EXPECT_EQ(count("old"), "7") << "its type is lacking in the next release";
    EXPECT_EQ(box_->status().servers, 3U);
  }
}

TEST_F(supervision_test, children_of_dynamic_supervisors_go_along) {
  start_tree(kids());
  EXPECT_EQ(call("nursery", "start_kid", R"({"name":"k1","count":"7"})"), "\"started\"");
  EXPECT_EQ(call("nursery", "start_kid", R"({"name":"k2","count":"8"})"), "\"started\"");
  EXPECT_EQ(count("k1", 1), "8");
  const auto k1 = ref("k1");
  ASSERT_EQ(go_up(release("2.0.0", fixtures::tree_2_0_0, kids())).result, phase::done);
  EXPECT_EQ(ref("k1"), k1);
  EXPECT_EQ(count("k1"), "8");
  const auto k2 = ref("k2");
  crash("k2");
  EXPECT_TRUE(eventually([&] { return ref("k2") != 0 && ref("k2") != k2; }));
  EXPECT_EQ(count("k2"), "8");
  ASSERT_EQ(go_down().result, phase::done);
  EXPECT_EQ(count("k1"), "8");
  EXPECT_EQ(call("nursery", "start_kid", R"({"name":"k3","count":"9"})"), "\"started\"");
}

TEST_F(supervision_test, children_whose_type_the_next_release_lacks_end_with_it) {
  start_tree(kids("tree.old_kid"));
  for (const char* const name : {"k1", "k2"})
    EXPECT_EQ(call("nursery", "start_kid", R"({"name":")" + std::string{name} + R"(","count":"7"})"), "\"started\"");
  const auto second = release("2.0.0", fixtures::tree_2_0_0, kids("tree.kid"));
  const auto plan = box_->plan_upgrade(second, {});
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->refused()) << testing::PrintToString(plan->problems);
  EXPECT_NE(ref("k1"), 0U);
  const auto up = go_up(second);
  ASSERT_EQ(up.result, phase::done) << testing::PrintToString(up.problems);
  EXPECT_EQ(ref("k1"), 0U);
  EXPECT_EQ(call("nursery", "start_kid", R"({"name":"k1","count":"7"})"), "\"started\"");
}

TEST_F(supervision_test, a_server_of_a_lacking_type_that_no_supervisor_ends_stands_in_the_way) {
  start_tree(worker("a") + "[[server]]\nname = \"old\"\ntype = \"tree.old_kid\"\n");
  const auto stray = box_->runtime().start("tree.old_kid", "stray", servers::arguments{});
  ASSERT_TRUE(stray);
  const auto second = release("2.0.0", fixtures::tree_2_0_0, worker("a"));
  EXPECT_EQ(go_up(second).result, phase::refused);
  EXPECT_EQ(count("old", 1), "1");
  ASSERT_TRUE(box_->runtime().stop(*stray, "out of the way"));
  const auto up = go_up(second);
  EXPECT_EQ(up.result, phase::done);
  EXPECT_THAT(up.problems, testing::IsEmpty());
  EXPECT_EQ(ref("old"), 0U);
  const auto gone = box_->commit(5s);
  EXPECT_TRUE(gone) << gone.error().text();
}

TEST_F(supervision_test, a_child_whose_arguments_changed_is_told) {
  start_tree(worker("a", "arguments = { count = \"1\" }\n") + worker("b", "arguments = { count = \"2\" }\n"));
  ASSERT_EQ(
      go_up(release("2.0.0", fixtures::tree_2_0_0,
                    worker("a", "arguments = { count = \"5\" }\n") + worker("b", "arguments = { count = \"2\" }\n")))
          .result,
      phase::done);
  EXPECT_EQ(count("a"), "5000");
  EXPECT_EQ(count("b"), "2");
  ASSERT_EQ(go_down().result, phase::done);
  EXPECT_EQ(count("a"), "1000");
}

TEST_F(supervision_test, giving_up_ends_with_the_root) {
  std::atomic<bool> gave_up{false};
  box_options options;
  options.gave_up = [&](std::string_view) { gave_up = true; };
  start_tree("[supervisor]\nintensity = 1\nperiod_ms = 60000\n[supervisor.inner]\nintensity = 1\nperiod_ms = 60000\n" +
                 worker("a", "supervisor = \"inner\"\n"),
             std::move(options));
  EXPECT_TRUE(eventually([&] {
    if (ref("a") != 0) crash("a");
    return gave_up.load();
  }));
  EXPECT_EQ(box_->status().servers, 0U);
}

TEST_F(supervision_test, auto_shutdown_and_what_is_recorded_change_with_the_release) {
  const auto inner = [](const std::string& shutdown, const std::string& more) {
    return "[supervisor.inner]\nrestart = \"transient\"\nauto_shutdown = \"" + shutdown + "\"\n" +
           worker("c", "supervisor = \"inner\"\nrestart = \"transient\"\n" + more) +
           worker("d", "supervisor = \"inner\"\n");
  };
  start_tree(worker("a") + inner("never", ""));
  const auto recorded = [&](const char* name) {
    return box_->runtime().status(box_->runtime().lookup(name))->info.recorded;
  };
  EXPECT_EQ(recorded("a"), 0U);
  const auto next = release(
      "2.0.0", fixtures::tree_2_0_0,
      worker("a", "record_messages = 5\n") + inner("any_significant", "significant = true\nrecord_messages = 2\n"));
  ASSERT_EQ(go_up(next).result, phase::done);
  EXPECT_EQ(recorded("a"), 5U);
  EXPECT_EQ(recorded("c"), 2U);
  ASSERT_TRUE(box_->runtime().stop(box_->runtime().lookup("c"), "normal"));
  for (int i = 0; i < 1000 && box_->runtime().size() != 1; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  EXPECT_EQ(ref("d"), 0U) << "its supervisor has shut down";
  EXPECT_NE(ref("a"), 0U);
  ASSERT_EQ(go_down().result, phase::done);
  EXPECT_EQ(recorded("a"), 0U);
}

}  // namespace
}  // namespace molt::node
