#include "releases/package.hpp"

#include "loader/sha256.hpp"
#include "tests/base/faulty_file_system.hpp"
#include "tests/releases/release_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <ostream>
#include <random>
#include <string>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using tests::forged;
using tests::scratch_folder;

std::string bytes_of(const fs::path& file) {
  auto read = read_file(file, std::size_t{1} << 30U);
  EXPECT_TRUE(read) << read.error().text();
  return *read;
}

std::string hash_of(std::string_view content) {
  loader::sha256 hash;
  hash.add(content);
  return hash.hex();
}

content_entry listed(const std::string& path, const std::string& content) {
  return {path, content.size(), hash_of(content)};
}

/// A manifest that needs one tiny file: enough for unpack, which does not look into plugins.
const std::string small_manifest =
    "[release]\nname='a'\nversion='1'\n[[plugin]]\nname='a'\nversion='1'\nfile='p/a.so'\n";

/// The entries of a sound small package; tests then spoil them.
std::vector<forged> sound_entries() {
  const std::vector<content_entry> list{listed("p/a.so", "code"), listed("release.toml", small_manifest)};
  return {{"molt-contents", print_contents(list)}, {"p/a.so", "code"}, {"release.toml", small_manifest}};
}

struct attempt {
  std::string message;
  reason why{};
  bool tidy = true;  ///< nothing was left behind
};

attempt unpack_forged(const std::vector<forged>& entries) {
  const scratch_folder folder;
  tests::write_forged(folder / "x.molt", entries);
  fs::create_directory(folder / "into");
  const auto done = unpack(folder / "x.molt", folder / "into/release");
  if (done) return {};
  return {done.error().message(), done.error().why(), fs::is_empty(folder / "into")};
}

