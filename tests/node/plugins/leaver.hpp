// A plugin whose state says that it is numbers, and lies: they lead to objects and code of the version that made them.
#pragma once

#include <molt/plugin.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

namespace leaver {

struct state {
  std::uint64_t handle = 0;  ///< of a keepsake
  std::uint64_t hidden = 0;  ///< an inverted address of code
  std::vector<molt::reply_to<std::int64_t>> owed;
};

/// Makes a keepsake: 0 a function object, 1 a shared pointer, 2 an exception.
struct leave {
  using reply = std::int64_t;
  std::int64_t kind = 0;
};
struct use {
  using reply = std::int64_t;
};
struct forget {
  using reply = std::int64_t;
};
struct hide {
  using reply = std::int64_t;
};
struct use_hidden {
  using reply = std::int64_t;
};
/// Addresses of functions: 0 linger, 1 ring.
struct where {
  using reply = std::int64_t;
  std::int64_t which = 0;
};
struct later {
  std::int64_t times = 0;
};
struct remind {
  using reply = bool;
};
/// Answered by `settle`.
struct owe {
  using reply = std::int64_t;
};
struct settle {
  using reply = std::int64_t;
};
/// Handled, or worked off elsewhere, until the std::atomic<int> there is not 0.
struct busy {
  using reply = bool;
  std::uint64_t open = 0;
};
struct offload {
  using reply = bool;
  std::uint64_t open = 0;
};

struct own_error : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return GENERATION == 1 ? "1" : "2"; }
  std::int64_t reason = GENERATION;
};

/// Of one layout in every version.
struct keepsake {
  std::function<std::int64_t()> function;
  std::shared_ptr<std::int64_t> shared;
  std::exception_ptr thrown;
};

inline keepsake& at(std::uint64_t handle) { return *reinterpret_cast<keepsake*>(handle); }

/// Which version it was that made the object.
[[gnu::noinline]] inline std::int64_t generation() { return GENERATION; }

[[gnu::noinline]] inline void linger(std::atomic<int>* open) {
  while (open->load() == 0) std::this_thread::sleep_for(std::chrono::microseconds{100});
}
[[gnu::noinline]] inline void ring(sigval) {}

/// As the environment says.
[[gnu::destructor]] inline void close_badly() {
  const char* const how = std::getenv("MOLT_TEST_LEAVER_CLOSES");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  if (how == nullptr) return;
  if (std::string_view{how} == "fault") std::raise(SIGSEGV);
  if (std::string_view{how} == "wait")
    for (;;) std::this_thread::sleep_for(std::chrono::seconds{1});
}

struct server : molt::server<state> {
  using messages =
      molt::messages<leave, use, forget, hide, use_hidden, where, later, remind, owe, settle, busy, offload>;
  std::int64_t handle_call(molt::context&, const leave& m) {
    auto made = std::make_unique<keepsake>();
    if (m.kind == 0) made->function = &generation;
    if (m.kind == 1) made->shared = {new std::int64_t{GENERATION}, [](const std::int64_t* gone) { delete gone; }};
    if (m.kind == 2) made->thrown = std::make_exception_ptr(own_error{});
    self().handle = reinterpret_cast<std::uint64_t>(made.release());
    return GENERATION;
  }
  std::int64_t handle_call(molt::context&, const use&) {
    const auto& kept = at(self().handle);
    if (kept.function) return kept.function();
    if (kept.shared) return *std::shared_ptr<std::int64_t>{kept.shared};
    try {
      std::rethrow_exception(kept.thrown);
    } catch (const std::exception& thrown) {
      return std::atoi(thrown.what());  // NOLINT(cert-err34-c): a digit
    }
  }
  std::int64_t handle_call(molt::context&, const forget&) {
    delete &at(self().handle);
    self().handle = 0;
    return GENERATION;
  }
  std::int64_t handle_call(molt::context&, const hide&) {
    self().hidden = ~reinterpret_cast<std::uint64_t>(&generation);
    return GENERATION;
  }
  std::int64_t handle_call(molt::context&, const use_hidden&) {
    return reinterpret_cast<std::int64_t (*)()>(~self().hidden)();
  }
  std::int64_t handle_call(molt::context&, const where& m) {
    return m.which == 0 ? reinterpret_cast<std::int64_t>(&linger) : reinterpret_cast<std::int64_t>(&ring);
  }
  void handle_cast(molt::context&, const later&) {}
  bool handle_call(molt::context& ctx, const remind&) {
    return static_cast<bool>(ctx.send_after(std::chrono::hours{1}, later{}));
  }
  void handle_call(molt::context&, const owe&, molt::reply_to<std::int64_t> token) { self().owed.push_back(token); }
  std::int64_t handle_call(molt::context& ctx, const settle&) {
    for (const auto token : self().owed) (void)ctx.reply(token, GENERATION);
    self().owed.clear();
    return GENERATION;
  }
  bool handle_call(molt::context&, const busy& m) {
    linger(reinterpret_cast<std::atomic<int>*>(m.open));
    return true;
  }
  bool handle_call(molt::context& ctx, const offload& m) {
    return static_cast<bool>(ctx.offload([open = m.open] {
      linger(reinterpret_cast<std::atomic<int>*>(open));
      return later{};
    }));
  }
};

}  // namespace leaver
