// A search through every interleaving of a few threads' steps, for models of protocols.
#pragma once

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace molt::servers::testing {

struct explored {
  std::string wrong;  ///< what went wrong first; empty if nothing can
  std::size_t states = 0;
};

/// Visits every state that any order of steps leads to. `State` is ordered and has `threads`.
///
/// `step(State&, who)` takes a thread's next step and says what is wrong then, if anything; nullopt: it cannot step
/// now. `check(const State&)` says what is wrong where nobody can step any more.
template <class State, class Step, class Check>
explored explore_interleavings(const State& first, Step step, Check check) {
  std::vector<State> open{first};
  std::set<State> seen{first};
  while (!open.empty()) {
    const State now = std::move(open.back());
    open.pop_back();
    bool stuck = true;
    for (std::size_t who = 0; who < now.threads.size(); ++who) {
      State next = now;
      const std::optional<std::string> wrong = step(next, who);
      if (!wrong) continue;
      stuck = false;
      if (!wrong->empty()) return {*wrong, seen.size()};
      if (seen.insert(next).second) open.push_back(std::move(next));
    }
    if (!stuck) continue;
    if (std::string wrong = check(now); !wrong.empty()) return {std::move(wrong), seen.size()};
  }
  return {{}, seen.size()};
}

}  // namespace molt::servers::testing
