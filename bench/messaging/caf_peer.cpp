#include "bench/messaging/peers.hpp"

#include <caf/all.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace peers::caf {

namespace {

namespace c = ::caf;
using clock = std::chrono::steady_clock;

double since(clock::time_point begin) { return std::chrono::duration<double>(clock::now() - begin).count(); }

struct node {
  explicit node(std::size_t threads) {
    settings.set("scheduler.max-threads", threads);
    system = std::make_unique<c::actor_system>(settings);
  }
  c::actor_system_config settings;
  std::unique_ptr<c::actor_system> system;
};

struct counted {
  std::int64_t value = 0;
};

c::behavior counter(c::stateful_actor<counted>* self, std::int64_t goal, std::promise<void>* done) {
  return {[=](std::int64_t by) {
    self->state.value += by;
    if (done != nullptr && self->state.value == goal) done->set_value();
    return self->state.value;
  }};
}

c::behavior player(c::event_based_actor* self, std::promise<void>* done) {
  return {[=](c::actor other, std::int64_t left) {
    if (left == 0)
      done->set_value();
    else
      self->send(other, c::actor_cast<c::actor>(self), left - 1);
  }};
}

}  // namespace

double calls(std::int64_t count) {
  node on{1};
  double seconds = 0;
  {
    c::scoped_actor self{*on.system};
    auto server = on.system->spawn(counter, std::int64_t{0}, static_cast<std::promise<void>*>(nullptr));
    const auto begin = clock::now();
    for (std::int64_t i = 0; i < count; ++i)
      self->request(server, c::infinite, std::int64_t{1}).receive([](std::int64_t) {}, [](const c::error&) {});
    seconds = since(begin);
    c::anon_send_exit(server, c::exit_reason::user_shutdown);
  }
  return seconds;
}

double sleeping_calls(std::int64_t count) {
  node on{1};
  std::vector<double> each;
  {
    c::scoped_actor self{*on.system};
    auto server = on.system->spawn(counter, std::int64_t{0}, static_cast<std::promise<void>*>(nullptr));
    for (std::int64_t i = 0; i < count; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      const auto begin = clock::now();
      self->request(server, c::infinite, std::int64_t{1}).receive([](std::int64_t) {}, [](const c::error&) {});
      each.push_back(since(begin));
    }
    c::anon_send_exit(server, c::exit_reason::user_shutdown);
  }
  std::sort(each.begin(), each.end());
  return each[each.size() / 2] * static_cast<double>(count);
}

namespace {

/// Asks the other one that often, one after the other.
c::behavior asker(c::event_based_actor* self, c::actor other, std::int64_t left, std::promise<void>* done) {
  self->send(self, c::ok_atom_v);
  auto remaining = std::make_shared<std::int64_t>(left);
  return {[=](c::ok_atom) {
    if ((*remaining)-- == 0) {
      done->set_value();
      return;
    }
    self->request(other, c::infinite, std::int64_t{1}).then([=](std::int64_t) { self->send(self, c::ok_atom_v); });
  }};
}

}  // namespace

double server_to_server(std::int64_t count) {
  node on{1};
  std::promise<void> done;
  auto server = on.system->spawn(counter, std::int64_t{0}, static_cast<std::promise<void>*>(nullptr));
  const auto begin = clock::now();
  auto asking = on.system->spawn(asker, server, count, &done);
  done.get_future().wait();
  const double seconds = since(begin);
  c::anon_send_exit(server, c::exit_reason::user_shutdown);
  c::anon_send_exit(asking, c::exit_reason::user_shutdown);
  return seconds;
}

double casts_by_2(std::int64_t count) {
  node on{1};
  std::promise<void> done;
  auto server = on.system->spawn(counter, count / 2 * 2, &done);
  const auto half = [&] {
    for (std::int64_t i = 0; i < count / 2; ++i) c::anon_send(server, std::int64_t{1});
  };
  const auto begin = clock::now();
  std::thread other{half};
  half();
  other.join();
  done.get_future().wait();
  const double seconds = since(begin);
  c::anon_send_exit(server, c::exit_reason::user_shutdown);
  return seconds;
}

double casts(std::int64_t count) {
  node on{1};
  std::promise<void> done;
  auto server = on.system->spawn(counter, count, &done);
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) c::anon_send(server, std::int64_t{1});
  done.get_future().wait();
  const double seconds = since(begin);
  c::anon_send_exit(server, c::exit_reason::user_shutdown);
  return seconds;
}

double pingpong(std::int64_t rounds) {
  node on{2};
  std::promise<void> done;
  auto a = on.system->spawn(player, &done);
  auto b = on.system->spawn(player, &done);
  const auto begin = clock::now();
  c::anon_send(a, b, rounds * 2 - 1);
  done.get_future().wait();
  const double seconds = since(begin);
  c::anon_send_exit(a, c::exit_reason::user_shutdown);
  c::anon_send_exit(b, c::exit_reason::user_shutdown);
  return seconds;
}

double spawn(std::int64_t count, std::size_t& bytes) {
  node on{2};
  std::vector<c::actor> all;
  all.reserve(static_cast<std::size_t>(count));
  const auto before = resident_bytes();
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i)
    all.push_back(on.system->spawn(counter, std::int64_t{0}, static_cast<std::promise<void>*>(nullptr)));
  const double seconds = since(begin);
  bytes = resident_bytes() - before;
  for (const auto& each : all) c::anon_send_exit(each, c::exit_reason::user_shutdown);
  return seconds;
}

}  // namespace peers::caf
