// What is known of a server whose function has thrown, or that was running when its thread was stopped by a signal.
//
// Nothing is written down for it while all goes well: a call has no store to spare. So the message whose handler threw
// is named by the thunk that caught (molt_host::threw), and the stack is that of the catch: the frames between it and
// the throw are gone. Of messages handled before nothing is known, but of those that wait.
#pragma once

#include "plugin/abi.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

class server_type;

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
  std::vector<std::string> waiting;   ///< the first of those that wait, oldest first
  std::vector<caller> callers;        ///< the servers whose calls led here on this thread, nearest first
  std::vector<std::uintptr_t> stack;  ///< return addresses from the catch outwards
};

inline constexpr std::size_t failure_messages_max = 16;  ///< of `waiting`
inline constexpr std::size_t failure_callers_max = 16;
inline constexpr std::size_t failure_frames_max = 64;

/// What a thunk has told of the exception it caught.
struct thrown_exception {
  molt_ref server{};
  std::string in;
  std::string exception;
  std::vector<std::uintptr_t> stack;
};

/// molt_host::threw.
void note_thrown(molt_context*, const char* in) noexcept;

/// A server whose function was running on a thread. Points into the runtime and the image.
struct running_server {
  molt_ref ref{};
  const std::string* name = nullptr;  ///< null if unnamed
  const server_type* type = nullptr;
  std::size_t queued = 0;
  std::uint64_t handled = 0;
};

/// Visits the servers running on the calling thread, the innermost first. Async-signal-safe but for this: where memory
/// is damaged, it may fault; then what was visited before stands.
void visit_running(void (*visit)(const running_server&, void*), void* with, std::size_t most) noexcept;

/// Calls `hook` on each thread that enters a runtime for the first time. Set once, before the first runtime is made.
void on_new_thread(void (*hook)()) noexcept;

}  // namespace molt::servers
