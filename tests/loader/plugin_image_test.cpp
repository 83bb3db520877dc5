#include "loader/plugin_image.hpp"

#include "hand_made.hpp"
#include "loader/process_memory.hpp"

#include <gmock/gmock.h>
#include <gnu/libc-version.h>
#include <sys/mman.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace molt::loader {
namespace {

using testing::hand_made;
using ::testing::HasSubstr;

std::size_t maps_naming(const std::string& name) {
  std::ifstream maps{"/proc/self/maps"};
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find(name) != std::string::npos) ++count;
  return count;
}

lease loaded(const std::filesystem::path& path) {
  auto image = load(path);
  EXPECT_TRUE(image) << image.error().text();
  return image ? *image : lease{};
}

// Adds through the code and returns the new value.
std::int64_t add(const plugin_image& image, void* state, std::int64_t by) {
  std::int64_t reply = -1;
  molt_text text{};
  EXPECT_EQ(image.server_type(0).handlers[0].handle(nullptr, state, &by, &reply, &text), MOLT_OK);
  return reply;
}

TEST(plugin_image, runs_two_versions_side_by_side) {
  const lease one = loaded(hand_made("hand_counter_1"));
  const lease two = loaded(hand_made("hand_counter_2"));
  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->version(), "1.0.0");
  EXPECT_EQ(two->version(), "2.0.0");
  EXPECT_NE(&one->server_type(0), &two->server_type(0));
  EXPECT_TRUE(one->contains(&one->server_type(0)));
  EXPECT_FALSE(one->contains(&two->server_type(0)));
  std::int64_t state[2] = {40, 0};
  EXPECT_EQ(add(*one, state, 1), 41);
  EXPECT_EQ(add(*two, state, 1), 42);
}

/// The statics of a plugin of SIN_STATICS that are new to it.
std::int64_t first_uses(const plugin_image& image) {
  std::int64_t state[2] = {};
  return add(image, state, 0);
}

TEST(plugin_image, shares_no_static_with_another_of_the_same_soname_and_class_names) {
  std::vector<std::filesystem::path> second{hand_made("hand_statics_2")};
  if (*MOLT_HAND_MADE_BY_CLANG != '\0') second.emplace_back(MOLT_HAND_MADE_BY_CLANG);
  for (const auto& file : second) {
    lease one = loaded(hand_made("hand_statics_1"));
    lease two = loaded(file);
    ASSERT_TRUE(one && two) << file;
    const bool fresh = unmaps_images();
    const auto first = first_uses(*one);
    EXPECT_TRUE(first == 4 || !fresh) << first;
    EXPECT_EQ(first_uses(*two), 4) << file << ": a static of its own has been used before";
    EXPECT_EQ(first_uses(*one), 1);
    EXPECT_EQ(first_uses(*two), 1);
    ASSERT_TRUE(unload(one));
    EXPECT_EQ(first_uses(*two), 1) << "its own code is still there";
    ASSERT_TRUE(unload(two));
  }
}

TEST(plugin_image, is_shared_when_the_same_plugin_is_loaded_again) {
  const testing::scratch_folder folder;
  std::filesystem::copy_file(hand_made("hand_counter_1"), folder / "copy.so");
  const lease one = loaded(hand_made("hand_counter_1"));
  EXPECT_EQ(one, loaded(hand_made("hand_counter_1")));
  EXPECT_EQ(one, loaded(folder / "copy.so"));
}

TEST(plugin_image, is_refused_when_other_contents_have_the_build_id_of_a_loaded_one) {
  const testing::scratch_folder folder;
  auto bytes = testing::read_bytes(hand_made("hand_counter_1"));
  bytes.back() ^= std::byte{1};  // the last section header's entry size
  testing::write_bytes(folder / "changed.so", bytes);
  const lease one = loaded(hand_made("hand_counter_1"));
  const auto changed = load(folder / "changed.so");
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().why(), reason::already_exists);
  EXPECT_THAT(changed.error().message(), HasSubstr(one->build_id()));
}

TEST(plugin_image, goes_with_its_last_lease) {
  const auto count_mapped = [] {
    const auto known = images();
    return std::count_if(known.begin(), known.end(), [](const image_info& one) { return one.leases != 0; });
  };
  {
    const lease one = loaded(hand_made("hand_counter_1"));
    const lease other = one;
    EXPECT_GT(maps_naming("libhand_counter_1.so"), 0U);
    EXPECT_EQ(count_mapped(), 1);
  }
  EXPECT_EQ(count_mapped(), 0);
  if (unmaps_images()) {
    EXPECT_EQ(maps_naming("libhand_counter_1.so"), 0U);
  }
}

