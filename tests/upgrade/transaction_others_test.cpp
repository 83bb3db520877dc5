// One server split in two, two merged into one, and what goes wrong in between: nothing is lost, everything is as
// before.
#include "plugin/change.hpp"
#include "running_box.hpp"
#include "upgrade/hook_host.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <thread>
#include <vector>

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* site_1 = PLUGIN_FOLDER "/libsite-1.0.0.so";
constexpr const char* site_2 = PLUGIN_FOLDER "/libsite-2.0.0.so";
constexpr const char* site_faulty = PLUGIN_FOLDER "/libsite-2.1.0.so";
constexpr const char* site_3 = PLUGIN_FOLDER "/libsite-3.0.0.so";

const started_servers one_server{{"sessions", "site.sessions"}};
const started_servers two_servers{{"sessions", "site.sessions"}, {"metrics", "site.metrics"}};

struct hit_message {
  std::uint64_t id;
  std::string page;
};

/// Starts and ends `metrics` around the switches as a supervisor does.
class a_site : public running_box {
 protected:
  void begin(const char* file) {
    start(file);
    server("site.sessions", "sessions", {{"colour", "green"}});
    if (file != site_1) server("site.metrics", "metrics");
    hit(1, "home", 3);
    hit(2, "news", 2);
  }
  settings to_two(servers::arguments arguments = {}, servers::arguments metrics = {}) {
    settings chosen;
    chosen.mode = mode::atomic;
    chosen.arguments = std::move(arguments);
    chosen.starts = two_servers;
    chosen.starts_back = one_server;
    chosen.switched = [this, metrics]() -> result<void> {
      if (auto made = runtime_.start("site.metrics", "metrics", metrics); !made) return std::move(made).error();
      return ok();
    };
    chosen.going_back = [this] { end_metrics(); };
    return chosen;
  }
  settings to_one() {
    settings chosen;
    chosen.mode = mode::atomic;
    chosen.starts = one_server;
    chosen.starts_back = two_servers;
    chosen.types_leaving = {"site.metrics"};
    chosen.switched = []() -> result<void> { return ok(); };
    return chosen;
  }
  void end_metrics() {
    const auto stopped = runtime_.drain_and_stop(runtime_.lookup("metrics"), "not needed", 5s);
    EXPECT_TRUE(stopped) << (stopped ? "" : stopped.error().text());
  }
  report split(const char* file, const settings& chosen) { return upgrade(file, chosen); }

  template <class Payload>
  std::int64_t ask(const char* name, const char* message, Payload payload) {
    const auto server = runtime_.lookup(name);
    const auto* const handler = runtime_.find_handler(server, message);
    if (handler == nullptr) {
      ADD_FAILURE() << name << " does not handle " << message;
      return -1;
    }
    std::int64_t reply = -1;
    EXPECT_EQ(runtime_.call(server, *handler->message, &payload, &reply, 30s), MOLT_OK) << runtime_.call_failure();
    return reply;
  }
  void hit(std::uint64_t id, const std::string& page, int times = 1) {
    for (int n = 0; n < times; ++n) ask("sessions", "hit", hit_message{id, page});
  }
  std::int64_t total(const std::string& page, const char* of = "sessions") { return ask(of, "total", page); }
  std::string sessions() { return archive_of(runtime_, runtime_.lookup("sessions")); }

  void expect_as_before(const std::string& archive) {
    EXPECT_EQ(sessions(), archive);
    EXPECT_EQ(total("home"), 3);
    hit(1, "home");
    EXPECT_EQ(total("home"), 4);
    EXPECT_EQ(switcher_->current().id, "site-1.0.0");
    EXPECT_EQ(runtime_.lookup("metrics").bits, 0U);
  }
};

TEST_F(a_site, is_split_in_two_and_put_together_again_with_what_happened_since) {
  begin(site_1);
  const auto done = split(site_2, to_two());
  ASSERT_EQ(done.result, phase::done) << told(done);
  EXPECT_EQ(total("home", "metrics"), 3);
  EXPECT_EQ(total("news"), 2) << "through the other";
  hit(1, "home");
  hit(7, "shop");
  EXPECT_EQ(total("home"), 4);

  const auto back = rollback(to_one());
  ASSERT_EQ(back.result, phase::done) << told(back);
  end_metrics();
  EXPECT_EQ(switcher_->current().id, "site-1.0.0");
  EXPECT_EQ(total("home"), 4);
  EXPECT_EQ(total("news"), 2);
  EXPECT_EQ(total("shop"), 1);
  EXPECT_EQ(ask("sessions", "hit", hit_message{1, "home"}), 5);
}

