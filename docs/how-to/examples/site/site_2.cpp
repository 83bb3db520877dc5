// 2.0: pages are counted by a server of their own, split off site.sessions (docs/how-to/split-a-server.md).
#include <molt/plugin.hpp>

#include "site_v2.hpp"

namespace site {

using v2::metrics_state;
using v2::state;

struct hit {
  using reply = std::int64_t;
  std::uint64_t id = 0;
  std::string page;
};
struct total {
  using reply = std::int64_t;
  std::string page;
};
struct count {
  std::string page;
  std::int64_t by = 1;
};

struct metrics : molt::server<metrics_state> {
  using messages = molt::messages<total, count>;

  metrics_state init(molt::context& ctx) { return ctx.given<metrics_state>().value_or(metrics_state{}); }

  std::int64_t handle_call(molt::context&, const total& message) { return self().pages[message.page]; }
  void handle_cast(molt::context&, const count& message) { self().pages[message.page] += message.by; }
};

struct sessions : molt::server<state> {
  using messages = molt::messages<hit, total>;

  std::int64_t handle_call(molt::context& ctx, const hit& message) {
    ++self().unsent[message.page];
    send(ctx);
    return ++self().live[message.id].hits;
  }
  std::int64_t handle_call(molt::context& ctx, const total& message) {
    const auto known = ctx.call(ctx.lookup("metrics"), message);
    return (known ? *known : 0) + self().unsent[message.page];
  }

  static state code_change(v1::state&& old, molt::change& with) {
    with.give("metrics", metrics_state{std::move(old.pages)});
    return {std::move(old.live), {}};
  }
  static v1::state code_change_down(state&& now, molt::change& with) {
    v1::state old{std::move(now.live), std::move(now.unsent)};
    if (const auto* const metrics = with.other<metrics_state>("metrics"))
      for (const auto& [page, hits] : metrics->pages) old.pages[page] += hits;
    return old;
  }

 private:
  void send(molt::context& ctx) {
    const auto metrics = ctx.lookup("metrics");
    for (auto each = self().unsent.begin(); each != self().unsent.end(); each = self().unsent.erase(each))
      if (!ctx.cast(metrics, count{each->first, each->second})) return;
  }
};

}  // namespace site

MOLT_PLUGIN("site", "2.0.0", site::sessions, site::metrics)
