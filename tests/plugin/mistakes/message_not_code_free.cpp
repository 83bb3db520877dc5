// expect: molt: this member of a message is not code-free
// expect: held
#include <molt/plugin.hpp>
struct holder {
  static constexpr unsigned molt_version = 1;
  std::shared_ptr<int> inside;
  template <class Archive> void serialize(Archive&, unsigned) {}
};
struct state {};
struct add { using reply = int; holder held; };
struct server : molt::server<state> {
  int handle_call(molt::context&, const add&) { return 1; }
};
MOLT_PLUGIN("x", "1", server)
