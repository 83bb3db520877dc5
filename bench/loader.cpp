// What it takes to bring a plugin of 1 MiB into a process, to find out who points into one, and to let it go again.
//
//   molt_bench_loader     prints {"results": [...]} on stdout; exit status 1 if rounds of loading leave anything behind
#include "bench/messaging/measure.hpp"
#include "loader/plugin_image.hpp"
#include "loader/sha256.hpp"
#include "loader/word_scan.hpp"
#include "node/image_retirement.hpp"
#include "server/runtime.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace loader = molt::loader;
using clock_type = std::chrono::steady_clock;
using namespace std::chrono_literals;

void must(bool held, const std::string& what) {
  if (held) return;
  std::fprintf(stderr, "loader: %s\n", what.c_str());
  std::exit(1);
}

double seconds_since(clock_type::time_point begun) {
  return std::chrono::duration<double>(clock_type::now() - begun).count();
}

std::string hash_of(const std::string& path) {
  static std::vector<char> buffer(std::size_t{256} << 10U);
  const int from = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  must(from >= 0, path + " cannot be opened");
  loader::sha256 hash;
  ssize_t got = 0;
  while ((got = ::read(from, buffer.data(), buffer.size())) > 0)
    hash.add({buffer.data(), static_cast<std::size_t>(got)});
  ::close(from);
  must(got == 0, path + " cannot be read");
  return hash.hex();
}

const loader::plugin_file& plugin(std::int64_t which) {
  static const auto file = [](const char* version) {
    const std::string path = std::string{PADDED_FOLDER "/libpadded-"} + version + ".so";
    return loader::plugin_file{path, hash_of(path)};
  };
  static const loader::plugin_file both[] = {file("1.0.0"), file("2.0.0")};
  return both[which % 2];
}

loader::lease loaded(const loader::plugin_file& file) {
  auto image = loader::load(file);
  must(image.has_value(), image ? "" : image.error().text());
  return *image;
}

void let_go(loader::lease image) {
  const auto report = loader::unload(image);
  must(report && (report->unmapped || !loader::unmaps_images()), report ? report->why : report.error().text());
}

// ---- Loading

/// What a node does: copy, hash, inspect, load, resolve, compare the table with the note.
double load(std::int64_t count) {
  double took = 0;
  for (std::int64_t n = 0; n < count; ++n) {
    const auto begun = clock_type::now();
    auto image = loaded(plugin(0));
    took += seconds_since(begun);
    let_go(std::move(image));
  }
  return took;
}

/// What would do if nobody looked.
double load_bare(std::int64_t count) {
  double took = 0;
  for (std::int64_t n = 0; n < count; ++n) {
    const auto begun = clock_type::now();
    must(hash_of(plugin(0).path) == plugin(0).sha256, "another hash");
    void* const opened = ::dlopen(plugin(0).path.c_str(), RTLD_NOW | RTLD_LOCAL);
    must(opened != nullptr && ::dlsym(opened, MOLT_PLUGIN_SYMBOL) != nullptr, "dlopen failed");
    took += seconds_since(begun);
    ::dlclose(opened);
  }
  return took;
}

// ---- Looking

/// Memory with nothing to find, as a server's heap would be.
class memory {
 public:
  explicit memory(std::size_t bytes)
      : bytes_{bytes}, at_{::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)} {
    must(at_ != MAP_FAILED, "no memory");
    (void)::madvise(at_, bytes, MADV_HUGEPAGE);  // as moltd has it for a node
    std::uint64_t state = 1;
    for (auto& word : words(static_cast<std::int64_t>(bytes)))
      word = state = state * 6364136223846793005U + 1442695040888963407U;
  }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() { ::munmap(at_, bytes_); }
  [[nodiscard]] std::span<std::uintptr_t> words(std::int64_t bytes) const {
    return {static_cast<std::uintptr_t*>(at_), static_cast<std::size_t>(bytes) / sizeof(std::uintptr_t)};
  }
  [[nodiscard]] std::int64_t bytes() const { return static_cast<std::int64_t>(bytes_); }

 private:
  std::size_t bytes_;
  void* at_;
};

double scan(std::span<const std::uintptr_t> words) {
  const loader::hidden_range image{0x7fff12340000, 0x7fff12450000};
  std::size_t found = 0;
  const auto begun = clock_type::now();
  loader::scan_words(
      words, std::span{&image, 1},
      [](const std::uintptr_t*, std::size_t, void* count) {
        ++*static_cast<std::size_t*>(count);
        return true;
      },
      &found);
  return seconds_since(begun);
}

/// As fast as one core reads this memory.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
double
sum(std::span<const std::uintptr_t> words) {
  using wide = std::uint64_t __attribute__((vector_size(32)));
  constexpr std::size_t at_once = 4;
  wide sums[at_once] = {};
  const auto begun = clock_type::now();
  const auto* from = reinterpret_cast<const wide*>(words.data());
  for (const auto* const end = from + words.size_bytes() / sizeof(wide) / at_once * at_once; from != end;
       from += at_once)
    for (std::size_t n = 0; n < at_once; ++n) sums[n] += from[n];
  const double took = seconds_since(begun);
  volatile std::uint64_t kept = sums[0][0] + sums[1][1] + sums[2][2] + sums[3][3];
  (void)kept;
  return took;
}

