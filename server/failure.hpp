// What is known of a server whose function has thrown, or that was running when its thread was stopped by a signal.
//
// Nothing is written down for it while all goes well: a call has no store to spare. So the message whose handler threw
// is named by the thunk that caught (molt_host::threw). By then the frames between it and the throw are gone: a program
// that wants them has its __cxa_throw call note_throw, as molt-node does. Messages handled before are known if the
// server is recorded (runtime::record).
//
//   thread's last throws   event                                              then
//   -                      note_throw in a server's function                  kept with its stack; the oldest goes
//   kept                   note_exception_made: another object of its address void
//   kept                   the object reaches the thunk, of the same message  its stack is the failure's
//
// Invariants: what is told as the stack of a throw is that of the object which was caught, however often it was thrown
// again and whatever else was thrown meanwhile; where that is not certain, the stack is told as the catch's.
#pragma once

#include "plugin/abi.h"
#include "server/introspection.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

class server_type;
class watch_record;

/// Passed to runtime::on_failure; valid while that runs.
struct server_failure {
  struct caller {
    molt_ref ref{};
    std::string name;
    std::string type;
    std::string version;
  };

  molt_ref ref{};
  std::string name;  ///< empty if unnamed
  const server_type* type = nullptr;
  std::string_view why;         ///< what()
  std::string in;               ///< the message, or "init()" and the like; empty if the plugin's SDK is too old to say
  std::string exception;        ///< the thrown object's type as the ABI mangles it; empty likewise
  const void* state = nullptr;  ///< what the throwing function left of it; null: there was none yet
  std::size_t queued = 0;       ///< messages waiting
  std::uint64_t handled = 0;    ///< by this server, without the failed message
  bool recorded = false;
  std::vector<recorded_message> last;  ///< if it is: what it handled before, oldest first, without payloads
  std::vector<std::string> waiting;    ///< the first of those that wait, oldest first
  std::vector<caller> callers;         ///< the servers whose calls led here on this thread, nearest first
  std::vector<std::uintptr_t> stack;   ///< return addresses outwards from the throw, or from the catch
  bool stack_from_throw = false;
};

inline constexpr std::size_t failure_messages_max = 16;  ///< of `waiting`
inline constexpr std::size_t failure_callers_max = 16;
inline constexpr std::size_t failure_frames_max = 64;
inline constexpr std::size_t failure_throws_max = 4;  ///< kept for each thread: those thrown last

/// What a thunk has told of the exception it caught.
struct thrown_exception {
  molt_ref server{};
  std::string in;
  std::string exception;
  std::vector<std::uintptr_t> stack;
  bool stack_from_throw = false;
};

/// molt_host::threw.
void note_thrown(molt_context*, const char* in) noexcept;

/// For a program's __cxa_throw, before it calls the next one: notes the stack if a server's function is running on this
/// thread, and costs next to nothing otherwise. `thrower`: the return address of __cxa_throw.
void note_throw(const void* object, const void* thrower) noexcept;
/// For its __cxa_allocate_exception: memory for an exception has been given out, and what was there before is gone.
void note_exception_made(const void* object) noexcept;

/// A server whose function was running on a thread. Points into the runtime and the image.
struct running_server {
  molt_ref ref{};
  const std::string* name = nullptr;  ///< null if unnamed
  const server_type* type = nullptr;
  std::size_t queued = 0;
  std::uint64_t handled = 0;
  watch_record* record = nullptr;  ///< null: its messages are not recorded
};

/// Visits what a running server handled before, oldest first; the last `most`. As visit_running.
void visit_last_messages(const running_server&, void (*visit)(const recorded_message&, void*), void* with,
                         std::size_t most) noexcept;

/// Visits the servers running on the calling thread, the innermost first. Async-signal-safe but for this: where memory
/// is damaged, it may fault; then what was visited before stands.
void visit_running(void (*visit)(const running_server&, void*), void* with, std::size_t most) noexcept;

/// Calls `hook` on each thread that enters a runtime for the first time. Set once, before the first runtime is made.
void on_new_thread(void (*hook)()) noexcept;

}  // namespace molt::servers
