#include "base/memory_map.hpp"

#include "base/unique_fd.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <string>

namespace molt {
namespace {

TEST(memory_map, reads_lines_of_proc_maps_and_refuses_others) {
  map_line found;
  ASSERT_TRUE(parse_map_line("7f0c5a200000-7f0c5a201000 r-xp 00001000 fd:01 1234    /memfd:libkv.so (deleted)", found));
  EXPECT_EQ(found.begin, 0x7f0c5a200000U);
  EXPECT_EQ(found.end, 0x7f0c5a201000U);
  EXPECT_EQ(found.file_offset, 0x1000U);
  EXPECT_TRUE(found.readable && !found.writable && found.executable && !found.shared);
  EXPECT_EQ(found.device_major, 0xfdU);
  EXPECT_EQ(found.device_minor, 1U);
  EXPECT_EQ(found.inode, 1234U);
  EXPECT_EQ(found.path, "/memfd:libkv.so");
  ASSERT_TRUE(parse_map_line("7f0c5a200000-7f0c5a201000 rw-s 00000000 00:00 18446744073709551615 ", found));
  EXPECT_TRUE(found.readable && found.writable && !found.executable && found.shared);
  EXPECT_EQ(found.inode, UINT64_MAX);
  EXPECT_TRUE(found.path.empty());
  for (const char* const odd :
       {"", "x", "7f-", "7f0c5a201000-7f0c5a200000 r-xp 0 0:0 0", "1-2 r-x", "1-2 r-xp 0 0:0 18446744073709551616",
        "10000000000000000-10000000000000001 r-xp 0 0:0 0", "1-2 r-xp 0 0:0"})
    EXPECT_FALSE(parse_map_line(odd, found)) << odd;
}

TEST(memory_map, shows_what_is_mapped_until_it_has_been_seen) {
  const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const unique_fd file{::memfd_create(std::string(200, 'm').c_str(), MFD_CLOEXEC)};
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(size)), 0);
  struct stat status {};
  ASSERT_EQ(::fstat(file.get(), &status), 0);
  void* const at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  ASSERT_NE(at, MAP_FAILED);
  unsigned seen = 0;
  std::uint64_t before = 0;
  EXPECT_TRUE(visit_mappings([&](const map_line& line) {
    EXPECT_GE(line.begin, before) << "in ascending order";
    before = line.end;
    if (line.begin != reinterpret_cast<std::uintptr_t>(at)) return true;
    EXPECT_EQ(line.path, "/memfd:" + std::string(200, 'm'));
    EXPECT_EQ(line.inode, status.st_ino);
    EXPECT_EQ(line.device_major, major(status.st_dev));
    EXPECT_EQ(line.device_minor, minor(status.st_dev));
    EXPECT_EQ(++seen, 1U);
    return false;
  }));
  EXPECT_EQ(seen, 1U);
  EXPECT_LE(before, reinterpret_cast<std::uintptr_t>(at) + size) << "goes on after it was told to stop";
  ::munmap(at, size);
}

}  // namespace
}  // namespace molt
