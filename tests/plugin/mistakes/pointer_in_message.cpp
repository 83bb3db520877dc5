// expect: molt: this member cannot outlive its image
// expect: target
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; int* target = nullptr; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
