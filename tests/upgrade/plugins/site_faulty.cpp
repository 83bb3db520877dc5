// 2.1: as 2.0, but what goes wrong is chosen by the argument "fault" or by pages with certain names.
#include <molt/plugin.hpp>

#include "site_v2.hpp"

#include <stdexcept>

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

struct metrics : molt::server<metrics_state> {
  metrics_state init(molt::context& ctx, const molt::arguments& told) {
    if (told.find("deaf")) return {};
    auto given = ctx.given<metrics_state>();
    if (told.find("throws")) throw std::runtime_error{"metrics does not like to start"};
    return given ? std::move(*given) : metrics_state{};
  }
  std::int64_t handle_call(molt::context&, const total& message) { return self().pages[message.page]; }
  void self_check() const {
    for (const auto& [page, hits] : self().pages)
      if (hits < 0) throw std::logic_error{page + " was seen less than never"};
  }
};

struct sessions : molt::server<state> {
  using messages = molt::messages<hit, total>;

  std::int64_t handle_call(molt::context&, const hit& message) { return ++self().live[message.id].hits; }
  std::int64_t handle_call(molt::context&, const total&) { return -1; }

  static state code_change(v1::state&& old, molt::change& with) {
    const auto fault = with.arguments().get("fault");
    if (fault == "name") with.give("statistics", metrics_state{});
    if (fault == "type") with.give("metrics", v1::session{});
    if (fault == "running") with.give("sessions", state{});
    if (fault == "broken") with.give("metrics", metrics_state{{{"home", -1}}});
    if (fault == "itself") static_cast<void>(with.other<v1::state>("sessions"));
    if (fault == "structure") static_cast<void>(with.other<state>("neighbour"));
    with.give("metrics", metrics_state{std::move(old.pages)});
    if (fault == "twice") with.give("metrics", metrics_state{});
    if (fault == "throw") throw std::runtime_error{"after it has given"};
    return {std::move(old.live), {}};
  }
  static v1::state code_change_down(state&& now, molt::change& with) {
    v1::state old{std::move(now.live), {}};
    if (const auto* const metrics = with.other<metrics_state>("metrics")) old.pages = metrics->pages;
    return old;
  }
};

}  // namespace site

MOLT_PLUGIN("site", "2.1.0", site::sessions, site::metrics)
