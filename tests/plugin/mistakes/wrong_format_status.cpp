// expect: molt: format_status is
#include <molt/plugin.hpp>
struct state {
  int n = 0;
};
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
  static int format_status(const state& now) { return now.n; }
};
MOLT_PLUGIN("x", "1.0", server)
