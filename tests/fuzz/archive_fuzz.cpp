// Archives from anywhere: reading ends in an object or a status, and an object that was read can be written and read
// again.
#include "plugin/schema.hpp"
#include "tests/plugin/example_types.hpp"
#include "tests/plugin/memory_archive.hpp"

#include <cstdint>
#include <cstdlib>

namespace {

template <class T>
void read(std::string_view bytes) {
  const molt_schema& schema = molt::schema_of<T>();
  alignas(T) char storage[sizeof(T)];
  if (molt::tests::load_bytes(schema, storage, bytes) != MOLT_OK) return;
  int status = -1;
  const std::string again = molt::tests::save_bytes(schema, storage, &status);
  if (status != MOLT_OK || again.size() > bytes.size() + 16) std::abort();
  schema.destroy(storage);
  if (molt::tests::load_bytes(schema, storage, again) != MOLT_OK) std::abort();
  schema.destroy(storage);
}

}  // namespace

/// The first byte chooses the type, the rest is the archive.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch (data[0] % 8) {
    case 0:
      read<example::scalars>(bytes);
      break;
    case 1:
      read<example::containers>(bytes);
      break;
    case 2:
      read<example::others>(bytes);
      break;
    case 3:
      read<example::tree>(bytes);
      break;
    case 4:
      read<example::chain>(bytes);
      break;
    case 5:
      read<example::outer>(bytes);
      break;
    case 6:
      read<example::account>(bytes);
      break;
    case 7:
      read<std::vector<example::empty>>(bytes);
      break;
  }
  return 0;
}
