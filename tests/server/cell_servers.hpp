// A server that does on request what tests need of one.
#pragma once

#include "tests/server/fixture.hpp"

#include <stdexcept>
#include <string>
#include <vector>

namespace molt::servers::testing {

/// Gates that handlers wait at, so that a test decides when a handler goes on. Outside of states: those are plain
/// values.
struct latch {
  std::atomic<int> arrived{0};
  std::atomic<bool> open{false};
  void pass() {
    arrived.fetch_add(1);
    while (!open.load()) std::this_thread::sleep_for(100us);
  }
  void wait_for(int count) {
    wait_until([&] { return arrived.load() >= count; });
  }
};

namespace worker {

struct state {
  std::int64_t value = 0;
  std::vector<std::int64_t> log;
  molt::ref peer;
};

struct add {
  using reply = std::int64_t;
  std::int64_t by = 1;
};
struct note {
  std::int64_t value = 0;
};
struct read_log {
  using reply = std::vector<std::int64_t>;
};
struct fail {
  using reply = std::int64_t;
  std::string text;
};
struct fail_later {
  std::string text;
};
struct hold {
  using reply = std::int64_t;
  std::uint64_t latch = 0;
};  // waits at a latch
struct hold_cast {
  std::uint64_t latch = 0;
};
struct set_peer {
  using reply = std::int64_t;
  molt::ref peer;
};
struct ask_peer {
  using reply = std::int64_t;
  int hops = 1;
  std::uint64_t latch = 0;
};  // asks its peer to do so, hops times
struct tell_peer {
  std::int64_t value = 0;
};  // a cast that casts on
struct stop_self {
  using reply = std::int64_t;
};
struct after {
  using reply = std::uint64_t;
  std::int64_t delay_ns = 0;
  std::int64_t value = 0;
};
struct cancel {
  using reply = bool;
  std::uint64_t timer = 0;
};
struct spawn {
  using reply = molt::ref;
  std::string name;
};
struct echo_text {
  using reply = std::string;
  std::string text;
};
struct ask_result {
  using reply = std::string;
  int hops = 1;
};  // as ask_peer, the error as text

/// Whether servers with the argument ignore=if_told are to be ignored when they start.
inline std::atomic<bool> ignores{false};
inline std::atomic<int> times_ignored{0};

inline latch* latch_of(std::uint64_t bits) { return reinterpret_cast<latch*>(bits); }

struct server : molt::server<state> {
  using messages = molt::messages<add, note, read_log, fail, fail_later, hold, hold_cast, set_peer, ask_peer, tell_peer,
                                  stop_self, after, cancel, spawn, echo_text, ask_result>;
  state init(molt::context& ctx, const molt::arguments& args) {
    if (const auto when = args.find("ignore"); when && (*when != "if_told" || ignores)) {
      ++times_ignored;
      throw molt::ignored{};
    }
    if (const auto why = args.find("fail")) throw std::runtime_error{std::string{*why}};
    state made;
    made.value = args.number<std::int64_t>("value", 0);
    made.peer = ctx.self();
    return made;
  }
  std::int64_t handle_call(molt::context&, const add& m) { return self().value += m.by; }
  void handle_cast(molt::context&, const note& m) { self().log.push_back(m.value); }
  std::vector<std::int64_t> handle_call(molt::context&, const read_log&) { return self().log; }
  std::int64_t handle_call(molt::context&, const fail& m) { throw std::runtime_error{m.text}; }
  void handle_cast(molt::context&, const fail_later& m) { throw std::runtime_error{m.text}; }
  std::int64_t handle_call(molt::context&, const hold& m) {
    latch_of(m.latch)->pass();
    return self().value;
  }
  void handle_cast(molt::context&, const hold_cast& m) { latch_of(m.latch)->pass(); }
  std::int64_t handle_call(molt::context&, const set_peer& m) {
    self().peer = m.peer;
    return 0;
  }
  std::int64_t handle_call(molt::context& ctx, const ask_peer& m) {
    if (m.latch != 0) latch_of(m.latch)->pass();
    if (m.hops == 0) return 0;
    const auto answer = ctx.call(self().peer, ask_peer{m.hops - 1, 0});
    return answer ? *answer + 1 : -static_cast<std::int64_t>(answer.error().why());
  }
  void handle_cast(molt::context& ctx, const tell_peer& m) {
    ++self().value;
    if (m.value > 0) static_cast<void>(ctx.cast(self().peer, tell_peer{m.value - 1}));
  }
  std::int64_t handle_call(molt::context& ctx, const stop_self&) {
    static_cast<void>(ctx.stop(ctx.self(), "asked to"));
    return 1;
  }
  std::uint64_t handle_call(molt::context& ctx, const after& m) {
    return ctx.send_after(std::chrono::nanoseconds{m.delay_ns}, note{m.value}).id;
  }
  bool handle_call(molt::context& ctx, const cancel& m) { return ctx.cancel(molt::timer{m.timer}); }
  molt::ref handle_call(molt::context& ctx, const spawn& m) {
    const auto started = ctx.start("worker.server", m.name);
    return started ? *started : molt::ref{};
  }
  std::string handle_call(molt::context&, echo_text&& m) { return std::move(m.text); }
  std::string handle_call(molt::context& ctx, const ask_result& m) {
    if (m.hops == 0) return "reached";
    const auto answer = ctx.call(self().peer, ask_result{m.hops - 1});
    return answer ? *answer : answer.error().text();
  }
};

}  // namespace worker

/// A runtime with worker.server.
struct worker_runtime {
  explicit worker_runtime(options given = {}) : on{std::move(given)} {
    current = std::make_shared<test_release>();
    type = current->add<"worker", worker::server>();
    on.on_exit(std::ref(ended));
    on.switch_to(current);
  }
  molt_ref start(std::string name = {}, arguments given = {}) {
    const auto started = on.start("worker.server", name, given);
    EXPECT_TRUE(started) << started.error().text();
    return started ? *started : molt_ref{};
  }

  exits ended;
  std::shared_ptr<test_release> current;
  std::shared_ptr<const server_type> type;
  runtime on;
};

inline std::uint64_t bits(latch& of) { return reinterpret_cast<std::uint64_t>(&of); }

}  // namespace molt::servers::testing
