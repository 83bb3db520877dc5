#include "loader/image_evidence.hpp"

#include "base/assert.hpp"
#include "base/unique_fd.hpp"
#include "loader/evidence_board.hpp"
#include "loader/heap_blocks.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

namespace molt::loader {
namespace {

using evidence_copy::board;
using evidence_copy::stage;
using clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds look_interval{2};

struct unmap {
  void operator()(board* memory) const noexcept { ::munmap(memory, sizeof *memory); }
};

error system_error(const char* what) {
  return {reason::io, std::string{what} + ": " + std::strerror(errno)};  // NOLINT(concurrency-mt-unsafe): glibc's is
}

/// Where the threads' stacks stand: /proc says it of those that are in a system call.
class thread_stacks {
 public:
  thread_stacks() : listing_{::opendir("/proc/self/task")} {
    visit_threads([this](int number) {
      const std::string folder = "/proc/self/task/" + std::to_string(number) + "/";
      unique_fd from{::open((folder + "syscall").c_str(), O_RDONLY | O_CLOEXEC)};
      if (from) threads_.push_back({{number, name_in(folder + "comm"), 0, 0}, std::move(from)});
    });
    for (auto& each : threads_) each.end.inside = pointer_of(each);
  }

  /// To be called by the thread that is about to fork.
  void note() {
    const auto me = static_cast<int>(::syscall(SYS_gettid));
    for (auto& each : threads_) {
      each.end.pointer =
          each.end.thread == me ? reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) : pointer_of(each);
      if (each.end.pointer != 0) each.end.inside = each.end.pointer;
    }
    all_known_ = listing_ != nullptr;
    visit_threads([this](int number) {
      all_known_ = all_known_ && std::any_of(threads_.begin(), threads_.end(), [number](const thread& each) {
                     return each.end.thread == number && each.end.inside != 0;
                   });
    });
  }

  [[nodiscard]] bool all_known() const noexcept { return all_known_; }
  void forget() {
    std::vector<thread>{}.swap(threads_);
    listing_.reset();
  }

  [[nodiscard]] std::vector<evidence_copy::stack_end> ends() const {
    std::vector<evidence_copy::stack_end> all;
    for (const auto& each : threads_) all.push_back(each.end);
    return all;
  }

 private:
  struct thread {
    evidence_copy::stack_end end;
    unique_fd from;
  };

  struct close_listing {
    void operator()(DIR* listing) const noexcept { ::closedir(listing); }
  };

  template <class Visit>
  void visit_threads(const Visit& visit) {
    if (listing_ == nullptr) return;
    ::rewinddir(listing_.get());
    while (const dirent* const entry = ::readdir(listing_.get())) {
      const std::string_view name = entry->d_name;
      int number = 0;
      if (std::from_chars(name.data(), name.data() + name.size(), number).ec == std::errc{}) visit(number);
    }
  }

