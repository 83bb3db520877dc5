// A server and a connection, in whichever version the build asks for.
#include <molt/plugin.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace echo {

struct state {
  std::int64_t asked = 0;
#ifdef ECHO_CHANGED
  std::int64_t answered = 0;
#endif
};
struct ask {
  using reply = std::int64_t;
};

struct keeper : molt::server<state> {
  std::int64_t handle_call(molt::context&, const ask&) { return ++self().asked; }
};

struct session {
  std::int64_t bytes = 0;
};

struct connection : molt::connection<session> {
  std::size_t handle_data(molt::context& ctx, std::string_view unconsumed) {
    self().bytes += static_cast<std::int64_t>(unconsumed.size());
    (void)ctx.write(unconsumed);
    return unconsumed.size();
  }
};

}  // namespace echo

MOLT_PLUGIN("echo", MOLT_PLUGIN_VERSION, echo::keeper, echo::connection)
