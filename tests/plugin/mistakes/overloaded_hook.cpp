// expect: molt: this hook is overloaded: list the older types
#include <molt/plugin.hpp>
struct older {};
struct oldest {};
struct state { int n = 0; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
  static state code_change(older&&) { return {}; }
  static state code_change(oldest&&) { return {}; }
};
MOLT_PLUGIN("x", "1", server)
