#include "node/crash_signal.hpp"

#include "base/demangle.hpp"
#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"
#include "node/crash_raw.hpp"
#include "node/memory_map.hpp"
#include "server/failure.hpp"
#include "server/server_type.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <string>
#include <typeinfo>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOLT_CATCHES_CRASHES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOLT_CATCHES_CRASHES 0
#endif
#endif
#ifndef MOLT_CATCHES_CRASHES
#define MOLT_CATCHES_CRASHES 1
#endif

namespace molt::node {

bool can_catch_crashes() noexcept { return MOLT_CATCHES_CRASHES != 0; }

namespace {

constexpr std::array<int, 6> fatal_signals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
constexpr std::size_t signal_stack_size = 128 * 1024;
constexpr unsigned report_seconds_max = 5;
constexpr std::size_t frames_first = 64;  // from the innermost outwards
constexpr std::size_t frames_last = 32;   // from the outermost inwards
constexpr std::size_t frames_walked_max = 1'000'000;
constexpr std::size_t handlers_of_server_max = 64;
constexpr std::size_t messages_of_server_max = 64;  // of those it handled last
constexpr std::uint64_t stack_span_max = std::uint64_t{64} << 20U;
constexpr std::size_t word_max = 1024;  // bytes of a text that are written

static_assert(frames_first + frames_last <= crash_raw_frames_max);
static_assert(handlers_of_server_max * crash_raw_servers_max <= crash_raw_handlers_max);
static_assert(messages_of_server_max * crash_raw_servers_max <= crash_raw_messages_max);

// ---- Writing lines

/// Collects lines; only whole ones reach the file.
class line_writer {
 public:
  void open(int fd) noexcept { fd_ = fd; }
  line_writer& key(const char* name) noexcept {
    put(std::string_view{name});
    return *this;
  }
  line_writer& number(std::int64_t value) noexcept {
    put(' ');
    if (value < 0) put('-');
    return digits(value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value), 10);
  }
  line_writer& count(std::uint64_t value) noexcept {
    put(' ');
    return digits(value, 10);
  }
  line_writer& hex(std::uint64_t value) noexcept {
    put(' ');
    return digits(value, 16);
  }
  line_writer& text(std::string_view value) noexcept {
    put(' ');
    if (value.empty()) put('-');
    const bool lone_dash = value == "-";
    for (const char c : value.substr(0, word_max)) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte > 32 && byte < 127 && c != '%' && !lone_dash) {
        put(c);
      } else {
        put('%');
        put(hex_digits[byte >> 4U]);
        put(hex_digits[byte & 15U]);
      }
    }
    return *this;
  }
  line_writer& bytes(const unsigned char* from, std::size_t size) noexcept {
    put(' ');
    if (size == 0) put('-');
    for (std::size_t i = 0; i < size; ++i) {
      put(hex_digits[from[i] >> 4U]);
      put(hex_digits[from[i] & 15U]);
    }
    return *this;
  }
  void end() noexcept {
    put('\n');
    if (fits_ && written_ + used_ < crash_raw_size_max) whole_ = used_;
    drop_line();
    if (sizeof buffer_ - used_ < line_room) flush();
  }
  /// What stands behind the last whole line was left by a fault, or did not fit.
  void drop_line() noexcept {
    used_ = whole_;
    fits_ = true;
  }
  void flush() noexcept {
    std::size_t at = 0;
    while (at < whole_) {
      const ssize_t got = ::write(fd_, buffer_ + at, whole_ - at);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;  // disk full: what stands there must do
      at += static_cast<std::size_t>(got);
    }
    written_ += whole_;
    used_ = whole_ = 0;
  }

 private:
  static constexpr const char* hex_digits = "0123456789abcdef";
  static constexpr std::size_t line_room = 12 * word_max;

  void put(char c) noexcept {
    if (used_ < sizeof buffer_)
      buffer_[used_++] = c;
    else
      fits_ = false;
  }
  void put(std::string_view text) noexcept {
    for (const char c : text) put(c);
  }
  line_writer& digits(std::uint64_t value, unsigned base) noexcept {
    char reversed[24];
    std::size_t count = 0;
    do reversed[count++] = hex_digits[value % base];
    while ((value /= base) != 0);
    while (count != 0) put(reversed[--count]);
    return *this;
  }

  char buffer_[4 * line_room];
  std::size_t used_ = 0;
  std::size_t whole_ = 0;
  std::size_t written_ = 0;
  int fd_ = -1;
  bool fits_ = true;
};

