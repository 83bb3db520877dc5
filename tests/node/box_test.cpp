#include "node/box.hpp"

#include "node/api_error.hpp"
#include "node/listening.hpp"
#include "node/node_api.hpp"
#include "node_fixture.hpp"
#include "releases/package.hpp"

#include <gmock/gmock.h>

#include <atomic>

namespace molt::node {
namespace {

using testing::HasSubstr;
using upgrade::phase;

class change_test : public box_test {
 protected:
  std::filesystem::path folder_of(const shape& from) { return make_release(from); }

  void expect_on_1(client& user) const {
    EXPECT_EQ(user.ask("echo x"), "x");
    EXPECT_EQ(box_->status().current.id, "line-1.0.0");
    EXPECT_EQ(box_->status().changing_to, "");
  }
};

TEST_F(box_test, starts_what_the_manifest_says) {
  start();
  const auto status = box_->status();
  EXPECT_EQ(status.current.id, "line-1.0.0");
  EXPECT_EQ(status.servers, 1U);
  ASSERT_EQ(status.listeners.size(), 1U);
  EXPECT_THAT(status.listeners[0].address, testing::StartsWith("127.0.0.1:"));
  EXPECT_TRUE(status.parents.empty());
}

TEST_F(box_test, answers_calls_that_come_as_json) {
  start();
  EXPECT_EQ(call("keeper", "keep", R"({"text":"a"})"), "1");
  EXPECT_EQ(call("keeper", "keep", R"({"text":"b"})"), "2");
  EXPECT_EQ(call("keeper", "clear", "{}"), "null");
  EXPECT_TRUE(eventually([&] { return call("keeper", "keep", R"({"text":"c"})") == "1"; }));
}

TEST_F(box_test, says_what_is_wrong_with_a_call) {
  start();
  EXPECT_THAT(call("nobody", "keep", "{}"), HasSubstr("no server is named nobody"));
  EXPECT_THAT(call("keeper", "keeep", "{}"), HasSubstr("it handles keep, clear"));
  EXPECT_THAT(call("keeper", "keep", "{}"), HasSubstr("payload.text: missing (string)"));
  EXPECT_THAT(call("keeper", "keep", R"({"text":"a","more":1})"), HasSubstr("payload.more"));
  EXPECT_THAT(call("keeper", "keep", "{"), HasSubstr("no JSON"));
  EXPECT_THAT(call("keeper", "keep", R"({"text":"throw"})"), HasSubstr("told to throw"));
}

TEST_F(box_test, says_what_became_of_a_server_whose_handler_threw) {
  start();
  const auto asked = [&](const std::string& body) { return answer(*box_, {"POST", "/v1/call", {}, body}); };
  const auto failed = error_of(asked(R"({"server":"keeper","message":"keep","payload":{"text":"throw"}})"));
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->code, exit_code::needs_attention);
  EXPECT_EQ(failed->what.why(), reason::server_failed);
  EXPECT_EQ(
      failed->what.message(),
      "keeper.keep: its handler threw: the keeper was told to throw; keeper failed, and the state it had is lost; "
      "its supervisor has started it again with a fresh one");
}

TEST_F(box_test, says_that_nothing_starts_a_temporary_server_again) {
  shape once;
  once.servers = "[[server]]\nname = \"keeper\"\ntype = \"line.keeper\"\nrestart = \"temporary\"\n";
  start(once);
  EXPECT_THAT(call("keeper", "keep", R"({"text":"throw"})"), HasSubstr("is lost; nothing starts it again"));
  EXPECT_THAT(call("keeper", "keep", R"({"text":"a"})"), HasSubstr("no server is named keeper"));
}

TEST_F(box_test, says_that_a_message_without_a_reply_in_time_may_have_been_handled) {
  start();
  const auto keeper = box_->runtime().lookup("keeper");
  ASSERT_TRUE(box_->runtime().suspend(keeper, 1s));
  const auto late = error_of(answer(
      *box_,
      {"POST", "/v1/call", {}, R"({"server":"keeper","message":"keep","payload":{"text":"a"},"timeout_ms":20})"}));
  ASSERT_TRUE(box_->runtime().resume(keeper));
  ASSERT_TRUE(late);
  EXPECT_EQ(late->code, exit_code::needs_attention);
  EXPECT_EQ(late->what.why(), reason::timeout);
  EXPECT_THAT(late->what.hint(), HasSubstr("it may have been handled"));
}

TEST_F(box_test, restarts_a_server_that_failed) {
  start();
  call("keeper", "keep", R"({"text":"throw"})");
  EXPECT_TRUE(eventually([&] { return call("keeper", "keep", R"({"text":"a"})") == "1"; }));
}

TEST_F(box_test, tells_when_its_supervisor_gives_up) {
  shape strict;
  strict.supervisor = "[supervisor]\nintensity = 1\nperiod_ms = 60000\n";
  std::atomic<bool> gave_up{false};
  box_options options;
  options.gave_up = [&](std::string_view) { gave_up = true; };
  start(strict, std::move(options));
  EXPECT_TRUE(eventually([&] {
    call("keeper", "keep", R"({"text":"throw"})");
    return gave_up.load();
  }));
}

TEST_F(box_test, refuses_a_release_whose_manifest_names_types_that_are_not_there) {
  shape wrong;
  wrong.servers = "[[server]]\nname = \"keeper\"\ntype = \"line.keper\"\n";
  auto made = box::start(make_release(wrong), {});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().why(), reason::refused);
  EXPECT_THAT(made.error().message(),
              HasSubstr("release.toml:8: keeper: no plugin of the release has the type line.keper"));
  wrong.servers = "[[server]]\nname = \"c\"\ntype = \"line.connection\"\n";
  made = box::start(make_release(wrong), {});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("is a connection type"));
}

