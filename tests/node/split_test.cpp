// The release of docs/how-to/split-a-server.md in a box: rehearsed, upgraded, rolled back, as an operator does it.
#include "node/box.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace molt::node {
namespace {

class a_split : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "molt-split-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    auto made = box::start(release("1.0.0", "sessions"), {});
    ASSERT_TRUE(made) << made.error().text();
    box_ = std::move(*made);
  }
  void TearDown() override {
    box_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::filesystem::path release(const std::string& version, const std::string& names, const std::string& more = "") {
    const auto folder = folder_ / ("site-" + version);
    std::filesystem::create_directories(folder / "plugins");
    std::filesystem::copy_file(std::string{SITE_PLUGINS "/libsite-"} + version + ".so", folder / "plugins/site.so");
    std::ofstream to{folder / "release.toml"};
    to << "[release]\nname = \"site\"\nversion = \"" << version << "\"\n[[plugin]]\nname = \"site\"\nversion = \""
       << version << "\"\nfile = \"plugins/site.so\"\n";
    for (std::size_t at = 0; at < names.size();) {
      const auto end = std::min(names.find(' ', at), names.size());
      const auto name = names.substr(at, end - at);
      to << "[[server]]\nname = \"" << name << "\"\ntype = \"site." << name << "\"\n";
      at = end + 1;
    }
    to << more;
    return folder;
  }
  std::string call(const std::string& server, const std::string& message, const std::string& payload) {
    const auto reply = box_->call({server, message, payload, {}});
    return reply ? *reply : "error: " + reply.error().text();
  }
  std::string hit() { return call("sessions", "hit", R"({"id":1,"page":"home"})"); }
  std::string total(const std::string& of) { return call(of, "total", R"({"page":"home"})"); }

  std::filesystem::path folder_;
  std::unique_ptr<box> box_;
};

TEST_F(a_split, goes_up_and_down_with_its_manifest_alone) {
  EXPECT_EQ(hit(), "1");
  EXPECT_EQ(hit(), "2");
  const auto next = release("2.0.0", "sessions metrics", "[upgrade]\nmode = \"atomic\"\n");
  const auto tried = box_->rehearse(next, {});
  ASSERT_TRUE(tried) << tried.error().text();
  EXPECT_TRUE(tried->passed) << (tried->problems.empty() ? "" : tried->problems[0]);
  const auto done = box_->upgrade(next, {});
  ASSERT_TRUE(done) << done.error().text();
  ASSERT_EQ(done->result, upgrade::phase::done) << (done->problems.empty() ? "" : done->problems[0]);
  EXPECT_EQ(total("metrics"), "2");
  EXPECT_EQ(hit(), "3");
  const auto back = box_->rollback({});
  ASSERT_TRUE(back) << back.error().text();
  ASSERT_EQ(back->result, upgrade::phase::done) << (back->problems.empty() ? "" : back->problems[0]);
  EXPECT_EQ(total("sessions"), "3");
  EXPECT_EQ(box_->runtime().lookup("metrics").bits, 0U);
}

TEST_F(a_split, is_refused_where_the_manifest_does_not_say_that_everything_rests) {
  EXPECT_EQ(hit(), "1");
  const auto done = box_->upgrade(release("2.0.0", "sessions metrics"), {});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->result, upgrade::phase::refused);
  ASSERT_FALSE(done->problems.empty());
  EXPECT_NE(done->problems[0].find("mode = \"atomic\""), std::string::npos) << done->problems[0];
  EXPECT_EQ(total("sessions"), "1");
}

TEST_F(a_split, is_as_before_where_the_manifest_forgets_the_new_server) {
  EXPECT_EQ(hit(), "1");
  const auto done = box_->upgrade(release("2.0.0", "sessions", "[upgrade]\nmode = \"atomic\"\n"), {});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->result, upgrade::phase::rolled_back);
  ASSERT_FALSE(done->failures.empty());
  EXPECT_NE(done->failures[0].error.find("site-2.0.0 starts no server of that name; it starts: sessions"),
            std::string::npos)
      << done->failures[0].error;
  EXPECT_EQ(total("sessions"), "1");
}

}  // namespace
}  // namespace molt::node
