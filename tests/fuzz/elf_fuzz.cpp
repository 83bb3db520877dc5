// Arbitrary bytes as a library: what is found in it, and an answer about it on its way out of the process that looked,
// which must arrive as it was. The same bytes are an answer too: none may crash who reads it.
#include "loader/foreign_file.hpp"
#include "loader/inspection.hpp"
#include "loader/plugin_report.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace molt::loader;
  (void)decode_answer({reinterpret_cast<const char*>(data), size});
  const auto seen = inspect_bytes("fuzz.so", std::as_bytes(std::span{data, size}));
  if (!seen) return 0;
  (void)describe(*seen);
  const auto back = decode_answer(encode_answer({*seen, {}}));
  if (!back || back->seen.findings != seen->findings || back->seen.imports != seen->imports ||
      back->seen.plugin != seen->plugin)
    std::abort();
  return 0;
}
