// Text that came from elsewhere: a file, a plugin, a name on a disk. What of it is UTF-8, and what may be shown.
//
// JSON cannot be read back if a string in it is not UTF-8, and control characters would make a terminal do as the text
// says. Control characters are those of ASCII and U+0080 to U+009F.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace molt {

/// Bytes of the character that `text` begins with; 0: it is empty, or begins with none.
[[nodiscard]] std::size_t utf8_character(std::string_view text) noexcept;
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;
/// UTF-8 without a control character.
[[nodiscard]] bool is_printable(std::string_view text) noexcept;
/// The text with a question mark for each byte that is not of a character, and for each control character.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace molt
