// Both states have a member more, there is a server type more, and the listener's connection type has another name
// beside it. Built twice: with FAILS, the added server does not start.
#include "line_connection.hpp"

namespace line {

namespace v1 {
struct session {
  std::int64_t lines = 0;
  std::int64_t filled = 0;
};
struct kept {
  std::vector<std::string> texts;
};
}  // namespace v1

struct session {
  std::int64_t lines = 0;
  std::int64_t filled = 0;
  std::string version = "2";
};
struct connection : basic_connection<session> {
  using messages = molt::messages<later>;
  static session code_change(v1::session&& old) { return {old.lines, old.filled, "2"}; }
  static v1::session code_change_down(session&& now) { return {now.lines, now.filled}; }
};
struct connection2 : basic_connection<session> {
  using messages = molt::messages<later>;
};

struct kept {
  std::vector<std::string> texts;
  std::int64_t changes = 0;
};
struct clear {};
struct keeper : molt::server<kept> {
  using messages = molt::messages<keep, clear>;
  std::int64_t handle_call(molt::context&, const keep& message) {
    self().texts.push_back(message.text);
    return static_cast<std::int64_t>(self().texts.size());
  }
  void handle_cast(molt::context&, const clear&) { self().texts.clear(); }
  static kept code_change(v1::kept&& old) { return {std::move(old.texts), 1}; }
  static v1::kept code_change_down(kept&& now) { return {std::move(now.texts)}; }
};

struct nothing {};
struct ask {
  using reply = std::string;
};
struct extra : molt::server<nothing> {
  nothing init(molt::context&, const molt::arguments&) {
#ifdef FAILS
    throw std::runtime_error{"the extra server does not start"};
#endif
    return {};
  }
  std::string handle_call(molt::context&, const ask&) { return "extra"; }
};

}  // namespace line

MOLT_PLUGIN("line", MOLT_PLUGIN_VERSION, line::connection, line::connection2, line::keeper, line::extra)
