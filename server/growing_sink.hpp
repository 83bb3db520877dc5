// A sink for archives in the host's memory.
//
// Threading: one at a time.
#pragma once

#include "plugin/abi.h"

#include <algorithm>
#include <cstddef>
#include <string>

namespace molt::servers {

struct growing_sink : molt_sink {
  std::string bytes;

  growing_sink() : molt_sink{nullptr, nullptr, &grow_bytes} {}
  growing_sink(const growing_sink&) = delete;
  growing_sink& operator=(const growing_sink&) = delete;

  [[nodiscard]] molt_source written() const noexcept { return {bytes.data(), cursor}; }

 private:
  static int grow_bytes(molt_sink* self, std::size_t more) {
    auto& mine = *static_cast<growing_sink*>(self);
    const std::size_t used = self->cursor != nullptr ? static_cast<std::size_t>(self->cursor - mine.bytes.data()) : 0;
    mine.bytes.resize(std::max<std::size_t>({used + more, mine.bytes.size() * 2, 256}));
    self->cursor = mine.bytes.data() + used;
    self->end = mine.bytes.data() + mine.bytes.size();
    return MOLT_OK;
  }
};

}  // namespace molt::servers
