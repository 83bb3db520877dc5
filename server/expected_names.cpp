#include "server/expected_names.hpp"

namespace molt::servers {

void expected_names::expect(const std::vector<std::string>& names) {
  std::set<std::string, std::less<>> wanted{names.begin(), names.end()};  // before anything changes: it may throw
  const std::scoped_lock lock{mutex_};
  names_.swap(wanted);
  by_ = std::this_thread::get_id();
  any_.store(!names_.empty(), std::memory_order_release);
}

void expected_names::forget() noexcept {
  {
    const std::scoped_lock lock{mutex_};
    names_.clear();
    any_.store(false, std::memory_order_release);
  }
  changed_.notify_all();
}

void expected_names::named() noexcept {
  if (!any()) return;
  { const std::scoped_lock lock{mutex_}; }  // who has looked in vain waits by now
  changed_.notify_all();
}

molt_ref expected_names::await(std::string_view name, const std::function<molt_ref()>& look) {
  const auto until = std::chrono::steady_clock::now() + wait_;
  std::unique_lock lock{mutex_};
  for (;;) {
    const molt_ref found = look();
    if (found.bits != 0 || by_ == std::this_thread::get_id() || !names_.contains(name)) return found;
    if (changed_.wait_until(lock, until) == std::cv_status::timeout) return look();
  }
}

}  // namespace molt::servers
