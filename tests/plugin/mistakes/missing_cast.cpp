// expect: molt: this server lists a message without a reply and has no handler for it
#include <molt/plugin.hpp>
struct state {};
struct reset {};
struct server : molt::server<state> {
  using messages = molt::messages<reset>;
};
MOLT_PLUGIN("x", "1", server)
