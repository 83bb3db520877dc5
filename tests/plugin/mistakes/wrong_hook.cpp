// expect: molt: this hook returns a type that is neither the state
#include <molt/plugin.hpp>
struct older {};
struct state { int n = 0; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
  static int code_change(older&&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
