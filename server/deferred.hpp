// Calls whose reply is given later: tokens that stand for envelopes.
//
//   slot     event                                    next
//   free     a call to a handler that may defer       held (token: generation and slot)
//   held     reply(token), by anyone                  free; the caller gets the reply, in its own version
//            the same, with what no hook leads from   held
//            the caller's deadline                    free; the token leads nowhere
//            the server that took the call ended      free; the caller gets server_failed
//            the handler threw                        free
//
// A token is a number: it may lie in a state, go through an upgrade and come from anywhere. One that leads nowhere is
// harmless.
//
// Threading: any thread.
#pragma once

#include "server/envelope.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace molt::servers {

class deferred_calls {
 public:
  explicit deferred_calls(std::size_t slots_max) : slots_max_{slots_max} {}

  /// Takes over one reference to the call. 0 when full.
  std::uint64_t hold(call_envelope&, molt_ref server);
  /// Gives back the reference; null if the token leads nowhere.
  call_envelope* take(std::uint64_t token);
  /// Which message was deferred, and by whom; null if the token leads nowhere. The message's image stays mapped for as
  /// long as the caller's activation.
  struct owed {
    const molt_message* message = nullptr;
    molt_ref server{};
  };
  [[nodiscard]] owed find(std::uint64_t token) const;
  /// Takes one call that this server holds; null if there is none (more).
  call_envelope* take_any_of(molt_ref server);
  /// True if any held call satisfies it.
  [[nodiscard]] bool any(const std::function<bool(const call_envelope&)>&) const;
  [[nodiscard]] std::size_t size() const;

 private:
  struct slot {
    call_envelope* call = nullptr;
    std::uint32_t generation = 1;
    molt_ref server{};
  };
  call_envelope* free_slot(std::size_t index);
  [[nodiscard]] const slot* slot_of_token(std::uint64_t token) const;  // under the mutex; null if it leads nowhere

  const std::size_t slots_max_;
  mutable std::mutex mutex_;
  std::vector<slot> slots_;
  std::vector<std::uint32_t> unused_;
};

}  // namespace molt::servers
