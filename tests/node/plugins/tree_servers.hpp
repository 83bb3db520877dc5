// Servers for tests of supervision at an upgrade; what both versions have in common.
//
//   worker    counts: add, fail; tell: a cast that adds to the count of the worker named in it
//   nursery   starts children of the supervisor "kids": start_kid
//   kid       such a child: a worker by another name
#pragma once

#include <molt/plugin.hpp>

#include <stdexcept>
#include <string>
#include <utility>

namespace tree {

struct add {
  using reply = std::int64_t;
  std::int64_t by = 0;
};
struct tell {
  std::string name;
  std::int64_t pause_ms = 0;
};
struct added {};
struct fail {
  using reply = std::int64_t;
};
struct start_kid {
  using reply = std::string;
  std::string name;
  std::string count;
};
struct nothing {};

template <class State>
struct basic_worker : molt::server<State> {
  using molt::server<State>::self;

  State init(molt::context&, const molt::arguments& given) {
    if (given.find("fail")) throw std::runtime_error{"told not to start"};
    State made;
    made.count = given.number<std::int64_t>("count", 0);
    return made;
  }
  std::int64_t handle_call(molt::context&, const add& message) { return self().count += message.by; }
  std::int64_t handle_call(molt::context&, const fail&) { throw std::runtime_error{"told to fail"}; }
  void handle_cast(molt::context& ctx, const tell& message) {
    const auto until = ctx.now() + std::chrono::milliseconds{message.pause_ms};
    while (ctx.now() < until) {
    }
    (void)ctx.cast(ctx.lookup(message.name), added{});
  }
  void handle_cast(molt::context&, const added&) { ++self().count; }
  void config_change(molt::context&, const molt::arguments& now) {
    self().count = now.number<std::int64_t>("count", 0) * 1000;
  }
};

struct nursery : molt::server<nothing> {
  using messages = molt::messages<start_kid>;
  std::string handle_call(molt::context& ctx, const start_kid& message) {
    const auto started = ctx.start_child("kids", {{"count", message.count}}, message.name);
    return started ? "started" : started.error().text();
  }
};

}  // namespace tree
