#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace molt::detail {

void assertion_failed(const char* condition, const char* file, int line, const std::string& values) {
  std::fprintf(stderr, "molt: assertion failed: %s at %s:%d;%s\n", condition, file, line, values.c_str());
  std::abort();
}

}  // namespace molt::detail
