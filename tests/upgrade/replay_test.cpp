// Recorded messages whose replies are given later: at the desk, which owes the reply to `ask` until it is told
// `answer`, and whose messages and replies change with each version.
#include "upgrade/replay.hpp"

#include "tests/upgrade/plugins/desk_types.hpp"
#include "tests/upgrade/running_box.hpp"
#include "upgrade/rehearsal.hpp"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;

release_content desk(int version) {
  return load((PLUGIN_FOLDER "/libdesk-" + std::to_string(version) + ".0.0.so").c_str());
}

template <class Object>
std::string archived(const molt_schema& schema, const Object& object) {
  EXPECT_EQ(schema.size, sizeof object);
  migration::archive_buffer bytes;
  molt_text text;
  EXPECT_EQ(bytes.save(schema, &object, text), MOLT_OK);
  return std::string{bytes.bytes()};
}

/// What a caller of 1.0.0 has sent, handled again by 1.0.0 and by 2.0.0, each with a state that owes nothing.
class deferred_replies : public testing::Test {
 protected:
  template <class Payload>
  [[nodiscard]] servers::recorded_message recorded(const char* name, const Payload& payload) const {
    const auto& message = *one().find(std::string_view{name})->message;
    servers::recorded_message made;
    made.message = name;
    made.key = message.key;
    made.has_payload = true;
    made.payload = archived(*message.payload, payload);
    return made;
  }
  [[nodiscard]] servers::recorded_message ask(std::int64_t of) const { return recorded("ask", desk::v1::ask{of}); }
  [[nodiscard]] servers::recorded_message answer() const { return recorded("answer", desk::answer{}); }

  [[nodiscard]] const servers::server_type& one() const { return *before_.plugins[0]->types()[0]; }
  [[nodiscard]] const servers::server_type& two() const { return *after_.plugins[0]->types()[0]; }
  std::vector<replayed> by_one(const std::vector<servers::recorded_message>& all) {
    return play(one(), archived(*one().abi().state, desk::v1::state{}), all);
  }
  std::vector<replayed> by_two(const std::vector<servers::recorded_message>& all) {
    return play(two(), archived(*two().abi().state, desk::v2::state{}), all);
  }
  std::vector<std::string> differences(const std::vector<replayed>& before, const std::vector<replayed>& after) {
    std::vector<std::string> all;
    for (std::size_t n = 0; n < before.size(); ++n) all.push_back(difference_of(before[n], after.at(n), two()));
    return all;
  }

 private:
  std::vector<replayed> play(const servers::server_type& type, const std::string& state,
                             const std::vector<servers::recorded_message>& all) {
    replayer copy{type, state, {7}};
    EXPECT_TRUE(copy.is_ready()) << copy.why();
    std::vector<replayed> made;
    for (const auto& each : all) {
      made.push_back(copy.handle(each, one()));
      EXPECT_TRUE(made.back().handled) << made.back().text;
      EXPECT_EQ(made.back().status, MOLT_OK) << made.back().text;
    }
    return made;
  }

  release_content before_ = desk(1);
  release_content after_ = desk(2);
};

TEST_F(deferred_replies, belong_to_the_message_that_was_deferred_and_are_equal_through_their_hook) {
  const std::vector<servers::recorded_message> both{ask(-5), ask(-7), answer()};
  const auto before = by_one(both);
  const auto after = by_two(both);
  EXPECT_THAT(before[0].answers, IsEmpty()) << "it is still owed";
  ASSERT_EQ(before[2].answers.size(), 2U);
  ASSERT_EQ(after[2].answers.size(), 2U);
  EXPECT_STREQ(before[2].answers[1].to->name, "ask");
  EXPECT_NE(before[2].answers[1].reply->fingerprint, after[2].answers[1].reply->fingerprint);
  EXPECT_THAT(differences(before, after), testing::ElementsAre("", "", ""));
}

TEST_F(deferred_replies, that_differ_are_found_where_they_are_given) {
  const auto before = by_one({ask(-5), ask(-7), answer()});
  const auto after = by_two({ask(-5), ask(-8), answer()});
  EXPECT_THAT(differences(before, after),
              testing::ElementsAre("", "", testing::AllOf(HasSubstr("2007"), HasSubstr("2008"))));
}

TEST_F(deferred_replies, whose_hook_throws_differ) {
  const std::vector<servers::recorded_message> unlucky{ask(-13), answer()};
  EXPECT_THAT(differences(by_one(unlucky), by_two(unlucky)),
              testing::ElementsAre(
                  "", testing::AllOf(HasSubstr("the hook of its reply threw"), HasSubstr("an unlucky reply"))));
}

TEST_F(deferred_replies, that_only_one_version_gives_differ) {
  const auto before = by_one({ask(-5), answer()});
  const auto after = by_two({ask(-5), ask(-5)});
  EXPECT_THAT(differences(before, after), testing::ElementsAre("", HasSubstr("it gave 1 replies; now it gives 0")));
}

TEST_F(deferred_replies, that_a_call_from_before_waits_for_are_given_to_nobody) {
  desk::v1::state owing;
  owing.waiting.push_back({{42}, 5});
  replayer copy{one(), archived(*one().abi().state, owing), {7}};
  const auto answered = copy.handle(answer(), one());
  EXPECT_EQ(answered.status, MOLT_OK);
  EXPECT_THAT(answered.answers, IsEmpty());
}

/// What was recorded of a desk that serves, through a whole rehearsal.
TEST_F(running_box, replays_replies_that_were_given_later) {
  start(PLUGIN_FOLDER "/libdesk-1.0.0.so");
  const auto asked = server("desk.server", "desk");
  ASSERT_TRUE(runtime_.record(asked, {16, 4096}));
  const client speaks{runtime_, desk(1)};
  EXPECT_EQ((speaks.call<std::int64_t>(asked, "ask", desk::v1::ask{5}).second), 2005);
  EXPECT_EQ((speaks.call<std::int64_t>(asked, "ask", desk::v1::ask{13}).second), 2013);
  EXPECT_EQ((speaks.call<std::int64_t>(asked, "touch", desk::v1::touch{1}).second), 1001);
  const auto next = desk(2);
  const auto planned = switcher_->plan_upgrade(next, {});
  ASSERT_TRUE(planned);
  auto task = switcher_->task_for_rehearsal({}, *planned);
  auto messages = runtime_.last_messages(asked);
  ASSERT_TRUE(messages);
  ASSERT_EQ(messages->size(), 5U) << "each of the two is continued with its answer";
  task.recorded.emplace(asked.bits, std::move(*messages));
  const auto board = std::make_unique<rehearsal_board>();
  *board = {};
  {
    auto rest = runtime_.rest(10s);
    ASSERT_TRUE(rest);
    rehearse(runtime_, *rest, next, task, *board);
  }
  const auto found = read_board(*board).replay;
  EXPECT_EQ(found.messages, 5U);
  EXPECT_EQ(found.skipped, 0U);
  ASSERT_EQ(found.differences.size(), 1U);
  EXPECT_EQ(found.differences[0].message, "answer");
  EXPECT_THAT(found.differences[0].text, HasSubstr("an unlucky reply"));
}

}  // namespace
}  // namespace molt::upgrade
