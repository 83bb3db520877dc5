#include "releases/package.hpp"
#include "tests/releases/release_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using tests::scratch_folder;

class plugin_check : public testing::Test {
 protected:
  plugin_check() { tests::make_release(release, "1.0.0"); }

  void change_manifest(const std::string& from, const std::string& to) {
    auto text = tests::echo_manifest("1.0.0");
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    tests::write_file(release / "release.toml", text.replace(at, from.size(), to));
  }

  std::string refusal() {
    const auto read = read_manifest(release);
    EXPECT_TRUE(read) << read.error().text();
    const auto checked = check_plugins(release, *read, plugin_files(release, *read));
    return checked ? "" : checked.error().text();
  }

  scratch_folder folder;
  fs::path release = folder / "release";
  fs::path plugin = release / "plugins/libecho-1.0.0.so";
};

TEST_F(plugin_check, accepts_what_fits) { EXPECT_EQ(refusal(), ""); }

TEST_F(plugin_check, names_a_plugin_of_another_version) {
  fs::copy_file(tests::echo_plugin("2.0.0"), plugin, fs::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(),
              HasSubstr("release.toml:4: [[plugin]] echo: plugins/libecho-1.0.0.so is plugin \"echo\" version "
                        "\"2.0.0\", not \"echo\" version \"1.0.0\""));
}

TEST_F(plugin_check, names_a_server_type_that_no_plugin_has) {
  change_manifest("echo.keeper", "echo.keper");
  EXPECT_THAT(refusal(), HasSubstr("release.toml:8: [[server]] keeper: no plugin has the type \"echo.keper\""));
  EXPECT_THAT(refusal(), HasSubstr("server types: echo.keeper"));
}

TEST_F(plugin_check, tells_servers_from_connections) {
  change_manifest("\"echo.keeper\"", "\"echo.connection\"");
  EXPECT_THAT(refusal(), HasSubstr("the type \"echo.connection\" is a connection, not a server"));
  change_manifest("\"echo.connection\"", "\"echo.keeper\"");
  EXPECT_THAT(refusal(), HasSubstr("[[listener]] echo: the type \"echo.keeper\" is a server, not a connection"));
}

TEST_F(plugin_check, names_a_file_that_is_no_plugin) {
  fs::permissions(plugin, fs::perms::owner_all);
  tests::write_file(plugin, "hello\n");
  EXPECT_THAT(refusal(), HasSubstr(plugin.string()));
  fs::copy_file("/proc/self/exe", plugin, fs::copy_options::overwrite_existing);
  EXPECT_THAT(refusal(), HasSubstr(plugin.string()));
}

TEST_F(plugin_check, names_a_plugin_that_was_cut) {
  fs::permissions(plugin, fs::perms::owner_all);
  fs::resize_file(plugin, fs::file_size(plugin) / 2);
  EXPECT_THAT(refusal(), HasSubstr(plugin.string()));
}

TEST_F(plugin_check, runs_before_anything_is_packed) {
  fs::permissions(plugin, fs::perms::owner_all);
  tests::write_file(plugin, "hello\n");
  EXPECT_FALSE(pack(release, folder / "x.molt"));
  EXPECT_FALSE(fs::exists(folder / "x.molt"));
}

}  // namespace
}  // namespace molt::releases
