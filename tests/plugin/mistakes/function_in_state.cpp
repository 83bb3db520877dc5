// expect: molt: this member cannot outlive its image
// expect: on_done
#include <molt/plugin.hpp>
struct part { std::function<void()> on_done; };
struct state { std::vector<part> parts; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
