// An image whose pages cannot be read for a while before it is unmapped: who still uses it faults, and is not harmed.
//
//   state     event                                             next      pages
//   armed     a fault in the image, by the dynamic linker       armed     that one is as it was, the others unreadable
//             a fault by anybody else                           tripped   as they were; who it was is noted
//             disarm()                                          disarmed  as they were
//   tripped   disarm()                                          disarmed  as they were
//
// The dynamic linker reads the tables of every image when it looks for a name, which says nothing about who uses it.
//
// Invariants: the code that faulted goes on where it was, with the pages as they were before; the handler allocates
// nothing and takes no lock; faults elsewhere go to the handler that was there before.
//
// Not noticed: a system call that is given an address in the image. It fails with EFAULT.
#pragma once

#include "base/result.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace molt::loader {

inline constexpr std::size_t trip_frames_max = 24;
inline constexpr std::size_t tripwires_max = 16;  ///< armed at a time

/// Who touched the image. Addresses of code are inverted: a plain one would be taken for a pointer into the image.
struct trip {
  int thread = 0;
  std::uint64_t server = 0;  ///< what the witness said
  std::uintptr_t inverted_address = 0;
  std::size_t frames = 0;
  std::array<std::uintptr_t, trip_frames_max> inverted_frame{};  ///< the instruction first, then return addresses
};

/// Threading: any thread. Ownership: the image must stay mapped as long as this lives.
class tripwire {
 public:
  /// Errors: io (the pages cannot be protected; they are as they were), out_of_bounds (tripwires_max), refused (this
  /// build's faults are a sanitizer's).
  [[nodiscard]] static result<std::unique_ptr<tripwire>> arm(std::uintptr_t begin, std::uintptr_t end);
  tripwire(const tripwire&) = delete;
  tripwire& operator=(const tripwire&) = delete;
  ~tripwire() { disarm(); }

  /// Nothing: nobody has touched it, so far or until it was disarmed.
  [[nodiscard]] std::optional<trip> tripped() const noexcept;
  /// The pages are as they were before. May be called twice; one thread.
  void disarm() noexcept;

  explicit tripwire(std::size_t slot) noexcept : slot_{slot} {}  // used by arm()

 private:
  std::size_t slot_;
  bool disarmed_ = false;
  std::optional<trip> last_;  // once disarmed
};

/// For a program that handles SIGSEGV with a handler installed after the first tripwire: true, and the handler must
/// return, if the fault was in an armed image. `info` and `context` as the handler got them. Async-signal-safe.
bool take_tripwire_fault(const void* info, const void* context) noexcept;

/// Called in the handler, to say which server the thread runs; 0: none. Async-signal-safe; set once.
void set_trip_witness(std::uint64_t (*witness)()) noexcept;

}  // namespace molt::loader
