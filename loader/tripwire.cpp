#include "loader/tripwire.hpp"

#include "loader/plugin_image.hpp"
#include "loader/process_memory.hpp"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <mutex>

namespace molt::loader {
namespace {

constexpr std::size_t segments_max = 16;

enum class state : int { unused, preparing, armed, tripping, tripped };

struct segment {
  std::uintptr_t begin;
  std::uintptr_t end;
  int protection;
};

// Read by the signal handler while armed, tripping or tripped; written by arm() and disarm() otherwise.
struct slot {
  std::atomic<state> now{state::unused};
  std::atomic<unsigned> handlers{0};  // in the handler, about this slot
  segment segments[segments_max] = {};
  std::size_t count = 0;
  std::uintptr_t inverted_begin = 0;  // as who looks for pointers into the image would find these
  std::uintptr_t inverted_end = 0;
  trip seen;

  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept {
    return address >= ~inverted_begin && address < ~inverted_end;
  }
};

constinit slot slots[tripwires_max];
constinit std::atomic<std::uint64_t (*)()> witness_of{nullptr};
std::mutex arming;  // slots being taken, the handler being installed
struct sigaction before {};
constinit std::atomic<std::uintptr_t> linker_begin{0};
constinit std::atomic<std::uintptr_t> linker_end{0};

void restore(const slot& which) noexcept {
  for (std::size_t i = 0; i < which.count; ++i) {
    const segment& each = which.segments[i];
    (void)::mprotect(reinterpret_cast<void*>(~each.begin), (~each.end) - (~each.begin), each.protection);
  }
}

bool protect(const segment& each, int protection) noexcept {
  return ::mprotect(reinterpret_cast<void*>(~each.begin), (~each.end) - (~each.begin), protection) == 0;
}

std::uintptr_t instruction_of(const void* context) noexcept {
  [[maybe_unused]] const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return machine.pc;
#else
  return 0;
#endif
}

struct walk {
  trip* to;
  std::uintptr_t stopped_at;
  bool below_signal = true;
};

_Unwind_Reason_Code add_frame(_Unwind_Context* at, void* with) {
  auto& walking = *static_cast<walk*>(with);
  const auto address = static_cast<std::uintptr_t>(_Unwind_GetIP(at));
  if (walking.below_signal && address != walking.stopped_at) return _URC_NO_REASON;
  walking.below_signal = false;
  if (address == 0 || walking.to->frames == trip_frames_max) return _URC_END_OF_STACK;
  walking.to->inverted_frame[walking.to->frames++] = ~address;
  return _URC_NO_REASON;
}

_Unwind_Reason_Code no_frame(_Unwind_Context* /*at*/, void* /*with*/) { return _URC_END_OF_STACK; }

void note(trip& to, std::uintptr_t address, const void* context) noexcept {
  to = {};
  to.thread = static_cast<int>(::syscall(SYS_gettid));
  to.inverted_address = ~address;
  if (const auto witness = witness_of.load(std::memory_order_acquire); witness != nullptr) to.server = witness();
  walk walking{&to, instruction_of(context)};
  _Unwind_Backtrace(&add_frame, &walking);
  if (to.frames == 0) to.inverted_frame[to.frames++] = ~walking.stopped_at;
}

bool by_linker(const void* context) noexcept {
  const std::uintptr_t at = instruction_of(context);
  return at >= linker_begin.load(std::memory_order_relaxed) && at < linker_end.load(std::memory_order_relaxed);
}

/// Gives back the page that was faulted in.
void restore_page(const slot& which, std::uintptr_t address) noexcept {
  const std::uintptr_t page = address & ~(page_size() - 1);
  for (std::size_t i = 0; i < which.count; ++i) {
    const segment& each = which.segments[i];
    if (page < ~each.begin || page >= ~each.end) continue;
    (void)::mprotect(reinterpret_cast<void*>(page), page_size(), each.protection);
  }
}

bool take_fault(slot& which, std::uintptr_t address, const void* context) noexcept {
  which.handlers.fetch_add(1);
  bool taken = false;
  state seen = which.now.load(std::memory_order_acquire);
  if (seen == state::armed && which.contains(address)) {
    taken = true;
    if (by_linker(context)) {
      restore_page(which, address);
    } else if (which.now.compare_exchange_strong(seen, state::tripping)) {
      restore(which);
      note(which.seen, address, context);
      which.now.store(state::tripped, std::memory_order_release);
    }
  } else if ((seen == state::tripping || seen == state::tripped) && which.contains(address)) {
    // Another thread is restoring the pages; but a fault that comes again is about something else.
    taken = seen == state::tripping;
    if (seen == state::tripped) {
      static thread_local std::uintptr_t last_taken = 0;
      taken = last_taken != ~address;
      last_taken = ~address;
    }
  }
  which.handlers.fetch_sub(1);
  return taken;
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const bool taken = take_tripwire_fault(info, context);
  errno = saved;
  if (taken) return;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
    return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);  // the fault comes again
  if (info->si_code <= 0) ::raise(signal);
}

void find_linker() {
  const auto base = static_cast<std::uintptr_t>(::getauxval(AT_BASE));
  if (base == 0) return;
  const auto* const file = reinterpret_cast<const ElfW(Ehdr)*>(base);
  const auto* const parts = reinterpret_cast<const ElfW(Phdr)*>(base + file->e_phoff);
  std::uintptr_t end = base;
  for (unsigned i = 0; i < file->e_phnum; ++i)
    if (parts[i].p_type == PT_LOAD) end = std::max<std::uintptr_t>(end, base + parts[i].p_vaddr + parts[i].p_memsz);
  linker_begin.store(base);
  linker_end.store(end);
}

/// Where a program has set SIGSEGV back to its default, ours is installed again; where it has another handler of its
/// own, that one calls take_tripwire_fault.
void install_handler() {
  struct sigaction now {};
  ::sigaction(SIGSEGV, nullptr, &now);
  static bool installed = false;
  const bool is_default = (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL;
  if (installed && !is_default) return;
  if (!installed) {
    find_linker();
    (void)page_size();
    _Unwind_Backtrace(&no_frame, nullptr);  // its first use may initialise it
  }
  // Not the rest: what glibc gives as the mask holds bytes of its stack.
  before = {};
  before.sa_flags = now.sa_flags;
  if ((now.sa_flags & SA_SIGINFO) != 0)
    before.sa_sigaction = now.sa_sigaction;
  else
    before.sa_handler = now.sa_handler;
  struct sigaction ours {};
  ours.sa_sigaction = &on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&ours.sa_mask);
  ::sigaction(SIGSEGV, &ours, nullptr);
  installed = true;
}

error cannot_protect(const char* what) {
  return {reason::io, std::string{"its pages cannot be made unreadable: "} + what};
}

}  // namespace

