#include "node/rehearsal.hpp"

#include "base/unique_fd.hpp"
#include "loader/plugin_image.hpp"
#include "node/rehearsal_child.hpp"
#include "node/symbolizer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

namespace molt::node {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using rehearsal::last_words;
using rehearsal::shared_memory;
using upgrade::rehearsal_stage;

constexpr auto first_rest_attempt = 2ms;
constexpr auto between_rest_attempts = 20ms;
constexpr auto look_interval = 20ms;
constexpr auto told_patience = 2s;  // between asking a copy where it is and killing it
constexpr std::size_t memory_min = std::size_t{64} << 20U;
constexpr std::size_t problems_of_failures_max = 10;

error failed(const char* what) {
  return {reason::io, std::string{what} + ": " + std::strerror(errno),  // NOLINT(concurrency-mt-unsafe): glibc's is
          "molt upgrade --no-rehearsal does without a copy"};
}

struct unmap {
  void operator()(shared_memory* memory) const noexcept { ::munmap(memory, sizeof *memory); }
};
using shared_pointer = std::unique_ptr<shared_memory, unmap>;

shared_pointer make_shared_memory() noexcept {
  void* const made = ::mmap(nullptr, sizeof(shared_memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return shared_pointer{made == MAP_FAILED ? nullptr : static_cast<shared_memory*>(made)};
}

/// A line of /proc/meminfo or /proc/self/status, in bytes; 0 if it is not there.
std::uint64_t proc_bytes(const char* file, const char* key) {
  std::FILE* const from = std::fopen(file, "re");
  if (from == nullptr) return 0;
  char line[256];
  unsigned long long kib = 0;
  const std::size_t size = std::strlen(key);
  while (std::fgets(line, sizeof line, from) != nullptr)
    if (std::strncmp(line, key, size) == 0 && std::sscanf(line + size, " %llu", &kib) == 1) break;  // NOLINT
  std::fclose(from);
  return kib * 1024;
}

std::string in_ms(std::chrono::nanoseconds time) {
  return std::to_string(std::chrono::ceil<std::chrono::milliseconds>(time).count());
}

std::string mebibytes(std::uint64_t bytes) { return std::to_string(bytes >> 20U) + " MiB"; }

struct pipe_ends {
  unique_fd read;
  unique_fd write;
};

result<pipe_ends> make_pipe() {
  int ends[2];
  // Not blocking: a copy that prints more than somebody reads must not wait.
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return failed("making a pipe");
  return pipe_ends{unique_fd{ends[0]}, unique_fd{ends[1]}};
}

/// The copy, which is gone when this is.
class copy {
 public:
  explicit copy(pid_t pid) noexcept : pid_{pid} {}
  copy(const copy&) = delete;
  copy& operator=(const copy&) = delete;
  ~copy() {
    if (ended_) return;
    kill();
    collect(0);
  }

  [[nodiscard]] bool has_ended() { return ended_ || collect(WNOHANG); }
  void signal(int number) const noexcept { ::kill(pid_, number); }
  void kill() const noexcept { ::kill(pid_, SIGKILL); }
  void await() {
    if (!ended_) collect(0);
  }
  [[nodiscard]] const std::optional<siginfo_t>& status() const noexcept { return status_; }

 private:
  bool collect(int flags) {
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT | flags) != 0) {
      if (errno == EINTR) continue;
      ended_ = true;  // somebody else in this program has waited for it
      return true;
    }
    if (info.si_pid == 0) return false;
    ::kill(-pid_, SIGKILL);  // what its plugins may have started; nobody else has its number before it is collected
    while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
    }
    status_ = info;
    ended_ = true;
    return true;
  }

  pid_t pid_;
  bool ended_ = false;
  std::optional<siginfo_t> status_;
};

/// The last bytes that came through the pipe.
class tail {
 public:
  explicit tail(int from) noexcept : from_{from} {}
  void read() {
    char bytes[4096];
    for (ssize_t got = 0; (got = ::read(from_, bytes, sizeof bytes)) > 0;) {
      text_.append(bytes, static_cast<std::size_t>(got));
      if (text_.size() > rehearsal_output_max) text_.erase(0, text_.size() - rehearsal_output_max);
    }
  }
  [[nodiscard]] std::string take() {
    for (char& c : text_)
      if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) c = ' ';
    return std::move(text_);
  }

 private:
  int from_;
  std::string text_;
};

