// Messages, replies and owed replies of one version in the hands of another: the desk, whose versions differ in all of
// them.
#include "loader/inspection.hpp"
#include "tests/upgrade/plugins/desk_types.hpp"
#include "tests/upgrade/running_box.hpp"
#include "upgrade/plan.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string desk_file(int version) { return PLUGIN_FOLDER "/libdesk-" + std::to_string(version) + ".0.0.so"; }
std::string number_of(int version) { return std::to_string(version) + ".0.0"; }

/// Waits without bound for what must come; the test's own time limit ends a test that fails.
void wait_until(const std::function<bool()>& holds) {
  while (!holds()) std::this_thread::sleep_for(200us);
}

/// A caller that knows one version.
class speaker {
 public:
  speaker(servers::runtime& on, int version) : version_{version}, client_{on, load(desk_file(version).c_str())} {}

  struct answered {
    int status = MOLT_OK;
    std::int64_t sum = 0;
  };
  [[nodiscard]] answered touch(molt_ref to, std::int64_t by) const {
    if (version_ == 1) return plain(client_.call<std::int64_t>(to, "touch", desk::v1::touch{by}));
    if (version_ == 2) return total(client_.call<desk::v2::total>(to, "touch", desk::v2::touch{by, long_name}));
    return total(client_.call<desk::v3::total>(to, "touch", desk::v3::touch{long_name, by, 1}));
  }
  [[nodiscard]] answered ask(molt_ref to, std::int64_t of) const {
    if (version_ == 1) return plain(client_.call<std::int64_t>(to, "ask", desk::v1::ask{of}));
    if (version_ == 2) return total(client_.call<desk::v2::total>(to, "ask", desk::v2::ask{of, long_name}));
    return total(client_.call<desk::v3::total>(to, "ask", desk::v3::ask{long_name, of}));
  }
  void tell(molt_ref to, const std::string& text) const {
    if (version_ == 1) return queued(client_.cast(to, "tell", desk::v1::tell{text}));
    if (version_ == 2) return queued(client_.cast(to, "tell", desk::v2::tell{text, 5}));
    queued(client_.cast(to, "tell", desk::v3::tell{5, text, true}));
  }
  void send(molt_ref to, desk::send::by how, std::int64_t ms = 0) const {
    queued(client_.cast(to, "send", desk::send{how, ms}));
  }
  void answer(molt_ref to) const { queued(client_.cast(to, "answer", desk::answer{})); }
  [[nodiscard]] std::vector<std::string> heard(molt_ref to) const {
    return client_.call<std::vector<std::string>>(to, "heard", desk::heard{}).second;
  }

 private:
  static constexpr const char* long_name = "a caller with a name that is stored on the heap";
  static answered plain(std::pair<int, std::int64_t> made) { return {made.first, made.second}; }
  template <class Total>
  static answered total(const std::pair<int, Total>& made) {
    return {made.first, made.second.sum};
  }
  static void queued(int status) { EXPECT_EQ(status, MOLT_OK); }

  int version_;
  client client_;
};

class desks : public testing::Test {
 protected:
  void start(int version) {
    switcher_.emplace(runtime_);
    switcher_->start(load(desk_file(version).c_str()));
  }
  molt_ref desk(const std::string& name) {
    const auto made = runtime_.start("desk.server", name, servers::arguments{});
    EXPECT_TRUE(made) << (made ? "" : made.error().text());
    return made ? *made : molt_ref{};
  }
  void upgrade(int version, const settings& chosen) {
    const auto done = switcher_->upgrade(load(desk_file(version).c_str()), chosen);
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(done->result, phase::done) << told(*done);
  }
  void rollback(const settings& chosen) {
    const auto done = switcher_->rollback(chosen);
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(done->result, phase::done) << told(*done);
  }
  std::size_t queued(molt_ref at) {
    for (const auto& each : runtime_.servers())
      if (each.ref.bits == at.bits) return each.queued;
    return 0;
  }

  /// Its image stays until the runtime is gone: who answers a call still has its message in hand when the caller goes
  /// on.
  const speaker& stays(int version) { return *staying_.emplace_back(std::make_unique<speaker>(runtime_, version)); }

  std::vector<std::unique_ptr<speaker>> staying_;
  servers::manual_clock time_;
  std::mutex mutex_;
  std::string log_;
  servers::runtime runtime_{[this] {
    servers::options made;
    made.pool_threads = 2;
    made.clock = &time_;
    made.log = [this](int, std::string_view, std::string_view text) {
      const std::scoped_lock lock{mutex_};
      log_.append(text).append("\n");
    };
    return made;
  }()};
  std::optional<switcher> switcher_;
};

// ---- Everything that can be under way, up and down, over one version and over two

struct journey {
  int from;
  int to;
  mode how;
};