// ---- What the handler finds

struct release_note {
  char id[256] = {};
  char folder[1024] = {};
};

constinit release_note releases[2];
constinit std::atomic<unsigned> current_release{0};
constinit std::atomic<const char*> terminate_text{nullptr};
char terminate_buffer[word_max];

int report_fd = -1;
pid_t owner = 0;
char report_path[4096];
constinit std::atomic<pid_t> reporting{0};  // the thread that writes the report
volatile std::sig_atomic_t stage = 0;
int first_signal = 0;
int first_code = 0;
std::uint64_t first_address = 0;
std::uint64_t first_instruction = 0;
std::uint64_t first_stack = 0;
std::uint64_t first_frame = 0;
line_writer lines;

void note_registers(const void* context) noexcept {
  [[maybe_unused]] const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  first_instruction = static_cast<std::uint64_t>(machine.gregs[REG_RIP]);
  first_stack = static_cast<std::uint64_t>(machine.gregs[REG_RSP]);
  first_frame = static_cast<std::uint64_t>(machine.gregs[REG_RBP]);
#elif defined(__aarch64__)
  first_instruction = machine.pc;
  first_stack = machine.sp;
  first_frame = machine.regs[29];
#endif
}

void write_begin() noexcept {
  lines.key("molt-crash 1").end();
  lines.key("signal").number(first_signal).number(first_code).hex(first_address).hex(first_instruction).end();
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  lines.key("time").number(now.tv_sec).number(now.tv_nsec).end();
  char name[17] = {};
  ::prctl(PR_GET_NAME, name);
  lines.key("process").number(owner).number(reporting.load()).text(name).end();
  const release_note& running = releases[current_release.load(std::memory_order_acquire)];
  lines.key("release").text(running.id).end();
  lines.key("folder").text(running.folder).end();
  if (const char* const text = terminate_text.load(std::memory_order_acquire); text != nullptr)
    lines.key("text").text(text).end();
  lines.flush();
}

void write_handler(const void* function, std::string_view message) noexcept {
  if (function != nullptr) lines.key("handler").hex(reinterpret_cast<std::uint64_t>(function)).text(message).end();
}

template <class Function>
const void* address_of(Function function) noexcept {
  return reinterpret_cast<const void*>(function);
}

const char* kind_text(servers::message_kind kind) noexcept {
  switch (kind) {
    case servers::message_kind::call:
      return " call";
    case servers::message_kind::cast:
      return " cast";
    case servers::message_kind::data:
      return " data";
  }
  return " call";
}

void write_last(const servers::recorded_message& each, void* /*with*/) {
  lines.key("last").number(each.at.count()).number(each.took.count()).key(kind_text(each.kind)).number(each.status);
  lines.text(each.message).end();
}

void write_server(const servers::running_server& found, void* /*with*/) {
  const molt_server_type& type = found.type->abi();
  lines.key("server").count(found.ref.bits).count(found.queued).count(found.handled);
  lines.text(found.type->name()).text(found.type->version());
  lines.text(found.name != nullptr ? std::string_view{*found.name} : std::string_view{}).end();
  if (found.record != nullptr) {
    lines.key("recorded").end();
    servers::visit_last_messages(found, &write_last, nullptr, messages_of_server_max);
  }
  for (std::size_t i = 0; i < type.handler_count && i < handlers_of_server_max - 4; ++i)
    write_handler(address_of(type.handlers[i].handle), type.handlers[i].message->name);
  write_handler(address_of(type.init), "init()");
  write_handler(address_of(type.terminate), "terminate()");
  write_handler(address_of(type.handle_data), "handle_data()");
  write_handler(address_of(type.config_change), "config_change()");
}

/// The first frames and, behind a gap, the last ones.
struct frame_list {
  std::uint64_t first[frames_first];
  std::uint64_t last[frames_last];  // a ring
  std::size_t count = 0;
  bool below_signal = true;  // the handler's own frames come first

  void add(std::uint64_t address) noexcept {
    if (count < frames_first)
      first[count] = address;
    else
      last[(count - frames_first) % frames_last] = address;
    ++count;
  }
};
constinit frame_list frames{};

