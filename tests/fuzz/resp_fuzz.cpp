// Arbitrary bytes from a client: read at once and in pieces they must come to the same commands and the same end, and
// every command must be answered. The first byte says how long the pieces are.
#include "base/assert.hpp"
#include "examples/kv/3.0.0/keyspace.hpp"
#include "examples/kv/common/resp_parser.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

struct outcome {
  kv::execute commands;
  std::uint32_t count = 0;
  std::string farewell;
  bool last = false;
};

outcome read_in_pieces(std::string_view bytes, std::size_t piece) {
  kv::requests into;
  outcome result;
  std::string unread;
  while (!bytes.empty() && !result.last) {
    unread += bytes.substr(0, piece);
    bytes.remove_prefix(std::min(piece, bytes.size()));
    const kv::parsed read = kv::request_parser{into, unread}.run();
    MOLT_ASSERT(read.consumed <= unread.size(), read.consumed, unread.size());
    MOLT_ASSERT(unread.size() - read.consumed <= kv::line_max + piece, unread.size(), read.consumed);
    unread.erase(0, read.consumed);
    result.last = read.last;
    result.farewell = farewell(read);
  }
  result.count = into.commands;
  result.commands = take_commands(into);
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  outcome whole = read_in_pieces(bytes, bytes.size());
  const outcome pieces = read_in_pieces(bytes, std::size_t{1} + data[0] % 64U);
  MOLT_ASSERT(whole.count == pieces.count, whole.count, pieces.count);
  MOLT_ASSERT(whole.commands.text == pieces.commands.text);
  MOLT_ASSERT(whole.commands.layout == pieces.commands.layout);
  MOLT_ASSERT(whole.farewell == pieces.farewell, whole.farewell, pieces.farewell);
  MOLT_ASSERT(whole.last == pieces.last);

  static kv::state state;
  kv::keyspace keys{state, 1'000'000};
  std::uint32_t answered = 0;
  while (answered < whole.count) {
    kv::executed done = run_batch(keys, whole.commands);
    MOLT_ASSERT(done.commands > 0 && done.replies.size() >= done.commands * std::size_t{4}, done.commands);
    answered += done.commands;
    whole.commands = std::move(done.unanswered);
  }
  MOLT_ASSERT(whole.commands.layout.empty());
  if (keys.size() > 10'000) keys.clear();
  return 0;
}
