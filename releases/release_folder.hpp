// Builds a release's folder aside, verified and durable, and lets it appear whole. Private to releases/.
//
//   state     event       next       on disk
//   (none)    begin       open       .<name>.incoming, mode 0700
//   open      add …       open       files below it, each synced
//   open      finish      finished   <name>, read-only, with molt-contents; everything synced
//   open      destroyed   (none)     nothing
#pragma once

#include "base/file_system.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "releases/file_pieces.hpp"
#include "releases/package.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace molt::releases {

/// An error that names files of the release as the release does, not by where they lie for now: "plugins/libkv.so: …".
[[nodiscard]] error without_folder(const error&, const std::filesystem::path& folder);

class release_folder {
 public:
  /// `list` is what will be added, in its order. Errors: already_exists, io.
  static result<std::unique_ptr<release_folder>> begin(const std::filesystem::path& folder,
                                                       std::vector<content_entry> list, file_system&);

  release_folder(const release_folder&) = delete;
  release_folder& operator=(const release_folder&) = delete;
  ~release_folder();

  /// The next file: its path must be the next of the list. `fill` gives its bytes to the function it is handed.
  using take_bytes = std::function<result<void>(std::string_view)>;
  result<void> add(std::string_view path, const std::function<result<void>(const take_bytes&)>& fill);
  /// Everything was added and the manifest in it is sound: the folder appears.
  result<manifest> finish();

 private:
  release_folder(std::filesystem::path folder, std::vector<content_entry> list, file_system& system);
  result<unique_fd> open_parent(const std::string& path);
  result<void> write_contents();
  result<void> seal_folders();

  std::filesystem::path folder_;
  std::filesystem::path incoming_;
  std::vector<content_entry> list_;
  file_system& system_;
  std::size_t next_ = 0;
  std::set<std::string> folders_;  ///< made below incoming_, relative
  bool finished_ = false;
};

}  // namespace molt::releases
