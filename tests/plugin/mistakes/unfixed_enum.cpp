// expect: molt: give this enum an underlying type
#include <molt/plugin.hpp>
enum colour { red, green };
struct state { colour c = red; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
