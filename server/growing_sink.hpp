// A sink for archives in the host's memory.
//
// Threading: one at a time.
#pragma once

#include "plugin/abi.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>

namespace molt::servers {

struct growing_sink : molt_sink {
  std::string bytes;

  /// Beyond the bound, and when there is no memory, what writes is told MOLT_OUT_OF_BOUNDS.
  explicit growing_sink(std::size_t bytes_max = SIZE_MAX)
      : molt_sink{nullptr, nullptr, &grow_bytes}, bytes_max_{bytes_max} {}
  growing_sink(const growing_sink&) = delete;
  growing_sink& operator=(const growing_sink&) = delete;

  [[nodiscard]] molt_source written() const noexcept { return {bytes.data(), cursor}; }

 private:
  static int grow_bytes(molt_sink* self, std::size_t more) {
    auto& mine = *static_cast<growing_sink*>(self);
    const std::size_t used = self->cursor != nullptr ? static_cast<std::size_t>(self->cursor - mine.bytes.data()) : 0;
    if (used > mine.bytes_max_ || more > mine.bytes_max_ - used) return MOLT_OUT_OF_BOUNDS;
    try {
      mine.bytes.resize(std::min(std::max<std::size_t>({used + more, mine.bytes.size() * 2, 256}), mine.bytes_max_));
    } catch (const std::bad_alloc&) {
      return MOLT_OUT_OF_BOUNDS;
    }
    self->cursor = mine.bytes.data() + used;
    self->end = mine.bytes.data() + mine.bytes.size();
    return MOLT_OK;
  }

  const std::size_t bytes_max_;
};

/// Counts what is written, and keeps nothing.
struct counting_sink : molt_sink {
  counting_sink() : molt_sink{nullptr, nullptr, &make_room} {}
  counting_sink(const counting_sink&) = delete;
  counting_sink& operator=(const counting_sink&) = delete;

  [[nodiscard]] std::uint64_t count() const noexcept {
    return before_ + static_cast<std::uint64_t>(cursor != nullptr ? cursor - room_.data() : 0);
  }

 private:
  static int make_room(molt_sink* self, std::size_t more) {
    auto& mine = *static_cast<counting_sink*>(self);
    mine.before_ = mine.count();
    try {
      mine.room_.resize(std::max<std::size_t>({more, mine.room_.size(), 65536}));
    } catch (const std::bad_alloc&) {
      return MOLT_OUT_OF_BOUNDS;
    }
    self->cursor = mine.room_.data();
    self->end = mine.room_.data() + mine.room_.size();
    return MOLT_OK;
  }

  std::uint64_t before_ = 0;
  std::string room_;
};

}  // namespace molt::servers
