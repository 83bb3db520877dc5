// expect: molt: a hook of messages takes the old message
#include <molt/plugin.hpp>
namespace v1 {
struct add { using reply = int; int by = 0; };
}
struct state {};
struct add { using reply = int; long by = 0; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
  static add message_change(const v1::add& old, molt::change& with) { return with.expired() ? add{} : add{old.by}; }
};
MOLT_PLUGIN("x", "1", server)
