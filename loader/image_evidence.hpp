// Whether anything in this process still points into images that nobody has a lease on: looked for in a copy of it.
//
//   this process                                 the copy
//   finds out where threads' stacks end
//   forks (the caller knows when that may be)    closes the images, destructors and all
//   goes on, waits                               forgets what lies in memory that has been freed
//   kills it at the time limit                   looks for words that point to where an image was
//                                                looks for words that lead to those, up to a server's state
//   reads what was found, believing nothing      writes that to shared memory, ends by _exit
//
// What is looked through: all memory that can be written to, threads' stacks from where they stood upwards, and so
// their TLS. Of glibc's heap, only blocks in use. Left out is what the dynamic linker keeps of a closed image.
//
// It is evidence, not proof. Not seen are pointers in registers of threads that stood in a system call (a handler's are
// in none, when everything rests), pointers that are encoded, compressed or unaligned, those in memory shared with
// files, and those in the kernel or in other processes. And what is found may be dead: a word that happens to be an
// address, or memory in use whose user has forgotten it.
//
// Invariants: the live process is not changed; whatever happens to the copy, an image is found clean only if the copy
// wrote that it had looked at everything.
#pragma once

#include "base/result.hpp"
#include "loader/plugin_image.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

/// A server's state: where a holder may lie.
struct owned_memory {
  std::uintptr_t begin = 0;
  std::size_t size = 0;
  std::uint64_t owner = 0;
};

/// What a program knows of its memory. Called in the copy; all may be empty.
struct memory_facts {
  /// Overwrites memory that is free by the program's own book, in blocks that malloc believes in use.
  std::function<void()> forget_free;
  std::function<std::vector<owned_memory>()> owned;
  std::function<std::string(std::uint64_t owner)> name;
};

/// Makes the copy. Calls `before` right before fork(), on the same thread, while nobody may load an image
/// (hold_images), and in the copy `work`, which does not return. The copy's process number, or what kept it from being
/// made.
using copy_maker = std::function<result<pid_t>(const std::function<void()>& before,
                                               const std::function<void(const memory_facts&)>& work)>;

enum class holder_place { heap, stack, image, other };

/// One block of memory, or one word, with pointers into an image.
struct holder {
  std::uintptr_t at = 0;  ///< of the first of them
  holder_place place = holder_place::other;
  std::string where;                  ///< the mapping, or the thread whose stack it is
  std::size_t size = 0;               ///< of the block, if it is one
  std::string server;                 ///< in whose state the block lies, or from where it can be reached; may be empty
  unsigned steps = 0;                 ///< pointers from that state to the block
  std::string beside;                 ///< of heap that no server leads to: the blocks next to it
  std::vector<std::string> pointees;  ///< by name, what in the image it points to

  /// "server anna, 2 pointers from its state: 48 bytes of heap with vtable for ..."
  [[nodiscard]] std::string text() const;
};

enum class evidence {
  none,          ///< nobody points there
  on_stacks,     ///< only stacks do: perhaps no more in a while
  held,          ///< somebody does
  not_unmapped,  ///< closing it did not unmap it
  not_looked,    ///< the copy did not finish
};
[[nodiscard]] std::string_view to_string(evidence) noexcept;

struct image_evidence {
  evidence found = evidence::not_looked;
  std::string why;              ///< one sentence, unless none
  std::vector<holder> holders;  ///< at most holders_listed_max
  std::uint64_t words = 0;      ///< that point there
};

inline constexpr std::size_t holders_listed_max = 8;  ///< of each image
inline constexpr std::size_t evidence_images_max = scan_ranges_max;

struct evidence_report {
  std::vector<image_evidence> images;  ///< in the order given
  std::uint64_t scanned_bytes = 0;
  std::chrono::nanoseconds scan{0};  ///< for those bytes
  std::chrono::nanoseconds total{0};
};

/// Looks for who points into the images, at most evidence_images_max. Errors: io, and those of `make`. Whatever happens
/// to the copy is in the report. `given_up`, asked now and then: the copy is killed.
/// Threading: any thread; blocks it. No image may be unloaded meanwhile.
[[nodiscard]] result<evidence_report> look_for_holders(std::span<const lease> images, const copy_maker& make,
                                                       std::chrono::milliseconds time_limit,
                                                       const std::function<bool()>& given_up = {});

}  // namespace molt::loader
