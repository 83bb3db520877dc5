// expect: molt: offloaded work makes a message without a reply
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context& ctx, const add& m) {
    static_cast<void>(ctx.offload([m] { return m; }));
    return 1;
  }
};
MOLT_PLUGIN("x", "1.0", server)