TEST_F(a_site, is_merged_and_split_again_with_what_happened_since) {
  begin(site_2);
  const auto done = upgrade(site_3, to_one());
  ASSERT_EQ(done.result, phase::done) << told(done);
  end_metrics();
  EXPECT_EQ(total("home"), 3);
  hit(1, "home");
  const auto back = rollback(to_two());
  ASSERT_EQ(back.result, phase::done) << told(back);
  EXPECT_EQ(switcher_->current().id, "site-2.0.0");
  EXPECT_EQ(total("home", "metrics"), 4);
  EXPECT_EQ(total("news", "metrics"), 2);
}

TEST_F(a_site, gives_a_state_once) {
  begin(site_1);
  ASSERT_EQ(split(site_2, to_two()).result, phase::done);
  end_metrics();
  server("site.metrics", "metrics");
  EXPECT_EQ(total("home", "metrics"), 0) << "started again it begins as any server does";
}

/// `sessions` answers with what `metrics` knows, and without it if there is no server of that name.
TEST_F(a_site, never_misses_the_server_that_is_added) {
  begin(site_1);
  std::atomic<bool> over{false};
  std::atomic<int> asked{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int n = 0; n < 3; ++n)
    callers.emplace_back([&] {
      while (!over) {
        if (total("home") != 3) ++wrong;
        ++asked;
      }
    });
  auto slowly = to_two();
  slowly.switched = [start = slowly.switched]() -> result<void> {
    std::this_thread::sleep_for(20ms);
    return start();
  };
  const auto wait_for_calls = [&] {
    for (const int before = asked; asked < before + 100;) std::this_thread::sleep_for(1ms);
  };
  wait_for_calls();
  const auto done = split(site_2, slowly);
  EXPECT_EQ(done.result, phase::done) << told(done);
  wait_for_calls();
  over = true;
  for (auto& each : callers) each.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(a_site, is_not_split_while_servers_go_on_running) {
  begin(site_1);
  const auto before = sessions();
  auto chosen = to_two();
  chosen.mode = mode::lazy;
  const auto done = split(site_2, chosen);
  EXPECT_EQ(done.result, phase::refused);
  EXPECT_THAT(done.problems, ElementsAre(HasSubstr("for which everything has to rest")));
  expect_as_before(before);
}

struct fault {
  const char* name;
  const char* says;
  // Without it a test's name would show the addresses within, and differ from run to run.
  friend void PrintTo(const fault& each, std::ostream* out) { *out << each.name; }
};

class a_site_with_a_fault : public a_site, public testing::WithParamInterface<fault> {};

TEST_P(a_site_with_a_fault, is_as_before) {
  begin(site_1);
  server("site.sessions", "neighbour");
  const auto before = sessions();
  const auto done = split(site_faulty, to_two({{"fault", GetParam().name}}));
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  ASSERT_THAT(done.failures, testing::Not(IsEmpty()));
  EXPECT_THAT(done.failures[0].error, HasSubstr(GetParam().says));
  expect_as_before(before);
}

INSTANTIATE_TEST_SUITE_P(
    of, a_site_with_a_fault,
    testing::Values(fault{"throw", "after it has given"},
                    fault{"name", "site-2.1.0 starts no server of that name; it starts: metrics, sessions"},
                    fault{"type", "it is a site::v1::session, and not a site::v2::metrics_state"},
                    fault{"running", "it runs"},
                    fault{"broken", "self_check of site.metrics: home was seen less than never"},
                    fault{"itself", "it is the very server"}, fault{"structure", "the state of neighbour: it is a"},
                    fault{"twice", "it was given a state before"}),
    [](const auto& each) { return std::string{each.param.name}; });

TEST_F(a_site, is_as_before_when_what_it_adds_does_not_start) {
  begin(site_1);
  const auto before = sessions();
  const auto done = split(site_faulty, to_two({}, {{"throws", "yes"}}));
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.problems, Contains(HasSubstr("metrics does not like to start")));
  expect_as_before(before);
}

TEST_F(a_site, is_as_before_when_nobody_asks_for_what_was_given) {
  begin(site_1);
  const auto before = sessions();
  const auto done = split(site_faulty, to_two({}, {{"deaf", "yes"}}));
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_THAT(done.problems, Contains(HasSubstr("a hook gave a state to metrics, whose init has not asked for it")));
  // metrics ran, without what it was given; on the way back that is what was read.
  EXPECT_EQ(runtime_.lookup("metrics").bits, 0U);
  EXPECT_EQ(switcher_->current().id, "site-1.0.0");
  EXPECT_EQ(sessions(), before);
}

TEST_F(a_site, that_cannot_be_merged_after_all_goes_on_as_two) {
  begin(site_2);
  auto chosen = to_one();
  chosen.switched = [this]() -> result<void> {
    hit(1, "home");
    return error{reason::hook_failed, "another server did not start"};
  };
  const auto done = upgrade(site_3, chosen);
  EXPECT_EQ(done.result, phase::rolled_back) << told(done);
  EXPECT_EQ(total("home", "metrics"), 4) << "with what happened meanwhile";
  EXPECT_EQ(total("news", "metrics"), 2);
}

