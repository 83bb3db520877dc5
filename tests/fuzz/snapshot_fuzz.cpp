// Arbitrary bytes as a snapshot: none may crash, hang or read beyond. With the checksum put right, so that the fuzzer
// gets past it.
#include "state_migration/snapshot.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

std::uint64_t checksum_of(std::string_view header, std::string_view rest) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const auto part : {header, rest})
    for (const char byte : part) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  return hash;
}

void check(std::string_view bytes) {
  const auto view = molt::migration::read_snapshot(bytes);
  if (!view) return;
  const auto sizes = view->name.size() + view->text.size() + view->payload.size();
  if (sizes + 48 != bytes.size()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes{reinterpret_cast<const char*>(data), size};
  check(bytes);
  if (size < 48) return 0;
  const auto sum = checksum_of(std::string_view{bytes}.substr(0, 40), std::string_view{bytes}.substr(48));
  for (std::size_t byte = 0; byte < 8; ++byte) bytes[40 + byte] = static_cast<char>((sum >> (8 * byte)) & 0xffU);
  check(bytes);
  return 0;
}
