// expect: molt: this server has several handlers of one name: list what it handles
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct get { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
  int handle_call(molt::context&, const get&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