bool take_tripwire_fault(const void* info, const void* context) noexcept {
  const auto& fault = *static_cast<const siginfo_t*>(info);
  if (fault.si_code <= 0) return false;
  const auto address = reinterpret_cast<std::uintptr_t>(fault.si_addr);
  for (slot& each : slots)
    if (take_fault(each, address, context)) return true;
  return false;
}

void set_trip_witness(std::uint64_t (*witness)()) noexcept { witness_of.store(witness, std::memory_order_release); }

result<std::unique_ptr<tripwire>> tripwire::arm(std::uintptr_t begin, std::uintptr_t end) {
  if (!unmaps_images()) return error{reason::refused, "a sanitizer handles this build's faults"};
  const std::lock_guard lock{arming};
  std::size_t index = 0;
  while (index < tripwires_max && slots[index].now.load() != state::unused) ++index;
  if (index == tripwires_max) return error{reason::out_of_bounds, "too many images are unreadable at a time"};
  slot& mine = slots[index];
  MOLT_TRY(const auto mappings, read_mappings());
  mine.count = 0;
  for (const auto& each : mappings) {
    if (each.begin < begin || each.end > end || each.protection() == PROT_NONE) continue;
    if (mine.count == segments_max) return cannot_protect("it has too many segments");
    mine.segments[mine.count++] = {~each.begin, ~each.end, each.protection()};
  }
  if (mine.count == 0) return cannot_protect("there are none");
  install_handler();
  mine.inverted_begin = ~begin;
  mine.inverted_end = ~end;
  mine.seen = {};
  auto made = std::make_unique<tripwire>(index);
  mine.now.store(state::armed, std::memory_order_release);
  for (std::size_t i = 0; i < mine.count; ++i)
    if (!protect(mine.segments[i], PROT_NONE)) {
      const int code = errno;
      made.reset();
      return cannot_protect(std::strerror(code));  // NOLINT(concurrency-mt-unsafe): glibc's is
    }
  return made;
}

std::optional<trip> tripwire::tripped() const noexcept {
  if (disarmed_) return last_;
  const slot& mine = slots[slot_];
  if (mine.now.load(std::memory_order_acquire) != state::tripped) return std::nullopt;
  return mine.seen;
}

void tripwire::disarm() noexcept {
  if (disarmed_) return;
  slot& mine = slots[slot_];
  restore(mine);
  // Whoever faulted before this notes it first.
  const timespec nap{0, 100'000};
  while (mine.handlers.load() != 0 || mine.now.load() == state::tripping) ::nanosleep(&nap, nullptr);
  last_ = tripped();
  disarmed_ = true;
  mine.now.store(state::unused);
}

}  // namespace molt::loader
