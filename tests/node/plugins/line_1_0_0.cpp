#include "line_connection.hpp"

namespace line {

struct session {
  std::int64_t lines = 0;
  std::int64_t filled = 0;
};
struct connection : basic_connection<session> {
  using messages = molt::messages<later>;
};

struct kept {
  std::vector<std::string> texts;
};
struct clear {};
struct keeper : molt::server<kept> {
  using messages = molt::messages<keep, clear>;
  std::int64_t handle_call(molt::context&, const keep& message) {
    if (message.text == "throw") throw std::runtime_error{"the keeper was told to throw"};
    self().texts.push_back(message.text);
    return static_cast<std::int64_t>(self().texts.size());
  }
  void handle_cast(molt::context&, const clear&) { self().texts.clear(); }
};

}  // namespace line

MOLT_PLUGIN("line", "1.0.0", line::connection, line::keeper)