  static std::string name_in(const std::string& file) {
    const unique_fd from{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
    char text[32];
    const ssize_t got = from ? ::read(from.get(), text, sizeof text) : -1;
    return got > 1 ? std::string{text, static_cast<std::size_t>(got) - 1} : std::string{"?"};
  }

  /// "202 0x.. 0x.. 0x.. 0x.. 0x.. 0x.. STACK INSTRUCTION", "-1 STACK INSTRUCTION" or "running".
  static std::uintptr_t pointer_of(const thread& of) {
    char text[256];
    const ssize_t got = ::pread(of.from.get(), text, sizeof text, 0);
    if (got <= 0) return 0;
    const std::string_view line{text, static_cast<std::size_t>(got)};
    const auto last = line.rfind(" 0x");
    const auto before = last == std::string_view::npos || last == 0 ? last : line.rfind(" 0x", last - 1);
    if (before == std::string_view::npos) return 0;
    std::uintptr_t pointer = 0;
    std::from_chars(line.data() + before + 3, line.data() + last, pointer, 16);
    return pointer;
  }

  std::unique_ptr<DIR, close_listing> listing_;
  std::vector<thread> threads_;
  bool all_known_ = false;
};

/// The copy's end; killed at the time limit.
std::string await(pid_t pid, std::chrono::milliseconds time_limit, const std::function<bool()>& given_up) {
  const auto until = clock::now() + time_limit;
  int status = 0;
  for (bool killed = false;;) {
    const pid_t got = ::waitpid(pid, &status, WNOHANG);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return {};  // somebody else in this program has waited for it: what it wrote decides
    if (got == pid) {
      if (killed) return "had not ended after its " + std::to_string(time_limit.count()) + " ms";
      if (WIFSIGNALED(status)) {
        const char* const name = ::sigabbrev_np(WTERMSIG(status));
        return "died by SIG" + std::string{name == nullptr ? "?" : name};
      }
      if (WEXITSTATUS(status) != evidence_copy::exit_done) return "ended by itself";
      return {};
    }
    if (!killed && (clock::now() >= until || (given_up && given_up()))) {
      ::kill(pid, SIGKILL);
      killed = true;
    }
    std::this_thread::sleep_for(look_interval);
  }
}

holder read_holder(const evidence_copy::board_holder& from, const plugin_image& image) {
  holder made;
  made.at = from.at;
  made.place = static_cast<holder_place>(std::min<std::uint32_t>(from.place, 3));
  made.where = from.where.get();
  made.size = from.size;
  made.server = from.server.get();
  made.steps = from.steps;
  made.beside = from.beside.get();
  for (std::size_t i = 0; i < std::min<std::size_t>(from.pointees, from.pointee.size()); ++i)
    if (image.contains(reinterpret_cast<const void*>(from.pointee[i])))
      made.pointees.push_back(image.name_of(from.pointee[i]));
  return made;
}

std::string plural(std::uint64_t count, const char* one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

/// What the copy found of one image. `ended`: how, if not as it should.
image_evidence read_image(const board& from, std::size_t index, const plugin_image& image, const std::string& ended) {
  image_evidence made;
  const auto& wrote = from.images[index];
  if (wrote.looked != 1 || !ended.empty() || from.now.load() != stage::done) {
    const bool this_one = from.now.load() == stage::closing && from.image.load() == index;
    made.why = "the copy of the process that was to look for pointers " + (ended.empty() ? "ended early" : ended);
    if (this_one) made.why += " while it closed this image: its destructors";
    if (const auto failure = from.failure.get(); !failure.empty()) made.why += ": " + failure;
    made.found = this_one ? evidence::not_unmapped : evidence::not_looked;
    return made;
  }
  made.words = wrote.words;
  for (std::size_t i = 0; i < std::min<std::size_t>(wrote.holders, wrote.holder.size()); ++i)
    made.holders.push_back(read_holder(wrote.holder[i], image));
  if (const auto still = wrote.still_mapped.get(); !still.empty()) {
    made.found = evidence::not_unmapped;
    made.why = "closed in a copy of the process, " + still;
  } else if (wrote.words == 0) {
    made.found = evidence::none;
  } else {
    made.found = wrote.words == wrote.words_on_stacks ? evidence::on_stacks : evidence::held;
    made.why = plural(wrote.words, "word") + " of memory point" + (wrote.words == 1 ? "s" : "") + " into it";
    if (!made.holders.empty()) made.why += ", of " + made.holders.front().text();
  }
  return made;
}

}  // namespace

std::string_view to_string(evidence found) noexcept {
  switch (found) {
    case evidence::none:
      return "none";
    case evidence::on_stacks:
      return "on_stacks";
    case evidence::held:
      return "held";
    case evidence::not_unmapped:
      return "not_unmapped";
    case evidence::not_looked:
      return "not_looked";
  }
  return "not_looked";
}

std::string holder::text() const {
  char address[32];
  std::snprintf(address, sizeof address, "0x%llx", static_cast<unsigned long long>(at));
  std::string made;
  if (!server.empty()) {
    made = "the server " + server;
    if (steps != 0) made += ", " + plural(steps, "pointer") + " from its state";
    made += ": ";
  }
  if (place == holder_place::stack)
    made += "the stack of " + where;
  else if (place == holder_place::heap)
    made += plural(size, "byte") + " of " + where;
  else
    made += place == holder_place::image ? "data of " + where : where;
  made += std::string{" at "} + address;
  for (std::size_t i = 0; i < pointees.size(); ++i) made += (i == 0 ? ", pointing to " : ", to ") + pointees[i];
  if (!beside.empty()) made += "; it lies " + beside;
  return made;
}

result<evidence_report> look_for_holders(std::span<const lease> images, const copy_maker& make,
                                         std::chrono::milliseconds time_limit, const std::function<bool()>& given_up) {
  MOLT_ASSERT(images.size() <= evidence_images_max, images.size());
  const auto begun = clock::now();
  void* const memory = ::mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return system_error("sharing memory with a copy");
  const std::unique_ptr<board, unmap> shared{static_cast<board*>(memory)};
  evidence_copy::told told;
  told.to = shared.get();
  told.parent = ::getpid();
  for (const auto& each : images) {
    told.images.push_back(each.get());
    told.ranges.push_back(each->range());
  }
  thread_stacks stacks;
  MOLT_TRY(const pid_t pid, make([&] { stacks.note(); },
                                 [&](const memory_facts& facts) {
                                   overwrite_freed_memory();
                                   told.stacks = stacks.ends();
                                   told.all_stacks_known = stacks.all_known();
                                   stacks.forget();  // it may hold what lay there before
                                   evidence_copy::work(told, facts);
                                 }));
  const std::string ended = await(pid, time_limit, given_up);
  evidence_report report;
  for (std::size_t i = 0; i < images.size(); ++i) report.images.push_back(read_image(*shared, i, *images[i], ended));
  report.scanned_bytes = shared->scanned_bytes;
  report.scan = std::chrono::nanoseconds{shared->scan_ns};
  report.total = clock::now() - begun;
  return report;
}

}  // namespace molt::loader
