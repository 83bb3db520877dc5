// expect: a description lists all bases and members
// expect: forgetful
#include <boost/describe.hpp>
#include <molt/plugin.hpp>
class forgetful {
  int told_ = 0;
  int untold_ = 0;
  BOOST_DESCRIBE_CLASS(forgetful, (), (), (), (told_))
};
struct state { forgetful inside; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
