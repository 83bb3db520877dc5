// expect: molt: this struct's members do not lie by the plain layout rule
#include <molt/plugin.hpp>
struct state { char a = 0; alignas(16) int b = 0; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
