// expect: molt: a class with virtual bases cannot be described
#include <boost/describe.hpp>
#include <molt/plugin.hpp>
struct base { int a = 0; };
struct derived : virtual base { int b = 0; };
BOOST_DESCRIBE_STRUCT(derived, (base), (b))
struct state { derived inside; };
struct add { using reply = int; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
