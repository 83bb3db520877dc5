// Names that a linker knows, as their source spells them.
#pragma once

#include <string>

namespace molt {

/// A symbol or the name of a type (std::type_info::name()), readable; the name itself if it is not mangled. Any thread.
[[nodiscard]] std::string demangle(const std::string& name);

}  // namespace molt
