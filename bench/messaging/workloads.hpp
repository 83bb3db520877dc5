// molt's side of the messaging benchmarks. Functions do `count` things and return the seconds they took; classes keep
// what they have set up from one turn to the next.
#pragma once

#include "bench/messaging/counter.hpp"
#include "server/runtime.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace molt_side {

using clock = std::chrono::steady_clock;
inline double since(clock::time_point begin) { return std::chrono::duration<double>(clock::now() - begin).count(); }

/// A runtime with one server type.
class node {
 public:
  explicit node(unsigned threads, const molt_server_type& type = counting::server_type());

  molt_ref start();
  template <class M>
  std::int64_t call(molt_ref to, M message) {
    std::int64_t reply = 0;
    on.call(to, molt::message_of<M>(), &message, &reply);
    return reply;
  }
  template <class M>
  void cast(molt_ref to, M message) {
    while (on.cast(to, molt::message_of<M>(), &message) == MOLT_OVERLOADED) pause();
  }
  void wait_for(molt_ref server, std::int64_t value);

  molt::servers::runtime on;

 private:
  static void pause();
  std::string type_name_;
};

/// Calls in a row, always to the same idle server.
class caller {
 public:
  double operator()(std::int64_t count);

 private:
  node node_{1};
  molt_ref server_ = node_.start();
  std::int64_t made_ = 0;
};

/// Calls to one of many servers, each time another, in the order of `picks`.
class wide_caller {
 public:
  wide_caller(std::size_t servers, const std::vector<std::uint32_t>& picks);
  double operator()(std::int64_t count);

 private:
  node node_{1};
  std::vector<molt_ref> all_;
  const std::vector<std::uint32_t>& picks_;
  std::size_t next_ = 0;
};

double contended_calls(std::int64_t count);  ///< by two threads to one server
double server_to_server(std::int64_t count);
double casts(std::int64_t count);  ///< by this thread
double casts_by_2(std::int64_t count);
double pingpong(std::int64_t rounds);
double sleeping_calls(std::int64_t count);  ///< one a millisecond; their median, times `count`
double spawn(std::int64_t count, std::size_t& bytes);
double timers(std::int64_t count);  ///< started and cancelled beside a million pending ones

/// kv's GET through molt.
class kv_reader {
 public:
  kv_reader();
  ~kv_reader();
  double operator()(std::int64_t count);

 private:
  struct parts;
  std::unique_ptr<parts> parts_;
};

}  // namespace molt_side

/// The same behind a mutex.
namespace mutex_side {

class caller {
 public:
  double operator()(std::int64_t count);

 private:
  std::mutex mutex_;
  std::unique_ptr<counting::counter> counter_ = counting::make_counter();
  std::int64_t made_ = 0;
};

class wide_caller {
 public:
  wide_caller(std::size_t servers, const std::vector<std::uint32_t>& picks);
  double operator()(std::int64_t count);

 private:
  struct guarded {
    std::mutex mutex;
    std::unique_ptr<counting::counter> counter = counting::make_counter();
  };
  std::vector<std::unique_ptr<guarded>> all_;
  const std::vector<std::uint32_t>& picks_;
  std::size_t next_ = 0;
};

double contended_calls(std::int64_t count);
double casts(std::int64_t count);  ///< through a deque with a condition variable, to a thread of their own
double casts_by_2(std::int64_t count);

class kv_reader {
 public:
  kv_reader();
  ~kv_reader();
  double operator()(std::int64_t count);

 private:
  struct parts;
  std::unique_ptr<parts> parts_;
};

}  // namespace mutex_side
