// The process that runs molt-node, as moltd sees it: started by this moltd, or found alive by it.
#pragma once

#include "base/result.hpp"
#include "base/unique_fd.hpp"

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace molt::daemon {

/// Threading: the owner locks; signal() alone may be called beside everything else.
class node_process {
 public:
  struct command {
    std::filesystem::path program;
    std::filesystem::path release_folder;
    std::string contents;  ///< SHA-256 of its molt-contents; empty: not known
    std::filesystem::path runtime_folder;
    std::vector<std::pair<std::string, int>> listen_fds;  ///< inherited by the node under the same numbers
    std::vector<std::string> more;                        ///< further arguments
  };

  /// Starts molt-node. It gets its own process group, so that a Ctrl-C meant for moltd does not reach it, and no signal
  /// that tells it when moltd dies: it goes on. Error: io.
  static result<node_process> spawn(const command&);
  /// Takes over a living process that is not our child. Error: not_found.
  static result<node_process> adopt(pid_t);

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// Readable once the process has ended.
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
  [[nodiscard]] bool has_ended() const noexcept;
  void signal(int number) const noexcept;
  /// Collects an ended process and says how it ended: "killed by signal 9 (Killed)", "exited with status 1".
  [[nodiscard]] std::string collect() noexcept;

 private:
  node_process(pid_t pid, unique_fd pidfd, bool child) noexcept : pid_{pid}, pidfd_{std::move(pidfd)}, child_{child} {}

  pid_t pid_ = -1;
  unique_fd pidfd_;
  bool child_ = false;
};

}  // namespace molt::daemon
