// Files that nobody vouches for, and the confined process that looks at them: what it does instead of answering is done
// here in earnest.
#include "loader/foreign_file.hpp"

#include "base/utf8.hpp"
#include "hand_made.hpp"
#include "loader/confined.hpp"
#include "loader/finding_rules.hpp"
#include "loader/plugin_report.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <thread>

namespace molt::loader {
namespace {

using testing::hand_made;
using ::testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// Never returns.
std::string hang() {
  for (volatile unsigned turns = 0;;) turns = turns + 1;
}

void expect_error(const result<std::string>& said, reason why, const std::string& text) {
  ASSERT_FALSE(said);
  EXPECT_EQ(said.error().why(), why) << said.error().text();
  EXPECT_THAT(said.error().message(), HasSubstr("evil.so: "));
  EXPECT_THAT(said.error().message(), HasSubstr(text));
  EXPECT_FALSE(said.error().hint().empty());
}

TEST(confined, hands_back_what_was_computed) {
  const std::string large(3'000'000, 'x');
  const auto said = run_confined("good.so", [&] { return large + std::to_string(large.size()); });
  ASSERT_TRUE(said) << said.error().text();
  EXPECT_EQ(*said, large + "3000000");
}

TEST(confined, names_the_file_whose_reader_crashed_or_gave_up) {
  const auto fault = [] {
    volatile std::uintptr_t nowhere = 16;
    return std::string(1, *reinterpret_cast<volatile char*>(nowhere));
  };
  expect_error(run_confined("evil.so", fault), reason::corrupt, sanitized ? "evil.so" : "Segmentation fault");
  expect_error(run_confined("evil.so", []() -> std::string { std::abort(); }), reason::corrupt,
               sanitized ? "evil.so" : "Aborted");
  expect_error(run_confined("evil.so", []() -> std::string { throw 1; }), reason::corrupt, "gave up");
}

TEST(confined, ends_what_takes_too_long) {
  confined_limits brief;
  brief.wall = std::chrono::milliseconds{50};
  const auto spin = [] { return hang(); };
  expect_error(run_confined("evil.so", spin, brief), reason::timeout, "takes too long");
  brief.wall = std::chrono::milliseconds{20'000};
  brief.processor = std::chrono::seconds{1};
  expect_error(run_confined("evil.so", spin, brief), reason::timeout, "takes too long");
}

TEST(confined, listens_to_no_more_than_it_said) {
  confined_limits few;
  few.answer_bytes = 1000;
  expect_error(run_confined(
                   "evil.so", [] { return std::string(1001, 'x'); }, few),
               reason::out_of_bounds, "more to say");
  EXPECT_TRUE(run_confined(
      "good.so", [] { return std::string(1000, 'x'); }, few));
}

TEST(confined, can_open_nothing_and_start_nothing) {
  if (sanitized) GTEST_SKIP() << "no filter under a sanitizer";
  const auto file = [] { return std::to_string(::open("/etc/passwd", O_RDONLY)); };
  expect_error(run_confined("evil.so", file), reason::corrupt, "must not");
  expect_error(run_confined("evil.so", [] { return std::to_string(::fork()); }), reason::corrupt, "must not");
  expect_error(run_confined("evil.so", [] { return std::to_string(::kill(::getppid(), SIGTERM)); }), reason::corrupt,
               "must not");
  const auto code = [] {
    void* const page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return std::string{page == MAP_FAILED ? "no" : "yes"};
  };
  expect_error(run_confined("evil.so", code), reason::corrupt, "must not");
}

TEST(confined, has_a_bound_of_memory) {
  if (sanitized) GTEST_SKIP() << "no memory limit under a sanitizer";
  confined_limits small;
  small.memory_bytes = std::size_t{64} << 20U;
  const auto eat = [] { return std::string(std::size_t{256} << 20U, 'x').substr(0, 1); };
  expect_error(run_confined("evil.so", eat, small), reason::corrupt, "gave up");
}

TEST(confined, leaves_no_process_and_no_descriptor_behind) {
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, std::filesystem::directory_iterator{});
  };
  const auto before = descriptors();
  confined_limits brief;
  brief.wall = std::chrono::milliseconds{1};
  for (int i = 0; i < 10; ++i) {
    (void)run_confined("good.so", [] { return std::string{"x"}; });
    (void)run_confined("evil.so", []() -> std::string { throw 1; });
    (void)run_confined(
        "evil.so", [] { return hang(); }, brief);
  }
  EXPECT_EQ(descriptors(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST(confined, works_beside_other_threads) {
  if (sanitized) GTEST_SKIP() << "a sanitizer's allocator may be locked by another thread while a copy is made";
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 5; ++n) {
        const auto said = run_confined("good.so", [n] { return std::string(static_cast<std::size_t>(n) * 1000, 'x'); });
        if (said && said->size() == static_cast<std::size_t>(n) * 1000) ++right;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 20);
}

TEST(foreign_file, is_described_as_a_file_that_is_trusted) {
  for (const char* name : {"hand_counter_2", "hand_no_note", "hand_exposed", "hand_foreign_abi"}) {
    const auto here = inspect(hand_made(name));
    const auto apart = inspect_foreign(hand_made(name));
    ASSERT_TRUE(here && apart) << name;
    EXPECT_EQ(apart->path, here->path);
    EXPECT_EQ(apart->build_id, here->build_id);
    EXPECT_EQ(apart->plugin, here->plugin);
    EXPECT_EQ(apart->needed, here->needed);
    EXPECT_EQ(apart->imports, here->imports);
    ASSERT_EQ(apart->findings.size(), here->findings.size()) << name;
    for (std::size_t i = 0; i < here->findings.size(); ++i) {
      EXPECT_EQ(apart->findings[i].kind, here->findings[i].kind);
      EXPECT_EQ(apart->findings[i].subject, here->findings[i].subject);
    }
  }
}

TEST(foreign_file, has_demangled_names) {
  const auto seen = inspect_foreign(hand_made("hand_exposed"));
  ASSERT_TRUE(seen);
  bool named = false;
  for (const auto& one : seen->findings) named = named || one.name == "shared_static<int>::value";
  EXPECT_TRUE(named);
}

/// What a terminal would obey, and JSON cannot hold.
constexpr std::string_view odd_bytes = "\x1b[31m\xff\n\xc2\x9b";

void expect_printable(const inspection& seen) {
  for (const auto& one : seen.findings)
    for (const auto& text : {one.text, one.hint, one.subject, one.name}) EXPECT_TRUE(is_printable(text)) << text;
  for (const auto& library : seen.needed) EXPECT_TRUE(is_printable(library)) << library;
}

TEST(foreign_file, has_nothing_shown_that_a_terminal_obeys_or_json_cannot_hold) {
  const testing::scratch_folder folder;
  const std::string name{"bad\xff\x1b.so"};
  auto bytes = testing::read_bytes(hand_made("hand_exposed"));
  constexpr std::string_view symbol = "_ZN13shared_static";
  const auto* const wanted = reinterpret_cast<const std::byte*>(symbol.data());
  int changed = 0;
  for (auto at = bytes.begin();; ++changed) {
    at = std::search(at, bytes.end(), wanted, wanted + symbol.size());
    if (at == bytes.end()) break;
    std::memcpy(&*at, odd_bytes.data(), odd_bytes.size());
  }
  ASSERT_GT(changed, 0);
  testing::write_bytes(folder / name, bytes);
  for (const auto& seen : {inspect(folder / name), inspect_foreign(folder / name)}) {
    ASSERT_TRUE(seen) << seen.error().text();
    expect_printable(*seen);
    EXPECT_TRUE(std::any_of(seen->findings.begin(), seen->findings.end(), [](const finding& one) {
      return one.text.find("?[31m???") != std::string::npos && one.subject.find("?[31m???") == 0;
    }));
    std::istringstream lines{describe(*seen)};
    for (std::string line; std::getline(lines, line);) EXPECT_TRUE(is_printable(line)) << line;
  }
}

TEST(foreign_file, believes_no_text_of_whoever_looked_at_it) {
  foreign_answer answer;
  answer.seen.machine = answer.seen.build_id = odd_bytes;
  answer.seen.needed.emplace_back(odd_bytes);
  const std::string odd{odd_bytes};
  answer.seen.findings.push_back({finding_kind::forks, severity::refuse, odd, odd, odd, odd});
  const auto back = decode_answer(encode_answer(answer));
  ASSERT_TRUE(back);
  expect_printable(back->seen);
  EXPECT_TRUE(is_printable(back->seen.machine));
  EXPECT_TRUE(is_printable(back->seen.build_id));
}

TEST(foreign_file, has_the_errors_of_a_file_that_is_trusted) {
  const testing::scratch_folder folder;
  testing::write_bytes(folder / "cut.so", {std::byte{0x7f}, std::byte{'E'}, std::byte{'L'}, std::byte{'F'}});
  const auto cut = inspect_foreign(folder / "cut.so");
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().why(), reason::corrupt);
  EXPECT_THAT(cut.error().message(), HasSubstr("cut.so: damaged or cut short"));
  EXPECT_EQ(inspect_foreign(folder / "gone.so").error().why(), reason::not_found);
}

TEST(foreign_file, survives_an_answer_cut_or_changed_anywhere) {
  const auto here = inspect(hand_made("hand_counter_2"));
  ASSERT_TRUE(here);
  const std::string whole = encode_answer({*here, {"one", "two"}});
  const auto back = decode_answer(whole);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->seen.plugin, here->plugin);
  EXPECT_EQ(back->exports, (std::vector<std::string>{"one", "two"}));
  for (std::size_t size = 0; size < whole.size(); ++size)
    ASSERT_FALSE(decode_answer(std::string_view{whole}.substr(0, size)));
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  for (int round = 0; round < 2000; ++round) {
    std::string changed = whole;
    for (unsigned i = 0; i < 1 + random() % 4; ++i) changed[random() % changed.size()] = static_cast<char>(random());
    (void)decode_answer(changed);
  }
}

// Under a sanitizer some of them; on a machine that has other things to do, every tenth after half a minute.
TEST(foreign_file, reads_every_library_of_this_machine) {
  std::set<std::filesystem::path> seen;
  std::size_t read = 0;
  std::size_t number = 0;
  const auto began = std::chrono::steady_clock::now();
  for (const char* root : {"/usr/lib", "/lib"}) {
    std::error_code failed;
    for (std::filesystem::recursive_directory_iterator
             at{root, std::filesystem::directory_options::skip_permission_denied, failed},
         end;
         at != end; at.increment(failed)) {
      if (failed) break;
      std::error_code none;
      const std::string name = at->path().filename().string();
      if (!at->is_regular_file(none) || name.find(".so") == std::string::npos || at->file_size(none) > 40'000'000)
        continue;
      if (!seen.insert(std::filesystem::canonical(at->path(), none)).second) continue;
      const bool hurry = sanitized || std::chrono::steady_clock::now() - began > std::chrono::seconds{30};
      if (hurry && number++ % (sanitized ? 40 : 10) != 0) continue;
      const auto found = inspect_foreign(at->path());
      // A text that is named so, a 32-bit library or a program is no shared object; what is one must make sense.
      if (!found) {
        EXPECT_EQ(found.error().why(), reason::invalid_argument) << found.error().text();
        continue;
      }
      ++read;
      EXPECT_FALSE(found->replaceable()) << at->path();
    }
  }
  EXPECT_GT(read, sanitized ? 5U : 100U);
}

TEST(finding_rules, are_all_in_the_reference) {
  std::ifstream in{MOLT_SOURCE "/docs/reference/inspect.md"};
  const std::string page{std::istreambuf_iterator<char>{in}, {}};
  for (const auto& rule : finding_rules()) {
    EXPECT_EQ(find_rule(rule.code), &rule);
    EXPECT_THAT(page, HasSubstr("| `" + std::string{rule.code} + "` | " + std::string{to_string(rule.level)} + " | " +
                                std::string{rule.reason} + " | " + std::string{rule.fix} + " |"));
  }
  EXPECT_EQ(find_rule("no_such_code"), nullptr);
  std::size_t rows = 0;
  for (auto at = page.find("\n| `"); at != std::string::npos; at = page.find("\n| `", at + 1)) {
    const auto code = page.substr(at + 4, page.find('`', at + 4) - at - 4);
    EXPECT_NE(find_rule(code), nullptr) << code;
    ++rows;
  }
  EXPECT_EQ(rows, finding_kinds);
}

}  // namespace
}  // namespace molt::loader
