// What a server may do beside answering, as the C boundary sees it.
#include "tests/plugin/fake_host.hpp"

#include <gtest/gtest.h>
#include <molt/plugin.hpp>

namespace {

using molt::tests::fake_host;

struct state {
  std::string shown = "may be seen";
  std::string secret = "may not";
  std::int64_t downs = 0;
};
struct use_all {
  std::uint64_t other = 0;
};
struct go_on {
  std::string text;
};
struct loaded {
  std::string contents;
};
struct fetch {
  bool fails = false;
};

struct server : molt::server<state> {
  using messages = molt::messages<use_all, go_on, loaded, fetch, molt::down, molt::exit_signal, molt::offload_failed>;

  state init(molt::context& ctx, const molt::arguments& given) {
    if (given.find("ignore")) throw molt::ignored{};
    if (given.find("refuse")) throw molt::refused{"not on a Sunday"};
    static_cast<void>(ctx.continue_with(go_on{"after init"}));
    return {};
  }
  void handle_cast(molt::context& ctx, const use_all& m) {
    const molt::ref other{m.other};
    const auto log = [&](bool truth) { ctx.log(molt::log_level::info, truth ? "yes" : "no"); };
    const molt::monitor watched = ctx.monitor(other);
    log(static_cast<bool>(watched));
    log(ctx.demonitor(watched));
    log(ctx.demonitor(molt::monitor{}));
    log(static_cast<bool>(ctx.link(other)));
    log(ctx.unlink(other).error().why() == molt::reason::not_found);
    log(static_cast<bool>(ctx.join("readers")));
    log(ctx.leave("readers").error().why() == molt::reason::not_found);
    ctx.log(molt::log_level::info, std::to_string(ctx.members("readers").size()));
    ctx.log(molt::log_level::info, std::to_string(ctx.cast_to_group("readers", go_on{"all"})));
    log(static_cast<bool>(ctx.send_every(std::chrono::seconds{1}, go_on{})));
    ctx.stop_self("enough");
  }
  void handle_continue(molt::context&, const go_on& m) { self().shown = m.text; }
  void handle_info(molt::context&, const loaded& m) { self().shown = m.contents; }
  void handle_cast(molt::context& ctx, const fetch& m) {
    static_cast<void>(ctx.offload([fails = m.fails, owned = std::make_unique<std::string>("made")] {
      if (fails) throw std::runtime_error{"no disk"};
      return loaded{*owned};
    }));
    static_cast<void>(ctx.offload([](loaded& filled) { filled.contents += " filled"; }, loaded{"then"}));
  }
  void handle_info(molt::context&, const molt::down&) { ++self().downs; }
  void handle_info(molt::context&, const molt::exit_signal&) {}
  void handle_info(molt::context&, const molt::offload_failed&) {}

