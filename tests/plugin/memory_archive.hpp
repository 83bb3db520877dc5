// A sink and a source in memory, with a bound, for tests.
#pragma once

#include "plugin/abi.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace molt::tests {

class memory_sink : public molt_sink {
 public:
  explicit memory_sink(std::size_t most = std::size_t{1} << 30U) : most_{most} {
    cursor = end = nullptr;
    grow = &memory_sink::grow_by;
  }
  [[nodiscard]] std::string_view bytes() const {
    return {bytes_.data(), cursor == nullptr ? 0 : static_cast<std::size_t>(cursor - bytes_.data())};
  }

 private:
  static int grow_by(molt_sink* sink, std::size_t more) {
    auto* self = static_cast<memory_sink*>(sink);
    const std::size_t used = self->bytes().size();
    if (more > self->most_ - used) return MOLT_OUT_OF_BOUNDS;
    self->bytes_.resize(std::min(self->most_, std::max({self->bytes_.size() * 2, used + more, std::size_t{64}})));
    self->cursor = self->bytes_.data() + used;
    self->end = self->bytes_.data() + self->bytes_.size();
    return MOLT_OK;
  }

  std::string bytes_;
  std::size_t most_;
};

/// Saves; the status is written to `status` if given.
inline std::string save_bytes(const molt_schema& schema, const void* object, int* status = nullptr) {
  memory_sink sink;
  molt_text error{};
  const int result = schema.save(object, &sink, &error);
  if (status != nullptr) *status = result;
  return std::string{sink.bytes()};
}

/// Loads from exactly these bytes, copied to the heap so that a sanitizer sees a step beyond; returns the status.
inline int load_bytes(const molt_schema& schema, void* storage, std::string_view bytes, std::string* why = nullptr,
                      std::size_t* left = nullptr) {
  char* exact = new char[bytes.size()];
  std::copy(bytes.begin(), bytes.end(), exact);
  molt_source source{exact, exact + bytes.size()};
  molt_text error{};
  const int status = schema.load(storage, &source, &error);
  if (why != nullptr) *why = status == MOLT_OK ? std::string{} : std::string{error.data, error.size};
  if (left != nullptr) *left = static_cast<std::size_t>(source.end - source.cursor);
  delete[] exact;
  return status;
}

}  // namespace molt::tests
