// In a plugin (MOLT_PLUGIN_NAME, which molt_add_plugin defines) a call to a function that no plugin may have is an
// error when compiling. What the compiler cannot see, a call in a library or by pointer, `molt inspect` finds in the
// file. So it does for clang, which takes this attribute only on a function's first declaration.
#pragma once

#if defined(MOLT_PLUGIN_NAME) && !defined(__clang__)

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define MOLT_PREVENTED(text) __attribute__((error("molt: " text)))

extern "C" {

MOLT_PREVENTED("plugins own no threads: use timers, messages and ctx.offload()")
int pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) noexcept;
MOLT_PREVENTED("a thread key's destructor may run after the plugin is gone: keep such data in the state")
int pthread_key_create(pthread_key_t*, void (*)(void*)) noexcept;
MOLT_PREVENTED("a fork handler would be called after the plugin is gone")
int pthread_atfork(void (*)(void), void (*)(void), void (*)(void)) noexcept;
MOLT_PREVENTED("an exit handler would be called after the plugin is gone: release resources in terminate()")
int atexit(void (*)(void)) noexcept;
MOLT_PREVENTED("fork copies every lock of the node: use posix_spawn() in ctx.offload()")
pid_t fork(void) noexcept;
MOLT_PREVENTED("exec replaces the node: use posix_spawn() in ctx.offload()")
int execv(const char*, char* const[]) noexcept;
MOLT_PREVENTED("exec replaces the node: use posix_spawn() in ctx.offload()")
int execve(const char*, char* const[], char* const[]) noexcept;
MOLT_PREVENTED("exec replaces the node: use posix_spawn() in ctx.offload()")
int execvp(const char*, char* const[]) noexcept;
}

#undef MOLT_PREVENTED

#endif
