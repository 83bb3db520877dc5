// kv in a molt-node, over TCP, compared with redis-server.
#include "box.hpp"
#include "comparison_tests.hpp"

namespace kv_test {

std::unique_ptr<peer> ours() {
  static const node running{std::to_string(KV_MAJOR) + ".0.0"};
  auto connected = connect(running.port());
  connected->exchange("FLUSHALL\r\n");
  return connected;
}

}  // namespace kv_test
