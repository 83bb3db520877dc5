#include "server/offload_pool.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace molt::servers {

offloaded_job::offloaded_job(const molt_work& given, void* from, molt_ref receiver,
                             std::shared_ptr<const server_type> of)
    : work{&given},
      object{::operator new (given.size, std::align_val_t{given.align})},
      to{receiver},
      type{std::move(of)} {
  work->move(object, from);
}

void offloaded_job::drop() noexcept {
  if (object == nullptr) return;
  work->destroy(object);
  ::operator delete (std::exchange(object, nullptr), std::align_val_t{work->align});
}

offload_pool::offload_pool(unsigned threads_max, std::size_t jobs_max, run_function run)
    : threads_max_{std::max(1U, threads_max)}, jobs_max_{jobs_max}, run_{std::move(run)} {}

int offload_pool::submit(const molt_work& work, void* from, molt_ref to, std::shared_ptr<const server_type> type) {
  std::list<offloaded_job> made;
  std::lock_guard lock{mutex_};
  if (stopping_) return MOLT_STOPPING;
  const bool begins = waiting_.size() < idle_ || threads_.size() < threads_max_;
  if (!begins && waiting_.size() >= jobs_max_) return MOLT_OVERLOADED;
  made.emplace_back(work, from, to, std::move(type));
  waiting_.splice(waiting_.end(), made);
  if (waiting_.size() > idle_ && threads_.size() < threads_max_) threads_.emplace_back([this] { run(); });
  changed_.notify_one();
  return MOLT_OK;
}

void offload_pool::run() {
  std::unique_lock lock{mutex_};
  for (;;) {
    ++idle_;
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    --idle_;
    if (stopping_) return;
    running_.splice(running_.end(), waiting_, waiting_.begin());
    const auto mine = std::prev(running_.end());
    lock.unlock();
    run_(*mine);
    mine->drop();
    mine->type.reset();
    lock.lock();
    running_.erase(mine);
  }
}

void offload_pool::stop() {
  std::list<offloaded_job> dropped;
  std::vector<std::thread> ending;
  {
    std::lock_guard lock{mutex_};
    stopping_ = true;
    dropped.swap(waiting_);
    ending.swap(threads_);
    changed_.notify_all();
  }
  for (auto& each : ending) each.join();
}

std::string offload_pool::find(const std::function<bool(const molt_work&)>& wanted) const {
  std::lock_guard lock{mutex_};
  for (const auto* const list : {&waiting_, &running_})
    for (const auto& each : *list)
      if (wanted(*each.work)) return each.work->message->name;
  return {};
}

std::size_t offload_pool::size() const {
  std::lock_guard lock{mutex_};
  return waiting_.size() + running_.size();
}

}  // namespace molt::servers
