// Threads for work that blocks, apart from those that run handlers.
//
//   job        event                          next
//   waiting    a thread is free               running
//              stop()                         dropped
//   running    its function returned          gone; what it made has been sent
//
// Invariants: threads are started when needed, at most `threads_max`; at most `jobs_max` jobs wait. A job shares the
// type of the server that it works for, and so the image that its code is in, until it is gone.
//
// Threading: any thread.
#pragma once

#include "server/server_type.hpp"

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace molt::servers {

struct offloaded_job {
  const molt_work* work = nullptr;
  void* object = nullptr;  // destroyed and freed with the job
  molt_ref to{};
  std::shared_ptr<const server_type> type;

  offloaded_job() = default;
  /// Moves the object in. Throws std::bad_alloc.
  offloaded_job(const molt_work&, void* from, molt_ref to, std::shared_ptr<const server_type>);
  offloaded_job(const offloaded_job&) = delete;
  offloaded_job& operator=(const offloaded_job&) = delete;
  ~offloaded_job() { drop(); }
  void drop() noexcept;
};

class offload_pool {
 public:
  /// Runs the job's function and sends what it makes.
  using run_function = std::function<void(offloaded_job&)>;

  offload_pool(unsigned threads_max, std::size_t jobs_max, run_function);
  ~offload_pool() { stop(); }
  offload_pool(const offload_pool&) = delete;
  offload_pool& operator=(const offload_pool&) = delete;

  /// MOLT_OK, MOLT_OVERLOADED, MOLT_STOPPING.
  int submit(const molt_work&, void* from, molt_ref to, std::shared_ptr<const server_type>);
  /// Waits for what runs; drops what waits.
  void stop();
  /// The name of the message that a job with such work is to make; empty if there is none.
  [[nodiscard]] std::string find(const std::function<bool(const molt_work&)>&) const;
  [[nodiscard]] std::size_t size() const;

 private:
  void run();

  const unsigned threads_max_;
  const std::size_t jobs_max_;
  const run_function run_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<offloaded_job> waiting_;
  std::list<offloaded_job> running_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace molt::servers