TEST_F(box_test, refuses_to_start_on_an_address_that_is_taken) {
  start();
  shape same;
  same.version = "1.0.0";
  same.listeners = "[[listener]]\nname = \"line\"\naddress = \"127.0.0.1:" + std::to_string(port()) +
                   "\"\nconnection = \"line.connection\"\n";
  const auto second = box::start(make_release(same), {});
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr("Address already in use"));
}

TEST_F(box_test, listens_on_sockets_that_are_handed_over) {
  auto socket = listen_tcp("line", {"127.0.0.1", 0, false});
  ASSERT_TRUE(socket);
  box_options options;
  options.open_listeners = false;
  options.listeners.push_back({"line", std::move(*socket)});
  start({}, std::move(options));
  EXPECT_EQ(client{port()}.ask("echo a"), "a");
  const auto duplicates = box_->duplicate_listeners();
  ASSERT_EQ(duplicates.size(), 1U);
  EXPECT_EQ(duplicates[0].name, "line");
  box_options none;
  none.open_listeners = false;
  const auto without = box::start(make_release({}), std::move(none));
  ASSERT_FALSE(without);
  EXPECT_THAT(without.error().message(), HasSubstr("listener line: no socket was handed over"));
}

TEST_F(change_test, carries_servers_connections_and_half_requests_up_and_back) {
  start();
  client user{port()};
  EXPECT_EQ(user.ask("keep a"), "1");
  user.send("echo hal");
  std::this_thread::sleep_for(20ms);

  const auto up = box_->upgrade(folder_of(version_2()), {});
  ASSERT_TRUE(up) << up.error().text();
  ASSERT_EQ(up->result, phase::done) << testing::PrintToString(up->problems);
  EXPECT_EQ(up->servers_migrated, 2U);
  user.send("f\n");
  EXPECT_EQ(user.line(), "half");
  EXPECT_EQ(user.ask("keep b"), "2");
  EXPECT_EQ(user.ask("lines"), "3");
  EXPECT_EQ(box_->status().current.id, "line-2.0.0");
  ASSERT_EQ(box_->status().parents.size(), 1U);
  EXPECT_EQ(client{port()}.ask("keep c"), "3");

  user.send("take 4\n12");
  const auto down = box_->rollback({});
  ASSERT_TRUE(down) << down.error().text();
  ASSERT_EQ(down->result, phase::done) << testing::PrintToString(down->problems);
  user.send("34");
  EXPECT_EQ(user.line(), "took 4");
  EXPECT_EQ(user.ask("keep d"), "4");
  EXPECT_EQ(box_->status().current.id, "line-1.0.0");
  EXPECT_TRUE(box_->status().parents.empty());
  const auto again = box_->rollback({});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().why(), reason::not_found);
}

