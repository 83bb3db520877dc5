#include "loader/inspection.hpp"

#include "loader/elf_image.hpp"
#include "loader/image_file.hpp"
#include "loader/image_findings.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

namespace molt::loader {

std::string_view to_string(finding_kind kind) noexcept {
  switch (kind) {
    case finding_kind::missing_build_id:
      return "missing_build_id";
    case finding_kind::missing_note:
      return "missing_note";
    case finding_kind::duplicate_note:
      return "duplicate_note";
    case finding_kind::bad_note:
      return "bad_note";
    case finding_kind::foreign_abi:
      return "foreign_abi";
    case finding_kind::missing_export:
      return "missing_export";
    case finding_kind::unique_symbol:
      return "unique_symbol";
    case finding_kind::text_relocations:
      return "text_relocations";
    case finding_kind::executable_stack:
      return "executable_stack";
    case finding_kind::run_path:
      return "run_path";
    case finding_kind::writable_code:
      return "writable_code";
    case finding_kind::no_delete:
      return "no_delete";
    case finding_kind::private_runtime:
      return "private_runtime";
    case finding_kind::thread_key:
      return "thread_key";
    case finding_kind::thread_exit_handler:
      return "thread_exit_handler";
    case finding_kind::owns_threads:
      return "owns_threads";
    case finding_kind::exit_handler:
      return "exit_handler";
    case finding_kind::signal_handler:
      return "signal_handler";
    case finding_kind::thread_local_storage:
      return "thread_local_storage";
    case finding_kind::static_tls:
      return "static_tls";
    case finding_kind::extra_exports:
      return "extra_exports";
    case finding_kind::foreign_library:
      return "foreign_library";
  }
  return "unknown";
}

bool inspection::replaceable() const noexcept {
  return std::none_of(findings.begin(), findings.end(),
                      [](const finding& one) { return one.level == severity::refuse; });
}

result<inspection> inspect(const std::filesystem::path& path) {
  MOLT_TRY(const image_file file, image_file::open(path));
  return inspect_bytes(path, file.bytes());
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
  return inspect_image(name, bytes.size(), image);
}

result<void> require_replaceable(const inspection& seen) {
  std::string text;
  std::string hint;
  for (const auto& one : seen.findings) {
    if (one.level != severity::refuse) continue;
    if (text.empty()) hint = one.hint;
    text += (text.empty() ? "" : "; ") + one.text;
  }
  if (text.empty()) return ok();
  return error{reason::refused, seen.path.string() + ": " + text, std::move(hint)};
}

}  // namespace molt::loader
