#include "state_migration/archive_buffer.hpp"

#include "base/assert.hpp"
#include "plugin/text.hpp"

#include <algorithm>
#include <cstdlib>
#include <type_traits>

namespace molt::migration {
namespace {

constexpr std::size_t first_capacity = 4096;

}  // namespace

archive_buffer::archive_buffer(std::size_t size_max) noexcept
    : base_{{nullptr, nullptr, &archive_buffer::grow}, this}, size_max_{size_max} {
  static_assert(std::is_standard_layout_v<owned_sink>);
}

archive_buffer::~archive_buffer() { std::free(begin_); }

std::string_view archive_buffer::bytes() const noexcept {
  if (begin_ == nullptr) return {};
  return {begin_, static_cast<std::size_t>(base_.sink.cursor - begin_)};
}

molt_source archive_buffer::source() const noexcept {
  const auto all = bytes();
  return {all.data(), all.data() + all.size()};
}

void archive_buffer::clear() noexcept { base_.sink.cursor = begin_; }

void archive_buffer::shrink() noexcept {
  const std::size_t used = bytes().size();
  if (used == 0) return;
  auto* const moved = static_cast<char*>(std::realloc(begin_, used));
  if (moved == nullptr) return;
  begin_ = moved;
  base_.sink.cursor = moved + used;
  base_.sink.end = base_.sink.cursor;
}

int archive_buffer::grow(molt_sink* sink, std::size_t more) noexcept {
  auto& self = *reinterpret_cast<owned_sink*>(sink)->owner;
  MOLT_ASSERT(sink == &self.base_.sink);
  const std::size_t used = self.bytes().size();
  if (more > self.size_max_ - used) return MOLT_OUT_OF_BOUNDS;
  const std::size_t needed = used + more;
  const auto capacity = static_cast<std::size_t>(sink->end - self.begin_);
  if (needed <= capacity) return MOLT_OK;
  const std::size_t wanted = std::min(self.size_max_, std::max({needed, capacity * 2, first_capacity}));
  auto* const moved = static_cast<char*>(std::realloc(self.begin_, wanted));
  if (moved == nullptr) {
    self.wants_memory_ = true;
    return MOLT_OUT_OF_BOUNDS;
  }
  self.begin_ = moved;
  sink->cursor = moved + used;
  sink->end = moved + wanted;
  return MOLT_OK;
}

int archive_buffer::save(const molt_schema& schema, const void* object, molt_text& error) noexcept {
  clear();
  error.size = 0;
  wants_memory_ = false;
  const int status = schema.save(object, &base_.sink, &error);
  if (status == MOLT_OUT_OF_BOUNDS && wants_memory_)
    set_text(&error, "there is no memory for the archive");
  else if (status == MOLT_OUT_OF_BOUNDS && error.size == 0)
    set_text(&error, "the archive reached its limit");
  return status;
}

int load_all(const molt_schema& schema, std::string_view bytes, void* storage, molt_text& error) noexcept {
  error.size = 0;
  molt_source from{bytes.data(), bytes.data() + bytes.size()};
  const int status = schema.load(storage, &from, &error);
  if (status != MOLT_OK) return status;
  if (from.cursor == from.end) return MOLT_OK;
  schema.destroy(storage);
  set_text(&error, "the archive holds more than the object");
  return MOLT_BAD_ARCHIVE;
}

}  // namespace molt::migration
