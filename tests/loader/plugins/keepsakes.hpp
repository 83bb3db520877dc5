// What the plugin hand_leaves leaves behind in the host: each leads to code or data of its image.
#pragma once

#include <atomic>
#include <csignal>
#include <exception>
#include <functional>
#include <memory>

namespace molt::testing {

struct keepsakes {
  enum class kind { nothing, shared_pointer, function, exception, thread, timer };
  kind wanted = kind::nothing;
  std::shared_ptr<int> shared;
  std::function<int()> function;
  std::exception_ptr thrown;
  void (*on_timer)(sigval) = nullptr;
  std::atomic<int> inside{0};  ///< thread: 1 while its code runs; the host sets 2 to let it return
};

}  // namespace molt::testing
