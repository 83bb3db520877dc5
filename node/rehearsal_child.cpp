#include "node/rehearsal_child.hpp"

#include "base/demangle.hpp"
#include "loader/tripwire.hpp"
#include "node/crash_signal.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <typeinfo>

namespace molt::node::rehearsal {
namespace {

constexpr int niceness = 2;  // live servers first; not so much that it starves where they take all there is
constexpr std::size_t signal_stack_size = 256 * 1024;
constexpr std::array fatal_signals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

// The copy's own; it has one thread that matters, and one end.
last_words* words = nullptr;
volatile std::sig_atomic_t dying = 0;
std::uint64_t outermost = 0;  // frame: those around it are the forking thread's

std::uint64_t instruction_of(const void* context) noexcept {
  [[maybe_unused]] const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uint64_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return machine.pc;
#else
  return 0;
#endif
}

/// On top of the stack when a call led nowhere: who called.
std::uint64_t caller_of_nothing(const void* context) noexcept {
  std::uint64_t returns_to = 0;
#if defined(__x86_64__)
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
  (void)read_memory(static_cast<std::uint64_t>(machine.gregs[REG_RSP]), &returns_to, sizeof returns_to);
#elif defined(__aarch64__)
  returns_to = static_cast<const ucontext_t*>(context)->uc_mcontext.regs[30];
#else
  (void)context;
#endif
  return returns_to;
}

_Unwind_Reason_Code add_frame(_Unwind_Context* at, void* with) {
  const auto address = static_cast<std::uint64_t>(_Unwind_GetIP(at));
  const auto stopped_at = *static_cast<const std::uint64_t*>(with);
  if (words->frames == 0 && address != stopped_at) return _URC_NO_REASON;  // the handler's own
  if (address == 0 || words->frames >= frames_max || _Unwind_GetCFA(at) > outermost) return _URC_END_OF_STACK;
  words->frame[words->frames] = address;
  ++words->frames;
  return _URC_NO_REASON;
}

_Unwind_Reason_Code no_frame(_Unwind_Context* /*at*/, void* /*with*/) { return _URC_END_OF_STACK; }

void add_image(const map_line& image, std::uint64_t header, void* /*with*/) {
  if (words->images >= images_max) return;
  auto& to = words->image_at[words->images];
  to.begin = image.begin;
  to.end = image.end;
  to.file_offset = image.file_offset;
  to.path.set(image.path);
  unsigned char id[build_id_max];
  to.id_size = static_cast<std::uint32_t>(read_build_id(header, id));
  std::copy_n(id, to.id_size, to.id.begin());
  ++words->images;
}

/// Writes down where the copy is; async-signal-safe. Nothing here waits, and a fault in here ends the copy at once.
void on_signal(int signal, siginfo_t* info, void* context) {
  if (signal == SIGSEGV && dying == 0 && loader::take_tripwire_fault(info, context))
    return;  // an old image, not a crash
  if (dying != 0) ::_exit(exit_told_where);
  dying = 1;
  words->signal = signal;
  words->address = info->si_code > 0 ? reinterpret_cast<std::uint64_t>(info->si_addr) : 0;
  std::uint64_t stopped_at = instruction_of(context);
  _Unwind_Backtrace(&add_frame, &stopped_at);
  if (words->frames <= 1) {
    words->frame[0] = stopped_at;
    words->frame[1] = caller_of_nothing(context);
    words->frames = words->frame[1] != 0 ? 2 : 1;
  }
  visit_images(&add_image, nullptr);
  ::_exit(exit_told_where);
}

[[noreturn]] void on_terminate() noexcept {
  words->text.set("std::terminate without an exception");
  if (const auto thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& caught) {
      words->text.set("uncaught " + demangle(typeid(caught).name()) + ": " + caught.what());
    } catch (...) {
      words->text.set("an uncaught exception that is not a std::exception");
    }
  }
  std::abort();
}

void close_inherited() noexcept {
  if (::close_range(3, ~0U, 0) == 0) return;
  // Before Linux 5.9.
  rlimit limit{};
  const auto most = ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
  for (rlim_t fd = 3; fd < most; ++fd) ::close(static_cast<int>(fd));
}

void write_file(const char* path, const char* text, std::size_t size) noexcept {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (::write(fd, text, size) < 0) (void)fd;  // as good as it gets
  ::close(fd);
}

/// Bytes that RLIMIT_DATA counts now.
std::uint64_t data_bytes() noexcept {
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long pages = 0;
  const int got = std::fscanf(file, "%*u %*u %*u %*u %*u %lu", &pages);  // NOLINT: the kernel's own number
  std::fclose(file);
  return got == 1 ? std::uint64_t{pages} * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) : 0;
}

void limit_to(int which, std::uint64_t soft, std::uint64_t hard) noexcept {
  rlimit now{};
  if (::getrlimit(static_cast<__rlimit_resource>(which), &now) != 0) return;
  now.rlim_cur = std::min<rlim_t>(soft, now.rlim_max);
  now.rlim_max = std::min<rlim_t>(hard, now.rlim_max);
  (void)::setrlimit(static_cast<__rlimit_resource>(which), &now);
}

void set_limits(const child_settings& settings) noexcept {
  limit_to(RLIMIT_CORE, 0, 0);
  limit_to(RLIMIT_CPU, settings.processor_seconds, settings.processor_seconds + 2);
  if (can_catch_crashes()) {  // a sanitizer's own memory is not ours to bound
    const auto now = data_bytes();
    if (now != 0) limit_to(RLIMIT_DATA, now + settings.memory, now + settings.memory);
  }
  (void)::setpriority(PRIO_PROCESS, 0, niceness);
  write_file("/proc/self/oom_score_adj", "1000", 4);
}

void set_signals() noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal)
    if (can_catch_crashes() || std::find(fatal_signals.begin(), fatal_signals.end(), signal) == fatal_signals.end())
      (void)::sigaction(signal, &standard, nullptr);
  standard.sa_handler = SIG_IGN;
  (void)::sigaction(SIGPIPE, &standard, nullptr);
  void* const memory = ::mmap(nullptr, signal_stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) {
    stack_t stack{};
    stack.ss_sp = memory;
    stack.ss_size = signal_stack_size;
    (void)::sigaltstack(&stack, nullptr);
  }
  struct sigaction catching {};
  catching.sa_sigaction = &on_signal;
  catching.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&catching.sa_mask);
  if (can_catch_crashes())
    for (const int signal : fatal_signals) (void)::sigaction(signal, &catching, nullptr);
  (void)::sigaction(SIGXCPU, &catching, nullptr);
  (void)::sigaction(tell_where_signal, &catching, nullptr);
  sigset_t none;
  sigemptyset(&none);
  (void)::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

void run_child(shared_memory& shared, const child_settings& settings, const std::function<void()>& work) noexcept {
  ::dup2(settings.input, 0);
  ::dup2(settings.output, 1);
  ::dup2(settings.output, 2);
  close_inherited();
  (void)::setpgid(0, 0);
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != settings.parent) ::_exit(exit_orphaned);
  (void)::prctl(PR_SET_NAME, "molt-rehearsal");
  words = &shared.last;
  outermost = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
  _Unwind_Backtrace(&no_frame, nullptr);  // its first use may initialise it
  std::set_terminate(&on_terminate);
  set_signals();
  set_limits(settings);
  // A plugin that calls exit() would otherwise destroy what is not the copy's to destroy.
  (void)std::atexit([] { ::_exit(exit_by_plugin); });
  work();  // one that throws ends in on_terminate
  ::_exit(exit_done);
}

}  // namespace molt::node::rehearsal