enum class watched { ended, timed_out, given_up };

bool wait_for_end(copy& child, tail& output, int pipe, clock::time_point until, const std::function<bool()>& given_up,
                  bool& stopped) {
  bool pipe_open = true;
  while (!child.has_ended()) {
    if (given_up && given_up()) {
      stopped = true;
      return false;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now());
    if (left.count() < 0) return false;
    pollfd readable{pipe_open ? pipe : -1, POLLIN, 0};
    // Its end closes the pipe, so that is heard at once; unless something that it started holds the pipe.
    const auto patience = pipe_open ? std::min<std::chrono::milliseconds>(look_interval, left + 1ms) : 1ms;
    (void)::poll(&readable, 1, static_cast<int>(patience.count()));
    output.read();
    if ((readable.revents & (POLLHUP | POLLERR)) != 0) pipe_open = false;
  }
  output.read();
  return true;
}

watched watch(copy& child, tail& output, int pipe, const rehearsal_request& request) {
  bool stopped = false;
  if (wait_for_end(child, output, pipe, clock::now() + request.limits.time, request.given_up, stopped))
    return watched::ended;
  bool also_stopped = false;
  if (!stopped) {
    child.signal(rehearsal::tell_where_signal);
    if (!wait_for_end(child, output, pipe, clock::now() + told_patience, {}, also_stopped)) child.kill();
  } else {
    child.kill();
  }
  child.await();
  output.read();
  return stopped ? watched::given_up : watched::timed_out;
}

// ---- Telling what became of it

std::string hex(const last_words::image& image) {
  std::string text;
  for (std::size_t n = 0; n < std::min<std::size_t>(image.id_size, image.id.size()); ++n) {
    constexpr const char* digits = "0123456789abcdef";
    text += digits[image.id[n] >> 4U];
    text += digits[image.id[n] & 15U];
  }
  return text;
}

std::vector<std::string> stack_of(const last_words& last, const std::vector<std::filesystem::path>& folders) {
  std::vector<mapped_image> images;
  for (std::size_t n = 0; n < std::min<std::size_t>(last.images, last.image_at.size()); ++n) {
    const auto& from = last.image_at[n];
    if (from.begin < from.end)
      images.push_back({from.begin, from.end, from.file_offset, hex(from), std::string{from.path.get()}});
  }
  symbolizer symbols{std::move(images), folders};
  std::vector<std::string> stack;
  for (std::size_t n = 0; n < std::min<std::size_t>(last.frames, last.frame.size()); ++n) {
    const auto place = symbols.place(last.frame[n], n != 0);
    char text[64];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(place.address));
    std::string line{text};
    if (!place.symbol.empty()) line += " " + place.symbol;
    if (!place.image.empty()) {
      std::snprintf(text, sizeof text, " + 0x%llx)", static_cast<unsigned long long>(place.offset));
      line += " (" + place.image.substr(place.image.rfind('/') + 1) + text;
    }
    stack.push_back(std::move(line));
  }
  return stack;
}

std::string signal_words(int number) {
  const char* const name = ::sigabbrev_np(number);
  return name == nullptr ? "signal " + std::to_string(number) : "SIG" + std::string{name};
}

/// "while migrating anna (sessions.server), in code_change ..."
std::string where(const upgrade::rehearsal_findings& findings) {
  switch (findings.stage) {
    case rehearsal_stage::starting:
      return "before it began";
    case rehearsal_stage::loading:
      return "while loading the release";
    case rehearsal_stage::finished:
      return "after it had finished";
    default:
      break;
  }
  const std::string_view doing =
      findings.stage == rehearsal_stage::going_back ? "bringing back" : to_string(findings.stage);
  std::string text = "while " + std::string{doing} + " " + findings.server;
  if (findings.server != findings.type) text += " (" + findings.type + ")";
  if (!findings.step.empty()) text += ", in " + findings.step;
  return text;
}

