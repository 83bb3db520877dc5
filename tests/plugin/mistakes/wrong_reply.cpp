// expect: molt: handle_call returns another type than the message's `reply`
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  long handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