TEST(plugin_image, is_unloaded_and_seen_to_be_gone) {
  lease one = loaded(hand_made("hand_counter_1"));
  const std::string build_id = one->build_id();
  const auto report = unload(one);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(one, nullptr);
  EXPECT_EQ(report->plugin, "counter 1.0.0");
  EXPECT_EQ(report->build_id, build_id);
  EXPECT_EQ(report->unmapped, unmaps_images()) << report->why;
  EXPECT_EQ(report->why.empty(), report->unmapped);
}

TEST(plugin_image, leaves_its_place_empty_for_a_while) {
  if (!unmaps_images()) GTEST_SKIP() << "a sanitizer's build keeps images";
  std::vector<hidden_range> before;
  for (int round = 0; round < 20; ++round) {
    lease one = loaded(hand_made(round % 2 == 0 ? "hand_counter_1" : "hand_counter_2"));
    ASSERT_TRUE(one);
    const auto here = one->range();
    for (const auto& was : before)
      EXPECT_TRUE(here.begin() >= was.begin() + was.size() || was.begin() >= here.begin() + here.size()) << round;
    before.push_back(here);
    ASSERT_TRUE(unload(one));
    const auto mappings = read_mappings();
    ASSERT_TRUE(mappings);
    const auto* const left = find_mapping(*mappings, here.begin());
    ASSERT_NE(left, nullptr);
    EXPECT_EQ(left->protection(), PROT_NONE);
    EXPECT_GE(left->end, here.begin() + here.size());
  }
  // Side by side they are one mapping, or nearly so.
  const auto mappings = read_mappings();
  ASSERT_TRUE(mappings);
  const auto nobodys = [](const mapping& each) { return each.protection() == PROT_NONE && each.path.empty(); };
  const auto count = std::count_if(mappings->begin(), mappings->end(), nobodys);
  for (int round = 0; round < 200; ++round) {
    lease one = loaded(hand_made("hand_counter_1"));
    ASSERT_TRUE(unload(one));
  }
  const auto later = read_mappings();
  ASSERT_TRUE(later);
  EXPECT_LE(std::count_if(later->begin(), later->end(), nobodys), count + 8);
}

TEST(plugin_image, is_not_unloaded_while_leases_remain) {
  lease one = loaded(hand_made("hand_counter_1"));
  const lease other = one;
  const auto report = unload(one);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().why(), reason::busy);
  EXPECT_THAT(report.error().message(), HasSubstr("1 other lease"));
  ASSERT_NE(one, nullptr);
  std::int64_t state = 1;
  EXPECT_EQ(add(*one, &state, 1), 2);
}

TEST(plugin_image, that_stays_mapped_is_reported_with_the_reason) {
  for (const auto& [name, why] :
       {std::pair{"hand_no_delete", "DF_1_NODELETE"}, std::pair{"hand_opens_itself", "opened it"}}) {
    lease one = loaded(hand_made(name));
    ASSERT_TRUE(one);
    const std::string build_id = one->build_id();
    const auto report = unload(one);
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_FALSE(report->unmapped);
    EXPECT_THAT(report->why, HasSubstr(unmaps_images() ? why : "sanitizer"));
    bool listed = false;
    for (const auto& known : images()) listed |= known.build_id == build_id && !known.resident_because.empty();
    EXPECT_TRUE(listed);
    // It can be used again, and does not pile up.
    const auto known = images().size();
    one = loaded(hand_made(name));
    ASSERT_TRUE(one);
    std::int64_t state = 1;
    EXPECT_EQ(add(*one, &state, 1), 2);
    ASSERT_TRUE(unload(one));
    EXPECT_EQ(images().size(), known);
  }
}

TEST(plugin_image, with_thread_local_storage_stays_where_closing_it_may_crash) {
  lease one = loaded(hand_made("hand_tls"));
  const auto report = unload(one);
  ASSERT_TRUE(report);
  const std::string version = ::gnu_get_libc_version();
  const bool unsafe = version == "2.34" || version == "2.35" || version == "2.36";
  EXPECT_EQ(report->unmapped, unmaps_images() && !unsafe) << report->why;
}