TEST_F(change_test, loses_no_request_of_clients_that_go_on_asking) {
  start();
  std::atomic<bool> going{true};
  std::vector<std::jthread> users;
  std::atomic<int> asked{0};
  for (int i = 0; i < 4; ++i)
    users.emplace_back([&, i] {
      client user{port()};
      for (int n = 0; going; ++n, ++asked) {
        ASSERT_EQ(user.ask("echo " + std::to_string(n)), std::to_string(n));
        if (n % 7 == i) {
          ASSERT_NE(user.ask("keep x").substr(0, 5), "error");
        }
      }
    });
  const auto second = folder_of(version_2());
  for (int round = 0; round < 5; ++round) {
    for (const auto mode : {upgrade::mode::lazy, upgrade::mode::atomic}) {
      const auto up = box_->upgrade(second, {mode, {}, {}});
      ASSERT_TRUE(up && up->result == phase::done) << (up ? testing::PrintToString(up->problems) : up.error().text());
      std::this_thread::sleep_for(10ms);
      const auto down = box_->rollback({mode, {}, {}});
      ASSERT_TRUE(down && down->result == phase::done)
          << (down ? testing::PrintToString(down->problems) : down.error().text());
      std::this_thread::sleep_for(10ms);
    }
  }
  going = false;
  users.clear();
  EXPECT_GT(asked, 100);
}

TEST_F(change_test, plans_without_touching_anything) {
  start();
  std::string id;
  const auto plan = box_->plan_upgrade(folder_of(version_2()), {}, &id);
  ASSERT_TRUE(plan) << plan.error().text();
  EXPECT_EQ(id, "line-2.0.0");
  EXPECT_FALSE(plan->refused()) << testing::PrintToString(plan->problems);
  EXPECT_NE(plan->find("line.keeper"), nullptr);
  client user{port()};
  expect_on_1(user);
}

TEST_F(change_test, starts_added_servers_and_listeners_and_ends_them_at_the_rollback) {
  start();
  auto second = version_2();
  second.servers += extra_server();
  second.listeners = listener("line", "line.connection2") + listener("more", "line.connection");
  client old_user{port()};
  EXPECT_EQ(old_user.ask("echo a"), "a");
  const auto up = box_->upgrade(folder_of(second), {});
  ASSERT_TRUE(up) << up.error().text();
  ASSERT_EQ(up->result, phase::done) << testing::PrintToString(up->problems);
  EXPECT_EQ(call("extra", "ask", "{}"), "\"extra\"");
  EXPECT_EQ(client{port("more")}.ask("echo b"), "b");
  EXPECT_EQ(client{port("line")}.ask("echo c"), "c");
  EXPECT_EQ(old_user.ask("echo d"), "d");
  const auto more = port("more");

  const auto down = box_->rollback({});
  ASSERT_TRUE(down) << down.error().text();
  ASSERT_EQ(down->result, phase::done) << testing::PrintToString(down->problems);
  EXPECT_THAT(call("extra", "ask", "{}"), HasSubstr("no server is named extra"));
  EXPECT_EQ(port("more"), 0);
  EXPECT_FALSE(client{more}.connected());
  EXPECT_EQ(client{port("line")}.ask("echo e"), "e");
  EXPECT_EQ(old_user.ask("echo f"), "f");
}

TEST_F(change_test, goes_back_when_an_added_server_does_not_start) {
  start();
  client user{port()};
  EXPECT_EQ(user.ask("keep a"), "1");
  shape failing = version_2();
  failing.version = "2.0.1";
  failing.plugin = fixtures::line_2_0_1_failing;
  failing.servers += extra_server();
  failing.listeners += listener("more", "line.connection");
  const auto up = box_->upgrade(folder_of(failing), {});
  ASSERT_TRUE(up) << up.error().text();
  EXPECT_EQ(up->result, phase::rolled_back);
  EXPECT_THAT(up->problems, testing::Contains(HasSubstr("the extra server does not start")));
  expect_on_1(user);
  EXPECT_EQ(user.ask("keep b"), "2");
  EXPECT_EQ(port("more"), 0);
  EXPECT_TRUE(box_->status().parents.empty());
  // And it is no obstacle to the next.
  const auto again = box_->upgrade(folder_of(version_2()), {});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->result, phase::done) << testing::PrintToString(again->problems);
}

