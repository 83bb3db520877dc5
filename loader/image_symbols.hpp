// Names for addresses in an image, from the symbols in its file. A stripped file has only those that are exported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace molt::loader {

/// The function or object that holds `address` (as the file counts, without where the image is mapped), demangled, with
/// an offset if it is not its begin: "std::_Sp_counted_ptr_inplace<kv::note, ...>::_M_dispose() + 0x4". The section's
/// name if no symbol holds it; empty if none does. The file must have been found sound (elf_image). Any thread.
[[nodiscard]] std::string name_address(std::span<const std::byte> file, std::uint64_t address);

}  // namespace molt::loader