/// How a node lets go of images: what its servers wait for, until the copy is made that looks for who points into one.
class looks {
 public:
  looks() { retirement_.set({false, 0ms}); }

  double pause(std::int64_t count) {
    double took = 0;
    for (std::int64_t n = 0; n < count; ++n) {
      const auto before = retirement_.looked().looks;
      const auto report = retirement_.retire(loaded(plugin(1)));
      if (!report.retiring) {
        must(!loader::unmaps_images(), report.why);
        continue;
      }
      must(retirement_.settle(60s), "the look takes too long");
      const auto looked = retirement_.looked();
      must(looked.looks > before, "nobody has looked: " + retirement_.list().back().why);
      took += std::chrono::duration<double>(looked.at_rest).count();
      forks.push_back(static_cast<double>(looked.fork.count()));
      scans.push_back(static_cast<double>(looked.scanned_bytes) / 1e6 /
                      std::chrono::duration<double>(looked.scan).count());
    }
    return took;
  }

  static double fork(std::int64_t count) {
    double took = 0;
    for (std::int64_t n = 0; n < count; ++n) {
      const auto begun = clock_type::now();
      const pid_t made = ::fork();
      if (made == 0) ::_exit(0);
      took += seconds_since(begun);
      must(made > 0 && ::waitpid(made, nullptr, 0) == made, "no fork");
    }
    return took;
  }

  std::vector<double> forks;  ///< ns, the part of the pause that is the fork; of each look
  std::vector<double> scans;  ///< MB/s

 private:
  molt::servers::runtime runtime_;
  std::mutex turn_;
  molt::node::image_retirement retirement_{{runtime_, turn_, [](int, std::string_view) {}, {}}};
};

// ---- Rounds

struct footprint {
  std::int64_t files = 0;
  std::int64_t mappings = 0;
  std::int64_t heap = 0;  ///< bytes that malloc has given out
  std::int64_t resident = 0;
};

footprint now() {
  footprint made;
  made.files = std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, {});
  std::ifstream maps{"/proc/self/maps"};
  for (std::string line; std::getline(maps, line);) ++made.mappings;
  std::ifstream status{"/proc/self/statm"};
  for (int field = 0; field < 2; ++field) status >> made.resident;
  made.resident *= ::sysconf(_SC_PAGESIZE);
  const auto heap = ::mallinfo2();
  made.heap = static_cast<std::int64_t>(heap.uordblks + heap.hblkhd);
  return made;
}

std::vector<measuring::result> rounds(std::int64_t count) {
  constexpr std::int64_t heap_slack = 4096;  // a longer list of something, once
  constexpr std::int64_t resident_slack = 1 << 20;
  constexpr std::int64_t mapping_slack = 4;  // what is reserved where images were lies in one piece or in more
  footprint early;
  const auto begun = clock_type::now();
  for (std::int64_t n = 0; n < count; ++n) {
    if (n == count / 10) early = now();
    let_go(loaded(plugin(n)));
  }
  const double took = seconds_since(begun);
  const auto late = now();
  const auto grew = [&](const char* what, const char* unit, std::int64_t footprint::*part, std::int64_t by) {
    const auto more = late.*part - early.*part;
    must(more <= by || !loader::unmaps_images(), std::string{what} + ": " + std::to_string(more) + " more than " +
                                                     std::to_string(early.*part) + " in " +
                                                     std::to_string(count - count / 10) + " rounds");
    return measuring::result{std::string{"loader.rounds."} + what, unit, {{"", {static_cast<double>(more)}}}};
  };
  return {{"loader.rounds", "ns", {{"", {took * 1e9 / static_cast<double>(count)}}}},
          grew("heap_growth", "bytes", &footprint::heap, heap_slack),
          grew("resident_growth", "bytes", &footprint::resident, resident_slack),
          grew("more_mappings", "", &footprint::mappings, mapping_slack),
          grew("more_files", "", &footprint::files, 0)};
}

}  // namespace

int main() {
  std::vector<measuring::result> all;
  const std::int64_t each = measuring::smoke() ? 5 : 50;
  load(2);
  load_bare(2);
  all.push_back(measuring::measure("loader.load", measuring::unit::ns_each, 9,
                                   {{"", {each, load}}, {"dlopen_sha256", {each, load_bare}}}));
  for (auto& one : rounds(measuring::scaled(1000, 10))) all.push_back(std::move(one));
  const memory filled{std::size_t{1} << (measuring::smoke() ? 26U : 30U)};
  all.push_back(measuring::measure(
      "loader.scan", measuring::unit::mb_per_second, 9,
      {{"", {filled.bytes(), [&](std::int64_t bytes) { return scan(filled.words(bytes)); }}},
       {"sum_of_words", {filled.bytes(), [&](std::int64_t bytes) { return sum(filled.words(bytes)); }}}}));
  looks look;
  all.push_back(measuring::measure(
      "loader.unload.pause", measuring::unit::ns_each, measuring::smoke() ? 1 : 9,
      {{"", {1, [&](std::int64_t count) { return look.pause(count); }}}, {"fork", {1, looks::fork}}}));
  if (!look.scans.empty()) {
    all.push_back({"loader.unload.pause.fork", "ns", {{"", look.forks}}});
    all.push_back({"loader.unload.scan", "MB/s", {{"", look.scans}}});
  }
  measuring::print(stdout, all);
  return 0;
}
