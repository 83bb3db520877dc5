// A ledger: a state with something to lose, hooks that fail as the upgrade's arguments say, and a way down that loses
// tags.
//
//   1.0.0            entries and a title
//   2.0.0            and tags; code_change consumes its input and may throw; code_change_down is lossy
//   2.1.0            the same, but its code_change_down is missing: a one-way release
#include <molt/plugin.hpp>

#include <chrono>
#include <cstdlib>
#include <map>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ledger_v1.hpp"

namespace ledger {

struct state {
  std::vector<std::int64_t> entries;
  std::string title;
#if LEDGER >= 20
  std::map<std::string, std::int64_t> tags;
#endif
};

struct append {
  using reply = std::uint64_t;
  std::int64_t amount = 0;
};
struct sum {
  using reply = std::int64_t;
};
struct title {
  using reply = std::string;
};
struct nap {
  using reply = std::uint64_t;
  std::int64_t ms = 0;
};

struct server : molt::server<state> {
  using messages = molt::messages<append, sum, title, nap>;

  state init(molt::context&, const molt::arguments& given) {
    state made;
    made.title = std::string{given.get("title", "")};
    made.entries.reserve(100);
    for (std::int64_t n = 1; n <= 100; ++n) made.entries.push_back(n);
    return made;
  }
  std::uint64_t handle_call(molt::context&, const append& message) {
    self().entries.push_back(message.amount);
    return self().entries.size();
  }
  std::int64_t handle_call(molt::context&, const sum&) {
    return std::accumulate(self().entries.begin(), self().entries.end(), std::int64_t{0});
  }
  std::string handle_call(molt::context&, const title&) { return self().title + " " + MOLT_PLUGIN_VERSION; }
  std::uint64_t handle_call(molt::context&, const nap& message) {
    std::this_thread::sleep_for(std::chrono::milliseconds{message.ms});
    return 0;
  }

#if LEDGER >= 20
  /// Fails for the ledger whose title is the argument `at` (or for all): at the "begin", in the "middle", for want of
  /// "memory"; or takes `ms` first, "slow".
  static state code_change(v1::state&& old, const molt::change& change) {
    const std::string how{change.arguments().get("fail", "")};
    const std::string at{change.arguments().get("at", old.title)};
    const bool fails = at == old.title;
    if (fails && how == "slow")
      std::this_thread::sleep_for(
          std::chrono::milliseconds{std::atoi(std::string{change.arguments().get("ms", "0")}.c_str())});
    if (fails && how == "begin") throw std::runtime_error{"failed at the beginning"};
    state made;
    for (auto& entry : old.entries) {
      if (fails && how == "middle" && made.entries.size() == old.entries.size() / 2)
        throw std::runtime_error{"failed in the middle"};
      made.entries.push_back(std::exchange(entry, 0));
    }
    made.title = std::move(old.title);
    if (fails && how == "memory") throw std::bad_alloc{};
    made.tags["upgraded"] = 1;
    return made;
  }
#endif
#if LEDGER == 20
  static v1::state code_change_down(state&& now) { return {std::move(now.entries), std::move(now.title)}; }
  static constexpr molt::loss code_change_down_loss(const state*) { return {"tags", "tags are deleted"}; }
#endif
};

}  // namespace ledger

MOLT_PLUGIN("ledger", MOLT_PLUGIN_VERSION, ledger::server)