TEST(plugin_image, does_not_notice_when_its_file_is_overwritten) {
  const testing::scratch_folder folder;
  std::filesystem::copy_file(hand_made("hand_counter_1"), folder / "p.so");
  const lease one = loaded(folder / "p.so");
  // In place, as a careless cp does: mapped from the file itself, the next call would be a SIGBUS.
  std::filesystem::resize_file(folder / "p.so", 0);
  std::int64_t state = 1;
  EXPECT_EQ(add(*one, &state, 1), 2);
  testing::write_bytes(folder / "p.so", testing::read_bytes(hand_made("hand_counter_2")));
  const lease two = loaded(folder / "p.so");
  ASSERT_TRUE(two);
  EXPECT_EQ(two->version(), "2.0.0");
  EXPECT_EQ(add(*one, &state, 1), 3);
}

TEST(plugin_image, is_refused_by_its_findings_before_any_of_its_code_runs) {
  const auto image = load(hand_made("hand_thread_local"));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().why(), reason::refused);
  EXPECT_EQ(maps_naming("libhand_thread_local.so"), 0U);
}

TEST(plugin_image, whose_table_function_throws_is_refused) {
  const auto image = load(hand_made("hand_throws"));
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(), HasSubstr("threw"));
}

TEST(plugin_image, leaves_nothing_behind_after_a_hundred_loads) {
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator{"/proc/self/fd"}, std::filesystem::directory_iterator{});
  };
  (void)loaded(hand_made("hand_counter_1"));
  (void)loaded(hand_made("hand_counter_2"));
  const auto files = open_files();
  const auto mapped = maps_naming("hand_counter");
  for (int i = 0; i < 100; ++i) {
    lease one = loaded(hand_made(i % 2 == 0 ? "hand_counter_1" : "hand_counter_2"));
    ASSERT_TRUE(one);
    ASSERT_TRUE(unload(one));
  }
  EXPECT_EQ(open_files(), files);
  EXPECT_EQ(maps_naming("hand_counter"), mapped);
}

TEST(plugin_image, has_its_file_far_from_images) {
  if (!unmaps_images()) GTEST_SKIP() << "this build keeps them";
  const lease one = loaded(hand_made("hand_counter_1"));
  const auto file = reinterpret_cast<std::uintptr_t>(one->file().data());
  constexpr std::uintptr_t far = std::uintptr_t{1} << 40U;
  EXPECT_GT(one->range().begin() > file ? one->range().begin() - file : file - one->range().begin(), far);
}

/// What is open, mapped and running.
struct possessions {
  std::vector<std::string> files;
  std::vector<std::string> mapped;
  std::ptrdiff_t threads = 0;
  bool operator==(const possessions&) const = default;
};

possessions own() {
  possessions all;
  for (const auto& each : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code closed;  // the iterator's own
    const auto leads_to = std::filesystem::read_symlink(each.path(), closed).string();
    if (leads_to.find("/proc/") == std::string::npos) all.files.push_back(leads_to);
  }
  std::ifstream maps{"/proc/self/maps"};
  for (std::string line; std::getline(maps, line);)
    if (line.find(".so") != std::string::npos) all.mapped.push_back(line.substr(line.rfind(' ')));
  all.threads = std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, {});
  return all;
}

TEST(plugin_image, that_cannot_be_loaded_leaves_no_mapping_no_file_and_no_thread) {
  for (const char* const broken : {"hand_unresolved", "hand_throws", "hand_lie_11", "hand_lie_7", "hand_no_note"}) {
    (void)load(hand_made(broken));  // what is made once only
    const auto before = own();
    for (int round = 0; round < 3; ++round) EXPECT_FALSE(load(hand_made(broken))) << broken;
    if (unmaps_images()) {
      EXPECT_EQ(own(), before) << broken;
    }
  }
  EXPECT_THAT(load(hand_made("hand_unresolved")).error().message(), HasSubstr("nobody_has_this"));
}

TEST(plugin_image, may_be_loaded_and_let_go_by_many_threads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 50; ++i) {
        const lease one = loaded(hand_made((t + i) % 2 == 0 ? "hand_counter_1" : "hand_counter_2"));
        std::int64_t state = 1;
        ASSERT_TRUE(one);
        EXPECT_EQ(add(*one, &state, 1), 2);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace molt::loader
