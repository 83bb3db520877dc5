#include "bench/messaging/workloads.hpp"

#include "bench/messaging/measure.hpp"
#include "bench/messaging/peers.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <thread>
#include <utility>

namespace molt_side {

namespace {

using namespace std::chrono_literals;
namespace servers = molt::servers;

class one_type final : public servers::release {
 public:
  explicit one_type(const molt_server_type& type) : type_{servers::server_type::make(type, "1.0.0", nullptr)} {}
  void adopt(servers::resting_server&) const noexcept override {}
  [[nodiscard]] const servers::server_type* find_type(std::string_view) const noexcept override { return type_.get(); }

 private:
  std::shared_ptr<const servers::server_type> type_;
};

servers::options with(unsigned threads) {
  servers::options given;
  given.pool_threads = threads;
  return given;
}

}  // namespace

node::node(unsigned threads, const molt_server_type& type) : on{with(threads)}, type_name_{type.name} {
  on.switch_to(std::make_shared<one_type>(type));
}

molt_ref node::start() {
  auto started = on.start(type_name_, "", {});
  if (!started) std::abort();
  return *started;
}

void node::pause() { std::this_thread::yield(); }

void node::wait_for(molt_ref server, std::int64_t value) {
  while (call(server, counting::add{0}) != value) std::this_thread::sleep_for(50us);
}

double caller::operator()(std::int64_t count) {
  counting::add message;
  std::int64_t reply = 0;
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) node_.on.call(server_, molt::message_of<counting::add>(), &message, &reply);
  const double seconds = since(begin);
  if (reply != (made_ += count)) std::abort();
  return seconds;
}

wide_caller::wide_caller(std::size_t servers, const std::vector<std::uint32_t>& picks) : picks_{picks} {
  for (std::size_t i = 0; i < servers; ++i) all_.push_back(node_.start());
}

double wide_caller::operator()(std::int64_t count) {
  counting::add message;
  std::int64_t reply = 0;
  std::int64_t sum = 0;
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) {
    node_.on.call(all_[picks_[next_]], molt::message_of<counting::add>(), &message, &reply);
    sum += reply;
    if (++next_ == picks_.size()) next_ = 0;
  }
  const double seconds = since(begin);
  if (sum < count) std::abort();
  return seconds;
}

double contended_calls(std::int64_t count) {
  node on{1};
  const auto server = on.start();
  const auto half = [&] {
    for (std::int64_t i = 0; i < count / 2; ++i) on.call(server, counting::add{1});
  };
  const auto begin = clock::now();
  std::thread other{half};
  half();
  other.join();
  const double seconds = since(begin);
  if (on.call(server, counting::add{0}) != count / 2 * 2) std::abort();
  return seconds;
}

double server_to_server(std::int64_t count) {
  node on{1};
  const auto a = on.start();
  const auto b = on.start();
  on.call(a, counting::meet{molt::ref{b.bits}});
  const auto begin = clock::now();
  const auto counted = on.call(a, counting::ask_peer{count});
  const double seconds = since(begin);
  if (counted != count) std::abort();
  return seconds;
}

double casts(std::int64_t count) {
  node on{1};
  const auto server = on.start();
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) on.cast(server, counting::bump{});
  on.wait_for(server, count);
  return since(begin);
}

double casts_by_2(std::int64_t count) {
  node on{1};
  const auto server = on.start();
  const auto half = [&] {
    for (std::int64_t i = 0; i < count / 2; ++i) on.cast(server, counting::bump{});
  };
  const auto begin = clock::now();
  std::thread other{half};
  half();
  other.join();
  on.wait_for(server, count / 2 * 2);
  return since(begin);
}

double pingpong(std::int64_t rounds) {
  node on{2};
  const auto a = on.start();
  const auto b = on.start();
  on.call(a, counting::meet{molt::ref{b.bits}});
  on.call(b, counting::meet{molt::ref{a.bits}});
  const auto dropped = counting::balls_dropped.load();
  const auto begin = clock::now();
  on.cast(a, counting::ball{rounds * 2 - 1});
  while (counting::balls_dropped.load() == dropped) std::this_thread::sleep_for(200us);
  const double seconds = since(begin);
  if (on.call(a, counting::add{0}) + on.call(b, counting::add{0}) != rounds * 2) std::abort();
  return seconds;
}

