// expect: molt: config_change is
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
  void config_change(const molt::arguments&) {}
};
MOLT_PLUGIN("x", "1.0", server)
