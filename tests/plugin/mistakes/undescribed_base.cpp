// expect: molt: this base has no schema
// expect: secret
#include <boost/describe.hpp>
#include <molt/plugin.hpp>
class secret { int a_ = 0; };
class described : public secret {
  int b_ = 0;
  BOOST_DESCRIBE_CLASS(described, (secret), (), (), (b_))
};
struct state { described inside; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
