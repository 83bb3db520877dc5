#include "node/fd_channel.hpp"

#include "node/unix_socket.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>

namespace molt::node {
namespace {

using namespace std::chrono_literals;

class fd_channel_test : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "molt-fds-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/fds.sock";
    auto made = fd_channel_server::listen(
        path_, {[this] { return given(); }, [this](std::vector<named_fd> fds) { return take(std::move(fds)); }});
    ASSERT_TRUE(made) << made.error().text();
    server_ = std::move(*made);
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::vector<named_fd> given() {
    std::vector<named_fd> all;
    for (int i = 0; i < count_; ++i)
      all.push_back({"fd" + std::to_string(i), unique_fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)}});
    return all;
  }
  result<void> take(std::vector<named_fd> fds) {
    if (refuses_) return error{reason::refused, "not these"};
    taken_ = std::move(fds);
    return ok();
  }

  std::string folder_;
  std::string path_;
  int count_ = 2;
  bool refuses_ = false;
  std::vector<named_fd> taken_;
  std::unique_ptr<fd_channel_server> server_;
};

bool same_file(int one, int other) {
  struct stat a {};
  struct stat b {};
  return ::fstat(one, &a) == 0 && ::fstat(other, &b) == 0 && a.st_rdev == b.st_rdev && a.st_ino == b.st_ino;
}

TEST_F(fd_channel_test, gives_descriptors_with_their_names) {
  const auto got = get_fds(path_, 5s);
  ASSERT_TRUE(got) << got.error().text();
  ASSERT_EQ(got->size(), 2U);
  EXPECT_EQ((*got)[1].name, "fd1");
  const unique_fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  EXPECT_TRUE(same_file((*got)[0].fd.get(), null.get()));
  EXPECT_NE(::fcntl((*got)[0].fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(fd_channel_test, gives_none_and_as_many_as_may_be) {
  count_ = 0;
  EXPECT_EQ(get_fds(path_, 5s)->size(), 0U);
  count_ = static_cast<int>(fd_channel_fds_max);
  EXPECT_EQ(get_fds(path_, 5s)->size(), fd_channel_fds_max);
}

TEST_F(fd_channel_test, takes_descriptors_and_passes_refusals_on) {
  const unique_fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  ASSERT_TRUE(put_fds(path_, {{"a", null.get()}, {"b", null.get()}}, 5s));
  ASSERT_EQ(taken_.size(), 2U);
  EXPECT_EQ(taken_[1].name, "b");
  EXPECT_TRUE(same_file(taken_[0].fd.get(), null.get()));
  refuses_ = true;
  const auto refused = put_fds(path_, {{"a", null.get()}}, 5s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::refused);
  EXPECT_EQ(refused.error().message(), "not these");
}

TEST_F(fd_channel_test, survives_nonsense) {
  for (const std::string_view nonsense :
       {"", "x", "{}", "[1]", R"({"put":["a"]})", R"({"put":5})", R"({"put":[1,2]})"}) {
    auto peer = connect_unix(path_, SOCK_SEQPACKET, std::chrono::steady_clock::now() + 1s);
    ASSERT_TRUE(peer);
    (void)!::send(peer->get(), nonsense.data(), nonsense.size(), MSG_NOSIGNAL);
  }
  EXPECT_TRUE(get_fds(path_, 5s));
}

TEST_F(fd_channel_test, reports_unreachable_when_nobody_answers) {
  server_.reset();
  const auto got = get_fds(path_, 1s);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().why(), reason::unreachable);
}

}  // namespace
}  // namespace molt::node
