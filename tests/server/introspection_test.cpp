// Suspend, resume, get_state, replace_state, status and trace: OTP's sys, over the runtime.
#include "tests/server/cell_servers.hpp"

#include <gmock/gmock.h>

#include <limits>

namespace molt::servers::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A server that hides a member, and refuses states whose sum is wrong. Two versions: the second one adds 10 to `add`.
struct account {
  std::int64_t balance = 0;
  std::string secret;
};
struct pay {
  using reply = std::int64_t;
  std::int64_t amount = 0;
};
struct pay_later {
  std::int64_t amount = 0;
};
struct read_secret {
  using reply = std::string;
};

template <int Fee>
struct bank : molt::server<account> {
  using messages = molt::messages<pay, pay_later, read_secret>;
  account init(molt::context&, const molt::arguments&) { return {100, "1234"}; }
  std::int64_t handle_call(molt::context&, const pay& m) { return self().balance -= m.amount + Fee; }
  void handle_cast(molt::context&, const pay_later& m) { self().balance -= m.amount + Fee; }
  std::string handle_call(molt::context&, const read_secret&) { return self().secret; }
  void self_check() const {
    if (self().balance > 1'000'000) throw std::runtime_error{"more money than there is"};
  }
  static account format_status(const account& now) { return {now.balance, "***"}; }
};
namespace v1 {
struct server : bank<0> {};
}  // namespace v1
namespace v2 {
struct server : bank<10> {};
}  // namespace v2

std::string archive_of(const account& value) {
  const molt_schema& schema = *molt::detail::server_type_constant<"bank", v1::server>.state;
  struct string_sink : molt_sink {
    std::string bytes = std::string(4096, '\0');
  } to;
  to.cursor = to.bytes.data();
  to.end = to.bytes.data() + to.bytes.size();
  to.grow = [](molt_sink*, std::size_t) -> int { return MOLT_OUT_OF_BOUNDS; };
  molt_text why{};
  EXPECT_EQ(schema.save(&value, &to, &why), MOLT_OK);
  return {to.bytes.data(), to.cursor};
}

account account_in(const std::string& archive) {
  const molt_schema& schema = *molt::detail::server_type_constant<"bank", v1::server>.state;
  alignas(account) unsigned char storage[sizeof(account)];
  molt_source from{archive.data(), archive.data() + archive.size()};
  molt_text why{};
  EXPECT_EQ(schema.load(storage, &from, &why), MOLT_OK);
  auto* const read = reinterpret_cast<account*>(storage);
  account made = std::move(*read);
  std::destroy_at(read);
  return made;
}

constexpr std::uint64_t trace_total = 1000;  // more than are kept

struct introspection : ::testing::Test {
  introspection() {
    first = std::make_shared<test_release>();
    type = first->add<"bank", v1::server>();
    on.on_exit(std::ref(ended));
    on.switch_to(first);
    server = *on.start("bank.server", "teller", arguments{});
  }
  std::int64_t balance() { return call(on, server, pay{0}).reply; }
  /// Makes version 2 current.
  std::shared_ptr<const server_type> upgrade(image_range image = {}) {
    auto shared = std::make_shared<std::shared_ptr<const server_type>>();
    auto next = std::make_shared<test_release>([shared](resting_server& resting) {
      resting.become(**shared, resting.state());  // an equal state: handed over
    });
    *shared = next->add<"bank", v2::server>("2.0.0", image);
    on.switch_to(next);
    return *shared;
  }

  exits ended;
  std::shared_ptr<test_release> first;
  std::shared_ptr<const server_type> type;
  runtime on;
  molt_ref server{};
};

// -- Statistics

