// Which bytes are loaded, whatever happens to the file meanwhile.
#include "loader/image_file.hpp"

#include "hand_made.hpp"
#include "loader/plugin_image.hpp"
#include "loader/sha256.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

namespace molt::loader {
namespace {

namespace fs = std::filesystem;
using testing::hand_made;
using ::testing::HasSubstr;
using testing::read_bytes;
using testing::write_bytes;

std::string hash_of(const std::vector<std::byte>& bytes) {
  sha256 hash;
  hash.add({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return hash.hex();
}

std::ptrdiff_t open_files() { return std::distance(fs::directory_iterator{"/proc/self/fd"}, {}); }

/// A plugin that was inspected, and a release that states its bytes.
class a_stated_plugin : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::copy_file(hand_made("hand_counter_1"), file.path);
    ASSERT_TRUE(inspect(file));
    files = open_files();
    mapped = images().size();
  }
  /// Refuses, and leaves nothing open or mapped.
  error refusal(bool by_inspect = false) {
    result<void> done = ok();
    if (by_inspect) {
      if (auto seen = inspect(file); !seen) done = std::move(seen).error();
    } else if (auto image = load(file); !image) {
      done = std::move(image).error();
    }
    EXPECT_FALSE(done);
    EXPECT_EQ(open_files(), files);
    EXPECT_EQ(images().size(), mapped);
    return done ? error{} : done.error();
  }
  void expect_both_digests_in(const error& refused) {
    EXPECT_EQ(refused.why(), reason::corrupt);
    EXPECT_THAT(refused.message(), HasSubstr(file.path.string()));
    EXPECT_THAT(refused.message(), HasSubstr("its SHA-256 is " + hash_of(read_bytes(file.path))));
    EXPECT_THAT(refused.message(), HasSubstr(", its release states " + file.sha256));
    EXPECT_THAT(refused.hint(), HasSubstr("install the package that it came from again"));
  }

  testing::scratch_folder folder;
  plugin_file file{folder / "p.so", hash_of(read_bytes(hand_made("hand_counter_1")))};
  std::ptrdiff_t files = 0;
  std::size_t mapped = 0;
};

TEST_F(a_stated_plugin, is_loaded_while_it_is_what_was_stated) {
  const auto image = load(file);
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ((*image)->version(), "1.0.0");
}

TEST_F(a_stated_plugin, is_refused_when_it_was_changed_in_place) {
  {
    std::fstream into{file.path, std::ios::in | std::ios::out | std::ios::binary};
    into.seekp(-1, std::ios::end).put('x');
  }
  expect_both_digests_in(refusal());
  expect_both_digests_in(refusal(true));
}

TEST_F(a_stated_plugin, is_refused_when_another_took_its_place) {
  fs::copy_file(hand_made("hand_counter_2"), folder / "q.so");
  fs::rename(folder / "q.so", file.path);
  expect_both_digests_in(refusal());
  expect_both_digests_in(refusal(true));
}

TEST_F(a_stated_plugin, is_refused_when_it_was_cut) {
  fs::resize_file(file.path, fs::file_size(file.path) / 2);
  expect_both_digests_in(refusal());
  fs::resize_file(file.path, 0);
  EXPECT_THAT(refusal().message(), HasSubstr("the file is empty"));
}

TEST_F(a_stated_plugin, is_refused_when_it_is_no_file_any_more) {
  fs::remove(file.path);
  EXPECT_EQ(refusal().why(), reason::not_found);
  ASSERT_EQ(::mkfifo(file.path.c_str(), 0600), 0);
  EXPECT_THAT(refusal().message(), HasSubstr("not a regular file"));
  fs::remove(file.path);
  fs::create_directory(file.path);
  EXPECT_THAT(refusal().message(), HasSubstr("not a regular file"));
}

TEST_F(a_stated_plugin, is_refused_when_it_cannot_be_read) {
  fs::remove(file.path);
  fs::create_symlink("/proc/self/mem", file.path);  // a regular file with nothing at its beginning, for everyone
  EXPECT_THAT(refusal().message(), HasSubstr("cannot read"));
  fs::remove(file.path);
  fs::create_symlink(file.path, file.path);
  EXPECT_THAT(refusal().message(), HasSubstr("cannot open"));
}

TEST_F(a_stated_plugin, is_loaded_or_refused_but_never_another_while_it_changes_all_the_time) {
  const auto own = read_bytes(file.path);
  const auto other = read_bytes(hand_made("hand_counter_2"));
  std::atomic<bool> enough{false};
  std::thread writer{[&] {
    for (unsigned turn = 0; !enough; ++turn) {
      const auto& now = turn % 4 < 2 ? other : own;
      if (turn % 2 == 0) {
        write_bytes(file.path, now);  // cut and filled again under the reader
      } else {
        write_bytes(folder / "q.so", now);
        fs::rename(folder / "q.so", file.path);
      }
      std::this_thread::yield();
    }
  }};
  unsigned loaded = 0;
  unsigned refused = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while ((loaded < 20 || refused < 20) && std::chrono::steady_clock::now() < until) {
    const auto image = load(file);
    if (image) {
      EXPECT_EQ((*image)->version(), "1.0.0");
      ++loaded;
    } else {
      EXPECT_TRUE(image.error().why() == reason::corrupt || image.error().why() == reason::invalid_argument)
          << image.error().text();
      ++refused;
    }
  }
  enough = true;
  writer.join();
  EXPECT_GE(loaded, 20U);
  EXPECT_GE(refused, 20U);
}

TEST(image_file, is_a_copy_that_nobody_can_change) {
  const auto file = image_file::open(hand_made("hand_counter_1"));
  ASSERT_TRUE(file) << file.error().text();
  const std::vector<std::byte> before{file->bytes().begin(), file->bytes().end()};
  EXPECT_EQ(before, read_bytes(hand_made("hand_counter_1")));
  // As another process of the same user could: the name leads to the very memory that is loaded.
  const int for_writing = ::open(file->load_path().c_str(), O_RDWR | O_CLOEXEC);
  if (for_writing >= 0) {
    EXPECT_EQ(::pwrite(for_writing, "x", 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::ftruncate(for_writing, 0), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::fcntl(for_writing, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    ::close(for_writing);
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), file->bytes().begin(), file->bytes().end()));
}

TEST(image_file, is_read_by_others_under_its_name) {
  const auto file = image_file::open(hand_made("hand_counter_1"));
  ASSERT_TRUE(file) << file.error().text();
  const pid_t other = ::fork();  // a debugger, a crash report's reader
  if (other == 0) {
    const int from = ::open(file->load_path().c_str(), O_RDONLY | O_CLOEXEC);
    char magic[4] = {};
    ::_exit(from >= 0 && ::read(from, magic, 4) == 4 && std::string_view{magic, 4} == "\177ELF" ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(other, &status, 0), other);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace molt::loader