void tell_end(rehearsal_report& report, watched seen, const std::optional<siginfo_t>& status, const last_words& last,
              const rehearsal_limits& limits, std::uint64_t processor_seconds) {
  const std::string at = where(report.findings);
  const bool told = status && status->si_code == CLD_EXITED && status->si_status == rehearsal::exit_told_where;
  const bool processor =
      (told && last.signal == SIGXCPU) || (status && status->si_code == CLD_KILLED && status->si_status == SIGXCPU);
  if (processor) {
    report.ended = rehearsal_end::processor_limit;
    report.how = "used its " + std::to_string(processor_seconds) + " s of processor time " + at;
  } else if (seen == watched::timed_out) {
    report.ended = rehearsal_end::time_limit;
    report.how = "had not ended after its " + std::to_string(limits.time.count()) + " ms, " + at;
  } else if (told) {
    report.ended = rehearsal_end::crashed;
    report.how = "died by " + signal_words(last.signal) + " " + at;
    if (!last.text.get().empty()) report.how += ": " + std::string{last.text.get()};
  } else if (status && status->si_code != CLD_EXITED) {
    report.ended = rehearsal_end::crashed;
    report.how = "was killed by " + signal_words(status->si_status) + " " + at;
  } else if (status && status->si_status == rehearsal::exit_by_plugin) {
    report.ended = rehearsal_end::exited;
    report.how = "was ended by a call of exit() " + at;
  } else if (status && status->si_status != rehearsal::exit_done) {
    report.ended = rehearsal_end::exited;
    report.how = "ended itself with status " + std::to_string(status->si_status) + " " + at;
  } else if (report.findings.stage != rehearsal_stage::finished && report.findings.load_error.empty()) {
    report.ended = rehearsal_end::exited;
    report.how = "ended itself " + at;
  } else {
    report.ended = rehearsal_end::finished;
  }
}

void judge_replay(rehearsal_report& report) {
  const auto& replay = report.findings.replay;
  if (replay.messages == 0)
    report.problems.emplace_back(
        "there was nothing to replay: no server records payloads (record_messages and record_payload_bytes)");
  for (std::size_t n = 0; n < std::min(replay.differences.size(), problems_of_failures_max); ++n) {
    const auto& each = replay.differences[n];
    report.problems.push_back("in the replay: " + each.server + ", " + each.message + ": " + each.text);
  }
  if (replay.differed > problems_of_failures_max)
    report.problems.push_back("and " + std::to_string(replay.differed - problems_of_failures_max) + " replies more");
}

void judge(rehearsal_report& report, std::uint64_t memory) {
  const auto& findings = report.findings;
  if (!report.how.empty()) report.problems.push_back("the copy " + report.how);
  if (!findings.load_error.empty()) report.problems.push_back(findings.load_error);
  if (findings.damaged)
    report.problems.emplace_back(
        "what the copy found was written over: some hook or destructor writes to memory that is not its own");
  for (std::size_t n = 0; n < std::min(findings.failures.size(), problems_of_failures_max); ++n) {
    const auto& failure = findings.failures[n];
    const bool memory_ran_out =
        failure.error.find("bad_alloc") != std::string::npos || failure.error.find("memory") != std::string::npos;
    report.problems.push_back(failure.server + ": " + failure.hook + ": " + failure.error +
                              (memory_ran_out ? " (the rehearsal may use " + mebibytes(memory) +
                                                    " beyond what it copied: rehearsal_memory_mb in the manifest)"
                                              : ""));
  }
  if (findings.failed > problems_of_failures_max)
    report.problems.push_back("and " + std::to_string(findings.failed - problems_of_failures_max) + " servers more");
  if (report.mode == upgrade::mode::atomic && report.ended == rehearsal_end::finished && !findings.damaged &&
      report.predicted_rest > report.switch_timeout)
    report.problems.push_back("mode atomic would keep everything at rest for about " + in_ms(report.predicted_rest) +
                              " ms to migrate, but switch_timeout_ms is " + in_ms(report.switch_timeout) +
                              ": raise it under [upgrade], or use --mode lazy");
  if (report.replay == replaying::strict && report.ended == rehearsal_end::finished) judge_replay(report);
  report.notes = findings.notes;
  report.passed = report.problems.empty() && report.ended == rehearsal_end::finished;
}

// ---- Making it

struct forked {
  pid_t pid = -1;
  std::chrono::nanoseconds at_rest{0};
  std::chrono::nanoseconds fork{0};
};