TEST_F(change_test, refuses_a_listener_that_cannot_be_opened_before_anything_changes) {
  start();
  client user{port()};
  auto taken = listen_tcp("taken", {"127.0.0.1", 0, false});
  ASSERT_TRUE(taken);
  sockaddr_in at{};
  socklen_t size = sizeof at;
  ::getsockname(taken->get(), reinterpret_cast<sockaddr*>(&at), &size);
  auto second = version_2();
  second.listeners += "[[listener]]\nname = \"more\"\naddress = \"127.0.0.1:" + std::to_string(ntohs(at.sin_port)) +
                      "\"\nconnection = \"line.connection\"\n";
  const auto up = box_->upgrade(folder_of(second), {});
  ASSERT_TRUE(up);
  EXPECT_EQ(up->result, phase::refused);
  EXPECT_THAT(up->problems, testing::Contains(HasSubstr("Address already in use")));
  expect_on_1(user);
}

TEST_F(change_test, takes_new_sockets_that_were_offered) {
  auto socket = listen_tcp("line", {"127.0.0.1", 0, false});
  box_options options;
  options.open_listeners = false;
  options.listeners.push_back({"line", std::move(*socket)});
  start({}, std::move(options));
  auto second = version_2();
  second.listeners += listener("more", "line.connection");
  const auto folder = folder_of(second);
  const auto without = box_->upgrade(folder, {});
  ASSERT_TRUE(without);
  EXPECT_EQ(without->result, phase::refused);
  auto more = listen_tcp("more", {"127.0.0.1", 0, false});
  ASSERT_TRUE(more);
  std::vector<named_fd> offer;
  offer.push_back({"more", std::move(*more)});
  ASSERT_TRUE(box_->offer_listeners(std::move(offer)));
  const auto with = box_->upgrade(folder, {});
  ASSERT_TRUE(with);
  ASSERT_EQ(with->result, phase::done) << testing::PrintToString(with->problems);
  EXPECT_EQ(client{port("more")}.ask("echo a"), "a");
}

TEST_F(change_test, refuses_a_broken_release_and_serves_on) {
  start();
  client user{port()};
  const auto nowhere = box_->upgrade(folder_ / "nowhere", {});
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().why(), reason::not_found);
  const auto folder = folder_of(version_2());
  std::filesystem::resize_file(folder / "plugins/line.so", 5000);
  const auto cut = box_->upgrade(folder, {});
  ASSERT_FALSE(cut);
  EXPECT_THAT(cut.error().message(), HasSubstr("line.so"));
  expect_on_1(user);
}

TEST_F(change_test, refuses_a_plugin_that_is_not_the_one_that_was_installed) {
  start();
  client user{port()};
  const auto folder = folder_of(version_2());
  const auto installed = releases::list_contents(folder);
  ASSERT_TRUE(installed);
  std::ofstream{folder / releases::contents_file_name} << releases::print_contents(*installed);
  // What the plan may have seen, and nobody but the list could tell: a sound plugin of that name and version.
  std::ofstream{folder / "plugins/line.so", std::ios::app | std::ios::binary} << '\n';
  const auto changed = releases::list_contents(folder);
  ASSERT_TRUE(changed);
  for (const auto& refused : {box_->upgrade(folder, {}).error(), box_->plan_upgrade(folder, {}, nullptr).error()}) {
    EXPECT_EQ(refused.why(), reason::corrupt);
    EXPECT_THAT(refused.text(), HasSubstr("line.so"));
    EXPECT_THAT(refused.text(), HasSubstr("its SHA-256 is " + changed->front().sha256));
    EXPECT_THAT(refused.text(), HasSubstr("its release states " + installed->front().sha256));
    EXPECT_THAT(refused.hint(), HasSubstr("install the package"));
  }
  expect_on_1(user);
  std::filesystem::copy_file(version_2().plugin, folder / "plugins/line.so",
                             std::filesystem::copy_options::overwrite_existing);
  ASSERT_EQ(box_->upgrade(folder, {})->result, phase::done);
}

TEST_F(change_test, refuses_a_release_whose_list_lacks_a_plugin_or_cannot_be_read) {
  start();
  client user{port()};
  const auto folder = folder_of(version_2());
  auto list = *releases::list_contents(folder);
  std::erase_if(list, [](const auto& each) { return each.path != releases::manifest_file_name; });
  std::ofstream{folder / releases::contents_file_name} << releases::print_contents(list);
  EXPECT_THAT(box_->upgrade(folder, {}).error().message(), HasSubstr("line.so: not in the release's molt-contents"));
  std::ofstream{folder / releases::contents_file_name} << releases::print_contents({});
  EXPECT_THAT(box_->upgrade(folder, {}).error().message(),
              HasSubstr("release.toml: not in the release's molt-contents"));
  std::ofstream{folder / releases::contents_file_name} << "molt-contents 1\nhalf a li";
  EXPECT_EQ(box_->upgrade(folder, {}).error().why(), reason::corrupt);
  expect_on_1(user);
}