_Unwind_Reason_Code add_frame(_Unwind_Context* at, void* /*with*/) {
  const auto address = static_cast<std::uint64_t>(_Unwind_GetIP(at));
  if (frames.below_signal && address != first_instruction) return _URC_NO_REASON;
  frames.below_signal = false;
  if (address == 0 || frames.count == frames_walked_max) return _URC_END_OF_STACK;
  frames.add(address);
  return _URC_NO_REASON;
}

/// Where the unwinder found nothing, as after a call through a null pointer: the return address on top of the stack,
/// and the chain of frame pointers as far as it is one.
void walk_frame_pointers() noexcept {
  frames.count = 0;
  frames.add(first_instruction);
#if defined(__x86_64__)
  std::uint64_t returns_to = 0;
  if (read_memory(first_stack, &returns_to, sizeof returns_to) && returns_to != 0) frames.add(returns_to);
#endif
  std::uint64_t at = first_frame;
  std::uint64_t below = first_stack;
  while (frames.count < frames_first && at % 8 == 0 && at >= below && at - first_stack < stack_span_max) {
    std::uint64_t pair[2];  // the caller's frame pointer and the return address
    if (!read_memory(at, pair, sizeof pair) || pair[1] == 0) return;
    frames.add(pair[1]);
    below = at + sizeof pair;
    at = pair[0];
  }
}

void write_frames(const char* how) noexcept {
  const std::size_t last = frames.count > frames_first ? std::min(frames.count - frames_first, frames_last) : 0;
  for (std::size_t i = 0; i < std::min(frames.count, frames_first); ++i) lines.key("frame").hex(frames.first[i]).end();
  if (frames.count > frames_first + last) lines.key("omitted").count(frames.count - frames_first - last).end();
  for (std::size_t i = frames.count - last; i < frames.count; ++i)
    lines.key("frame").hex(frames.last[(i - frames_first) % frames_last]).end();
  lines.key("frames-by").key(how).end();
}

void write_stack() noexcept {
  frames.count = 0;
  _Unwind_Backtrace(&add_frame, nullptr);
  const bool found = frames.count > 1;
  if (!found) walk_frame_pointers();
  write_frames(found ? " unwinder" : " frame-pointers");
}

void write_image(const map_line& image, std::uint64_t header, void* /*with*/) {
  unsigned char id[build_id_max];
  const std::size_t size = read_build_id(header, id);
  lines.key("image").hex(image.begin).hex(image.end).hex(image.file_offset).bytes(id, size).text(image.path).end();
}

void run_stages() noexcept {
  switch (stage) {  // each goes on to the next; a fault in one enters here again behind it
    case 0:
      stage = 1;
      write_begin();
      [[fallthrough]];
    case 1:
      stage = 2;
      servers::visit_running(&write_server, nullptr, crash_raw_servers_max);
      lines.flush();
      [[fallthrough]];
    case 2:
      stage = 3;
      write_stack();
      lines.flush();
      [[fallthrough]];
    case 3:
      stage = 4;
      if (frames.count == 0 || frames.below_signal) {  // the unwinder itself was stopped
        walk_frame_pointers();
        write_frames(" frame-pointers");
      }
      [[fallthrough]];
    case 4:
      stage = 5;
      visit_images(&write_image, nullptr);
      [[fallthrough]];
    case 5:
      stage = 6;
      lines.key("end").end();
      [[fallthrough]];
    default:
      lines.flush();
  }
}

// ---- The handler

void take_default_action(int signal) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
}

[[noreturn]] void die(int signal) noexcept {
  take_default_action(signal);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::syscall(SYS_tgkill, ::getpid(), static_cast<pid_t>(::syscall(SYS_gettid)), signal);
  ::_exit(128 + signal);
}

void on_time_out(int /*signal*/) { die(first_signal); }

