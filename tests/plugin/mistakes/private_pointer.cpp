// expect: molt: this member cannot outlive its image
// expect: target_
#include <boost/describe.hpp>
#include <molt/plugin.hpp>
class holder {
  int* target_ = nullptr;
  BOOST_DESCRIBE_CLASS(holder, (), (), (), (target_))
};
struct state { holder inside; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