/// In this very process: what the copy does of it.
rehearsal_findings rehearse_here(servers::runtime& runtime, const switcher& with, const char* next,
                                 const settings& chosen) {
  const auto content = load(next);
  const auto planned = with.plan_upgrade(content, chosen);
  EXPECT_TRUE(planned);
  const auto task = with.task_for_rehearsal(chosen, *planned);
  const auto board = std::make_unique<rehearsal_board>();
  *board = {};
  {
    auto rest = runtime.rest(10s);
    EXPECT_TRUE(rest);
    rehearse(runtime, *rest, content, task, *board);
  }
  return read_board(*board);
}

std::string said(const rehearsal_findings& found) {
  std::string all;
  for (const auto& failure : found.failures) all += failure.hook + ": " + failure.error + "; ";
  for (const auto& note : found.notes) all += "(" + note + ") ";
  return all;
}

TEST_F(a_site, is_split_and_merged_in_a_rehearsal_forwards_and_back) {
  begin(site_1);
  const auto before = sessions();
  const auto found = rehearse_here(runtime_, *switcher_, site_2, to_two());
  EXPECT_EQ(found.failed, 0U) << said(found);
  EXPECT_EQ(sessions(), before);
  ASSERT_EQ(split(site_2, to_two()).result, phase::done);
  const auto merged = rehearse_here(runtime_, *switcher_, site_3, to_one());
  EXPECT_EQ(merged.failed, 0U) << said(merged);
  EXPECT_EQ(total("home", "metrics"), 3);
}

TEST_F(a_site, shows_in_a_rehearsal_that_a_state_fits_nobody) {
  begin(site_1);
  const auto found = rehearse_here(runtime_, *switcher_, site_faulty, to_two({{"fault", "type"}}));
  EXPECT_EQ(found.failed, 1U);
  EXPECT_THAT(said(found), HasSubstr("it is a site::v1::session, and not a site::v2::metrics_state"));
}

/// What a hook of `sessions` sees.
template <class Look>
void as_hook_of_sessions(servers::runtime& runtime, const hook_settings& settings, const Look& look) {
  auto rest = runtime.rest(10s);
  ASSERT_TRUE(rest);
  ASSERT_TRUE(runtime.visit(*rest, runtime.lookup("sessions"), [&](servers::resting_server& server) {
    hook_host host{server, settings, "1.0.0", "2.0.0", {nullptr, 0}, nullptr};
    host.begun() = hook_host::clock::now();
    look(molt::change{host.change()}, host);
  }));
}

TEST_F(a_site, tells_its_hooks_its_name_and_what_it_was_started_with) {
  begin(site_1);
  as_hook_of_sessions(runtime_, {}, [](const molt::change& told, hook_host&) {
    EXPECT_EQ(told.server_name(), "sessions");
    EXPECT_EQ(told.config().get("colour"), "green");
    EXPECT_FALSE(told.expired());
  });
}

TEST_F(a_site, runs_a_hook_in_parts_each_once) {
  begin(site_1);
  hook_settings four;
  four.threads = 4;
  as_hook_of_sessions(runtime_, four, [](const molt::change& told, hook_host&) {
    std::vector<std::atomic<int>> seen(100'000);
    told.parallel(
        seen.size(),
        [&](std::size_t from, std::size_t to) {
          for (; from < to; ++from) ++seen[from];
        },
        10);
    EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& each) { return each == 1; }));
    std::atomic<int> begun{0};
    EXPECT_THROW(told.parallel(
                     seen.size(),
                     [&](std::size_t from, std::size_t) {
                       ++begun;
                       if (from == 0) throw std::out_of_range{"the first"};
                     },
                     1000),
                 std::out_of_range);
    EXPECT_LE(begun, 100);
  });
}

TEST_F(a_site, ends_the_parts_of_a_hook_that_is_over_its_deadline) {
  begin(site_1);
  hook_settings short_of_time;
  short_of_time.threads = 2;
  short_of_time.timeout = 1s;
  as_hook_of_sessions(runtime_, short_of_time, [](const molt::change& told, hook_host& host) {
    host.begun() = host.begun().load() - 2s;
    EXPECT_TRUE(told.expired());
    std::atomic<int> begun{0};
    try {
      told.parallel(
          1000, [&](std::size_t, std::size_t) { ++begun; }, 10);
      ADD_FAILURE() << "it went on";
    } catch (const std::runtime_error& thrown) {
      EXPECT_STREQ(thrown.what(), "longer than the hook timeout");
    }
    EXPECT_EQ(begun, 0);
  });
}

}  // namespace
}  // namespace molt::upgrade
