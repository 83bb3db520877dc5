#include "server/clock.hpp"

#include <chrono>

namespace molt::servers {

namespace {

class real_clock final : public clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const noexcept override { return count(std::chrono::steady_clock::now()); }
  [[nodiscard]] std::int64_t wall_clock_ns() const noexcept override { return count(std::chrono::system_clock::now()); }
  [[nodiscard]] bool is_steady() const noexcept override { return true; }

 private:
  template <class TimePoint>
  static std::int64_t count(TimePoint now) noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
  }
};

}  // namespace

clock& machine_clock() noexcept {
  static real_clock only;
  return only;
}

}  // namespace molt::servers
