// The state gets a member; the hooks lead there and back.
#include <molt/plugin.hpp>

namespace counter {

namespace v1 {
struct state {
  std::int64_t value = 0;
};
}  // namespace v1

struct state {
  std::int64_t value = 0;
  std::int64_t changes = 0;
};

struct add {
  using reply = std::int64_t;
  std::int64_t by = 1;
};

struct changes {
  using reply = std::int64_t;
};

struct server : molt::server<state> {
  using messages = molt::messages<add, changes>;

  std::int64_t handle_call(molt::context&, const add& message) {
    ++self().changes;
    return self().value += message.by;
  }
  std::int64_t handle_call(molt::context&, const changes&) { return self().changes; }

  static state code_change(v1::state&& old) { return {.value = old.value, .changes = 0}; }  // 1.0.0 to 2.0.0
  static v1::state code_change_down(state&& now) { return {.value = now.value}; }           // and back
};

}  // namespace counter

MOLT_PLUGIN("counter", "2.0.0", counter::server)
