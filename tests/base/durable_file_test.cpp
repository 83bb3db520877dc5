#include "base/durable_file.hpp"

#include "base/unique_fd.hpp"
#include "tests/base/faulty_file_system.hpp"
#include "tests/base/scratch_folder.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

namespace molt {
namespace {

using tests::fault;
using tests::faulty_file_system;
using tests::scratch_folder;

const std::string old_content(3000, 'o');
const std::string new_content(5000, 'n');

std::string content_of(const std::filesystem::path& file) {
  auto read = read_file(file, 1U << 20U);
  return read ? *read : read.error().text();
}

int steps_of_a_replacement() {
  const scratch_folder folder;
  faulty_file_system system;
  EXPECT_TRUE(replace_file(folder / "file", new_content, 0644, system));
  return system.steps();
}

TEST(durable_file, creates_and_replaces) {
  const scratch_folder folder;
  ASSERT_TRUE(replace_file(folder / "file", old_content));
  EXPECT_EQ(content_of(folder / "file"), old_content);
  ASSERT_TRUE(replace_file(folder / "file", new_content, 0600));
  EXPECT_EQ(content_of(folder / "file"), new_content);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(durable_file, syncs_the_file_before_the_rename_and_the_folder_after_it) {
  // open folder, open file, write, sync, rename, sync
  EXPECT_EQ(steps_of_a_replacement(), 6);
}

TEST(durable_file, keeps_the_old_content_and_leaves_no_debris_when_a_step_fails) {
  const int last = steps_of_a_replacement();
  for (const int number : {ENOSPC, EIO}) {
    for (int step = 1; step < last; ++step) {
      const scratch_folder folder;
      ASSERT_TRUE(replace_file(folder / "file", old_content));
      faulty_file_system system{fault::error, step, number};
      const auto replaced = replace_file(folder / "file", new_content, 0644, system);
      ASSERT_FALSE(replaced) << "step " << step;
      EXPECT_EQ(replaced.error().why(), reason::io);
      EXPECT_NE(replaced.error().message().find(folder.path().string()), std::string::npos) << replaced.error().text();
      EXPECT_EQ(content_of(folder / "file"), old_content) << "step " << step;
      EXPECT_FALSE(std::filesystem::exists(folder / "file.new")) << "step " << step;
    }
  }
}

TEST(durable_file, says_so_when_only_the_folder_could_not_be_synced) {
  const scratch_folder folder;
  ASSERT_TRUE(replace_file(folder / "file", old_content));
  faulty_file_system system{fault::error, steps_of_a_replacement()};
  EXPECT_FALSE(replace_file(folder / "file", new_content, 0644, system));
  EXPECT_EQ(content_of(folder / "file"), new_content);
}

TEST(durable_file, goes_on_after_a_short_write) {
  const scratch_folder folder;
  class short_writes : public file_system {
   public:
    ssize_t write(int fd, const void* bytes, std::size_t size) override {
      return file_system::write(fd, bytes, size > 7 ? 7 : size);
    }
  } system;
  ASSERT_TRUE(replace_file(folder / "file", new_content, 0644, system));
  EXPECT_EQ(content_of(folder / "file"), new_content);
}

TEST(durable_file, keeps_the_old_content_when_the_disk_fills_in_the_middle_of_a_write) {
  const scratch_folder folder;
  ASSERT_TRUE(replace_file(folder / "file", old_content));
  faulty_file_system system{fault::half_write, 3, ENOSPC};
  const auto replaced = replace_file(folder / "file", new_content, 0644, system);
  ASSERT_FALSE(replaced);
  EXPECT_NE(replaced.error().message().find("No space left on device"), std::string::npos);
  EXPECT_EQ(content_of(folder / "file"), old_content);
}

TEST(durable_file, holds_old_or_new_content_after_dying_at_any_step) {
  const int last = steps_of_a_replacement();
  for (const fault what : {fault::kill, fault::power_cut, fault::power_cut_of_data}) {
    for (int step = 1; step <= last + 1; ++step) {
      const scratch_folder folder;
      ASSERT_TRUE(replace_file(folder / "file", old_content));
      const int status = tests::run_in_child([&] {
        faulty_file_system system{what, step};
        (void)replace_file(folder / "file", new_content, 0644, system);
      });
      ASSERT_EQ(status, step <= last ? tests::died : 0);
      const auto content = content_of(folder / "file");
      if (step <= 5)
        EXPECT_EQ(content, old_content) << "step " << step;
      else
        EXPECT_TRUE(content == new_content || (step == last && content == old_content)) << "step " << step;
      ASSERT_TRUE(replace_file(folder / "file", new_content)) << "debris is in the way";
      EXPECT_EQ(content_of(folder / "file"), new_content);
    }
  }
}

TEST(durable_file, reads_no_more_than_it_is_told) {
  const scratch_folder folder;
  tests::write_file(folder / "file", std::string(100, 'x'));
  EXPECT_EQ(content_of(folder / "file").size(), 100U);
  EXPECT_TRUE(read_file(folder / "file", 100));
  const auto refused = read_file(folder / "file", 99);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::out_of_bounds);
}

TEST(durable_file, reads_files_that_state_no_size) {
  EXPECT_TRUE(read_file("/proc/self/stat", 1U << 16U));
  const auto endless = read_file("/proc/self/maps", 10);
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().why(), reason::out_of_bounds);
}

TEST(durable_file, refuses_to_read_what_is_no_file) {
  const scratch_folder folder;
  EXPECT_EQ(read_file(folder / "absent", 10).error().why(), reason::not_found);
  EXPECT_EQ(read_file(folder.path(), 10).error().why(), reason::io);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_file(folder / "pipe", 10).error().why(), reason::io) << "and does not wait for a writer";
}

TEST(unique_fd, closes_once_and_moves) {
  const int number = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  {
    unique_fd first{number};
    unique_fd second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): the moved-from state is what is tested
    EXPECT_EQ(second.get(), number);
  }
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace molt
