// SHA-256 over pieces.
//
// By Nettle, which uses the processor's instructions for it, allocates nothing and takes no lock: a copy of the process
// in which one thread is left may hash too.
#pragma once

#include <nettle/sha2.h>

#include <string>
#include <string_view>

namespace molt::loader {

/// SHA-256 of everything added. Threading: one at a time.
class sha256 {
 public:
  sha256() noexcept { ::sha256_init(&state_); }
  void add(std::string_view bytes) noexcept {
    ::sha256_update(&state_, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  }
  /// 64 lower-case hex digits. Ends the digest.
  [[nodiscard]] std::string hex();

 private:
  ::sha256_ctx state_{};
};

}  // namespace molt::loader
