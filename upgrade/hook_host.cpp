#include "upgrade/hook_host.hpp"

#include "base/heap_budget.hpp"
#include "plugin/text.hpp"
#include "upgrade/handed_states.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <new>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace molt::upgrade {
namespace {

/// So many ranges for each thread: who is done early takes from what is left.
constexpr std::size_t ranges_per_thread = 8;

/// [0, count) in ranges that threads take one after the other.
struct ranges {
  std::size_t count;
  std::size_t each;
  int (*part)(void* with, std::size_t begin, std::size_t end);
  void* with;
  std::atomic<std::size_t> next{0};
  std::atomic<int> status{MOLT_OK};
  std::atomic<bool> late{false};

  template <class Late>
  void run(const Late& is_late) noexcept {
    for (;;) {
      const auto begin = next.fetch_add(each, std::memory_order_relaxed);
      if (begin >= count || status.load(std::memory_order_relaxed) != MOLT_OK) return;
      if (is_late()) {
        late = true;
        status = MOLT_THREW;
        return;
      }
      if (const int ended = part(with, begin, std::min(begin + each, count)); ended != MOLT_OK) status = ended;
    }
  }
};

}  // namespace

const molt_change_host hook_host::functions{
    sizeof(molt_change_host), 0, &server_name, &config, &time_left_ns, &parallel, nullptr, nullptr};
const molt_change_host hook_host::functions_at_rest{
    sizeof(molt_change_host), 0, &server_name, &config, &time_left_ns, &parallel, &other, &give};

hook_host::hook_host(const servers::resting_server& server, const hook_settings& settings, const char* from_version,
                     const char* to_version, molt_arguments arguments, handed_states* others,
                     hook_watch* watch) noexcept
    : server_{server},
      settings_{settings},
      run_{watch, server, settings.timeout, from_version, to_version},
      others_{others},
      change_{from_version, to_version, arguments, others != nullptr ? &functions_at_rest : &functions, this} {}

void hook_host::step_begins(const migration::path_step* step, void* with) noexcept {
  auto& self = *static_cast<hook_host*>(with);
  self.step_ = step;
  self.run_.step_begins(step);
  if (self.settings_.begins != nullptr) self.settings_.begins(step, self.settings_.begins_with);
}

const char* hook_host::server_name(const molt_change* change) noexcept {
  auto& self = of(change);
  try {
    if (!self.named_) self.name_ = self.server_.name();
    self.named_ = true;
  } catch (const std::bad_alloc&) {
    return "";
  }
  return self.name_.c_str();
}

molt_arguments hook_host::config(const molt_change* change) noexcept { return of(change).server_.arguments(); }

std::int64_t hook_host::time_left_ns(const molt_change* change) noexcept {
  const auto& self = of(change);
  if (self.settings_.timeout.count() <= 0) return std::numeric_limits<std::int64_t>::max();
  return (self.run_.begun().load(std::memory_order_relaxed) + self.settings_.timeout - clock::now()).count();
}

int hook_host::other(const molt_change* change, const char* name, const molt_schema* as, const void** state,
                     molt_text* error) noexcept {
  return of(change).others_->other(name, *as, state, error);
}

int hook_host::give(const molt_change* change, const char* name, const molt_schema* of_schema, void* state,
                    molt_text* error) noexcept {
  return of(change).others_->give(name, *of_schema, state, error);
}

int hook_host::parallel(const molt_change* change, std::size_t count, std::size_t least,
                        int (*part)(void* with, std::size_t begin, std::size_t end), void* with,
                        molt_text* error) noexcept {
  const auto& self = of(change);
  const std::size_t most = self.settings_.threads != 0 ? self.settings_.threads : std::thread::hardware_concurrency();
  const auto at_least = std::max<std::size_t>(least, 1);
  const auto threads = std::clamp<std::size_t>(count / at_least, 1, std::max<std::size_t>(most, 1));
  ranges all{count, std::max(at_least, count / (threads * ranges_per_thread)), part, with};
  // A hook that is noexcept cannot be ended: it goes on, late.
  const bool may_end = self.step_ == nullptr || self.step_->may_fail();
  const auto is_late = [&] { return may_end && time_left_ns(change) < 0; };
  std::vector<std::thread> helpers;
  try {
    helpers.reserve(threads - 1);
    auto* const budget = heap_budget_here();
    while (helpers.size() < threads - 1)
      helpers.emplace_back([&all, &is_late, budget] {
        const heap_limit bound{budget};
        all.run(is_late);
      });
  } catch (const std::exception&) {
    // With the threads that there are.
  }
  all.run(is_late);
  for (auto& helper : helpers) helper.join();
  if (all.late) set_text(error, "longer than the hook timeout");
  return all.status;
}

}  // namespace molt::upgrade
