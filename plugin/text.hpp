// The text in which a function of the C ABI says why it failed, as the host's C++ writes and reads it.
#pragma once

#include "plugin/abi.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace molt {

/// An empty one, for such a function to write to. Its bytes are left as they are: there are a thousand of them.
struct text_buffer : molt_text {
  text_buffer() noexcept { size = 0; }  // NOLINT: see above
};

/// Valid as long as the text is not written to.
[[nodiscard]] inline std::string_view text_of(const molt_text& text) noexcept {
  return {text.data, std::min(text.size, MOLT_TEXT_CAPACITY)};
}

/// What does not fit is cut. Null: nobody wants to know.
inline void set_text(molt_text* to, std::string_view text) noexcept {
  if (to == nullptr) return;
  to->size = static_cast<std::uint32_t>(std::min<std::size_t>(text.size(), MOLT_TEXT_CAPACITY));
  std::memcpy(to->data, text.data(), to->size);
}

}  // namespace molt
