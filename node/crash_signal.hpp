// Catches the signals by which a process dies, and writes down what can be known before it does.
//
//   handler stage   writes (crash_raw.hpp)            may fault where memory is damaged
//   begin           signal, time, process, release    no
//   servers         the servers running on the thread yes
//   stack           return addresses, by the unwinder yes
//   images          what code is mapped where         no: other memory is read through the kernel
//   end             that it is whole                  no
//
// A fault inside a stage enters the handler again, which goes on with the next stage. At the end the signal takes its
// default action: the exit status is true, and there is a core file if the system wants one.
//
// Invariants: the handler allocates nothing, takes no lock and opens nothing but /proc/self/maps; the file is open and
// locked (flock) as long as the process lives, which is how others tell a finished report from one to come; only the
// process that installed it reports, not a copy made by fork; the handler runs on a stack of its own on every thread
// that has entered a runtime, so that an overflown stack is reported too; after 5 s the process dies whether or not the
// report is whole.
#pragma once

#include "base/result.hpp"

#include <filesystem>
#include <string_view>

namespace molt::node {

/// Whether signals can be caught in this build. Not under sanitizers: they report these signals themselves, with more
/// than we know, and their interceptors are not async-signal-safe where we call them.
[[nodiscard]] bool can_catch_crashes() noexcept;

/// Installs the handler for SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT and SIGTRAP, and notes what std::terminate is
/// called for. The file for the report is made in `folder` (made if missing), with the ending .raw. Once per process,
/// before threads are made. Errors: io; and then nothing is installed. Nothing happens where can_catch_crashes() is
/// false.
result<void> catch_crashes(const std::filesystem::path& folder);

/// What runs, for the report; text is cut. Any thread, one at a time.
void note_release(std::string_view id, std::string_view folder) noexcept;

/// An orderly end: the file is removed, the signals have their default actions again.
void stop_catching_crashes() noexcept;

}  // namespace molt::node
