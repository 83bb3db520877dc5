#include "tools/moltd_node_process.hpp"

#include "base/durable_file.hpp"

#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

extern char** environ;  // NOLINT(readability-redundant-declaration): unistd.h has it only with _GNU_SOURCE

namespace molt::daemon {
namespace {

// glibc 2.36's header for these lacks extern "C".
int pidfd_open(pid_t pid) noexcept { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)); }
int pidfd_send_signal(int pidfd, int number) noexcept {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0U));
}

/// posix_spawn's two parameter blocks, destroyed together.
struct spawn_settings {
  spawn_settings() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  spawn_settings(const spawn_settings&) = delete;
  spawn_settings& operator=(const spawn_settings&) = delete;
  ~spawn_settings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

std::string print(const std::vector<std::pair<std::string, int>>& fds) {
  std::string text;
  for (const auto& [name, fd] : fds) text += (text.empty() ? "" : ",") + name + '=' + std::to_string(fd);
  return text;
}

/// The node's environment: ours, and malloc told to ask for huge pages. With them a rehearsal's copy is made in a fraction of
/// the time (fork copies page tables).
class node_environment {
 public:
  node_environment() {
    constexpr std::string_view name = "GLIBC_TUNABLES=";
    constexpr std::string_view tunable = "glibc.malloc.hugetlb";
    for (char** each = environ; *each != nullptr; ++each) {
      const std::string_view text = *each;
      if (text.starts_with(name))
        tunables_ = text;
      else
        all_.push_back(*each);
    }
    if (tunables_.find(tunable) == std::string::npos)
      tunables_ += std::string{tunables_.empty() ? name : ":"} + std::string{tunable} + "=1";
    all_.push_back(tunables_.data());
    all_.push_back(nullptr);
  }
  node_environment(const node_environment&) = delete;
  node_environment& operator=(const node_environment&) = delete;
  [[nodiscard]] char** data() noexcept { return all_.data(); }

 private:
  std::string tunables_;
  std::vector<char*> all_;
};

}  // namespace

result<node_process> node_process::spawn(const command& wanted) {
  std::vector<std::string> words{wanted.program.string(), "--release-dir", wanted.release_folder.string(), "--runtime",
                                 wanted.runtime_folder.string()};
  if (!wanted.contents.empty()) words.insert(words.end(), {"--contents", wanted.contents});
  if (!wanted.listen_fds.empty()) {
    words.emplace_back("--listen-fds");
    words.push_back(print(wanted.listen_fds));
  }
  words.insert(words.end(), wanted.more.begin(), wanted.more.end());
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  spawn_settings settings;
  // Onto itself: glibc takes that as the wish to clear close-on-exec, in the child alone.
  for (const auto& [name, fd] : wanted.listen_fds) ::posix_spawn_file_actions_adddup2(&settings.actions, fd, fd);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&settings.attributes, &none);
  ::posix_spawnattr_setsigdefault(&settings.attributes, &all);
  ::posix_spawnattr_setpgroup(&settings.attributes, 0);
  ::posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  node_environment environment;
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, words.front().c_str(), &settings.actions, &settings.attributes, arguments.data(),
                                   environment.data());
  if (failed != 0) return error{reason::io, system_error("starting", wanted.program, failed).message()};
  unique_fd pidfd{pidfd_open(pid)};
  if (!pidfd) {
    const int number = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error{reason::io, system_error("watching", wanted.program, number).message()};
  }
  return node_process{pid, std::move(pidfd), true};
}

result<node_process> node_process::adopt(pid_t pid) {
  unique_fd pidfd{pidfd_open(pid)};
  if (!pidfd) return error{reason::not_found, "no process " + std::to_string(pid)};
  return node_process{pid, std::move(pidfd), false};
}

bool node_process::has_ended() const noexcept {
  pollfd ended{pidfd_.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 1;
}

void node_process::signal(int number) const noexcept {
  if (pidfd_) (void)pidfd_send_signal(pidfd_.get(), number);
}

std::string node_process::collect() noexcept {
  pidfd_.reset();
  if (!child_) return "ended (it was started by an earlier moltd, so its status is unknown)";
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0)
    if (errno != EINTR) return "ended";
  if (info.si_code == CLD_EXITED) return "exited with status " + std::to_string(info.si_status);
  const char* name = ::strsignal(info.si_status);  // NOLINT(concurrency-mt-unsafe): glibc's is per thread
  return "killed by signal " + std::to_string(info.si_status) + " (" + (name == nullptr ? "unknown" : name) + ')';
}

}  // namespace molt::daemon
