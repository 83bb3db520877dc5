// 1.0: one server keeps sessions and counts pages.
#include <molt/plugin.hpp>

#include "site_v1.hpp"

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
};

}  // namespace site

MOLT_PLUGIN("site", "1.0.0", site::sessions)
