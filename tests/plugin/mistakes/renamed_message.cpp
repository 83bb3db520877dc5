// expect: molt: message_change turns a message into another version of itself
#include <molt/plugin.hpp>
struct plus { int by = 0; };
struct state { int n = 0; };
struct add { int by = 0; };
struct server : molt::server<state> {
  void handle_cast(molt::context&, const add&) {}
  static add message_change(plus&& old) { return {old.by}; }
};
MOLT_PLUGIN("x", "1", server)
