#include "loader/inspection.hpp"

#include "hand_made.hpp"
#include "plugin/toolchain.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

namespace molt::loader {
namespace {

using testing::hand_made;
using ::testing::HasSubstr;

inspection inspected(const std::string& name) {
  auto seen = inspect(hand_made(name));
  EXPECT_TRUE(seen) << seen.error().text();
  return seen ? *seen : inspection{};
}

void expect_finding(const std::string& name, finding_kind kind, severity level, const std::string& text) {
  const auto seen = inspected(name);
  const auto* found = testing::find(seen, kind);
  ASSERT_NE(found, nullptr) << name << " lacks " << to_string(kind);
  EXPECT_EQ(found->level, level);
  EXPECT_THAT(found->text, HasSubstr(text));
  EXPECT_FALSE(found->hint.empty());
  const auto required = require_replaceable(seen);
  EXPECT_EQ(seen.replaceable(), static_cast<bool>(required));
  if (level != severity::refuse) return;
  ASSERT_FALSE(required);
  EXPECT_EQ(required.error().why(), reason::refused);
  EXPECT_THAT(required.error().message(), HasSubstr(hand_made(name).string()));
  EXPECT_THAT(required.error().message(), HasSubstr(text));
}

TEST(inspection, finds_nothing_wrong_with_a_plugin_built_as_authors_build_it) {
  const auto seen = inspected("hand_counter_2");
  for (const auto& one : seen.findings) {
#if defined(__SANITIZE_ADDRESS__)  // whose reports name the files of global variables
    if (one.kind == finding_kind::build_path) continue;
#endif
    ADD_FAILURE() << one.text;
  }
  EXPECT_TRUE(seen.replaceable());
  EXPECT_EQ(seen.plugin.name, "counter");
  EXPECT_EQ(seen.plugin.version, "2.0.0");
  EXPECT_EQ(seen.plugin.abi_version, 1U);
  EXPECT_EQ(seen.plugin.schemas.size(), 4U);
  EXPECT_EQ(seen.plugin.state_edges.size(), 2U);
  EXPECT_EQ(seen.size, std::filesystem::file_size(hand_made("hand_counter_2")));
}

TEST(inspection, does_not_refuse_a_plugin_for_including_the_standard_library) {
  const auto seen = inspected("hand_plain_cpp");
  for (const auto& one : seen.findings) EXPECT_NE(one.level, severity::refuse) << one.text;
}

TEST(inspection, refuses_a_file_without_build_id) {
  expect_finding("hand_no_build_id", finding_kind::missing_build_id, severity::refuse, "no build ID");
}

TEST(inspection, refuses_a_missing_and_a_second_note) {
  expect_finding("hand_no_note", finding_kind::missing_note, severity::refuse, "no molt note");
  expect_finding("hand_two_notes", finding_kind::duplicate_note, severity::refuse, "2 molt notes");
}

TEST(inspection, refuses_another_abi_version_and_still_reads_the_note) {
  expect_finding("hand_foreign_abi", finding_kind::foreign_abi, severity::refuse, "ABI version 7");
  EXPECT_EQ(inspected("hand_foreign_abi").plugin.name, "counter");
}

TEST(inspection, refuses_other_layouts_of_standard_types_and_names_both_toolchains) {
  expect_finding(
      "hand_debug_layout", finding_kind::foreign_toolchain, severity::refuse,
      "\"x86_64 itanium libstdc++ cxx11 debug\", this host for \"" + std::string{detail::toolchain_text} + '"');
}

TEST(inspection, refuses_a_sanitizer_that_the_host_lacks) {
  expect_finding("hand_sanitized", finding_kind::foreign_sanitizer, severity::refuse,
                 "sanitizer memory, this host with ");
}

TEST(inspection, notes_what_was_compiled_otherwise_with_the_same_layouts) {
  expect_finding("hand_other_build", finding_kind::other_build, severity::note, "compiler=g++-9.1");
  EXPECT_TRUE(inspected("hand_other_build").replaceable());
  EXPECT_EQ(inspected("hand_other_build").plugin.build, "compiler=g++-9.1 sanitizer=none boost=1_70");
}

TEST(inspection, refuses_a_plugin_that_does_not_export_its_table) {
  expect_finding("hand_no_export", finding_kind::missing_export, severity::refuse, "molt_plugin");
}

TEST(inspection, names_unique_symbols_and_further_exports) {
#ifndef __clang__
  expect_finding("hand_exposed", finding_kind::unique_symbol, severity::refuse, "shared_staticIiE5value");
#endif
  const auto seen = inspected("hand_exposed");
  EXPECT_NE(testing::find(seen, finding_kind::extra_exports), nullptr);
}

TEST(inspection, refuses_threads_and_what_runs_when_threads_end) {
  expect_finding("hand_thread", finding_kind::owns_threads, severity::refuse, "threads");
  expect_finding("hand_thread_local", finding_kind::thread_exit_handler, severity::refuse, "thread_local");
  expect_finding("hand_thread_key", finding_kind::thread_key, severity::refuse, "pthread_key_create");
}

TEST(inspection, refuses_an_executable_stack_and_run_paths) {
  expect_finding("hand_executable_stack", finding_kind::executable_stack, severity::refuse, "executable stack");
  expect_finding("hand_run_path", finding_kind::run_path, severity::refuse, "/nowhere");
}

TEST(inspection, warns_of_what_stays_mapped) {
  expect_finding("hand_no_delete", finding_kind::no_delete, severity::warn, "DF_1_NODELETE");
  expect_finding("hand_tls", finding_kind::thread_local_storage, severity::warn, "thread-local");
}

TEST(inspection, refuses_a_private_runtime) {
  if (!std::filesystem::exists(hand_made("hand_private_runtime"))) GTEST_SKIP() << "not built with a sanitizer";
  expect_finding("hand_private_runtime", finding_kind::private_runtime, severity::refuse, "C++ runtime");
}

TEST(inspection, puts_refusals_first) {
  const auto seen = inspected("hand_exposed");
  EXPECT_TRUE(std::is_partitioned(seen.findings.begin(), seen.findings.end(),
                                  [](const finding& one) { return one.level == severity::refuse; }));
}

TEST(inspection, names_a_file_that_is_missing_empty_or_no_file) {
  const testing::scratch_folder folder;
  const auto missing = inspect(folder / "gone.so");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().why(), reason::not_found);
  EXPECT_THAT(missing.error().message(), HasSubstr("gone.so"));
  EXPECT_FALSE(missing.error().hint().empty());

  testing::write_bytes(folder / "empty.so", {});
  ASSERT_EQ(::mkfifo((folder / "pipe.so").c_str(), 0600), 0);
  for (const auto& none : {folder / "empty.so", folder / "", folder / "pipe.so", std::filesystem::path{"/dev/zero"}}) {
    const auto seen = inspect(none);
    ASSERT_FALSE(seen);
    EXPECT_EQ(seen.error().why(), reason::invalid_argument) << seen.error().text();
    EXPECT_FALSE(seen.error().hint().empty()) << seen.error().text();
  }
}

TEST(inspection, refuses_a_file_over_the_bound) {
  const testing::scratch_folder folder;
  testing::write_bytes(folder / "huge.so", {});
  std::filesystem::resize_file(folder / "huge.so", image_size_max + 1);  // sparse
  const auto seen = inspect(folder / "huge.so");
  ASSERT_FALSE(seen);
  EXPECT_EQ(seen.error().why(), reason::out_of_bounds);
}

}  // namespace
}  // namespace molt::loader
