// Reads the bytes of a package that nobody vouches for. Private to releases/ and its fuzz target.
#pragma once

#include "base/result.hpp"
#include "releases/package.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

struct archive;

namespace molt::releases {

/// One pass over a package, front to back.
///
/// Threading: one thread at a time.
/// Ownership: owns libarchive's reader; borrows the descriptor or the bytes, which outlive it.
class package_reader {
 public:
  /// Errors: corrupt (not a tar of a supported kind), io.
  static result<package_reader> open(int fd, std::uint64_t packed_size);
  static result<package_reader> open(std::span<const std::byte> bytes);

  /// The first entry. Call once, first. Errors: corrupt; out_of_bounds, also for a ratio that no release has.
  result<std::vector<content_entry>> contents();
  /// Every further entry, checked to be a regular file of the listed name and size. `file` must call its second
  /// argument's reading function to its end; the hash is the caller's to check.
  using read_bytes = std::function<result<void>(const std::function<result<void>(std::string_view)>&)>;
  result<void> for_each_file(const std::vector<content_entry>& list,
                             const std::function<result<void>(const content_entry&, const read_bytes&)>& file);

 private:
  struct closer {
    void operator()(archive*) const noexcept;
  };
  using handle = std::unique_ptr<archive, closer>;
  package_reader(handle reader, std::uint64_t packed_size) noexcept;
  static result<handle> make();
  [[nodiscard]] error failed(std::string_view what) const;
  result<void> read_data(std::string_view path, std::uint64_t size,
                         const std::function<result<void>(std::string_view)>& take);

  handle reader_;
  std::uint64_t packed_size_ = 0;
};

}  // namespace molt::releases
