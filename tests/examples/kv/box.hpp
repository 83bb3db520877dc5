// A kv in real processes: molt-node alone, or moltd with its node, on a free port and in a folder that goes with it.
#pragma once

#include "peer.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kv_test {

class scratch_folder {
 public:
  scratch_folder();
  ~scratch_folder();
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

[[nodiscard]] std::string read_file(const std::filesystem::path& file);

/// A copy of kv's release of that version, listening on `port`.
std::filesystem::path release_on(const std::filesystem::path& folder, const std::string& version, std::uint16_t port);

/// Bytes of memory that a process holds, without what it shares.
[[nodiscard]] std::size_t memory_of(int pid);

/// molt-node with one version of kv.
class node {
 public:
  explicit node(const std::string& version);
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] int pid() const noexcept { return running_->pid(); }
  [[nodiscard]] std::string log() const { return read_file(folder_.path() / "log"); }

 private:
  scratch_folder folder_;
  std::uint16_t port_ = free_port();
  std::unique_ptr<process> running_;
};

/// What a command line said.
struct outcome {
  int status = -1;
  std::string output;  ///< stdout and stderr
};

/// moltd with kv 1.0.0 running and the other versions installed.
class box {
 public:
  box();
  ~box();
  box(const box&) = delete;
  box& operator=(const box&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  /// Of molt-node, as moltd says it; 0 if it runs none.
  [[nodiscard]] int node_pid() const;
  [[nodiscard]] outcome molt(const std::string& words) const;
  [[nodiscard]] std::string log() const { return read_file(folder_.path() / "log"); }

 private:
  scratch_folder folder_;
  std::uint16_t port_ = free_port();
  std::unique_ptr<process> running_;
};

/// The reply to one command, without the CR LF at its end: "+OK", ":1", "$1\r\na".
std::string ask(client& server, const std::vector<std::string>& words);

}  // namespace kv_test