class journeys : public desks, public testing::WithParamInterface<journey> {
 protected:
  /// Puts one of each under way in the words of `speaks`, has the release changed, and looks what has become of them.
  void take(const speaker& speaks, int arrives, const std::function<void()>& change) {
    const auto a = desk("a" + std::to_string(arrives));
    const auto b = desk("b" + std::to_string(arrives));
    speaks.send(a, desk::send::by::timer, 1000);
    speaks.send(a, desk::send::by::period, 1000);
    std::array<speaker::answered, 3> got;
    std::vector<std::thread> callers;
    callers.emplace_back([&] { got[0] = speaks.ask(a, -5); });
    wait_until([&] { return runtime_.stats().deferred_pending == 1; });
    speaks.send(a, desk::send::by::offload, 30);
    speaks.send(a, desk::send::by::continuation, 30);
    ASSERT_TRUE(runtime_.suspend(a, 20s));
    const auto before = queued(a);
    speaks.tell(a, "queued");
    speaks.send(b, desk::send::by::group);
    callers.emplace_back([&] { got[1] = speaks.touch(a, 3); });
    callers.emplace_back([&] { got[2] = speaks.ask(a, -6); });
    wait_until([&] { return queued(a) >= before + 4; });

    change();
    ASSERT_TRUE(runtime_.resume(a));
    wait_until([&] { return runtime_.stats().deferred_pending == 2; });
    speaks.answer(a);
    for (auto& caller : callers) caller.join();
    EXPECT_EQ(got[0].sum, 2005) << "owed since before";
    EXPECT_EQ(got[1].sum, 1003) << "queued";
    EXPECT_EQ(got[2].sum, 2006) << "queued, and answered later";
    for (const auto& each : got) EXPECT_EQ(each.status, MOLT_OK);

    const std::string now = " " + number_of(arrives);
    const auto count = [&](const std::string& text) {
      const auto heard = speaks.heard(a);
      return std::count_if(heard.begin(), heard.end(), [&](const auto& line) { return line.starts_with(text); });
    };
    EXPECT_EQ(count("queued" + now), 1);
    wait_until([&] { return count("by group" + now) == 1; });
    wait_until([&] { return count("by offload") == 1 && count("by continuation") == 1; });
    for (int periods = 1; periods <= 2; ++periods) {
      time_.advance(1'003'000'000);
      wait_until([&] { return count("by period" + now) == periods && count("by timer" + now) == 1; });
    }
    EXPECT_EQ(speaks.touch(a, 4).sum, 1004) << "an old sender";
    EXPECT_EQ(speaks.ask(a, 7).sum, 2007);
    EXPECT_EQ(runtime_.stats().unknown_messages, 0U);
    EXPECT_EQ(runtime_.stats().failed, 0U);
    ASSERT_TRUE(runtime_.stop(a, "the end"));
    ASSERT_TRUE(runtime_.stop(b, "the end"));
  }
};

TEST_P(journeys, lose_nothing_that_is_under_way) {
  const auto [from, to, how] = GetParam();
  settings chosen;
  chosen.mode = how;
  chosen.collect_timeout = {};  // the senders go on in the words of the release that is left
  start(from);
  take({runtime_, from}, to, [&] { upgrade(to, chosen); });
  take({runtime_, to}, from, [&] { rollback(chosen); });
}

INSTANTIATE_TEST_SUITE_P(up_and_down, journeys,
                         testing::Values(journey{1, 2, mode::lazy}, journey{1, 2, mode::atomic},
                                         journey{1, 3, mode::lazy}, journey{1, 3, mode::atomic},
                                         journey{2, 3, mode::lazy}),
                         [](const auto& of) {
                           return std::string{to_string(of.param.how)} + "_" + std::to_string(of.param.from) + "_to_" +
                                  std::to_string(of.param.to);
                         });

TEST_F(desks, still_understand_who_knows_an_older_version_once_that_is_unmapped) {
  start(1);
  const auto a = desk("a");
  upgrade(2, {});
  upgrade(3, {});
  EXPECT_EQ(stays(1).touch(a, 1).sum, 1001) << "while its release can be gone back to";
  ASSERT_TRUE(switcher_->commit(20s));
  for (int version = 1; version <= 3; ++version) {
    const speaker& speaks = stays(version);
    EXPECT_EQ(speaks.touch(a, version).sum, 1000 + version);
    EXPECT_EQ(speaks.ask(a, version).sum, 2000 + version);
  }
  EXPECT_EQ(runtime_.stats().unknown_messages, 0U);
}

// ---- Hooks that fail

TEST_F(desks, go_on_when_a_hook_of_a_message_or_a_reply_throws) {
  start(1);
  const auto a = desk("a");
  const speaker old{runtime_, 1};
  ASSERT_TRUE(runtime_.suspend(a, 20s));
  old.tell(a, "bad");
  old.tell(a, "good");
  speaker::answered unlucky;
  std::thread caller{[&] { unlucky = old.ask(a, 13); }};
  wait_until([&] { return queued(a) == 3; });
  upgrade(2, {});
  ASSERT_TRUE(runtime_.resume(a));
  caller.join();
  EXPECT_EQ(unlucky.status, MOLT_THREW);
  EXPECT_EQ(old.ask(a, 13).status, MOLT_THREW);
  EXPECT_THAT(servers::runtime::call_failure(), AllOf(HasSubstr("v2::total to"), HasSubstr("an unlucky reply")));
  EXPECT_THAT(old.heard(a), ElementsAre("good 2.0.0"));
  EXPECT_EQ(old.touch(a, 1013).sum, 2013) << "that hook is for another message";
  EXPECT_EQ(runtime_.stats().failed, 0U);
  const std::scoped_lock lock{mutex_};
  EXPECT_THAT(log_, HasSubstr("converting desk::v1::tell to desk::v2::tell: a bad word"));
}

// ---- The gate

plugin_description described(int version) {
  const auto seen = loader::inspect(desk_file(version));
  EXPECT_TRUE(seen) << (seen ? "" : seen.error().text());
  return seen ? seen->plugin : plugin_description{};
}

plan between(plugin_description from, plugin_description to, plan_options options = {}) {
  const std::vector running{std::move(from)};
  const std::vector next{std::move(to)};
  return make_plan(running, next, options);
}

TEST(a_plan_for_messages, shows_each_hook_that_they_and_their_replies_go_through) {
  const auto made = between(described(1), described(3));
  ASSERT_FALSE(made.refused()) << to_text(made);
  const auto& touch = made.types.at(0).messages.at(0);
  EXPECT_EQ(touch.name, "touch");
  EXPECT_EQ(touch.cover, message_cover::edge);
  EXPECT_THAT(touch.steps, ElementsAre("desk::v1::touch to desk::v2::touch (hook of 3.0.0)",
                                       "desk::v2::touch to desk::v3::touch (hook of 3.0.0)"));
  EXPECT_THAT(touch.reply_steps, ElementsAre("desk::v3::total to desk::v2::total (hook of 3.0.0)",
                                             "desk::v2::total to i64 (hook of 3.0.0)"));
  EXPECT_THAT(to_text(made),
              HasSubstr("    message touch: 2 hooks, desk::v1::touch to desk::v2::touch (hook of 3.0.0), "
                        "then desk::v2::touch to desk::v3::touch (hook of 3.0.0); its reply: 2 hooks, "));
  const auto& back = made.back.at(0).messages.at(2);
  EXPECT_EQ(back.name, "tell");
  EXPECT_THAT(back.steps, ElementsAre("desk::v3::tell to desk::v2::tell (hook of 3.0.0)",
                                      "desk::v2::tell to desk::v1::tell (hook of 3.0.0)"));
  EXPECT_THAT(back.reply_steps, IsEmpty()) << "a cast";
}

TEST(a_plan_for_messages, refuses_a_message_and_a_reply_without_a_way_and_names_what_to_write) {
  auto next = described(2);
  std::erase_if(next.message_edges, [](const auto& edge) { return edge.message == "tell"; });
  next.reply_edges.clear();
  const auto made = between(described(1), next);
  EXPECT_THAT(made.problems,
              Contains(AllOf(HasSubstr("desk.server.tell: added at: i64"), HasSubstr("no message hook leads up"),
                             HasSubstr("write static desk::v2::tell message_change(v1::tell&&)"))));
  EXPECT_THAT(made.problems,
              Contains(AllOf(
                  HasSubstr("desk.server.touch.reply: "), HasSubstr("no reply hook leads down"),
                  HasSubstr("write static std::int64_t reply_change_down(desk::v2::total&&) in desk.server 2.0.0"))));
  EXPECT_THAT(made.problems, Contains(AllOf(HasSubstr("desk.server.touch.reply: "), HasSubstr("no reply hook leads up"),
                                            HasSubstr("one_way"))))
      << "back";
  EXPECT_THAT(made.problems, Contains(AllOf(HasSubstr("desk.server.state.waiting.token: the calls that it is to answer "
                                                      "expect i64"),
                                            HasSubstr("write reply_change_down in desk.server 2.0.0"))));
  plan_options one_way;
  one_way.one_way = true;
  EXPECT_THAT(between(described(1), next, one_way).problems, Each(testing::Not(HasSubstr("reply hook leads up"))));
}

TEST(a_plan_for_messages, refuses_a_state_that_forgets_whom_it_owes_a_reply) {
  auto running = described(1);
  auto next = described(2);
  auto& state = next.schemas.at(next.server_types.at(0).state);
  state.text = "struct(24,8){told:vector<string>@0}";
  ++state.fingerprint;
  for (auto& edge : next.state_edges) edge.flags |= MOLT_EDGE_NOEXCEPT;
  const auto made = between(running, next);
  EXPECT_THAT(made.problems, Contains(AllOf(HasSubstr("desk.server.state.waiting.token"),
                                            HasSubstr("the state of 2.0.0 has no molt::reply_to for them"))));
}

TEST(a_plan_for_messages, refuses_two_shortest_ways) {
  auto next = described(3);
  edge_description other = next.message_edges.at(0);
  for (const auto& each : next.message_edges)
    if (next.schemas.at(each.from).name == "desk::v1::touch") other = each;
  next.schemas.push_back({77, 8, 8, 0, 0, "desk::v9::touch", "struct(8,8){other:i64@0}"});
  const auto extra = static_cast<std::uint32_t>(next.schemas.size() - 1);
  auto on = other;
  other.to = on.from = extra;
  for (const auto& each : next.message_edges)
    if (next.schemas.at(each.to).name == "desk::v3::touch") on.to = each.to;
  next.message_edges.push_back(other);
  next.message_edges.push_back(on);
  EXPECT_THAT(between(described(1), next).problems,
              Contains(AllOf(HasSubstr("desk.server.touch: two ways of 2 hooks"), HasSubstr("desk::v9::touch"))));
}

// ---- Callers of all versions, while the release goes up and down

std::uint64_t seed() {
  const char* const given = std::getenv("MOLT_TEST_SEED");
  const std::uint64_t chosen = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(chosen));
  return chosen;
}

