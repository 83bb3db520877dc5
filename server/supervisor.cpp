#include "server/supervisor.hpp"

#include "base/assert.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace molt::servers {

class supervisor::implementation {
 public:
  implementation(runtime& of, std::function<void(std::string_view)> gave_up)
      : runtime_{of}, gave_up_{std::move(gave_up)}, thread_{[this] { run(); }} {}

  ~implementation() {
    static_cast<void>(stop("its supervisor goes"));
    {
      std::lock_guard lock{queue_mutex_};
      ending_ = true;
      queue_changed_.notify_one();
    }
    thread_.join();
  }

  result<void> start(supervisor_spec spec) {
    std::lock_guard lock{mutex_};
    if (now_ == status::running) return error{reason::already_exists, "the supervisor has been started"};
    MOLT_CHECK(check(spec));
    children_.clear();
    restarts_.clear();
    now_ = status::running;
    settings_ = std::move(spec);
    for (auto& each : std::exchange(settings_.children, {})) {
      children_.push_back({std::move(each), {}, 0});
      if (auto started = start_child(children_.back()); !started) {
        static_cast<void>(stop_all("another child did not start"));
        now_ = status::stopped;
        return std::move(started).error();
      }
    }
    return ok();
  }

  result<void> stop(std::string_view why) {
    std::lock_guard lock{mutex_};
    if (now_ == status::running) now_ = status::stopped;
    return stop_all(why);
  }

  result<void> update(supervisor_spec spec) {
    std::lock_guard lock{mutex_};
    if (now_ != status::running) return error{reason::stopping, "the supervisor does not run"};
    MOLT_CHECK(check(spec));
    auto wanted = std::exchange(spec.children, {});
    settings_ = std::move(spec);
    std::optional<error> failed;
    const auto find_in = [](auto& list, std::string_view name) {
      return std::find_if(list.begin(), list.end(), [&](const auto& each) { return name_of(each) == name; });
    };
    for (auto each = children_.rbegin(); each != children_.rend(); ++each) {
      const auto kept = find_in(wanted, each->spec.name);
      if (kept != wanted.end() && kept->type == each->spec.type) continue;
      auto stopped = stop_child(
          *each, kept == wanted.end() ? "it is not in the new release" : "its type is another in the new release");
      if (!stopped && !failed) failed = std::move(stopped).error();
    }
    std::vector<child> next;
    for (auto& each : wanted) {
      const auto before = find_in(children_, each.name);
      const bool stays = before != children_.end() && before->spec.type == each.type;
      if (stays) {
        next.push_back({std::move(each), before->ref, before->restarts});
        continue;
      }
      next.push_back({std::move(each), {}, 0});
      if (auto started = start_child(next.back()); !started && !failed) failed = std::move(started).error();
    }
    children_ = std::move(next);
    if (failed) return *std::move(failed);
    return ok();
  }

  void ended(const exit_event& event) {
    std::lock_guard lock{queue_mutex_};
    queue_.push_back({event.ref, event.failed, event.why});
    queue_changed_.notify_one();
  }

  std::vector<child_info> children() const {
    std::lock_guard lock{mutex_};
    std::vector<child_info> all;
    for (const auto& each : children_) all.push_back({each.spec.name, each.spec.type, each.ref, each.restarts});
    return all;
  }

 private:
  enum class status { stopped, running, gave_up };
  struct child {
    child_spec spec;
    molt_ref ref{};
    unsigned restarts = 0;
  };
  struct end {
    molt_ref ref{};
    bool failed = false;
    std::string why;
  };

  static std::string_view name_of(const child& each) { return each.spec.name; }
  static std::string_view name_of(const child_spec& each) { return each.name; }

  static result<void> check(const supervisor_spec& spec) {
    for (auto each = spec.children.begin(); each != spec.children.end(); ++each) {
      if (each->name.empty()) return error{reason::invalid_argument, "a supervised server without a name"};
      if (std::any_of(spec.children.begin(), each, [&](const auto& before) { return before.name == each->name; }))
        return error{reason::invalid_argument, "two supervised servers are named " + each->name};
    }
    return ok();
  }