  static state format_status(const state& now) {
    if (now.downs == 13) throw std::runtime_error{"unlucky"};
    return {now.shown, "***", now.downs};
  }
  void config_change(molt::context& ctx, const molt::arguments& now) {
    ctx.log(molt::log_level::info, now.get("size"));
  }
};

struct continuing_state {
  int n = 0;
};
struct continuing : molt::server<continuing_state> {
  void handle_continue(molt::context&, const go_on&) { self().n = 1; }
};

const molt_server_type& type = molt::server_type_of<server, "test">();

const molt_handler& handler(std::string_view name) {
  for (std::uint32_t i = 0; i < type.handler_count; ++i)
    if (name == type.handlers[i].message->name) return type.handlers[i];
  std::abort();
}

class beside_answering : public testing::Test {
 protected:
  template <class M>
  int send(const char* name, M message) {
    return handler(name).handle(host.abi(), &now, &message, nullptr, &error);
  }
  [[nodiscard]] std::string text() const { return {error.data, error.size}; }
  fake_host host;
  state now;
  molt_text error{};
};

TEST_F(beside_answering, asks_its_host) {
  host.members = 40;
  ASSERT_EQ(send("use_all", use_all{host.alive}), MOLT_OK);
  std::vector<std::string> wanted{"monitor 3", "log 1 yes",    "log 1 yes", "log 1 no",  "log 1 yes",
                                  "log 1 yes", "join readers", "log 1 yes", "log 1 yes", "log 1 40"};
  wanted.emplace_back("cast go_on 3");
  for (int i = 1; i < 40; ++i) wanted.push_back("cast go_on " + std::to_string(1000 + i));
  wanted.emplace_back("log 1 1");  // one of them lives
  wanted.insert(wanted.end(), {"send_every 1000000000 go_on 9", "log 1 yes", "stop_self enough"});
  EXPECT_EQ(host.log, wanted);
}

TEST_F(beside_answering, init_refuses_with_a_status_of_its_own) {
  const molt_argument items[] = {{"refuse", ""}};
  const molt_arguments refuse{items, 1};
  const molt_arguments none{nullptr, 0};
  alignas(state) char storage[sizeof(state)];
  EXPECT_EQ(type.init(host.abi(), &refuse, storage, &error), MOLT_REFUSED);
  EXPECT_EQ(text(), "not on a Sunday");
  const molt_argument other_items[] = {{"ignore", ""}};
  const molt_arguments ignore{other_items, 1};
  EXPECT_EQ(type.init(host.abi(), &ignore, storage, &error), MOLT_IGNORED);
  ASSERT_EQ(type.init(host.abi(), &none, storage, &error), MOLT_OK);
  type.state->destroy(storage);
  EXPECT_EQ(host.log, std::vector<std::string>{"continue_with go_on"});
}

TEST_F(beside_answering, handles_what_it_continues_with) {
  ASSERT_EQ(send("go_on", go_on{"went on"}), MOLT_OK);
  EXPECT_EQ(now.shown, "went on");
  const molt_server_type& small = molt::server_type_of<continuing, "test">();
  ASSERT_EQ(small.handler_count, 1U);
  EXPECT_STREQ(small.handlers[0].message->name, "go_on") << "handle_continue alone tells the message";
}

TEST_F(beside_answering, offloads_work_that_makes_or_fills_a_message) {
  std::vector<std::string> contents;
  host.look_at_offloaded = [&](const void* payload) {
    contents.push_back(static_cast<const loaded*>(payload)->contents);
  };
  ASSERT_EQ(send("fetch", fetch{}), MOLT_OK);
  ASSERT_EQ(send("fetch", fetch{true}), MOLT_OK);
  EXPECT_EQ(contents, (std::vector<std::string>{"made", "then filled", "then filled"}));
  EXPECT_EQ(host.log, (std::vector<std::string>{"offload loaded 0 ", "offload loaded 0 ", "offload loaded 8 no disk",
                                                "offload loaded 0 "}));
}

TEST_F(beside_answering, shows_a_copy_of_its_state_without_secrets) {
  ASSERT_NE(type.format_status, nullptr);
  alignas(state) char storage[sizeof(state)];
  ASSERT_EQ(type.format_status(&now, storage, &error), MOLT_OK);
  EXPECT_EQ(reinterpret_cast<state*>(storage)->shown, "may be seen");
  EXPECT_EQ(reinterpret_cast<state*>(storage)->secret, "***");
  EXPECT_EQ(now.secret, "may not");
  type.state->destroy(storage);
  now.downs = 13;
  EXPECT_EQ(type.format_status(&now, storage, &error), MOLT_THREW);
  EXPECT_EQ(text(), "unlucky");
  EXPECT_EQ((molt::server_type_of<continuing, "test">().format_status), nullptr);
}

TEST_F(beside_answering, hears_of_changed_arguments) {
  const molt_argument items[] = {{"size", "9"}};
  const molt_arguments given{items, 1};
  ASSERT_NE(type.config_change, nullptr);
  EXPECT_EQ(type.config_change(host.abi(), &now, &given, &error), MOLT_OK);
  EXPECT_EQ(host.log, std::vector<std::string>{"log 1 9"});
  EXPECT_EQ((molt::server_type_of<continuing, "test">().config_change), nullptr);
}

// Host and images must agree on these: a change is one of the plugin ABI.
TEST(messages_of_the_host, have_fixed_schemas) {
  EXPECT_STREQ(molt::message_of<molt::down>().name, "down");
  EXPECT_STREQ(molt::message_of<molt::exit_signal>().name, "exit_signal");
  EXPECT_STREQ(molt::message_of<molt::offload_failed>().name, "offload_failed");
  EXPECT_STREQ(molt::schema_of<molt::down>().text,
               "struct(88,8){ref:ref@0,name:string@8,why:string@40,failed:bool@72,monitor:struct(8,8){id:u64@0}@80}");
  EXPECT_STREQ(molt::schema_of<molt::exit_signal>().text,
               "struct(80,8){ref:ref@0,name:string@8,why:string@40,failed:bool@72}");
  EXPECT_STREQ(molt::schema_of<molt::offload_failed>().text, "struct(64,8){message:string@0,why:string@32}");
}

}  // namespace
