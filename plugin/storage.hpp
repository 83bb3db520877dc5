// Memory for one object of a schema. Whoever destroys a state frees it here, so that a state can change hands between
// the runtime, which made it, and a migration, which replaces it.
//
// Threading: any thread.
#pragma once

#include "plugin/abi.h"

#include <cstddef>
#include <new>

namespace molt {

/// Uninitialised storage of the schema's size and alignment; null when there is no memory.
[[nodiscard]] inline void* allocate_storage(const molt_schema& schema) noexcept {
  const std::size_t size = schema.size == 0 ? 1 : schema.size;
  if (schema.align <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return ::operator new(size, std::nothrow);
  return ::operator new(size, std::align_val_t{schema.align}, std::nothrow);
}

/// Gives storage back; the object in it was destroyed or never made. Null is harmless.
inline void free_storage(const molt_schema& schema, void* storage) noexcept {
  if (schema.align <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return ::operator delete(storage);
  ::operator delete(storage, std::align_val_t{schema.align});
}

/// Destroys an object and gives its storage back.
inline void destroy_and_free(const molt_schema& schema, void* object) noexcept {
  schema.destroy(object);
  free_storage(schema, object);
}

}  // namespace molt
