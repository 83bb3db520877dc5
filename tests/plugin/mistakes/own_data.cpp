// expect: molt: a server class holds no data of its own
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  int calls = 0;
  int handle_call(molt::context&, const add&) { return ++calls; }
};
MOLT_PLUGIN("x", "1", server)
