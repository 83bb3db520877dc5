// expect: molt: this type derives from another one, so its members cannot be listed
#include <molt/plugin.hpp>
struct base { int a = 0; };
struct state : base { int b = 0; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
