// SHA-256 over pieces, and a file read in pieces. Private to releases/.
#pragma once

#include "base/result.hpp"

#include <sodium/crypto_hash_sha256.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace molt::releases {

/// SHA-256 of everything added.
class digest {
 public:
  digest() noexcept { ::crypto_hash_sha256_init(&state_); }
  void add(std::string_view bytes) noexcept {
    ::crypto_hash_sha256_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  /// 64 lower-case hex digits. Ends the digest.
  [[nodiscard]] std::string hex();

 private:
  ::crypto_hash_sha256_state state_{};
};

/// Gives a regular file, not reached through a link in its last component, to `take` piece by piece until it fails.
result<void> read_in_pieces(const std::filesystem::path& file,
                            const std::function<result<void>(std::string_view)>& take);

}  // namespace molt::releases
