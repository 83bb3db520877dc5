#include "server/thread_record.hpp"

#include "base/assert.hpp"

#include <deque>
#include <mutex>

namespace molt::servers {

namespace {

std::atomic<void (*)()> thread_hook{nullptr};

constexpr std::uint32_t threads_max = (1U << 24U) - 1;  // the cell's word has room for 24 bits

struct records {
  std::mutex mutex;
  std::deque<thread_record> all;
  std::vector<thread_record*> unused;
};

records& all_records() {
  static records* const only = new records;  // threads may end after static destruction began
  return *only;
}

struct at_thread_end {
  thread_record* record;
  ~at_thread_end() {
    record->envelopes.clear();
    detail::current_record = nullptr;
    auto& shared = all_records();
    std::lock_guard lock{shared.mutex};
    shared.unused.push_back(record);
  }
};

}  // namespace

thread_record& detail::register_thread() {
  auto& shared = all_records();
  thread_record* mine = nullptr;
  {
    std::lock_guard lock{shared.mutex};
    if (shared.unused.empty()) {
      MOLT_ASSERT(shared.all.size() < threads_max, shared.all.size());
      mine = &shared.all.emplace_back();
      mine->id = static_cast<std::uint32_t>(shared.all.size());
    } else {
      mine = shared.unused.back();
      shared.unused.pop_back();
    }
  }
  current_record = mine;
  static thread_local at_thread_end ending{mine};
  ending.record = mine;
  if (auto* const hook = thread_hook.load(std::memory_order_acquire); hook != nullptr) hook();
  return *mine;
}

void on_new_thread(void (*hook)()) noexcept { thread_hook.store(hook, std::memory_order_release); }

thread_record& record_of(std::uint32_t id) {
  auto& shared = all_records();
  std::lock_guard lock{shared.mutex};
  return shared.all[id - 1];
}

void for_each_thread(const std::function<void(thread_record&)>& visit) {
  auto& shared = all_records();
  std::lock_guard lock{shared.mutex};
  for (auto& each : shared.all) visit(each);
}

void for_each_thread_in_copy(void (*visit)(thread_record&)) noexcept {
  auto& shared = all_records();
  const std::unique_lock lock{shared.mutex, std::try_to_lock};
  if (!lock) return;
  for (auto& each : shared.all) visit(each);
}

}  // namespace molt::servers