TEST(sha256, is_what_others_compute) {
  EXPECT_EQ(hash_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(package, brings_back_every_file_read_only) {
  const scratch_folder folder;
  tests::make_release(folder / "source", "1.0.0");
  const auto packed = pack(folder / "source", folder / "echo.molt");
  ASSERT_TRUE(packed) << packed.error().text();
  EXPECT_EQ(packed->id(), "echo-1.0.0");
  EXPECT_EQ(read_package_manifest(folder / "echo.molt")->id(), "echo-1.0.0");
  const auto unpacked = unpack(folder / "echo.molt", folder / "target");
  ASSERT_TRUE(unpacked) << unpacked.error().text();
  EXPECT_EQ(unpacked->id(), "echo-1.0.0");
  for (const char* file : {"release.toml", "plugins/libecho-1.0.0.so", "share/notes.txt"}) {
    EXPECT_EQ(bytes_of(folder / "target" / file), bytes_of(folder / "source" / file)) << file;
    struct stat status {};
    ASSERT_EQ(::stat((folder / "target" / file).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0444U) << file;
  }
  struct stat status {};
  ASSERT_EQ(::stat((folder / "target/plugins").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0555U);
  EXPECT_TRUE(verify_contents(folder / "target"));
}

TEST(package, is_the_same_bytes_when_packed_again_elsewhere_later) {
  const scratch_folder folder;
  tests::make_release(folder / "one", "1.0.0");
  tests::make_release(folder / "two", "1.0.0");
  fs::last_write_time(folder / "two/release.toml", fs::file_time_type::clock::now() - std::chrono::hours{100});
  fs::permissions(folder / "two/share/notes.txt", fs::perms::owner_all);
  ASSERT_TRUE(pack(folder / "one", folder / "one.molt"));
  ASSERT_TRUE(pack(folder / "two", folder / "two.molt"));
  EXPECT_EQ(bytes_of(folder / "one.molt"), bytes_of(folder / "two.molt"));
  ASSERT_TRUE(unpack(folder / "one.molt", folder / "installed"));
  ASSERT_TRUE(pack(folder / "installed", folder / "three.molt")) << "an installed release packs to the same package";
  EXPECT_EQ(bytes_of(folder / "one.molt"), bytes_of(folder / "three.molt"));
}

TEST(package, refuses_to_pack_links_and_pipes) {
  const scratch_folder folder;
  tests::make_release(folder / "source", "1.0.0");
  fs::create_symlink("/etc/passwd", folder / "source/share/link");
  EXPECT_THAT(pack(folder / "source", folder / "x.molt").error().message(), HasSubstr("share/link: a symbolic link"));
  fs::remove(folder / "source/share/link");
  ASSERT_EQ(::mkfifo((folder / "source/share/pipe").c_str(), 0600), 0);
  EXPECT_THAT(pack(folder / "source", folder / "x.molt").error().message(), HasSubstr("share/pipe: a special file"));
  EXPECT_FALSE(fs::exists(folder / "x.molt"));
  EXPECT_FALSE(fs::exists(folder / "x.molt.new"));
}

TEST(package, refuses_to_pack_into_the_folder_it_packs) {
  const scratch_folder folder;
  tests::make_release(folder / "source", "1.0.0");
  EXPECT_THAT(pack(folder / "source", folder / "source/x.molt").error().message(), HasSubstr("inside the folder"));
}

TEST(package, unpacks_a_sound_forgery) {
  const auto done = unpack_forged(sound_entries());
  EXPECT_EQ(done.message, "");
}

struct hostile {
  const char* name;
  void (*spoil)(std::vector<forged>&);
  const char* message;
  // Without it a test's name would show the addresses within, and differ from run to run.
  friend void PrintTo(const hostile& each, std::ostream* out) { *out << each.name; }
};

class hostile_package : public testing::TestWithParam<hostile> {};

TEST_P(hostile_package, is_refused_and_leaves_nothing) {
  auto entries = sound_entries();
  GetParam().spoil(entries);
  const auto done = unpack_forged(entries);
  EXPECT_THAT(done.message, HasSubstr(GetParam().message));
  EXPECT_TRUE(done.why == reason::corrupt || done.why == reason::out_of_bounds) << to_string(done.why);
  EXPECT_TRUE(done.tidy);
}

void relist(std::vector<forged>& entries, std::vector<content_entry> list) {
  entries[0].content = print_contents(list);
}

INSTANTIATE_TEST_SUITE_P(
    all, hostile_package,
    testing::Values(
        hostile{"no_contents", [](auto& e) { e.erase(e.begin()); }, "stands where \"molt-contents\" belongs"},
        hostile{"contents_not_first", [](auto& e) { std::swap(e[0], e[1]); }, "stands where \"molt-contents\" belongs"},
        hostile{"no_entries", [](auto& e) { e.clear(); }, "an empty package"},
        hostile{"other_contents_version", [](auto& e) { e[0].content[14] = '2'; }, "does not begin with"},
        hostile{"contents_cut", [](auto& e) { e[0].content.pop_back(); }, "the last line is cut"},
        hostile{"contents_too_large", [](auto& e) { e[0].content.assign(contents_bytes_max + 1, 'x'); }, "larger than"},
        hostile{"file_changed", [](auto& e) { e[1].content = "cod3"; }, "its SHA-256 is not the one"},
        hostile{"file_longer", [](auto& e) { e[1].content = "code and more"; }, "not of the size in the contents list"},
        hostile{"file_shorter", [](auto& e) { e[1].content = "c"; }, "not of the size in the contents list"},
        hostile{"file_missing", [](auto& e) { e.pop_back(); }, "release.toml: in the contents list, but missing"},
        hostile{"file_extra",
                [](auto& e) {
                  e.push_back({"zzz", "x"});
                },
                "more files than the contents list names"},
        hostile{"file_twice", [](auto& e) { e.insert(e.begin() + 2, e[1]); }, "stands where \"release.toml\" belongs"},
        hostile{"symbolic_link",
                [](auto& e) {
                  e[1] = {"p/a.so", "", S_IFLNK, "/etc/passwd"};
                },
                "not a regular file"},
        hostile{"hard_link",
                [](auto& e) {
                  e[1] = {"p/a.so", "", S_IFREG, "release.toml", true};
                },
                "not a regular file"},
        hostile{"device",
                [](auto& e) {
                  e[1] = {"p/a.so", "", S_IFCHR};
                },
                "not a regular file"},
        hostile{"pipe",
                [](auto& e) {
                  e[1] = {"p/a.so", "", S_IFIFO};
                },
                "not a regular file"},
        hostile{"folder_link_first",
                [](auto& e) {
                  e.insert(e.begin() + 1, forged{"p", "", S_IFLNK, "/tmp"});
                },
                "stands where \"p/a.so\" belongs"},
        hostile{"absolute_path",
                [](auto& e) {
                  e[1].path = "/tmp/molt-escaped";
                  relist(e, {listed("/tmp/molt-escaped", "code"), listed("release.toml", small_manifest)});
                },
                "a path that leads elsewhere"},
        hostile{"climbing_path",
                [](auto& e) {
                  e[1].path = "p/../../../escaped";
                  relist(e, {listed("p/../../../escaped", "code"), listed("release.toml", small_manifest)});
                },
                "a path that leads elsewhere"},
        hostile{"climbing_path_not_in_the_list", [](auto& e) { e[1].path = "../a.so"; },
                "stands where \"p/a.so\" belongs"},
        hostile{"file_and_folder",
                [](auto& e) {
                  relist(e, {listed("p", ""), listed("p-", ""), listed("p/a.so", "code"), listed("release.toml", "")});
                },
                "p is both a file and a folder"},
        hostile{"unsorted",
                [](auto& e) {
                  relist(e, {listed("release.toml", small_manifest), listed("p/a.so", "code")});
                },
                "not sorted"},
        hostile{"lists_itself", [](auto& e) { relist(e, {listed("molt-contents", "")}); }, "lists itself"},
        hostile{"no_manifest",
                [](auto& e) {
                  relist(e, {listed("p/a.so", "code")});
                  e.pop_back();
                },
                "no release.toml"},
        hostile{"too_deep",
                [](auto& e) {
                  std::string path;
                  for (int i = 0; i < 20; ++i) path += "a/";
                  relist(e, {listed(path + 'b', ""), listed("release.toml", small_manifest)});
                },
                "folders deep"},
        hostile{"endless_size",
                [](auto& e) {
                  relist(e, {{"p/a.so", package_bytes_max + 1, hash_of("")}, listed("release.toml", "")});
                },
                "larger than"},
        hostile{"sizes_that_overflow",
                [](auto& e) {
                  relist(e, {{"p/a.so", package_bytes_max, hash_of("")}, {"p/b.so", package_bytes_max, hash_of("")}});
                },
                "larger than"},
        hostile{"bomb",
                [](auto& e) {
                  relist(e, {{"p/a.so", package_ratio_free * 16, hash_of("")}, listed("release.toml", "")});
                },
                "times its size"}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(package, calls_a_bad_manifest_in_it_by_its_own_name) {
  auto entries = sound_entries();
  entries[2].content = "[release]\n";
  relist(entries, {listed("p/a.so", "code"), listed("release.toml", entries[2].content)});
  const auto done = unpack_forged(entries);
  EXPECT_THAT(done.message, testing::EndsWith("x.molt: release.toml:1: [release]: \"name\" is missing"));
}

TEST(package, is_refused_when_cut_or_changed_anywhere) {
  const scratch_folder folder;
  tests::write_forged(folder / "sound.molt", sound_entries());
  const auto sound = bytes_of(folder / "sound.molt");
  std::mt19937 random{20260131};  // NOLINT(cert-msc51-cpp): the seed is fixed so that a failure can be repeated
  fs::create_directory(folder / "into");
  for (std::size_t at = 0; at < sound.size(); at += 1 + random() % 3) {
    tests::write_file(folder / "x.molt", std::string_view{sound}.substr(0, at));
    EXPECT_FALSE(unpack(folder / "x.molt", folder / "into/release")) << "cut at " << at;
    auto changed = sound;
    changed[at] = static_cast<char>(changed[at] ^ (1 << (random() % 8)));
    tests::write_file(folder / "x.molt", changed);
    const auto done = unpack(folder / "x.molt", folder / "into/release");
    if (done) {  // a bit that means nothing, or only to zstd: then every file must be the same
      EXPECT_EQ(bytes_of(folder / "into/release/p/a.so"), "code") << "bit changed at " << at;
      EXPECT_EQ(bytes_of(folder / "into/release/release.toml"), small_manifest) << "bit changed at " << at;
      ASSERT_TRUE(remove_tree(folder / "into/release"));
    }
    ASSERT_TRUE(fs::is_empty(folder / "into")) << at;
  }
}

TEST(package, is_refused_when_it_is_something_else) {
  const scratch_folder folder;
  tests::write_file(folder / "text.molt", "hello\n");
  EXPECT_EQ(unpack(folder / "text.molt", folder / "target").error().why(), reason::corrupt);
  tests::write_file(folder / "empty.molt", "");
  EXPECT_EQ(unpack(folder / "empty.molt", folder / "target").error().why(), reason::corrupt);
  EXPECT_EQ(unpack(folder / "absent.molt", folder / "target").error().why(), reason::not_found);
  EXPECT_EQ(unpack(folder.path(), folder / "target").error().why(), reason::invalid_argument);
  EXPECT_FALSE(fs::exists(folder / "target"));
}

TEST(package, is_never_unpacked_over_something) {
  const scratch_folder folder;
  tests::write_forged(folder / "x.molt", sound_entries());
  fs::create_directory(folder / "target");
  EXPECT_EQ(unpack(folder / "x.molt", folder / "target").error().why(), reason::already_exists);
  fs::create_symlink("/nonexistent", folder / "link");
  EXPECT_EQ(unpack(folder / "x.molt", folder / "link").error().why(), reason::already_exists);
}

TEST(package, leaves_nothing_when_a_step_of_unpacking_fails) {
  const scratch_folder folder;
  tests::write_forged(folder / "x.molt", sound_entries());
  fs::create_directory(folder / "into");
  tests::faulty_file_system counting;
  ASSERT_TRUE(unpack(folder / "x.molt", folder / "into/release", counting));
  ASSERT_TRUE(remove_tree(folder / "into/release"));
  ASSERT_GT(counting.steps(), 10);
  for (int step = 1; step <= counting.steps(); ++step) {
    tests::faulty_file_system system{tests::fault::error, step, ENOSPC};
    EXPECT_FALSE(unpack(folder / "x.molt", folder / "into/release", system)) << step;
    ASSERT_TRUE(fs::is_empty(folder / "into")) << step;
  }
}

TEST(package, is_whole_or_absent_after_dying_at_any_step_of_unpacking) {
  using tests::fault;
  const scratch_folder folder;
  tests::write_forged(folder / "x.molt", sound_entries());
  for (const fault what : {fault::kill, fault::power_cut, fault::power_cut_of_data}) {
    for (int step = 1;; ++step) {
      const fs::path into = folder / ("into" + std::to_string(static_cast<int>(what)) + '-' + std::to_string(step));
      fs::create_directory(into);
      const int status = tests::run_in_child([&] {
        tests::faulty_file_system system{what, step};
        (void)unpack(folder / "x.molt", into / "release", system);
      });
      if (fs::exists(into / "release")) {
        EXPECT_TRUE(verify_contents(into / "release")) << "step " << step;
      }
      ASSERT_TRUE(remove_tree(into / "release"));
      ASSERT_TRUE(unpack(folder / "x.molt", into / "release")) << "debris is in the way";
      if (status == 0) break;
      ASSERT_EQ(status, tests::died);
    }
  }
}

TEST(package, verification_names_what_changed) {
  const scratch_folder folder;
  tests::make_release(folder / "source", "1.0.0");
  const auto fresh = [&](const std::string& name) {
    EXPECT_TRUE(copy_release(folder / "source", folder / name));
    fs::permissions(folder / name, fs::perms::owner_all);
    fs::permissions(folder / name / "share", fs::perms::owner_all);
    fs::permissions(folder / name / "share/notes.txt", fs::perms::owner_all);
    return fs::path{folder / name};
  };
  tests::write_file(fresh("changed") / "share/notes.txt", "version 9.9.9\n");
  EXPECT_THAT(verify_contents(folder / "changed").error().message(), HasSubstr("share/notes.txt: has changed"));
  fs::remove(fresh("missing") / "share/notes.txt");
  EXPECT_THAT(verify_contents(folder / "missing").error().message(), HasSubstr("share/notes.txt: is missing"));
  tests::write_file(fresh("extra") / "share/extra.txt", "");
  EXPECT_THAT(verify_contents(folder / "extra").error().message(), HasSubstr("share/extra.txt: does not belong"));
}

TEST(package, removing_a_tree_follows_no_link) {
  const scratch_folder folder;
  tests::write_file(folder / "precious/file", "x");
  fs::create_directories(folder / "tree/below");
  fs::create_directory_symlink(folder / "precious", folder / "tree/below/link");
  fs::permissions(folder / "tree/below", fs::perms::owner_read);
  ASSERT_TRUE(remove_tree(folder / "tree"));
  EXPECT_FALSE(fs::exists(folder / "tree"));
  EXPECT_TRUE(fs::exists(folder / "precious/file"));
  EXPECT_TRUE(remove_tree(folder / "tree")) << "not found is a success";
}

}  // namespace
}  // namespace molt::releases