double sleeping_calls(std::int64_t count) {
  node on{1};
  const auto server = on.start();
  std::vector<double> each;
  for (std::int64_t i = 0; i < count; ++i) {
    std::this_thread::sleep_for(1ms);
    const auto begin = clock::now();
    on.call(server, counting::add{1});
    each.push_back(since(begin));
  }
  std::sort(each.begin(), each.end());
  return each[each.size() / 2] * static_cast<double>(count);
}

double spawn(std::int64_t count, std::size_t& bytes) {
  node on{2};
  const auto before = peers::resident_bytes();
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) on.start();
  const double seconds = since(begin);
  bytes = peers::resident_bytes() - before;
  return seconds;
}

double timers(std::int64_t count) {
  node on{1};
  const auto server = on.start();
  const std::int64_t pending = measuring::scaled(1'000'000);
  if (on.call(server, counting::start_timers{pending}) != pending) std::abort();
  const auto begin = clock::now();
  if (on.call(server, counting::start_and_cancel{count}) != count) std::abort();
  return since(begin);
}

}  // namespace molt_side

namespace mutex_side {

using molt_side::clock;
using molt_side::since;

double caller::operator()(std::int64_t count) {
  std::int64_t reply = 0;
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::lock_guard lock{mutex_};
    reply = counter_->add(1);
  }
  const double seconds = since(begin);
  if (reply != (made_ += count)) std::abort();
  return seconds;
}

wide_caller::wide_caller(std::size_t servers, const std::vector<std::uint32_t>& picks) : picks_{picks} {
  for (std::size_t i = 0; i < servers; ++i) all_.push_back(std::make_unique<guarded>());
}

double wide_caller::operator()(std::int64_t count) {
  std::int64_t sum = 0;
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) {
    guarded& one = *all_[picks_[next_]];
    const std::lock_guard lock{one.mutex};
    sum += one.counter->add(1);
    if (++next_ == picks_.size()) next_ = 0;
  }
  const double seconds = since(begin);
  if (sum < count) std::abort();
  return seconds;
}

double contended_calls(std::int64_t count) {
  std::mutex mutex;
  const auto counter = counting::make_counter();
  const auto half = [&] {
    for (std::int64_t i = 0; i < count / 2; ++i) {
      const std::lock_guard lock{mutex};
      counter->add(1);
    }
  };
  const auto begin = clock::now();
  std::thread other{half};
  half();
  other.join();
  const double seconds = since(begin);
  if (counter->add(0) != count / 2 * 2) std::abort();
  return seconds;
}

namespace {

/// Bounded as molt's mailboxes are.
class channel {
 public:
  void send(std::int64_t value) {
    std::unique_lock lock{mutex_};
    room_.wait(lock, [&] { return waiting_.size() < 65'536; });
    waiting_.push_back(value);
    if (waiting_.size() == 1) filled_.notify_one();
  }
  std::int64_t receive() {
    std::unique_lock lock{mutex_};
    filled_.wait(lock, [&] { return !waiting_.empty(); });
    const std::int64_t value = waiting_.front();
    waiting_.pop_front();
    if (waiting_.size() == 65'535) room_.notify_all();
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable filled_;
  std::condition_variable room_;
  std::deque<std::int64_t> waiting_;
};

double send_all(std::int64_t count, int senders) {
  channel through;
  const std::int64_t share = count / senders;
  const auto begin = clock::now();
  std::thread receiver{[&] {
    const auto counter = counting::make_counter();
    while (counter->add(through.receive()) != share * senders) {
    }
  }};
  const auto send = [&] {
    for (std::int64_t i = 0; i < share; ++i) through.send(1);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < senders; ++i) others.emplace_back(send);
  send();
  for (auto& each : others) each.join();
  receiver.join();
  return since(begin);
}

}  // namespace

double casts(std::int64_t count) { return send_all(count, 1); }
double casts_by_2(std::int64_t count) { return send_all(count, 2); }

}  // namespace mutex_side