result<servers::runtime::rest_guard> come_to_rest(servers::runtime& runtime, const rehearsal_request& request,
                                                  clock::time_point& asked) {
  const auto give_up_at = clock::now() + request.limits.rest;
  for (std::chrono::milliseconds attempt = first_rest_attempt;; attempt = std::min(2 * attempt, rest_attempt_max)) {
    asked = clock::now();
    auto guard = runtime.rest(attempt);
    if (guard || guard.error().why() == reason::would_deadlock) return guard;
    if (clock::now() >= give_up_at)
      return error{reason::timeout,
                   "no moment without a running handler was found within " +
                       std::to_string(request.limits.rest.count()) + " ms: " + guard.error().message(),
                   "molt top shows which server is busy; molt upgrade --no-rehearsal does without"};
    if (request.given_up && request.given_up()) return error{reason::stopping, "the rehearsal was given up"};
    std::this_thread::sleep_for(between_rest_attempts);
  }
}

void work_in_copy(servers::runtime& runtime, const servers::runtime::rest_guard& rest, const rehearsal_request& request,
                  upgrade::rehearsal_board& board) {
  board.stage = static_cast<std::uint32_t>(rehearsal_stage::loading);
  auto next = request.load();
  if (!next) return board.load_error.set(next.error().text());
  upgrade::rehearse(runtime, rest, std::move(*next), request.task, board);
}

result<forked> make_copy(servers::runtime& runtime, const rehearsal_request& request, shared_memory& shared,
                         const rehearsal::child_settings& settings) {
  forked made;
  clock::time_point asked;
  MOLT_TRY(const auto rest, come_to_rest(runtime, request, asked));
  {
    const auto images = loader::hold_images();
    const auto before = clock::now();
    made.pid = runtime.fork_at_rest(rest);
    made.fork = clock::now() - before;
  }
  if (made.pid == 0)
    rehearsal::run_child(shared, settings, [&] { work_in_copy(runtime, rest, request, shared.board); });
  if (made.pid < 0) return failed("making a copy of the process");
  made.at_rest = clock::now() - asked;
  return made;
}

}  // namespace

std::string_view to_string(rehearsal_end end) noexcept {
  switch (end) {
    case rehearsal_end::finished:
      return "finished";
    case rehearsal_end::crashed:
      return "crashed";
    case rehearsal_end::exited:
      return "exited";
    case rehearsal_end::time_limit:
      return "time_limit";
    case rehearsal_end::processor_limit:
      return "processor_limit";
    case rehearsal_end::not_begun:
      return "not_begun";
  }
  return "not_begun";
}

result<rehearsal_report> rehearse(servers::runtime& runtime, const rehearsal_request& request) {
  const auto begun = clock::now();
  rehearsal_report report;
  report.from = request.task.from.id;
  report.to = request.to;
  report.mode = request.mode;
  report.replay = request.replay;
  report.atomic_threads = request.atomic_threads;
  report.switch_timeout = request.switch_timeout;
  const auto shared = make_shared_memory();
  if (shared == nullptr) return failed("sharing memory with a copy");
  MOLT_TRY(auto pipe, make_pipe());
  const unique_fd nothing{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  rehearsal::child_settings settings;
  settings.input = nothing.get();
  settings.output = pipe.write.get();
  settings.parent = ::getpid();
  const auto processor = request.limits.processor.count() > 0 ? request.limits.processor : request.limits.time;
  settings.processor_seconds = static_cast<std::uint64_t>((processor.count() + 999) / 1000);
  settings.memory = request.limits.memory != 0
                        ? request.limits.memory
                        : std::max<std::uint64_t>(proc_bytes("/proc/meminfo", "MemAvailable:") / 2, memory_min);
  report.copied_bytes = proc_bytes("/proc/self/status", "VmRSS:");

  MOLT_TRY(const forked made, make_copy(runtime, request, *shared, settings));
  report.at_rest = made.at_rest;
  report.fork = made.fork;
  pipe.write.reset();
  copy child{made.pid};
  tail output{pipe.read.get()};
  const auto seen = watch(child, output, pipe.read.get(), request);
  if (seen == watched::given_up) return error{reason::stopping, "the rehearsal was given up"};
  report.findings = upgrade::read_board(shared->board);
  report.predicted_rest = upgrade::predict_rest(report.findings, request.atomic_threads);
  report.output = output.take();
  tell_end(report, seen, child.status(), shared->last, request.limits, settings.processor_seconds);
  if (report.ended != rehearsal_end::finished) report.stack = stack_of(shared->last, request.image_folders);
  judge(report, settings.memory);
  report.total = clock::now() - begun;
  return report;
}

}  // namespace molt::node
