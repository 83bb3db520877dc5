// The runtime's clock: a seam, so that tests decide when a deadline passes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

namespace molt::servers {

/// Threading: any thread.
class clock {
 public:
  clock() = default;
  clock(const clock&) = delete;
  clock& operator=(const clock&) = delete;
  virtual ~clock() = default;

  [[nodiscard]] virtual std::int64_t monotonic_ns() const noexcept = 0;
  [[nodiscard]] virtual std::int64_t wall_clock_ns() const noexcept = 0;  ///< since the Unix epoch
  /// True if it goes with the machine's steady clock, so that the kernel can wait for it.
  [[nodiscard]] virtual bool is_steady() const noexcept = 0;
  /// A clock that is not steady calls this after each change; empty to unsubscribe.
  virtual void on_change(std::function<void()>) {}
};

/// The machine's clocks.
[[nodiscard]] clock& machine_clock() noexcept;

/// Stands still until a test advances it.
class manual_clock final : public clock {
 public:
  explicit manual_clock(std::int64_t start_ns = 1'000'000'000) : now_{start_ns} {}

  void advance(std::int64_t by_ns) {
    now_.fetch_add(by_ns);
    std::lock_guard lock{mutex_};
    if (listener_) listener_();
  }
  [[nodiscard]] std::int64_t monotonic_ns() const noexcept override { return now_.load(); }
  [[nodiscard]] std::int64_t wall_clock_ns() const noexcept override { return now_.load(); }
  [[nodiscard]] bool is_steady() const noexcept override { return false; }
  void on_change(std::function<void()> listener) override {
    std::lock_guard lock{mutex_};
    listener_ = std::move(listener);
  }

 private:
  std::atomic<std::int64_t> now_;
  std::mutex mutex_;
  std::function<void()> listener_;
};

}  // namespace molt::servers
