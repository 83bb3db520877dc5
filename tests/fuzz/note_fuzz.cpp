// Arbitrary bytes as a plugin's file, as a note's descriptor, and as a schema text: none may crash, hang or read beyond.
// What decodes is also printed and compared, as `molt inspect` and `molt diff` do.
#include "loader/inspection.hpp"
#include "loader/note.hpp"
#include "loader/plugin_report.hpp"
#include "plugin/schema_text.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  if (const auto seen = molt::loader::inspect_bytes("fuzz.so", bytes)) (void)molt::loader::describe(*seen);
  if (const auto plugin = molt::loader::decode_note(bytes))
    (void)molt::loader::describe(molt::loader::compare(*plugin, *plugin));
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto tree = molt::parse_schema_text(text)) (void)molt::to_string(*tree);
  return 0;
}
