// Messages and replies of another version: what converts them, what becomes of them when that fails.
#include "tests/server/fixture.hpp"

#include <gmock/gmock.h>

#include <new>
#include <stdexcept>

namespace {
thread_local bool no_memory = false;  // for what asks for it without throwing
}

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  if (no_memory) return nullptr;
  try {
    return ::operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

namespace molt::servers::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

namespace before {
struct sum {
  using reply = std::int64_t;
  std::int64_t by = 0;
};
struct later {
  using reply = std::int64_t;
  std::int64_t by = 0;
};
struct note {
  std::int64_t by = 0;
};
}  // namespace before
struct total {
  std::int64_t value = 0;
  std::string who;
};
struct sum {
  using reply = total;
  std::int64_t by = 0;
  std::string who;
};
struct later {
  using reply = total;
  std::int64_t by = 0;
  std::string who;
};
struct note {
  std::string text;
};
struct answer {
  using reply = bool;
  bool wrongly = false;
};
struct heard {
  using reply = std::string;
};
struct stranger {
  using reply = bool;
};
struct owing {
  std::string text;
  molt::reply_to<total> token;
  std::int64_t value = 0;
};

struct server : molt::server<owing> {
  using messages = molt::messages<sum, later, note, answer, heard>;
  using message_history = molt::history<before::sum, before::later, before::note>;

  total handle_call(molt::context&, const sum& m) { return {m.by, m.who}; }
  void handle_call(molt::context&, const later& m, molt::reply_to<total> token) {
    self().token = token;
    self().value = m.by;
  }
  void handle_cast(molt::context&, const note& m) { self().text += m.text; }
  bool handle_call(molt::context& ctx, const answer& m) {
    if (m.wrongly) return static_cast<bool>(ctx.reply(self().token.as<std::string>(), "of no use to anybody"));
    return static_cast<bool>(ctx.reply(self().token, {self().value, "later"}));
  }
  std::string handle_call(molt::context&, const heard&) { return self().text; }

  static std::int64_t check(std::int64_t by) {
    if (by == 13) throw std::invalid_argument{"unlucky"};
    return by;
  }
  static sum message_change(const before::sum& old) { return {check(old.by), "somebody"}; }
  static later message_change(const before::later& old) { return {check(old.by), "somebody"}; }
  static note message_change(const before::note& old) { return {std::to_string(check(old.by)) + ";"}; }
  static std::int64_t reply_change_down(const total& now) {
    if (now.value == 7) throw std::out_of_range{"no seven"};
    return now.value;
  }
};

class conversions : public ::testing::Test {
 protected:
  conversions() {
    auto only = std::make_shared<test_release>();
    only->add<"t", server>("2");
    on_.switch_to(only);
    to_ = *on_.start("t.server", "a", {});
  }
  /// The server is busy: the call queues.
  template <class M>
  outcome<typename M::reply> call_queued(M message) {
    EXPECT_TRUE(on_.suspend(to_, 20s));
    outcome<typename M::reply> made;
    std::thread caller{[&] { made = call(on_, to_, message); }};
    wait_until([&] { return on_.servers().at(0).queued == 1; });
    EXPECT_TRUE(on_.resume(to_));
    caller.join();
    return made;
  }
  void expect_goes_on() {
    EXPECT_EQ(call(on_, to_, before::sum{1}).reply, 1);
    EXPECT_EQ(on_.stats().failed, 0U);
    EXPECT_EQ(on_.stats().deferred_pending, 0U);
  }

  std::mutex mutex_;
  std::string log_;
  runtime on_{[this] {
    options made;
    made.pool_threads = 2;
    made.log = [this](int, std::string_view, std::string_view text) {
      std::lock_guard lock{mutex_};
      log_.append(text).append("\n");
    };
    return made;
  }()};
  molt_ref to_{};
};

TEST_F(conversions, bring_a_message_to_its_handler_and_the_reply_to_its_caller) {
  EXPECT_EQ(call(on_, to_, before::sum{5}).reply, 5) << "directly";
  EXPECT_EQ(call_queued(before::sum{6}).reply, 6) << "through the mailbox";
  EXPECT_EQ(call(on_, to_, sum{8, "me"}).reply.who, "me") << "one's own version needs none";
  EXPECT_EQ(cast(on_, to_, before::note{3}), MOLT_OK);
  wait_until([&] { return call(on_, to_, heard{}).reply == "3;"; });
  EXPECT_EQ(on_.stats().unknown_messages, 0U);
}

TEST_F(conversions, work_for_handlers_that_answer_later_too) {
  outcome<std::int64_t> made;
  std::thread caller{[&] { made = call(on_, to_, before::later{5}); }};
  wait_until([&] { return on_.stats().deferred_pending == 1; });
  EXPECT_FALSE(call(on_, to_, answer{true}).reply) << "a reply that no hook leads from";
  EXPECT_EQ(on_.stats().deferred_pending, 1U) << "the call still waits for one that fits";
  EXPECT_TRUE(call(on_, to_, answer{}).reply);
  caller.join();
  EXPECT_EQ(made.status, MOLT_OK);
  EXPECT_EQ(made.reply, 5);
  EXPECT_FALSE(call(on_, to_, answer{}).reply) << "answered already";
}

TEST_F(conversions, that_throw_fail_their_call_with_the_text_and_nothing_else) {
  const auto message = call(on_, to_, before::sum{13});
  EXPECT_EQ(message.status, MOLT_THREW);
  EXPECT_THAT(message.text, HasSubstr("before::sum to"));
  EXPECT_THAT(message.text, HasSubstr("sum: unlucky"));
  EXPECT_EQ(call_queued(before::sum{13}).status, MOLT_THREW);
  const auto deferred = call(on_, to_, before::later{13});
  EXPECT_EQ(deferred.status, MOLT_THREW);
  EXPECT_THAT(deferred.text, HasSubstr("unlucky"));
  expect_goes_on();
}

TEST_F(conversions, of_a_reply_that_throw_fail_their_call_with_the_text_and_nothing_else) {
  const auto direct = call(on_, to_, before::sum{7});
  EXPECT_EQ(direct.status, MOLT_THREW);
  EXPECT_THAT(direct.text, HasSubstr("no seven"));
  EXPECT_THAT(call_queued(before::sum{7}).text, HasSubstr("no seven"));
  outcome<std::int64_t> made;
  std::thread caller{[&] { made = call(on_, to_, before::later{7}); }};
  wait_until([&] { return on_.stats().deferred_pending == 1; });
  EXPECT_TRUE(call(on_, to_, answer{}).reply) << "the one who answers hears nothing of it";
  caller.join();
  EXPECT_EQ(made.status, MOLT_THREW);
  EXPECT_THAT(made.text, HasSubstr("no seven"));
  expect_goes_on();
}

TEST_F(conversions, of_a_cast_that_throw_are_logged) {
  EXPECT_EQ(cast(on_, to_, before::note{13}), MOLT_OK);
  EXPECT_EQ(cast(on_, to_, before::note{1}), MOLT_OK);
  wait_until([&] { return call(on_, to_, heard{}).reply == "1;"; });
  std::lock_guard lock{mutex_};
  EXPECT_THAT(log_, HasSubstr("unlucky"));
}

TEST_F(conversions, without_memory_refuse_the_message_before_it_is_handled) {
  static_cast<void>(call(on_, to_, before::sum{1}));  // the route is known
  no_memory = true;
  const auto made = call(on_, to_, before::sum{2});
  no_memory = false;
  EXPECT_EQ(made.status, MOLT_OVERLOADED);
  EXPECT_THAT(made.text, HasSubstr("no memory to convert the message sum"));
  expect_goes_on();
}

TEST_F(conversions, that_nothing_leads_to_are_unknown_messages) {
  const auto made = call(on_, to_, stranger{});
  EXPECT_EQ(made.status, MOLT_UNKNOWN_MESSAGE);
  EXPECT_THAT(made.text, HasSubstr("handles no such message: stranger"));
  EXPECT_EQ(on_.stats().unknown_messages, 1U);
}

// ---- Their parts

int add_letter(void* from, void* to, const molt_change* change, molt_text* error) {
  const auto& old = *static_cast<std::string*>(from);
  if (old.size() == 5) {
    error->size = 4;
    std::copy_n("five", 4, error->data);
    return MOLT_THREW;
  }
  ::new (to) std::string(old + change->to_version);
  return MOLT_OK;
}

TEST(a_conversion, goes_step_by_step_and_through_an_archive_where_there_is_no_hook) {
  const molt_schema& text = molt::schema_of<std::string>();
  const molt_edge hook{&text, &text, 0, 0, nullptr, nullptr, &add_letter, "any"};
  conversion how;
  how.to_version = "x";
  how.steps = {{&hook, &text, &text}, {nullptr, &text, &text}, {&hook, &text, &text}};
  std::string from = "ab";
  alignas(std::string) unsigned char storage[sizeof(std::string)];
  molt_text error{};
  ASSERT_EQ(convert(how, &from, storage, &error), MOLT_OK);
  auto* const made = std::launder(reinterpret_cast<std::string*>(storage));
  EXPECT_EQ(*made, "abxx");
  std::destroy_at(made);

  from = "abcd";  // the third step is given five letters
  EXPECT_EQ(convert(how, &from, storage, &error), MOLT_THREW);
  EXPECT_THAT((std::string{error.data, error.size}), StartsWith("converting "));
  EXPECT_THAT((std::string{error.data, error.size}), HasSubstr(": five"));
  from = "a";
  no_memory = true;
  EXPECT_EQ(convert(how, &from, storage, &error), MOLT_OVERLOADED);
  no_memory = false;
  EXPECT_THAT((std::string{error.data, error.size}), HasSubstr("no memory"));
}

TEST(a_route_cache, keeps_one_route_for_each_receiver_message_and_reply) {
  const auto one = server_type::make(molt::server_type_of<server, "t">(), "1", nullptr);
  const auto two = server_type::make(molt::server_type_of<server, "t">(), "2", nullptr);
  route_cache cache;
  EXPECT_EQ(cache.find(*one, 1, 0), nullptr);
  std::vector<const message_route*> added(4);
  std::vector<std::thread> threads;
  for (auto& each : added)
    threads.emplace_back([&] {
      message_route made;
      made.problem = "the same";
      for (std::uint64_t key = 0; key < 500; ++key) static_cast<void>(cache.add(*one, key, 0, made));
      each = cache.find(*one, 77, 0);
    });
  for (auto& thread : threads) thread.join();
  for (const auto* const each : added) EXPECT_EQ(each, added.at(0)) << "all get that of the quickest";
  EXPECT_EQ(cache.find(*two, 77, 0), nullptr);
  EXPECT_EQ(cache.find(*one, 77, 5), nullptr);
  for (std::uint64_t key = 500; key < route_cache::routes_max; ++key)
    ASSERT_NE(cache.add(*one, key, 0, {}), nullptr) << key;
  EXPECT_EQ(cache.add(*one, route_cache::routes_max, 0, {}), nullptr) << "full";
  cache.clear();
  EXPECT_EQ(cache.find(*one, 77, 0), nullptr);
  EXPECT_NE(cache.add(*one, 77, 0, {}), nullptr);
}

}  // namespace
}  // namespace molt::servers::testing