TEST_F(introspection, tells_how_long_the_queue_has_been_at_most) {
  worker_runtime workers;
  const auto busy = workers.start("busy");
  latch door;
  EXPECT_EQ(cast(workers.on, busy, worker::hold_cast{bits(door)}), MOLT_OK);
  door.wait_for(1);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(cast(workers.on, busy, worker::note{i}), MOLT_OK);
  EXPECT_GE(workers.on.status(busy)->info.queued, 20U);
  door.open = true;
  EXPECT_EQ(call(workers.on, busy, worker::read_log{}).reply.size(), 20U);
  wait_until([&] { return workers.on.status(busy)->info.queued == 0; });
  const auto most = workers.on.status(busy)->info.queued_most;
  EXPECT_GE(most, 20U);
  EXPECT_LE(most, 22U);
  ASSERT_TRUE(workers.on.stop(busy, "done"));
  const auto next = workers.start("next");
  EXPECT_EQ(workers.on.status(next)->info.queued_most, 0U) << "in the same place, and a server of its own";
}

TEST_F(introspection, tells_when_a_server_started) {
  manual_clock clock{1'700'000'000LL * 1'000'000'000};
  options given;
  given.clock = &clock;
  worker_runtime workers{given};
  EXPECT_EQ(workers.on.status(workers.start())->info.started_at, 1'700'000'000s);
  clock.advance(5'000'000'000);
  EXPECT_EQ(workers.on.status(workers.start())->info.started_at, 1'700'000'005s);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  EXPECT_LE(now - on.status(server)->info.started_at, 60s);
}

TEST_F(introspection, measures_a_state_by_its_archive) {
  EXPECT_FALSE(on.status(server)->archive_bytes);
  EXPECT_EQ(on.status(server, true)->archive_bytes, archive_of({100, "1234"}).size());
  worker_runtime workers;
  const auto large = workers.start();
  for (int i = 0; i < 20'000; ++i) EXPECT_EQ(cast(workers.on, large, worker::note{i}), MOLT_OK);
  EXPECT_EQ(call(workers.on, large, worker::read_log{}).reply.size(), 20'000U);
  EXPECT_GE(*workers.on.status(large, true)->archive_bytes, 20'000U);
}

TEST_F(introspection, counts_durations_by_powers_of_two) {
  duration_histogram times;
  EXPECT_EQ(times.quantile_ns(0.5), 0);
  for (int i = 0; i < 99; ++i) times.add(1000);
  times.add(1'000'000);
  times.add(0);
  times.add(-5);
  times.add(std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(times.total(), 103U);
  EXPECT_EQ(times.counts[10], 99U);
  EXPECT_EQ(times.counts[0], 2U);
  EXPECT_EQ(times.counts[duration_histogram::buckets - 1], 1U);
  EXPECT_EQ(times.quantile_ns(0.5), 1024);
  EXPECT_EQ(times.quantile_ns(0.985), 1'048'576);
}

// -- State

TEST_F(introspection, shows_the_state_that_format_status_lets_be_seen) {
  const auto got = on.get_state(server, 1000);
  ASSERT_TRUE(got) << got.error().text();
  EXPECT_TRUE(got->formatted);
  EXPECT_EQ(got->type, type);
  EXPECT_EQ(account_in(got->archive).balance, 100);
  EXPECT_EQ(account_in(got->archive).secret, "***");
}

TEST_F(introspection, refuses_to_show_a_state_over_the_bound) {
  const auto got = on.get_state(server, 8);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().why(), reason::out_of_bounds);
  EXPECT_EQ(balance(), 100);
}

TEST_F(introspection, replaces_a_state) {
  ASSERT_TRUE(on.replace_state(server, *type, archive_of({7, "new"})));
  EXPECT_EQ(balance(), 7);
  EXPECT_EQ(call(on, server, read_secret{}).reply, "new");
}

TEST_F(introspection, keeps_the_old_state_when_self_check_refuses_the_new_one) {
  const auto refused = on.replace_state(server, *type, archive_of({1'000'001, "new"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("teller: self_check refuses the state: more money than there is"));
  EXPECT_EQ(balance(), 100);
  EXPECT_EQ(call(on, server, read_secret{}).reply, "1234");
  EXPECT_TRUE(ended.all().empty());
}

TEST_F(introspection, keeps_the_old_state_when_the_archive_is_none) {
  const auto whole = archive_of({7, "new"});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto refused = on.replace_state(server, *type, whole.substr(0, size));
    ASSERT_FALSE(refused) << size;
    EXPECT_EQ(refused.error().why(), reason::corrupt);
  }
  EXPECT_FALSE(on.replace_state(server, *type, whole + "x"));
  EXPECT_EQ(balance(), 100);
}

TEST_F(introspection, refuses_a_state_of_another_version) {
  const auto second = upgrade();
  const auto refused = on.replace_state(server, *type, archive_of({7, "new"}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::incompatible);
  EXPECT_TRUE(on.replace_state(server, *second, archive_of({7, "new"})));
  EXPECT_EQ(balance(), -3) << "the fee of version 2";
}

TEST_F(introspection, gets_and_replaces_the_state_of_a_suspended_server_and_leaves_it_suspended) {
  ASSERT_TRUE(on.suspend(server, 1s));
  EXPECT_EQ(cast(on, server, pay_later{1}), MOLT_OK);
  ASSERT_TRUE(on.get_state(server, 1000));
  ASSERT_TRUE(on.replace_state(server, *type, archive_of({50, "x"})));
  EXPECT_EQ(on.status(server)->info.status, "suspended");
  EXPECT_EQ(on.status(server)->info.queued, 1U);
  ASSERT_TRUE(on.resume(server));
  EXPECT_EQ(balance(), 49) << "what waited is handled with the new state";
}

TEST_F(introspection, says_that_there_is_no_such_server) {
  ASSERT_TRUE(on.stop(server, "test"));
  EXPECT_EQ(on.status(server).error().why(), reason::no_such_server);
  EXPECT_EQ(on.status(server, true).error().why(), reason::no_such_server);
  EXPECT_EQ(on.get_state(server, 1000).error().why(), reason::no_such_server);
  EXPECT_EQ(on.replace_state(server, *type, archive_of({7, "new"})).error().why(), reason::no_such_server);
  EXPECT_EQ(on.watch(server).error().why(), reason::no_such_server);
  EXPECT_EQ(on.unwatch(server).error().why(), reason::not_found);
  EXPECT_EQ(on.trace(server).error().why(), reason::not_found);
}

TEST_F(introspection, gives_up_on_a_server_that_goes_on_handling_a_message) {
  worker_runtime workers;
  const auto busy = workers.start("busy");
  latch door;
  EXPECT_EQ(cast(workers.on, busy, worker::hold_cast{bits(door)}), MOLT_OK);
  door.wait_for(1);
  EXPECT_EQ(workers.on.get_state(busy, 1000, 1ms).error().why(), reason::timeout);
  EXPECT_EQ(workers.on.watch(busy, 1s, 1ms).error().why(), reason::timeout);
  EXPECT_TRUE(workers.on.status(busy)) << "what needs no update point waits for none";
  door.open = true;
  EXPECT_TRUE(workers.on.get_state(busy, 1000));
}

// -- Trace

TEST_F(introspection, records_what_a_watched_server_handles) {
  EXPECT_EQ(balance(), 100);
  ASSERT_TRUE(on.watch(server));
  EXPECT_TRUE(on.status(server)->info.watched);
  EXPECT_EQ(call(on, server, pay{1}).reply, 99);
  EXPECT_EQ(cast(on, server, pay_later{2}), MOLT_OK);
  EXPECT_EQ(call(on, server, pay{3}).reply, 94);
  const auto page = on.trace(server);
  ASSERT_TRUE(page);
  EXPECT_TRUE(page->watching);
  ASSERT_EQ(page->events.size(), 3U);
  EXPECT_EQ(page->events[0].message, "pay");
  EXPECT_EQ(page->events[0].kind, message_kind::call);
  EXPECT_EQ(page->events[1].message, "pay_later");
  EXPECT_EQ(page->events[1].kind, message_kind::cast);
  EXPECT_EQ(page->events[2].number, 3U);
  EXPECT_EQ(page->last, 3U);
  for (const auto& event : page->events) {
    EXPECT_EQ(event.status, MOLT_OK);
    EXPECT_GE(event.took, 0ns);
    EXPECT_GT(event.at, 1'600'000'000s);
  }
  EXPECT_EQ(on.status(server)->handlers->total(), 3U);
  ASSERT_TRUE(on.unwatch(server));
  EXPECT_FALSE(on.status(server)->info.watched);
  EXPECT_EQ(balance(), 94);
  EXPECT_FALSE(on.trace(server)->watching);
  EXPECT_EQ(on.trace(server)->last, 3U) << "nothing is recorded any more";
}

TEST_F(introspection, gives_the_events_after_a_number_and_says_how_many_are_gone) {
  ASSERT_TRUE(on.watch(server));
  for (std::uint64_t i = 0; i < trace_total; ++i) call(on, server, pay{0});
  const auto all = on.trace(server, 0);
  EXPECT_EQ(all->last, trace_total);
  EXPECT_EQ(all->missed + all->events.size(), trace_total);
  EXPECT_EQ(all->events.back().number, trace_total);
  for (std::size_t i = 1; i < all->events.size(); ++i) EXPECT_EQ(all->events[i].number, all->events[i - 1].number + 1);
  const auto some = on.trace(server, trace_total - 2);
  EXPECT_EQ(some->missed, 0U);
  ASSERT_EQ(some->events.size(), 2U);
  EXPECT_TRUE(on.trace(server, trace_total)->events.empty());
  EXPECT_TRUE(on.trace(server, std::numeric_limits<std::uint64_t>::max())->events.empty());
}

TEST_F(introspection, names_the_server_that_called) {
  worker_runtime workers;
  const auto asking = workers.start("asking");
  const auto asked = workers.start("asked");
  call(workers.on, asking, worker::set_peer{{asked.bits}});
  ASSERT_TRUE(workers.on.watch(asked));
  EXPECT_EQ(call(workers.on, asking, worker::ask_peer{1, 0}).reply, 1);
  ASSERT_EQ(workers.on.trace(asked)->events.size(), 1U);
  EXPECT_EQ(workers.on.trace(asked)->events[0].from, "asking");
  call(workers.on, asked, worker::add{});
  EXPECT_EQ(workers.on.trace(asked)->events[1].from, "");
  const auto nameless = workers.start();
  call(workers.on, nameless, worker::set_peer{{asked.bits}});
  EXPECT_EQ(call(workers.on, nameless, worker::ask_peer{1, 0}).reply, 1);
  EXPECT_EQ(workers.on.trace(asked)->events[2].from, "worker.server " + std::to_string(nameless.bits))
      << "the reference by which it can be asked for";
}

TEST_F(introspection, records_the_message_that_ends_a_server_and_why_it_ended) {
  worker_runtime workers;
  const auto failing = workers.start("failing");
  ASSERT_TRUE(workers.on.watch(failing));
  EXPECT_EQ(call(workers.on, failing, worker::fail{"on purpose"}).status, MOLT_SERVER_FAILED);
  const auto page = workers.on.trace(failing);
  ASSERT_TRUE(page);
  EXPECT_FALSE(page->watching);
  EXPECT_TRUE(page->ended);
  EXPECT_EQ(page->why, "on purpose");
  ASSERT_EQ(page->events.size(), 1U);
  EXPECT_EQ(page->events[0].status, MOLT_SERVER_FAILED);
}

TEST_F(introspection, goes_on_recording_until_the_last_one_stops_watching) {
  ASSERT_TRUE(on.watch(server));
  ASSERT_TRUE(on.watch(server));
  ASSERT_TRUE(on.unwatch(server));
  EXPECT_EQ(call(on, server, pay{1}).reply, 99);
  EXPECT_EQ(on.trace(server)->last, 1U);
  ASSERT_TRUE(on.unwatch(server));
  EXPECT_EQ(call(on, server, pay{1}).reply, 98);
  EXPECT_EQ(on.trace(server)->last, 1U);
  EXPECT_EQ(on.unwatch(server).error().why(), reason::not_found);
  ASSERT_TRUE(on.watch(server));
  EXPECT_EQ(call(on, server, pay{1}).reply, 97);
  EXPECT_EQ(on.trace(server)->last, 2U) << "the numbers go on";
}

TEST_F(introspection, stops_watching_when_nobody_reads) {
  ASSERT_TRUE(on.watch(server, 1ns));
  std::this_thread::sleep_for(1ms);
  EXPECT_EQ(balance(), 100);
  EXPECT_FALSE(on.status(server)->info.watched);
  EXPECT_EQ(on.trace(server)->last, 0U);
  EXPECT_FALSE(on.trace(server)->watching);
}

TEST_F(introspection, watches_a_bounded_number_of_servers) {
  worker_runtime workers;
  std::vector<molt_ref> all;
  for (std::size_t i = 0; i < 64; ++i) {
    all.push_back(workers.start());
    ASSERT_TRUE(workers.on.watch(all.back()));
  }
  const auto more = workers.start();
  EXPECT_EQ(workers.on.watch(more).error().why(), reason::out_of_bounds);
  EXPECT_FALSE(workers.on.status(more)->info.watched);
  ASSERT_TRUE(workers.on.stop(all.front(), "makes room"));
  EXPECT_TRUE(workers.on.watch(more));
}

TEST_F(introspection, watches_across_an_upgrade) {
  ASSERT_TRUE(on.watch(server));
  EXPECT_EQ(call(on, server, pay{1}).reply, 99);
  const auto second = upgrade();
  EXPECT_EQ(call(on, server, pay{1}).reply, 88);
  EXPECT_EQ(on.type_of(server), second);
  EXPECT_TRUE(on.status(server)->info.watched);
  EXPECT_EQ(on.status(server)->info.version, "2.0.0");
  EXPECT_EQ(on.trace(server)->last, 2U);
  on.sweep({});
  first.reset();
  EXPECT_TRUE(on.retire(*type, 5s)) << "the twin of a type is gone from the server, too";
  EXPECT_EQ(on.retire(*second, 1ms).error().why(), reason::busy);
  ASSERT_TRUE(on.unwatch(server));
  EXPECT_EQ(on.type_of(server), second);
  EXPECT_EQ(call(on, server, pay{1}).reply, 77);
}

TEST_F(introspection, keeps_the_order_of_casts_when_watching_begins_and_ends) {
  worker_runtime workers;
  const auto noting = workers.start();
  std::atomic<bool> done{false};
  std::thread watcher{[&] {
    while (!done) {
      EXPECT_TRUE(workers.on.watch(noting, 10s, 20s));
      EXPECT_TRUE(workers.on.unwatch(noting));
    }
  }};
  constexpr int count = 2000 * stress_scale;
  for (int i = 0; i < count; ++i)
    while (cast(workers.on, noting, worker::note{i}) == MOLT_OVERLOADED) std::this_thread::yield();
  const auto log = call(workers.on, noting, worker::read_log{}).reply;
  done = true;
  watcher.join();
  ASSERT_EQ(log.size(), static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) ASSERT_EQ(log[static_cast<std::size_t>(i)], i);
}

// -- The last messages

std::vector<std::string> names_of(const std::vector<recorded_message>& all) {
  std::vector<std::string> names;
  for (const auto& each : all) names.push_back(each.message);
  return names;
}

TEST_F(introspection, keeps_the_last_messages_of_a_recorded_server_and_how_they_ended) {
  EXPECT_EQ(on.last_messages(server).error().why(), reason::not_found);
  ASSERT_TRUE(on.record(server, {2, 0}));
  EXPECT_EQ(on.status(server)->info.recorded, 2U);
  EXPECT_FALSE(on.status(server)->info.watched);
  EXPECT_EQ(on.trace(server)->last, 0U) << "nobody watches";
  EXPECT_EQ(call(on, server, pay{1}).reply, 99);
  EXPECT_EQ(cast(on, server, pay_later{2}), MOLT_OK);
  EXPECT_EQ(call(on, server, read_secret{}).reply, "1234");
  const auto kept = on.last_messages(server);
  ASSERT_TRUE(kept);
  EXPECT_THAT(names_of(*kept), ElementsAre("pay_later", "read_secret"));
  EXPECT_EQ(kept->at(0).kind, message_kind::cast);
  EXPECT_EQ(kept->at(1).kind, message_kind::call);
  EXPECT_EQ(kept->at(1).status, MOLT_OK);
  EXPECT_GT(kept->at(1).at, 1'600'000'000s);
  EXPECT_FALSE(kept->at(0).has_payload) << "payloads are kept only if that was asked for";
  ASSERT_TRUE(on.record(server, {}));
  EXPECT_EQ(on.status(server)->info.recorded, 0U);
  EXPECT_EQ(balance(), 97);
  EXPECT_FALSE(on.last_messages(server));
}

TEST_F(introspection, keeps_payloads_in_archive_form_as_far_as_they_fit) {
  ASSERT_TRUE(on.record(server, {8, 1024}));
  call(on, server, pay{1});
  const std::size_t one = on.last_messages(server)->at(0).payload.size();
  ASSERT_GT(one, 0U);
  ASSERT_TRUE(on.record(server, {8, 2 * one}));
  for (const std::int64_t amount : {2, 3}) call(on, server, pay{amount});
  const auto kept = on.last_messages(server);
  ASSERT_EQ(kept->size(), 3U);
  EXPECT_FALSE(kept->at(0).has_payload) << "the oldest gave way, its message stays";
  for (const std::size_t i : {1U, 2U}) {
    ASSERT_TRUE(kept->at(i).has_payload);
    const auto* const handler = type->find("pay");
    EXPECT_EQ(kept->at(i).key, handler->message->key);
    pay read;
    molt_source from{kept->at(i).payload.data(), kept->at(i).payload.data() + kept->at(i).payload.size()};
    molt_text why{};
    ASSERT_EQ(handler->message->payload->load(&read, &from, &why), MOLT_OK);
    EXPECT_EQ(read.amount, static_cast<std::int64_t>(i) + 1);
  }
  ASSERT_TRUE(on.record(server, {8, one - 1}));
  call(on, server, pay{4});
  EXPECT_EQ(on.last_messages(server)->size(), 4U);
  for (const auto& each : *on.last_messages(server)) EXPECT_FALSE(each.has_payload) << "too large";
}

TEST_F(introspection, records_each_server_that_starts_under_a_recorded_name) {
  worker_runtime workers;
  const auto first = workers.start("phoenix");
  ASSERT_TRUE(workers.on.record(first, {4, 0}));
  EXPECT_EQ(call(workers.on, first, worker::fail{"on purpose"}).status, MOLT_SERVER_FAILED);
  const auto second = workers.start("phoenix");
  EXPECT_EQ(workers.on.status(second)->info.recorded, 4U);
  call(workers.on, second, worker::add{});
  EXPECT_THAT(names_of(*workers.on.last_messages(second)), ElementsAre("add"));
  workers.on.record_named("later", {1, 0});
  EXPECT_EQ(workers.on.status(workers.start("later"))->info.recorded, 1U);
  EXPECT_EQ(workers.on.status(workers.start("other"))->info.recorded, 0U);
}

TEST_F(introspection, records_and_watches_independently_and_across_an_upgrade) {
  ASSERT_TRUE(on.watch(server));
  ASSERT_TRUE(on.record(server, {4, 0}));
  call(on, server, pay{1});
  ASSERT_TRUE(on.unwatch(server));
  upgrade();
  call(on, server, pay{1});
  EXPECT_EQ(on.trace(server)->last, 1U);
  EXPECT_THAT(names_of(*on.last_messages(server)), ElementsAre("pay", "pay"));
  ASSERT_TRUE(on.watch(server));
  ASSERT_TRUE(on.record(server, {}));
  call(on, server, pay{1});
  EXPECT_EQ(on.trace(server)->last, 2U);
}

// -- Under load: several threads call, cast, look, watch, replace and upgrade; no message is lost or doubled.
TEST_F(introspection, loses_no_message_while_everything_is_asked_at_once) {
  std::mt19937_64 random{seed()};
  constexpr int rounds = 300 * stress_scale;
  std::atomic<bool> done{false};
  std::atomic<std::int64_t> paid{0};
  std::vector<std::thread> callers;
  callers.reserve(3);
  for (int i = 0; i < 2; ++i)
    callers.emplace_back([&] {
      while (!done) {
        ASSERT_EQ(call(on, server, pay{0}).status, MOLT_OK);
        if (cast(on, server, pay_later{0}) == MOLT_OK) paid += 1;
        paid += 1;
      }
    });
  callers.emplace_back([&] {
    while (!done) {
      ASSERT_TRUE(on.get_state(server, 1000, 20s));
      ASSERT_FALSE(on.replace_state(server, *type, archive_of({1'000'001, "refused"}), 20s));
    }
  });
  for (int i = 0; i < rounds || paid < 10 * rounds; ++i) {
    switch (random() % 5) {
      case 0:
        ASSERT_TRUE(on.watch(server, 10s, 20s));
        break;
      case 1:
        static_cast<void>(on.unwatch(server));
        break;
      case 2:
        static_cast<void>(on.trace(server, random() % 100));
        break;
      case 3:
        ASSERT_TRUE(on.status(server, true, 20s));
        break;
      default:
        ASSERT_TRUE(on.suspend(server, 20s));
        ASSERT_TRUE(on.resume(server));
    }
  }
  done = true;
  for (auto& each : callers) each.join();
  wait_until([&] { return on.status(server)->info.queued == 0; });
  EXPECT_EQ(call(on, server, pay{0}).reply, 100);
  EXPECT_EQ(static_cast<std::int64_t>(on.status(server)->info.handled), paid + 1);
}

TEST_F(introspection, lets_go_of_types_while_their_servers_are_watched_and_called) {
  std::atomic<bool> done{false};
  std::atomic<int> calls{0};
  std::vector<std::thread> others;
  others.reserve(3);
  for (int i = 0; i < 2; ++i)
    others.emplace_back([&] {
      while (!done) {
        ASSERT_EQ(call(on, server, pay{0}).status, MOLT_OK);
        ASSERT_THAT(cast(on, server, pay_later{0}), ::testing::AnyOf(MOLT_OK, MOLT_OVERLOADED));
        ++calls;
      }
    });
  others.emplace_back([&] {
    while (!done) {
      ASSERT_TRUE(on.watch(server, 10s, 20s));
      ASSERT_TRUE(on.trace(server));
      ASSERT_TRUE(on.unwatch(server));
    }
  });
  auto before = upgrade({1, 2});
  for (std::uintptr_t i = 2; i < 10U + 5U * stress_scale || calls < 500 * stress_scale; ++i) {
    const auto next = upgrade({16 * i, 16 * i + 1});
    on.sweep({});
    const auto retired = on.retire(*before, 20s);
    ASSERT_TRUE(retired) << retired.error().text();
    EXPECT_EQ(before.use_count(), 1) << "nobody else has it";
    before = next;
  }
  done = true;
  for (auto& each : others) each.join();
  EXPECT_EQ(on.type_of(server), before);
  EXPECT_TRUE(ended.all().empty());
}

}  // namespace
}  // namespace molt::servers::testing
