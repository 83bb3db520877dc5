// 3.0: one server again, made of the two (docs/how-to/merge-servers.md).
#include <molt/plugin.hpp>

#include "site_v2.hpp"

namespace site {

using v1::state;

struct hit {
  using reply = std::int64_t;
  std::uint64_t id = 0;
  std::string page;
};
struct total {
  using reply = std::int64_t;
  std::string page;
};

struct sessions : molt::server<state> {
  using messages = molt::messages<hit, total>;

  std::int64_t handle_call(molt::context&, const hit& message) {
    ++self().pages[message.page];
    return ++self().live[message.id].hits;
  }
  std::int64_t handle_call(molt::context&, const total& message) { return self().pages[message.page]; }

  static state code_change(v2::state&& old, molt::change& with) {
    state now{std::move(old.live), std::move(old.unsent)};
    if (const auto* const metrics = with.other<v2::metrics_state>("metrics"))
      for (const auto& [page, hits] : metrics->pages) now.pages[page] += hits;
    return now;
  }
  static v2::state code_change_down(state&& now, molt::change& with) {
    with.give("metrics", v2::metrics_state{std::move(now.pages)});
    return {std::move(now.live), {}};
  }
};

}  // namespace site

MOLT_PLUGIN("site", "3.0.0", site::sessions)
