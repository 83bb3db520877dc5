// Notes where an exception is thrown, before the frames between there and the catch are gone: for crash reports.
//
// molt-node exports the two functions of the C++ ABI by which every `throw` passes, its own and those of plugins and of
// the shared libstdc++. Each calls the next definition in the order in which libraries were loaded: a sanitizer's or
// libstdc++'s. Only what throws pays.
#include "server/failure.hpp"

#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>

// A sanitizer that is linked statically (clang) defines these itself, and must see each throw first.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOLT_NOTES_THROWS 0
#endif
#endif
#ifndef MOLT_NOTES_THROWS
#define MOLT_NOTES_THROWS 1
#endif

#if MOLT_NOTES_THROWS
namespace {

using throw_function = void (*)(void*, void*, void (*)(void*));
using allocate_function = void* (*)(std::size_t);

template <class Function>
Function next_definition(const char* name) noexcept {
  auto* const found = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
  if (found == nullptr) std::abort();  // without libstdc++ nothing could be thrown
  return found;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): the ABI's names
extern "C" {

[[gnu::visibility("default")]] void* __cxa_allocate_exception(std::size_t size) noexcept {
  static const auto next = next_definition<allocate_function>("__cxa_allocate_exception");
  void* const made = next(size);
  molt::servers::note_exception_made(made);
  return made;
}

// The type, really a std::type_info*, is declared as g++ does it for the first `throw` in a header.
[[noreturn, gnu::visibility("default")]] void __cxa_throw(void* object, void* type, void (*destroy)(void*)) {
  static const auto next = next_definition<throw_function>("__cxa_throw");
  molt::servers::note_throw(object, __builtin_return_address(0));
  next(object, type, destroy);
  std::abort();  // it does not return
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
#endif
