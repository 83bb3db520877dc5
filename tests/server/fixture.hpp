// Releases made of classes in this program, and calls and casts with types in place of pointers.
#pragma once

#include "server/runtime.hpp"

#include <molt/plugin.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace molt::servers::testing {

using namespace std::chrono_literals;

/// A route over the hooks of the receiver's own type, of one step at most each way.
inline message_route one_step(const server_type& receiver, const molt_message& sent, const molt_schema* answered) {
  message_route found;
  found.payload.to_version = receiver.version();
  const auto add = [&](const molt_edge* edges, std::uint32_t count, const molt_schema& from, const molt_schema& to,
                       conversion& into) {
    if (from.fingerprint == to.fingerprint) return true;
    for (std::uint32_t i = 0; i < count && into.steps.empty(); ++i)
      if (edges[i].from->fingerprint == from.fingerprint && edges[i].to->fingerprint == to.fingerprint)
        into.steps.push_back({&edges[i], edges[i].from, edges[i].to});
    return !into.steps.empty();
  };
  const auto& type = receiver.abi();
  const auto* const handler = answered == nullptr ? receiver.find(std::string_view{sent.name}) : nullptr;
  bool leads = answered != nullptr || handler != nullptr;
  if (handler != nullptr) {
    answered = handler->message->reply;
    leads = add(type.message_edges, type.message_edge_count, *sent.payload, *handler->message->payload, found.payload);
  }
  if (answered != nullptr)
    leads = leads && sent.reply != nullptr &&
            add(type.reply_edges, type.reply_edge_count, *answered, *sent.reply, found.reply);
  if (leads)
    found.handler = handler;
  else
    found.problem = std::string{"handles no such message: "} + sent.name;
  return found;
}

class test_release final : public release {
 public:
  using adopt_function = std::function<void(resting_server&)>;

  explicit test_release(adopt_function adopt = {}) : adopt_{std::move(adopt)} {}

  template <molt::detail::fixed_string Plugin, class Server>
  std::shared_ptr<const server_type> add(std::string version = "1.0.0", image_range image = {}) {
    auto made =
        server_type::make(molt::detail::server_type_constant<Plugin, Server>, std::move(version), nullptr, image);
    types_[std::string{made->name()}] = made;
    return made;
  }

  void adopt(resting_server& resting) const noexcept override {
    if (adopt_) adopt_(resting);
  }
  [[nodiscard]] const server_type* find_type(std::string_view name) const noexcept override {
    const auto found = types_.find(name);
    return found != types_.end() ? found->second.get() : nullptr;
  }
  [[nodiscard]] message_route find_route(const server_type& receiver, const molt_message& sent,
                                         const molt_schema* answered) const override {
    return one_step(receiver, sent, answered);
  }

 private:
  adopt_function adopt_;
  std::map<std::string, std::shared_ptr<const server_type>, std::less<>> types_;
};

/// A call's outcome: its status, the reply if that is MOLT_OK, else the text.
template <class Reply>
struct outcome {
  int status = MOLT_OK;
  Reply reply{};
  std::string text;
};

template <class M>
outcome<typename M::reply> call(runtime& of, molt_ref to, M message, std::chrono::nanoseconds timeout = 20s) {
  outcome<typename M::reply> made;
  alignas(typename M::reply) unsigned char storage[sizeof(typename M::reply)];
  made.status = of.call(to, message_of<M>(), &message, storage, timeout);
  if (made.status == MOLT_OK) {
    auto* const reply = reinterpret_cast<typename M::reply*>(storage);
    made.reply = std::move(*reply);
    std::destroy_at(reply);
  } else {
    made.text = runtime::call_failure();
  }
  return made;
}

template <class M>
int cast(runtime& to_runtime, molt_ref to, M message) {
  return to_runtime.cast(to, message_of<M>(), &message);
}

/// Waits without bound for what must come; the test's own time limit ends a test that fails.
template <class Condition>
void wait_until(Condition&& holds) {
  while (!holds()) std::this_thread::sleep_for(200us);
}

/// Printed, so that a failing run can be repeated: MOLT_TEST_SEED=n.
inline std::uint64_t seed() {
  const char* const given = std::getenv("MOLT_TEST_SEED");
  const std::uint64_t chosen = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(chosen));
  ::testing::Test::RecordProperty("seed", std::to_string(chosen));
  return chosen;
}

/// How much a stress test does; sanitizers make everything slower.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr int stress_scale = 1;
#else
inline constexpr int stress_scale = 20;
#endif

class exits {
 public:
  void operator()(const exit_event& event) {
    std::lock_guard lock{mutex_};
    events_.push_back(event);
  }
  [[nodiscard]] std::vector<exit_event> all() const {
    std::lock_guard lock{mutex_};
    return events_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<exit_event> events_;
};

}  // namespace molt::servers::testing
