// A runtime whose servers a supervisor keeps.
#pragma once

#include "server/supervisor.hpp"
#include "tests/server/cell_servers.hpp"

#include <mutex>

namespace molt::servers::testing {

struct supervised {
  explicit supervised(options given = {})
      : on{std::move(given)}, keeper{on, [this](std::string_view why) {
                                       std::lock_guard lock{mutex};
                                       gave_up = why;
                                     }} {
    auto made = std::make_shared<test_release>();
    made->add<"worker", worker::server>();
    made->add<"other", worker::server>();
    on.on_exit([this](const exit_event& event) {
      {
        std::lock_guard lock{mutex};
        if (!event.name.empty()) order.push_back(event.name);
      }
      std::lock_guard lock{telling};
      if (!over) keeper.child_ended(event);
    });
    on.switch_to(made);
  }
  ~supervised() {
    static_cast<void>(keeper.stop("test over"));
    std::lock_guard lock{telling};  // a server that ended late may be told of just now
    over = true;
  }
  std::string reason_given() {
    std::lock_guard lock{mutex};
    return gave_up;
  }
  std::vector<std::string> ended() {
    std::lock_guard lock{mutex};
    return std::exchange(order, {});
  }
  void crash(std::string_view name) { call(on, on.lookup(name), worker::fail{"crash"}); }
  molt_ref wait_for_other(std::string_view name, molt_ref before) {
    wait_until([&] { return on.lookup(name).bits != 0 && on.lookup(name).bits != before.bits; });
    return on.lookup(name);
  }
  /// Lets it fail and waits until it runs again.
  molt_ref crash_and_wait(std::string_view name) {
    const auto before = on.lookup(name);
    crash(name);
    return wait_for_other(name, before);
  }
  [[nodiscard]] child_info info(std::string_view name) const {
    for (const auto& each : keeper.children())
      if (each.name == name) return each;
    return {};
  }

  std::mutex telling;
  bool over = false;
  std::mutex mutex;
  std::string gave_up;
  std::vector<std::string> order;
  runtime on;  // before keeper, whose thread uses it
  supervisor keeper;
};

inline child_spec child(std::string name, restart when = restart::permanent, arguments given = {}) {
  return {std::move(name), "worker.server", std::move(given), when, 5s, nullptr};
}

inline child_spec below(std::string name, supervisor_spec spec, restart when = restart::permanent) {
  return {std::move(name), {}, {}, when, 5s, std::make_shared<const supervisor_spec>(std::move(spec))};
}

inline supervisor_spec tree(strategy how, std::vector<child_spec> children, unsigned intensity = 3) {
  supervisor_spec made;
  made.strategy = how;
  made.intensity = intensity;
  made.period = 60s;
  made.children = std::move(children);
  return made;
}

inline supervisor_spec pool_of(restart when = restart::permanent, arguments given = {}, unsigned intensity = 3) {
  auto made = tree(strategy::dynamic, {}, intensity);
  made.model = child({}, when, std::move(given));
  return made;
}

}  // namespace molt::servers::testing
