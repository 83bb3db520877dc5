// kv 1.0.0: strings in memory, spoken to in RESP2.
#include "../common/connection.hpp"
#include "../common/interpreter.hpp"
#include "keyspace.hpp"

#include <molt/plugin.hpp>

namespace kv {

struct store : molt::server<state> {
  executed handle_call(molt::context&, const execute& batch) {
    keyspace keys{self()};
    return run_batch(keys, batch);
  }
};

}  // namespace kv

MOLT_PLUGIN("kv", "1.0.0", kv::store, kv::connection)
