// A growable buffer in host memory that a plugin's save() writes into, with a named bound.
#pragma once

#include "plugin/abi.h"

#include <cstddef>
#include <string_view>

namespace molt::migration {

/// The largest archive of one state: many GiB, but not without bound.
inline constexpr std::size_t archive_size_max = std::size_t{1} << 37U;  // 128 GiB

/// Threading: one thread. Ownership: owns the bytes. Not movable: the sink points into it.
class archive_buffer {
 public:
  explicit archive_buffer(std::size_t size_max = archive_size_max) noexcept;
  archive_buffer(const archive_buffer&) = delete;
  archive_buffer& operator=(const archive_buffer&) = delete;
  ~archive_buffer();

  /// Where save() writes. grow() answers MOLT_OUT_OF_BOUNDS at the bound or when there is no memory.
  [[nodiscard]] molt_sink& sink() noexcept { return base_.sink; }
  /// What was written so far.
  [[nodiscard]] std::string_view bytes() const noexcept;
  [[nodiscard]] molt_source source() const noexcept;
  void clear() noexcept;
  /// Gives back what is reserved beyond what was written: for buffers that are kept by the thousand.
  void shrink() noexcept;

  /// Writes one object; the buffer holds it afterwards. Returns a molt_status.
  int save(const molt_schema&, const void* object, molt_text& error) noexcept;

 private:
  static int grow(molt_sink*, std::size_t more) noexcept;

  // The sink first, so that grow() finds its owner from it.
  struct owned_sink {
    molt_sink sink;
    archive_buffer* owner;
  };
  owned_sink base_;
  char* begin_ = nullptr;
  std::size_t size_max_;
  bool wants_memory_ = false;  // grow has found none
};

/// Constructs an object from exactly these bytes; bytes left over are MOLT_BAD_ARCHIVE. On failure nothing is
/// constructed.
int load_all(const molt_schema&, std::string_view bytes, void* storage, molt_text& error) noexcept;

}  // namespace molt::migration
