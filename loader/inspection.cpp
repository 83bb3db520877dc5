#include "loader/inspection.hpp"

#include "loader/elf_image.hpp"
#include "loader/elf_survey.hpp"
#include "loader/image_file.hpp"
#include "loader/image_findings.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

namespace molt::loader {

bool inspection::replaceable() const noexcept {
  return std::none_of(findings.begin(), findings.end(),
                      [](const finding& one) { return one.level == severity::refuse; });
}

void sort_findings(inspection& seen) {
  std::stable_sort(seen.findings.begin(), seen.findings.end(),
                   [](const finding& one, const finding& other) { return one.level > other.level; });
}

result<inspection> inspect(const plugin_file& wanted) {
  MOLT_TRY(const image_file file, image_file::open(wanted));
  return inspect_bytes(wanted.path, file.bytes());
}

result<inspection> inspect_bytes(const std::filesystem::path& name, std::span<const std::byte> bytes) {
  if (bytes.size() > image_size_max) return error{reason::out_of_bounds, name.string() + ": larger than 512 MiB"};
  // libelf reads headers in place.
  std::unique_ptr<std::byte[]> aligned;
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(std::max_align_t) != 0) {
    aligned = std::make_unique<std::byte[]>(bytes.size());
    std::memcpy(aligned.get(), bytes.data(), bytes.size());
    bytes = {aligned.get(), bytes.size()};
  }
  MOLT_TRY(const elf_image image, elf_image::parse(name, bytes));
  inspection seen = inspect_image(name, bytes.size(), image);
  judge_survey(elf_survey::make(bytes, image), seen);
  make_printable(seen);
  return seen;
}

result<void> require_replaceable(const inspection& seen) {
  std::string text;
  std::string hint;
  std::size_t told = 0;
  for (const auto& one : seen.findings) {
    if (one.level != severity::refuse) continue;
    if (told == 0) hint = one.hint;
    if (told < findings_told_max) text += (told == 0 ? "" : "; ") + one.text;
    ++told;
  }
  if (told == 0) return ok();
  if (told > findings_told_max)
    text += "; and " + std::to_string(told - findings_told_max) + " more, which molt inspect lists";
  return error{reason::refused, seen.path.string() + ": " + text, std::move(hint)};
}

}  // namespace molt::loader