  result<void> start_child(child& wanted) {
    auto started = runtime_.start(wanted.spec.type, wanted.spec.name, wanted.spec.arguments);
    if (!started) return std::move(started).error().with("starting " + wanted.spec.name);
    wanted.ref = *started;
    return ok();
  }

  result<void> stop_child(child& unwanted, std::string_view why) {
    const molt_ref ref = std::exchange(unwanted.ref, {});  // its exit event is then a stranger's
    if (ref.bits == 0) return ok();
    auto stopped = runtime_.stop(ref, why, unwanted.spec.shutdown);
    if (stopped || stopped.error().why() == reason::no_such_server) return ok();
    runtime_.request_stop(ref, why);  // as soon as its handler returns
    return std::move(stopped).error().with("stopping " + unwanted.spec.name);
  }

  result<void> stop_all(std::string_view why) {
    std::optional<error> failed;
    for (auto each = children_.rbegin(); each != children_.rend(); ++each)
      if (auto stopped = stop_child(*each, why); !stopped && !failed) failed = std::move(stopped).error();
    if (failed) return *std::move(failed);
    return ok();
  }

  void run() {
    std::unique_lock lock{queue_mutex_};
    for (;;) {
      queue_changed_.wait(lock, [&] { return ending_ || !queue_.empty(); });
      if (ending_) return;
      const end next = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      if (const auto why = attend(next); !why.empty() && gave_up_) gave_up_(why);
      lock.lock();
    }
  }

  // Restarts, and says why the supervisor gives up if it does.
  std::string attend(const end& ended_child) {
    std::lock_guard lock{mutex_};
    if (now_ != status::running) return {};
    const auto found = std::find_if(children_.begin(), children_.end(), [&](const child& each) {
      return each.ref.bits != 0 && each.ref.bits == ended_child.ref.bits;
    });
    if (found == children_.end()) return {};
    found->ref = {};
    if (found->spec.restart == restart::temporary) {
      children_.erase(found);
      return {};
    }
    if (found->spec.restart == restart::transient && !ended_child.failed) return {};
    std::string why = ended_child.why;
    for (;;) {
      if (too_many_restarts()) {
        now_ = status::gave_up;
        static_cast<void>(stop_all("its supervisor has given up"));
        return "more than " + std::to_string(settings_.intensity) + " restarts in " +
               std::to_string(settings_.period.count()) + " ms; the last for " + found->spec.name + ": " + why;
      }
      ++found->restarts;
      auto started = start_child(*found);
      if (started || started.error().why() == reason::stopping) return {};
      why = started.error().text();
    }
  }

  bool too_many_restarts() {
    const auto now = std::chrono::steady_clock::now();
    while (!restarts_.empty() && now - restarts_.front() > settings_.period) restarts_.pop_front();
    if (restarts_.size() >= settings_.intensity) return true;
    restarts_.push_back(now);
    return false;
  }

  runtime& runtime_;
  const std::function<void(std::string_view)> gave_up_;

  mutable std::mutex mutex_;  // one operation at a time
  status now_ = status::stopped;
  supervisor_spec settings_;  // without its children
  std::vector<child> children_;
  std::deque<std::chrono::steady_clock::time_point> restarts_;  // within the last period, at most `intensity`

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<end> queue_;
  bool ending_ = false;
  std::thread thread_;
};

supervisor::supervisor(runtime& of, std::function<void(std::string_view)> gave_up)
    : implementation_{std::make_unique<implementation>(of, std::move(gave_up))} {}
supervisor::~supervisor() = default;

result<void> supervisor::start(supervisor_spec spec) { return implementation_->start(std::move(spec)); }
result<void> supervisor::stop(std::string_view why) { return implementation_->stop(why); }
result<void> supervisor::update(supervisor_spec spec) { return implementation_->update(std::move(spec)); }
void supervisor::child_ended(const exit_event& event) { implementation_->ended(event); }
std::vector<child_info> supervisor::children() const { return implementation_->children(); }

}  // namespace molt::servers
