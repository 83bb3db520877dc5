#include "loader/confined.hpp"

#include "base/unique_fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOLT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOLT_SANITIZED 1
#endif
#endif
#ifndef MOLT_SANITIZED
#define MOLT_SANITIZED 0
#endif

namespace molt::loader {
namespace {

constexpr bool sanitized = MOLT_SANITIZED != 0;

// How a child ends: with its answer written, or without one.
constexpr int answered = 0;
constexpr int not_confined = 71;  // no code that a sanitizer ends with
constexpr int gave_up = 72;       // an exception; there is no memory for more

error os_error(std::string_view what, const char* doing) {
  return error{reason::io, std::string{what} + ": " + doing + ": " + std::strerror(errno), "try again"};
}

bool limit(__rlimit_resource_t which, rlim_t most) {
  const rlimit bound{most, most};
  return ::setrlimit(which, &bound) == 0;
}

/// Bytes of address space that this process has.
[[maybe_unused]] std::optional<std::size_t> address_space() {
  const unique_fd file{::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)};
  std::array<char, 64> text{};
  if (!file || ::read(file.get(), text.data(), text.size() - 1) <= 0) return std::nullopt;
  return std::strtoull(text.data(), nullptr, 10) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

bool limit_resources(const confined_limits& limits) {
  const auto seconds = static_cast<rlim_t>(limits.processor.count());
  bool all = limit(RLIMIT_CPU, seconds) && limit(RLIMIT_CORE, 0) && limit(RLIMIT_FSIZE, 0);
  if constexpr (!sanitized) {
    const auto before = address_space();
    all = all && before && limit(RLIMIT_AS, *before + limits.memory_bytes);
  }
  return all && limit(RLIMIT_NOFILE, 0);
}

// Memory may not become code. Writing is to the one descriptor that is left.
[[maybe_unused]] bool filter_system_calls() {
  if constexpr (sanitized) return true;
  scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (filter == nullptr) return false;
  bool all = true;
  for (const int allowed : {SCMP_SYS(write), SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
                            SCMP_SYS(futex), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
                            SCMP_SYS(rt_sigprocmask), SCMP_SYS(getpid), SCMP_SYS(gettid)})
    all = all && ::seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed, 0) == 0;
  // abort() sends a signal, to itself.
  const scmp_arg_cmp itself{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()), 0};
  all = all && ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &itself) == 0;
  const scmp_arg_cmp not_code{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0};
  for (const int allowed : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    all = all && ::seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, allowed, 1, &not_code) == 0;
  all = all && ::seccomp_load(filter) == 0;
  ::seccomp_release(filter);
  return all;
}

bool confine(int answer, const confined_limits& limits) {
  // A handler of the parent's would run in a process that is not the parent.
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const auto fd = static_cast<unsigned>(answer);
  if (fd > 0 && ::close_range(0, fd - 1, 0) != 0) return false;
  if (::close_range(fd + 1, ~0U, 0) != 0) return false;
  return ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_DUMPABLE, 0) == 0 && limit_resources(limits) && filter_system_calls();
}

[[noreturn]] void run_child(int answer, const std::function<std::string()>& work, const confined_limits& limits) {
  if (!confine(answer, limits)) ::_exit(not_confined);
  try {
    const std::string text = work();
    for (std::size_t sent = 0; sent < text.size();) {
      const ssize_t now = ::write(answer, text.data() + sent, text.size() - sent);
      if (now < 0) ::_exit(gave_up);
      sent += static_cast<std::size_t>(now);
    }
  } catch (...) {
    ::_exit(gave_up);
  }
  ::_exit(answered);
}

/// Kills what it still holds and waits for it, so that there is no zombie.
class child_process {
 public:
  explicit child_process(pid_t id) : id_{id} {}
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process() {
    if (id_ <= 0) return;
    ::kill(id_, SIGKILL);
    (void)wait();
  }
  /// Its status; none if somebody else has waited for it.
  std::optional<int> wait() {
    int status = 0;
    pid_t ended = 0;
    do ended = ::waitpid(id_, &status, 0);
    while (ended < 0 && errno == EINTR);
    id_ = 0;
    return ended < 0 ? std::nullopt : std::optional{status};
  }

 private:
  pid_t id_;
};

enum class reading { whole, too_long, too_late, failed };

reading read_answer(int from, std::string& to, const confined_limits& limits) {
  const auto deadline = std::chrono::steady_clock::now() + limits.wall;
  std::array<char, 1U << 16U> buffer;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return reading::too_late;
    pollfd waiting{from, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno != EINTR) return reading::failed;
    if (ready <= 0) continue;
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return reading::failed;
    if (got == 0) return reading::whole;
    if (to.size() + static_cast<std::size_t>(got) > limits.answer_bytes) return reading::too_long;
    to.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

result<void> judge_end(std::string_view what, int status) {
  const std::string name{what};
  if (WIFEXITED(status) && WEXITSTATUS(status) == answered) return ok();
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_confined)
    return error{reason::io, name + ": not looked at: this kernel cannot confine the process that would",
                 "use a kernel with seccomp and close_range: Linux 5.9 or newer"};
  if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL))
    return error{reason::timeout, name + ": looking at it takes too long", "the file is damaged or made to do harm"};
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
    return error{reason::corrupt, name + ": whoever looks at it is made to do what it must not, and was stopped",
                 "the file is made to do harm; do not load it elsewhere either"};
  const std::string how =
      WIFSIGNALED(status) ? std::string{"crashed: "} + ::strsignal(WTERMSIG(status)) : std::string{"gave up"};
  return error{reason::corrupt, name + ": the process that looked at it " + how,
               "the file is damaged or made to do harm; report it if it is neither"};
}

}  // namespace

result<std::string> run_confined(std::string_view what, const std::function<std::string()>& work,
                                 const confined_limits& limits) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return os_error(what, "cannot make a pipe");
  unique_fd from{ends[0]};
  unique_fd to{ends[1]};
  const pid_t id = ::fork();
  if (id < 0) return os_error(what, "cannot start the process that looks at it");
  if (id == 0) run_child(to.get(), work, limits);
  child_process child{id};
  to.reset();
  std::string answer;
  switch (read_answer(from.get(), answer, limits)) {
    case reading::too_late:
      return error{reason::timeout, std::string{what} + ": looking at it takes too long",
                   "the file is damaged or made to do harm"};
    case reading::too_long:
      return error{reason::out_of_bounds, std::string{what} + ": there is more to say of it than is listened to",
                   "the file is damaged or made to do harm"};
    case reading::failed:
      return os_error(what, "cannot read what was found");
    case reading::whole:
      break;
  }
  // A reaper of the host's may have been faster: then what was said has to tell.
  if (const auto status = child.wait()) MOLT_CHECK(judge_end(what, *status));
  return answer;
}

}  // namespace molt::loader
