// A value or an error. Boost.System's result with molt's error, marked [[nodiscard]], and MOLT_TRY to pass errors up.
#pragma once

#include "base/error.hpp"

#include <boost/system/result.hpp>

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

namespace molt {

/// A T, or why there is none. `result<void>` holds success or an error.
///
/// Test with `if (r)`; then `*r`, `r->` or `r.value()`; otherwise `r.error()`.
/// Converts implicitly from a T and from an `error`.
template <class T>
class [[nodiscard]] result : public boost::system::result<T, molt::error> {
  using base = boost::system::result<T, molt::error>;

 public:
  using base::base;
};

/// Success without a value.
[[nodiscard]] inline result<void> ok() { return result<void>{}; }

/// Found by Boost.System when `value()` is asked of a failed result: that is our bug.
/// Inline, so that a plugin needs nothing of molt's to link against.
[[noreturn]] inline void throw_exception_from_error(const error& failed, const boost::source_location& where) {
  std::fprintf(stderr, "molt: value() of a failed result at %s:%u: %s\n", where.file_name(),
               static_cast<unsigned>(where.line()), failed.text().c_str());
  std::abort();
}

}  // namespace molt

#define MOLT_DETAIL_JOIN2(a, b) a##b
#define MOLT_DETAIL_JOIN(a, b) MOLT_DETAIL_JOIN2(a, b)

/// Returns the error of `expression` from the enclosing function, or goes on: MOLT_CHECK(f());
#define MOLT_CHECK(expression)                                        \
  do {                                                                \
    if (auto molt_checked = (expression); !molt_checked) [[unlikely]] \
      return std::move(molt_checked).error();                         \
  } while (false)

/// Declares a variable from a result, or returns its error: MOLT_TRY(auto file, open(path));
#define MOLT_TRY(declaration, expression) \
  MOLT_DETAIL_TRY(MOLT_DETAIL_JOIN(molt_tried_, __LINE__), declaration, expression)
#define MOLT_DETAIL_TRY(name, declaration, expression)    \
  auto name = (expression);                               \
  if (!name) [[unlikely]] return std::move(name).error(); \
  declaration = std::move(*name)
