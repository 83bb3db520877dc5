// The smallest plugin: docs/tutorial/first-upgrade.md writes it step by step.
#include <molt/plugin.hpp>

namespace counter {

struct state {
  std::int64_t value = 0;
};

struct add {
  using reply = std::int64_t;  // a message with a reply is a call
  std::int64_t by = 1;
};

struct server : molt::server<state> {
  std::int64_t handle_call(molt::context&, const add& message) { return self().value += message.by; }
};

}  // namespace counter

MOLT_PLUGIN("counter", "1.0.0", counter::server)
