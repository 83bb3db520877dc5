// expect: molt: this hook is overloaded: list the older types it takes and returns, using reply_history
#include <molt/plugin.hpp>
struct total { int n = 0; };
struct state { int n = 0; };
struct add { using reply = total; };
struct server : molt::server<state> {
  total handle_call(molt::context&, const add&) { return {}; }
  static total reply_change(int old) { return {old}; }
  static total reply_change(long old) { return {static_cast<int>(old)}; }
};
MOLT_PLUGIN("x", "1", server)
