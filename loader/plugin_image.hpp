// A plugin mapped into this process, and the leases that keep it there.
//
//   load      copies the file into a sealed memory file, compares the copy with the SHA-256 that its release states,
//             inspects it, and loads that same copy: nobody can change the bytes between inspection and loading, nor
//             later under a running server (an overwritten mapped file is a SIGBUS).
//   lease     a shared pointer; whoever holds a pointer into the image (a table, a schema, a hook, a vtable) holds one.
//   unload    takes the last lease, closes, and looks whether the image is really gone.
//
// Before that, a program that can be copied looks for pointers into the image (image_evidence.hpp), makes it unreadable
// for a while (arm_tripwire), and keeps it (keep) if either finds somebody who uses it.
//
// Invariants: an image's table agrees with its note in every fact; two images mapped at the same time have different
// build IDs; the file descriptor of an image stays open as long as it is mapped, so that no two mapped images have the
// same name.
#pragma once

#include "base/result.hpp"
#include "loader/inspection.hpp"
#include "loader/tripwire.hpp"
#include "loader/word_scan.hpp"
#include "plugin/abi.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace molt::loader {

namespace detail {
struct image_parts;
}
class plugin_image;
struct unload_report;

/// Threading: immutable. Ownership: owns the mapping.
class plugin_image {
 public:
  explicit plugin_image(std::unique_ptr<detail::image_parts>) noexcept;  // used by load()
  plugin_image(const plugin_image&) = delete;
  plugin_image& operator=(const plugin_image&) = delete;
  ~plugin_image();

  [[nodiscard]] const inspection& facts() const noexcept;
  [[nodiscard]] const plugin_description& description() const noexcept { return facts().plugin; }
  [[nodiscard]] const std::string& name() const noexcept { return description().name; }
  [[nodiscard]] const std::string& version() const noexcept { return description().version; }
  [[nodiscard]] const std::string& build_id() const noexcept { return facts().build_id; }

  // From the description to the code. Indexes are those of description(); they must be in range.
  [[nodiscard]] const molt_plugin_table& table() const noexcept;
  [[nodiscard]] const molt_server_type* find_server_type(std::string_view name) const noexcept;  ///< null: has none
  [[nodiscard]] const molt_server_type& server_type(std::uint32_t index) const noexcept;
  [[nodiscard]] const molt_schema& schema(std::uint32_t index) const noexcept;
  [[nodiscard]] const molt_message& message(std::uint32_t index) const noexcept;
  [[nodiscard]] const molt_edge& state_edge(std::uint32_t index) const noexcept;

  /// Whether an address lies in the image: for finding who still points there.
  [[nodiscard]] bool contains(const void*) const noexcept;
  [[nodiscard]] hidden_range range() const noexcept;
  /// What lies there by name (image_symbols.hpp). The address must lie in the image.
  [[nodiscard]] std::string name_of(std::uintptr_t address) const;
  /// Its file's bytes, as they were inspected and loaded.
  [[nodiscard]] std::span<const std::byte> file() const noexcept;

 private:
  friend result<unload_report> unload(std::shared_ptr<const plugin_image>& last);
  friend struct image_access;  // plugin_image.cpp

  std::unique_ptr<detail::image_parts> parts_;
};

/// Keeps an image mapped. Copy it wherever a pointer into the image goes.
using lease = std::shared_ptr<const plugin_image>;

/// Inspects and loads a plugin. The same plugin (equal build ID, equal bytes) already mapped: another lease on it.
/// Errors, after which nothing is mapped that was not before: those of inspect(); refused (a finding, or the table's own defect), incompatible (another machine, ABI
/// version, or the table disagrees with the note), already_exists (another file with an equal build ID is mapped), io
/// (what the linker said). Threading: any thread.
[[nodiscard]] result<lease> load(const plugin_file&);

struct unload_report {
  std::string plugin;  ///< "kv 1.0.0"
  std::string build_id;
  bool unmapped = false;
  bool retiring = false;  ///< not yet, but it has been given to who will
  std::string why;        ///< if still mapped: the probable reason
};

/// Whether this build unmaps images at all. Under a sanitizer it keeps them, so that reports can name their functions.
[[nodiscard]] bool unmaps_images() noexcept;

/// Closes the image and verifies it: neither the linker (RTLD_NOLOAD) nor the process's maps show it any more. `last`
/// is reset on success. Letting the last lease go does the same without a report; list images() to see what stayed.
/// Errors: busy, if other leases remain; then nothing happened.
/// Threading: any thread.
[[nodiscard]] result<unload_report> unload(lease& last);
/// The same, of an image that is unreadable and has been so all the time since arm_tripwire. Errors: busy, also if it
/// has been touched or loaded again meanwhile, whoever did so having let go of it or not.
[[nodiscard]] result<unload_report> unload_untouched(lease& last);

/// Why it must not be closed whatever is known about pointers into it; empty: it may be.
[[nodiscard]] std::string cannot_close_because(const plugin_image&);

/// Makes the image unreadable (tripwire.hpp) until it is unloaded, kept, or loaded again. Errors: busy (other leases
/// remain), and those of tripwire::arm. Threading: any thread.
[[nodiscard]] result<void> arm_tripwire(const lease& only);
/// Who has touched it since. Threading: any thread.
[[nodiscard]] std::optional<trip> tripped(const lease&);

/// Keeps the image mapped, for good unless it is loaded again, without closing it. `last` is reset. Errors: busy, if
/// other leases remain. Threading: any thread.
result<void> keep(lease& last, std::string why);

/// In a copy of this process that has one thread and will end, made while hold_images() was held: closes the image
/// there, forgets all about it, and returns why it is still mapped; empty: it is gone. Leases on it are void.
[[nodiscard]] std::string close_in_copy(const plugin_image&);

/// While this is held nothing is loaded or unloaded here, nor is the linker at it for us: for a fork whose copy loads.
/// Threading: any thread.
[[nodiscard]] std::unique_lock<std::mutex> hold_images();

/// One image that is mapped or was closed and did not go.
struct image_info {
  std::string plugin;
  std::string build_id;
  std::filesystem::path path;
  hidden_range range;  ///< of addresses that it occupies
  std::size_t leases = 0;
  bool unreadable = false;       ///< a tripwire is armed
  std::string resident_because;  ///< not empty: closed, but kept mapped, and why
};
/// Threading: any thread.
[[nodiscard]] std::vector<image_info> images();

}  // namespace molt::loader