TEST_F(change_test, refuses_a_manifest_that_is_not_the_one_that_was_installed) {
  start();
  client user{port()};
  const auto folder = folder_of(version_2());
  std::ofstream{folder / releases::contents_file_name} << releases::print_contents(*releases::list_contents(folder));
  std::ofstream{folder / "release.toml", std::ios::app} << "# another\n";
  for (const auto& refused : {box_->upgrade(folder, {}).error(), box_->plan_upgrade(folder, {}, nullptr).error()}) {
    EXPECT_EQ(refused.why(), reason::corrupt);
    EXPECT_THAT(refused.text(), HasSubstr("release.toml: has changed since it was installed"));
    EXPECT_THAT(refused.hint(), HasSubstr("install the package"));
  }
  expect_on_1(user);
}

TEST_F(change_test, refuses_a_release_whose_list_is_not_the_one_that_is_asked_for) {
  start();
  client user{port()};
  const auto folder = folder_of(version_2());
  const auto list = [&] {
    std::ofstream{folder / releases::contents_file_name} << releases::print_contents(*releases::list_contents(folder));
  };
  list();
  change_request wanted;
  wanted.contents = releases::contents_digest(folder);
  // Files and list together.
  std::ofstream{folder / "plugins/line.so", std::ios::app | std::ios::binary} << '\n';
  list();
  ASSERT_FALSE(box_->plan_upgrade(folder, {}, nullptr)->refused()) << "nobody has said which list it must be";
  box_options options;
  options.contents = wanted.contents;
  options.open_listeners = false;
  for (const auto& refused :
       {box_->upgrade(folder, wanted).error(), box_->plan_upgrade(folder, wanted, nullptr).error(),
        box_->rehearse(folder, wanted).error(), box::start(folder, std::move(options)).error()}) {
    EXPECT_EQ(refused.why(), reason::corrupt);
    EXPECT_THAT(refused.text(), HasSubstr("molt-contents: has changed since it was installed"));
    EXPECT_THAT(refused.text(), HasSubstr(wanted.contents));
    EXPECT_THAT(refused.hint(), HasSubstr("install the package"));
  }
  std::filesystem::remove(folder / releases::contents_file_name);
  EXPECT_THAT(box_->upgrade(folder, wanted).error().text(), HasSubstr("molt-contents: is missing"));
  expect_on_1(user);
  std::filesystem::copy_file(version_2().plugin, folder / "plugins/line.so",
                             std::filesystem::copy_options::overwrite_existing);
  list();
  ASSERT_EQ(box_->upgrade(folder, wanted)->result, phase::done);
}

TEST_F(change_test, commits_and_forgets_the_parent) {
  start();
  ASSERT_EQ(box_->upgrade(folder_of(version_2()), {})->result, phase::done);
  const auto gone = box_->commit(5s);
  ASSERT_TRUE(gone) << gone.error().text();
  ASSERT_EQ(gone->size(), 1U);
  EXPECT_EQ(gone->front().retiring, loader::unmaps_images()) << gone->front().why;
  EXPECT_FALSE(box_->rollback({}));
  EXPECT_EQ(client{port()}.ask("echo a"), "a");
}

TEST_F(change_test, does_one_operation_at_a_time) {
  start();
  const auto folder = folder_of(version_2());
  std::atomic<int> busy{0};
  std::atomic<int> done{0};
  std::vector<std::jthread> operators;
  for (int i = 0; i < 4; ++i)
    operators.emplace_back([&] {
      const auto report = box_->upgrade(folder, {});
      if (!report) {
        EXPECT_EQ(report.error().why(), reason::busy);
        ++busy;
      } else if (report->result == phase::done) {
        ++done;
      }
    });
  operators.clear();
  EXPECT_GE(done, 1);
  EXPECT_EQ(box_->status().current.id, "line-2.0.0");
}

}  // namespace
}  // namespace molt::node
