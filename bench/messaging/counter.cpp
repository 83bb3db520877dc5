#include "bench/messaging/counter.hpp"

namespace counting {

namespace {

class plain_counter final : public counter {
 public:
  std::int64_t add(std::int64_t by) override { return value_ += by; }

 private:
  std::int64_t value_ = 0;
};

struct server : molt::server<state> {
  using messages = molt::messages<add, bump, meet, ball, ask_peer, start_timers, start_and_cancel>;
  std::int64_t handle_call(molt::context&, const add& m) { return self().value += m.by; }
  void handle_cast(molt::context&, const bump& m) { self().value += m.by; }
  std::int64_t handle_call(molt::context&, const meet& m) {
    self().peer = m.peer;
    return 0;
  }
  std::int64_t handle_call(molt::context& ctx, const ask_peer& m) {
    std::int64_t last = 0;
    for (std::int64_t i = 0; i < m.times; ++i) last = *ctx.call(self().peer, add{});
    return last;
  }
  std::int64_t handle_call(molt::context& ctx, const start_timers& m) {
    std::int64_t started = 0;
    for (std::int64_t i = 0; i < m.count; ++i)
      started += static_cast<bool>(ctx.send_after(std::chrono::hours{1} + std::chrono::milliseconds{i}, bump{}));
    return started;
  }
  std::int64_t handle_call(molt::context& ctx, const start_and_cancel& m) {
    std::int64_t cancelled = 0;
    for (std::int64_t i = 0; i < m.count; ++i)
      cancelled += ctx.cancel(ctx.send_after(std::chrono::minutes{1} + std::chrono::microseconds{i}, bump{}));
    return cancelled;
  }
  void handle_cast(molt::context& ctx, const ball& m) {
    ++self().value;
    if (m.left > 0)
      static_cast<void>(ctx.cast(self().peer, ball{m.left - 1}));
    else
      balls_dropped.fetch_add(1);
  }
};

}  // namespace

std::atomic<std::int64_t> balls_dropped{0};

std::unique_ptr<counter> make_counter() { return std::make_unique<plain_counter>(); }
const molt_server_type& server_type() { return molt::server_type_of<server, "counting">(); }

}  // namespace counting
