// expect: molt: init is `state init(molt::context&, const molt::arguments&)`
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  void init(molt::context&) {}
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