TEST_F(desks, answer_callers_of_every_version_while_the_release_goes_up_and_down) {
  const auto chosen_seed = seed();
  start(1);
  std::vector<molt_ref> all;
  for (int n = 0; n < 4; ++n) all.push_back(desk("desk " + std::to_string(n)));
  settings chosen;
  chosen.collect_timeout = {};
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> calls{0};
  std::vector<std::thread> callers;
  // Both have been loaded before one knows both.
  upgrade(3, chosen);
  for (int n = 0; n < 4; ++n)
    callers.emplace_back([&, n] {
      const int version = n % 2 == 0 ? 1 : 3;
      const speaker speaks{runtime_, version};
      std::mt19937_64 random{chosen_seed + static_cast<std::uint64_t>(n)};
      while (!over) {
        const auto to = all[random() % all.size()];
        const auto by = static_cast<std::int64_t>(100 + random() % 1'000'000);
        const bool later = random() % 4 == 0;
        const auto got = later ? speaks.ask(to, by) : speaks.touch(to, by);
        ASSERT_EQ(got.status, MOLT_OK) << "version " << version << ": " << servers::runtime::call_failure();
        ASSERT_EQ(got.sum, by + (later ? 2000 : 1000)) << "version " << version;
        ++calls;
      }
    });
  for (int round = 0; round < 6 * stress; ++round) {
    chosen.mode = round % 3 == 2 ? mode::atomic : mode::lazy;
    const auto before = calls.load();
    rollback(chosen);
    wait_until([&] { return calls.load() > before + 50 || testing::Test::HasFailure(); });
    upgrade(3, chosen);
    if (testing::Test::HasFailure()) break;
  }
  over = true;
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(runtime_.stats().unknown_messages, 0U);
  EXPECT_EQ(runtime_.stats().failed, 0U);
  EXPECT_EQ(runtime_.stats().deferred_pending, 0U);
  RecordProperty("calls", std::to_string(calls.load()));
}

// ---- The page that shows how

std::string squeezed(std::istream& from) {
  std::string text;
  for (std::string word; from >> word;) text += word;
  return text;
}

TEST(the_page_on_changing_a_message, shows_what_these_plugins_are_made_of) {
  std::string code;
  for (const char* const file : {"/tests/upgrade/plugins/desk_types.hpp", "/tests/upgrade/plugins/desk.hpp"}) {
    std::ifstream from{std::string{SOURCE_FOLDER} + file};
    code += squeezed(from);
  }
  std::ifstream page{SOURCE_FOLDER "/docs/how-to/change-a-message.md"};
  ASSERT_TRUE(page) << "no such page";
  std::string block;
  bool inside = false;
  int blocks = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("```")) {
      if (inside) block += line + "\n";
      continue;
    }
    if (inside) {
      std::istringstream shown{block};
      EXPECT_THAT(code, HasSubstr(squeezed(shown)));
      ++blocks;
    }
    inside = line == "```cpp";
    block.clear();
  }
  EXPECT_GE(blocks, 3);
}

}  // namespace
}  // namespace molt::upgrade