void on_signal(int signal, siginfo_t* info, void* context) {
  if (::getpid() != owner) return die(signal);
  const auto me = static_cast<pid_t>(::syscall(SYS_gettid));
  pid_t nobody = 0;
  if (reporting.compare_exchange_strong(nobody, me)) {
    first_signal = signal;
    first_code = info->si_code;
    first_address = signal == SIGABRT || info->si_code <= 0 ? 0 : reinterpret_cast<std::uint64_t>(info->si_addr);
    note_registers(context);
    struct sigaction give_up {};
    give_up.sa_handler = &on_time_out;
    ::sigaction(SIGALRM, &give_up, nullptr);
    ::alarm(report_seconds_max);
    run_stages();
    // The instruction that faulted does so again, and a core file shows its registers. A breakpoint would be passed.
    if (info->si_code > 0 && signal != SIGTRAP) return take_default_action(signal);
    die(signal);
  }
  if (nobody != me) {  // another thread is dying already
    const timespec patience{report_seconds_max, 0};
    ::nanosleep(&patience, nullptr);
    die(signal);
  }
  lines.drop_line();
  lines.key("fault").number(stage).end();
  run_stages();
  die(first_signal);
}

/// A stack for the handler, as long as the thread lives.
class signal_stack {
 public:
  signal_stack() noexcept {
    void* const made =
        ::mmap(nullptr, signal_stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return;  // an overflow of this thread's stack will not be reported
    stack_t use{};
    use.ss_sp = made;
    use.ss_size = signal_stack_size;
    if (::sigaltstack(&use, nullptr) == 0)
      stack_ = made;
    else
      ::munmap(made, signal_stack_size);
  }
  signal_stack(const signal_stack&) = delete;
  signal_stack& operator=(const signal_stack&) = delete;
  ~signal_stack() {
    if (stack_ == nullptr) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    ::munmap(stack_, signal_stack_size);
  }

 private:
  void* stack_ = nullptr;
};

void give_signal_stack() {
  static thread_local const signal_stack mine;
  (void)mine;
}

void copy_text(std::string_view from, char* to, std::size_t room) noexcept {
  const std::size_t size = std::min(from.size(), room - 1);
  std::memcpy(to, from.data(), size);
  to[size] = '\0';
}

[[noreturn]] void on_terminate() noexcept {
  const char* text = "std::terminate without an exception";
  if (const auto thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& caught) {
      copy_text("uncaught " + demangle(typeid(caught).name()) + ": " + caught.what(), terminate_buffer,
                sizeof terminate_buffer);
      text = terminate_buffer;
    } catch (...) {
      text = "an uncaught exception that is not a std::exception";
    }
  }
  terminate_text.store(text, std::memory_order_release);
  std::abort();
}

result<unique_fd> open_report(const std::filesystem::path& file) {
  unique_fd fd{::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0600)};
  if (!fd) return system_error("creating", file, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  const int number = errno;
  ::unlink(file.c_str());
  return system_error("locking", file, number);
}

_Unwind_Reason_Code no_frame(_Unwind_Context* /*at*/, void* /*with*/) { return _URC_END_OF_STACK; }

}  // namespace

result<void> catch_crashes(const std::filesystem::path& folder) {
  if (!can_catch_crashes()) return ok();
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) return error{reason::io, "making " + folder.string() + ": " + failed.message()};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto file = folder / ("node-" + std::to_string(::getpid()) + "-" + std::to_string(now.tv_sec) + "." +
                              std::to_string(now.tv_nsec) + ".raw");
  if (file.native().size() >= sizeof report_path) return error{reason::invalid_argument, file.string() + ": too long"};
  MOLT_TRY(unique_fd fd, open_report(file));
  copy_text(file.native(), report_path, sizeof report_path);
  report_fd = fd.release();
  owner = ::getpid();
  lines.open(report_fd);
  _Unwind_Backtrace(&no_frame, nullptr);  // its first use may initialise it

  give_signal_stack();
  servers::on_new_thread(&give_signal_stack);
  std::set_terminate(&on_terminate);
  struct sigaction catching {};
  catching.sa_sigaction = &on_signal;
  catching.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&catching.sa_mask);
  for (const int signal : fatal_signals) ::sigaction(signal, &catching, nullptr);
  return ok();
}

void note_release(std::string_view id, std::string_view folder) noexcept {
  const unsigned next = 1 - current_release.load(std::memory_order_relaxed);
  copy_text(id, releases[next].id, sizeof releases[next].id);
  copy_text(folder, releases[next].folder, sizeof releases[next].folder);
  current_release.store(next, std::memory_order_release);
}

void stop_catching_crashes() noexcept {
  if (report_fd < 0 || ::getpid() != owner) return;
  for (const int signal : fatal_signals) take_default_action(signal);
  ::unlink(report_path);
  ::close(report_fd);
  report_fd = -1;
}

}  // namespace molt::node
