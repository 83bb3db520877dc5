// A folder of crash reports, bounded in number and bytes; the oldest go first.
//
//   <id>.json             a report, durably replaced; the id begins with the time (UTC), so names sort by age
//   node-<pid>-<time>.raw what a molt-node will write if it dies (crash_signal); locked (flock) while it lives
//   node-....refused      such a file that was damaged, kept as evidence
//
// Several processes may use one folder: a raw report is turned into a report by whoever locks it first.
//
// Threading: any thread; two writers of one report must be kept apart by the caller.
#pragma once

#include "base/result.hpp"

#include <boost/json/object.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::node {

struct crash_bounds {
  std::size_t reports_max = 64;
  std::uintmax_t bytes_max = std::uintmax_t{16} << 20U;  ///< of all files together
};

/// Below the folder: images that were unmapped, by build ID (image_retirement.hpp). Symbols are looked for there.
inline constexpr const char* archived_images_folder = "images";

inline constexpr std::size_t crash_report_size_max = std::size_t{1} << 20U;

class crash_folder {
 public:
  using bounds = crash_bounds;
  explicit crash_folder(std::filesystem::path folder, bounds = {});

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return folder_; }

  /// A new id, as "20261121T171533-51234501"; ids sort by time.
  [[nodiscard]] static std::string make_id(std::chrono::system_clock::time_point);
  /// Writes or replaces the report of that id, which becomes its member "id"; then the oldest go until the bounds are
  /// kept. The folder is made if missing. Errors: io (also: the disk is full), out_of_bounds (the report is too large).
  result<void> write(const std::string& id, boost::json::object report) const;

  /// Turns what dead nodes left into reports; `folders` as for report_of. Returns the ids of the new ones. What cannot
  /// be read or written is told to `complain` and does not stop the others.
  std::vector<std::string> take_raw_reports(const std::vector<std::filesystem::path>& folders,
                                            const std::function<void(const error&)>& complain) const;

  /// All summaries, the newest first. A folder that does not exist is empty. Errors: io.
  [[nodiscard]] result<std::vector<boost::json::object>> list() const;
  /// By id, by the only one that begins so, or "latest". Errors: not_found, invalid_argument (several begin so),
  /// corrupt, io.
  [[nodiscard]] result<boost::json::object> read(std::string_view id) const;

 private:
  [[nodiscard]] result<std::vector<std::string>> ids() const;  ///< sorted: the oldest first
  [[nodiscard]] result<boost::json::object> read_file_of(const std::string& id) const;
  void trim() const;

  std::filesystem::path folder_;
  bounds bounds_;
};

}  // namespace molt::node
