// expect: molt: this member of a message is not code-free
// expect: shared_
#include <boost/describe.hpp>
#include <molt/plugin.hpp>
struct state {};
class add {
 public:
  using reply = int;
 private:
  std::shared_ptr<int> shared_;
  BOOST_DESCRIBE_CLASS(add, (), (), (), (shared_))
};
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
