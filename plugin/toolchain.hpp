// What compiled this, in two texts: what decides layouts, which is part of every fingerprint, and the rest.
#pragma once

#include <boost/version.hpp>

#include <cstddef>
#include <string_view>

namespace molt::detail {

#define MOLT_TEXT_OF(value) #value
#define MOLT_TEXT(value) MOLT_TEXT_OF(value)

/// Processor, C++ ABI, standard library and its switches that change the layout of its types.
constexpr std::string_view toolchain_text =
#if defined(__x86_64__)
    "x86_64"
#elif defined(__aarch64__)
    "aarch64"
#else
#error "molt: this processor is not supported"
#endif
    " itanium"
#if defined(_LIBCPP_VERSION)
    " libc++"
#if defined(_LIBCPP_ABI_VERSION) && _LIBCPP_ABI_VERSION != 1
    " abi" MOLT_TEXT(_LIBCPP_ABI_VERSION)
#endif
#elif defined(__GLIBCXX__)
    " libstdc++"
#if _GLIBCXX_USE_CXX11_ABI
    " cxx11"
#endif
#if _GLIBCXX_INLINE_VERSION
    " versioned"
#endif
#else
#error "molt: this standard library is not supported"
#endif
#if defined(_GLIBCXX_DEBUG)
        " debug"
#endif
    ;

#if defined(__has_feature)
#define MOLT_HAS_FEATURE(name) __has_feature(name)
#else
#define MOLT_HAS_FEATURE(name) 0
#endif

/// key=value words (docs/reference/note-format.md): what a person wants to know when two images differ in it, and the
/// sanitizers, whose runtime has to be in the process. g++ does not tell of -fsanitize=undefined.
constexpr std::string_view build_text =
#if defined(__clang__)
    "compiler=clang-" MOLT_TEXT(__clang_major__) "." MOLT_TEXT(__clang_minor__)
#else
    "compiler=g++-" MOLT_TEXT(__GNUC__) "." MOLT_TEXT(__GNUC_MINOR__)
#endif
        " gxx_abi=" MOLT_TEXT(__GXX_ABI_VERSION)
#if defined(_GLIBCXX_ASSERTIONS) || defined(_GLIBCXX_DEBUG)
            " assertions=on"
#else
            " assertions=off"
#endif
#if defined(__SANITIZE_ADDRESS__) || MOLT_HAS_FEATURE(address_sanitizer)
            " sanitizer=address"
#elif defined(__SANITIZE_THREAD__) || MOLT_HAS_FEATURE(thread_sanitizer)
            " sanitizer=thread"
#elif MOLT_HAS_FEATURE(memory_sanitizer)
        " sanitizer=memory"
#else
        " sanitizer=none"
#endif
            " boost=" BOOST_LIB_VERSION;

#undef MOLT_HAS_FEATURE
#undef MOLT_TEXT
#undef MOLT_TEXT_OF

}  // namespace molt::detail
