// Whether two archives hold the same state, and where they do not: for a state that went to another version and back.
#pragma once

#include "plugin/abi.h"

#include <string>
#include <string_view>

namespace molt::migration {

enum class likeness {
  same,
  different,
  unclear,  ///< only the type's code could tell: other bytes of the same number, which its own serialize has written,
            ///< or an evolving_map with other entries converted
};

struct archive_difference {
  likeness found = likeness::same;
  std::string text;  ///< the first difference: "live[\"anna\"].hits: 5 became 0"
};

/// Compares two archives written for the schema. If it is flagged MOLT_SCHEMA_TRANSPARENT, the order of elements in
/// unordered containers is no difference. Takes no memory to speak of, but about three times the archives' size
/// where they are different. Errors: none; what cannot be read as the schema says is different.
/// Threading: any thread.
[[nodiscard]] archive_difference compare_archives(const molt_schema&, std::string_view before, std::string_view after);

}  // namespace molt::migration
