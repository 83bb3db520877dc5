// expect: molt: this server lists a message with a reply and has no handler for it
#include <molt/plugin.hpp>
struct state {};
struct add { using reply = int; };
struct server : molt::server<state> {
  using messages = molt::messages<add>;
};
MOLT_PLUGIN("x", "1", server)
