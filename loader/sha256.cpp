#include "loader/sha256.hpp"

#include <nettle/version.h>

#include <array>

namespace molt::loader {

std::string sha256::hex() {
  std::array<std::uint8_t, SHA256_DIGEST_SIZE> bytes{};
#if NETTLE_VERSION_MAJOR >= 4
  ::sha256_digest(&state_, bytes.data());
#else
  ::sha256_digest(&state_, bytes.size(), bytes.data());
#endif
  std::string text;
  for (const auto byte : bytes) {
    text += "0123456789abcdef"[byte >> 4U];
    text += "0123456789abcdef"[byte & 15U];
  }
  return text;
}

}  // namespace molt::loader
