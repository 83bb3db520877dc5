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
