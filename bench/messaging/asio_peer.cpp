#include "bench/messaging/peers.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <thread>
#include <vector>

namespace peers::asio {

namespace {

namespace net = boost::asio;
using clock = std::chrono::steady_clock;

struct pool {
  explicit pool(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) all.emplace_back([this] { io.run(); });
  }
  ~pool() {
    work.reset();
    for (auto& each : all) each.join();
  }
  net::io_context io;
  net::executor_work_guard<net::io_context::executor_type> work{io.get_executor()};
  std::vector<std::thread> all;
};

double since(clock::time_point begin) { return std::chrono::duration<double>(clock::now() - begin).count(); }

}  // namespace

double calls(std::int64_t count) {
  pool on{1};
  auto strand = net::make_strand(on.io);
  std::int64_t value = 0;
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i) {
    std::promise<std::int64_t> reply;
    auto waiting = reply.get_future();
    net::post(strand, [&] { reply.set_value(++value); });
    waiting.get();
  }
  return since(begin);
}

double sleeping_calls(std::int64_t count) {
  pool on{1};
  auto strand = net::make_strand(on.io);
  std::int64_t value = 0;
  std::vector<double> each;
  for (std::int64_t i = 0; i < count; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
    const auto begin = clock::now();
    std::promise<std::int64_t> reply;
    auto waiting = reply.get_future();
    net::post(strand, [&] { reply.set_value(++value); });
    waiting.get();
    each.push_back(since(begin));
  }
  std::sort(each.begin(), each.end());
  return each[each.size() / 2] * static_cast<double>(count);
}

double casts(std::int64_t count) {
  pool on{1};
  auto strand = net::make_strand(on.io);
  std::int64_t value = 0;
  std::promise<void> done;
  const auto begin = clock::now();
  for (std::int64_t i = 0; i < count; ++i)
    net::post(strand, [&] {
      if (++value == count) done.set_value();
    });
  done.get_future().wait();
  return since(begin);
}

double pingpong(std::int64_t rounds) {
  pool on{2};
  auto a = net::make_strand(on.io);
  auto b = net::make_strand(on.io);
  std::promise<void> done;
  std::function<void(std::int64_t)> hit = [&](std::int64_t left) {
    if (left == 0) {
      done.set_value();
      return;
    }
    net::post(left % 2 == 0 ? a : b, [&hit, left] { hit(left - 1); });
  };
  const auto begin = clock::now();
  hit(rounds * 2);
  done.get_future().wait();
  return since(begin);
}

}  // namespace peers::asio
