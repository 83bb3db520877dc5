// expect: molt: handle_data belongs to a connection
#include <molt/plugin.hpp>
struct state {};
struct server : molt::server<state> {
  std::size_t handle_data(molt::context&, std::string_view data) { return data.size(); }
};
MOLT_PLUGIN("x", "1", server)
