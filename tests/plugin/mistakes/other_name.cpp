// expect: molt: MOLT_PLUGIN names another plugin than molt_add_plugin
#define MOLT_PLUGIN_NAME "counter"
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("countr", "1", server)
