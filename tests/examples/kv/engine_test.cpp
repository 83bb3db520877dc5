// The commands of one version, compared with redis-server, without a node: parser and keyspace called directly.
#include "comparison_tests.hpp"
#include "examples/kv/common/resp_parser.hpp"
#include KV_KEYSPACE

#include <chrono>
#include <cstdint>
#include <vector>

namespace kv_test {
namespace {

template <class State>
kv::keyspace keyspace_of(State& state) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t now_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  if constexpr (std::is_constructible_v<kv::keyspace, State&, std::int64_t>)
    return kv::keyspace{state, now_ms};
  else
    return kv::keyspace{state};
}

/// What kv::connection does, with a store at hand.
class engine final : public peer {
 public:
  std::string exchange(std::string_view bytes) override {
    constexpr std::size_t read_size = std::size_t{16} << 10U;
    std::string all{bytes};
    all += mark_request;
    std::string answers;
    for (std::size_t at = 0; at < all.size() && !ended_; at += read_size) take(all.substr(at, read_size), answers);
    if (answers.ends_with(mark_reply)) answers.resize(answers.size() - mark_reply.size());
    return answers;
  }
  void reconnect() override {
    input_ = {};
    unread_.clear();
    ended_ = false;
  }
  [[nodiscard]] bool ended() const override { return ended_; }

 private:
  void take(std::string_view bytes, std::string& answers) {
    unread_ += bytes;
    const kv::parsed read = kv::request_parser{input_, unread_}.run();
    unread_.erase(0, read.consumed);
    while (input_.commands > 0) {
      const std::uint32_t count = input_.commands;
      kv::keyspace keys = keyspace_of(state_);
      kv::executed done = run_batch(keys, take_commands(input_));
      answers += done.replies;
      put_back(input_, std::move(done.unanswered), count - done.commands);
    }
    if (!read.last) return;
    ended_ = true;
    if (read.error.empty()) return;
    answers += farewell(read);
  }

  kv::state state_;
  kv::requests input_;
  std::string unread_;
  bool ended_ = false;
};

/// The replies to one command.
std::string answer_to(kv::keyspace& keys, std::vector<std::string_view> request) {
  kv::execute batch{.text = {}, .layout = {static_cast<std::uint32_t>(request.size())}};
  for (const auto word : request) {
    batch.text += word;
    batch.layout.push_back(static_cast<std::uint32_t>(word.size()));
  }
  return run_batch(keys, batch).replies;
}

const std::string too_large = "-ERR the reply would be larger than 268435456 bytes\r\n";

TEST(run_batch, answers_a_reply_that_would_be_too_large_with_an_error_and_goes_on) {
  kv::state state;
  kv::keyspace keys = keyspace_of(state);
  const std::string value(static_cast<std::size_t>(kv::bulk_max), 'v');
  ASSERT_EQ(answer_to(keys, {"SET", "k", value}), "+OK\r\n");
  EXPECT_GT(answer_to(keys, {"MGET", "k", "k", "k"}).size(), 3 * value.size()) << "large, but not too large";
  std::vector<std::string_view> many(1000, "k");
  many[0] = "MGET";
  EXPECT_EQ(answer_to(keys, many), too_large);
  EXPECT_EQ(answer_to(keys, {"PING"}), "+PONG\r\n");
#if KV_MAJOR == 3
  for (int i = 0; i < 5; ++i) ASSERT_EQ(answer_to(keys, {"RPUSH", "l", value}), ":" + std::to_string(i + 1) + "\r\n");
  EXPECT_EQ(answer_to(keys, {"LRANGE", "l", "0", "-1"}), too_large);
  EXPECT_EQ(answer_to(keys, {"LPOP", "l", "5"}), too_large);
  EXPECT_EQ(answer_to(keys, {"LLEN", "l"}), ":5\r\n") << "nothing was taken";
#endif
}

TEST(run_batch, ends_a_batch_whose_layout_does_not_fit_its_text_with_an_error) {
  kv::state state;
  kv::keyspace keys = keyspace_of(state);
  constexpr std::uint32_t most = UINT32_MAX;
  for (const std::vector<std::uint32_t>& rest :
       {std::vector<std::uint32_t>{0}, {1}, {2, 0}, {1, 1}, {most}, {2, 0, most}}) {
    kv::execute batch{.text = "PING", .layout = {1, 4}};
    batch.layout.insert(batch.layout.end(), rest.begin(), rest.end());
    const kv::executed done = run_batch(keys, batch);
    EXPECT_EQ(done.replies, "+PONG\r\n-ERR a batch whose layout does not fit its text\r\n");
    EXPECT_EQ(done.commands, 2U);
    EXPECT_TRUE(done.unanswered.layout.empty());
  }
}

}  // namespace

std::unique_ptr<peer> ours() { return std::make_unique<engine>(); }

}  // namespace kv_test
