// How a message reaches a handler of another version, and its reply the caller.
//
//   payload   the message as it was sent -> hook -> hook -> what the handler takes
//   reply     what the handler answers   -> hook -> hook -> what the caller expects
//
// The release finds routes (release::find_route), by the search that has planned them; the runtime remembers them per
// release, and runs them. An object that a step has read is destroyed by the image that made it.
#pragma once

#include "plugin/abi.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace molt::servers {

class server_type;

/// A hook, or, where there is none, an object written as `from` and read as `to`.
struct conversion_step {
  const molt_edge* hook = nullptr;
  const molt_schema* from = nullptr;
  const molt_schema* to = nullptr;
};

/// What makes an object of one version one of another. No steps: it fits as it is.
struct conversion {
  std::vector<conversion_step> steps;
  std::string from_version;  ///< for the hooks; empty if unknown
  std::string to_version;
  molt_arguments arguments{nullptr, 0};  ///< for the hooks
};

struct message_route {
  const molt_handler* handler = nullptr;  ///< that takes the message; null where only a reply was asked for
  conversion payload;
  conversion reply;
  std::string problem;  ///< not empty: there is no route, and why

  [[nodiscard]] bool leads() const noexcept { return problem.empty(); }
};

/// Uninitialised memory for one object of a schema, which is destroyed with it once `constructed` is set.
///
/// Threading: one at a time.
class conversion_storage {
 public:
  conversion_storage() = default;
  conversion_storage(const conversion_storage&) = delete;
  conversion_storage& operator=(const conversion_storage&) = delete;
  ~conversion_storage();

  /// Of which there is one object at a time. False: no memory.
  [[nodiscard]] bool reserve(const molt_schema&) noexcept;
  [[nodiscard]] void* get() const noexcept { return memory_; }
  void constructed() noexcept { holds_object_ = true; }
  void swap(conversion_storage& other) noexcept;

 private:
  void clear() noexcept;
  const molt_schema* schema_ = nullptr;
  void* memory_ = nullptr;
  bool holds_object_ = false;
};

/// Makes an object of the last step's schema in `to_storage`. `from` stays constructed, perhaps emptied. Has at least
/// one step. Statuses: THREW; OVERLOADED (no memory); and then nothing was constructed, and the text says which step.
int convert(const conversion&, void* from, void* to_storage, molt_text* error) noexcept;

/// Routes found so far, by receiver, message and what the reply is made of.
///
/// Threading: find: any thread, without a lock; add: any thread; clear: nobody looks any more. A route stays where it
/// is until then.
class route_cache {
 public:
  /// Messages beyond are refused as overloaded; it would take as many different ones, of one release.
  static constexpr std::size_t routes_max = 1U << 16U;

  route_cache() = default;
  route_cache(const route_cache&) = delete;
  route_cache& operator=(const route_cache&) = delete;
  ~route_cache() { clear(); }

  /// `answered`: the reply's fingerprint, 0 for what the handler answers. Null: not known yet.
  [[nodiscard]] const message_route* find(const server_type& receiver, std::uint64_t message,
                                          std::uint64_t answered) const noexcept;
  /// The route that is kept, which is another thread's if that was quicker. Null: full, or no memory.
  const message_route* add(const server_type& receiver, std::uint64_t message, std::uint64_t answered,
                           message_route) noexcept;
  void clear() noexcept;

 private:
  struct entry {
    const server_type* receiver;
    std::uint64_t message;
    std::uint64_t answered;
    message_route route;
    const entry* next;
  };
  static constexpr std::size_t buckets = 64;
  [[nodiscard]] static std::size_t bucket_of(std::uint64_t message, std::uint64_t answered) noexcept {
    return (message ^ answered) % buckets;
  }

  std::array<std::atomic<const entry*>, buckets> first_{};
  std::mutex mutex_;  // of those who add
  std::size_t count_ = 0;
};

}  // namespace molt::servers
