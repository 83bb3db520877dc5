#include "releases/store.hpp"

#include "releases/store_state.hpp"
#include "tests/releases/release_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using kind = transition_kind;
using outcome = transition_outcome;

#define ASSERT_OK(expression)                               \
  do {                                                      \
    const auto molt_tested = (expression);                  \
    ASSERT_TRUE(molt_tested) << molt_tested.error().text(); \
  } while (false)

class store_test : public testing::Test {
 protected:
  store_test() {
    for (const char* version : {"1.0.0", "2.0.0", "3.0.0"}) tests::make_release(source(version), version);
    reopen();
  }

  [[nodiscard]] fs::path source(const std::string& version) const { return folder.path() / ("source-" + version); }
  void reopen() {
    opened.reset();
    auto next = store::open(folder / "store");
    ASSERT_TRUE(next) << next.error().text();
    opened.emplace(std::move(*next));
  }
  store& s() { return *opened; }

  void install_all() {
    for (const char* version : {"1.0.0", "2.0.0", "3.0.0"}) ASSERT_OK(s().install(source(version)));
  }
  void move_to(kind how, const std::string& to, outcome end = outcome::done) {
    ASSERT_OK(s().begin_transition(how, to));
    ASSERT_OK(s().begin_switch());
    ASSERT_OK(s().finish_transition(end));
  }
  /// 1.0.0 committed, 2.0.0 in probation.
  void reach_probation() {
    install_all();
    move_to(kind::start, "echo-1.0.0");
    move_to(kind::upgrade, "echo-2.0.0");
  }
  [[nodiscard]] std::string status(const std::string& id) {
    const auto found = s().find(id);
    return found ? std::string{to_string(found->status)} : "none";
  }
  /// "permanent old unpacked": of 1.0.0, 2.0.0 and 3.0.0; read from disk.
  std::string statuses() {
    reopen();
    return status("echo-1.0.0") + ' ' + status("echo-2.0.0") + ' ' + status("echo-3.0.0");
  }
  std::vector<std::string> on_disk() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator{folder / "store/releases"})
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  tests::scratch_folder folder;
  std::optional<store> opened;
};

TEST_F(store_test, begins_empty) {
  EXPECT_TRUE(s().releases().empty());
  EXPECT_EQ(s().running(), "");
  EXPECT_EQ(s().boot_release(), "");
  EXPECT_FALSE(s().in_flight());
  EXPECT_EQ(s().rollback_target().error().why(), reason::refused);
}

TEST_F(store_test, installs_folders_and_packages_read_only) {
  ASSERT_OK(pack(source("2.0.0"), folder / "echo.molt"));
  ASSERT_EQ(*s().install(source("1.0.0")), "echo-1.0.0");
  ASSERT_EQ(*s().install(folder / "echo.molt"), "echo-2.0.0");
  EXPECT_EQ(statuses(), "unpacked unpacked none");
  for (const char* id : {"echo-1.0.0", "echo-2.0.0"}) {
    EXPECT_TRUE(verify_contents(s().folder_of(id)));
    EXPECT_EQ(fs::status(s().folder_of(id)).permissions(), fs::perms{0555});
  }
}

TEST_F(store_test, refuses_a_release_that_is_installed_and_keeps_the_first) {
  ASSERT_OK(s().install(source("1.0.0")));
  EXPECT_EQ(s().install(source("1.0.0")).error().why(), reason::already_exists);
  EXPECT_EQ(on_disk(), std::vector<std::string>{"echo-1.0.0"});
  EXPECT_TRUE(verify_contents(s().folder_of("echo-1.0.0")));
}

TEST_F(store_test, says_before_staging_that_a_release_is_installed_already) {
  ASSERT_OK(s().install(source("1.0.0")));
  const auto again = s().stage(source("1.0.0"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message(), "echo-1.0.0 is installed already, and undamaged");
  tests::write_file(source("1.0.0") / "share/notes.txt", "another text\n");
  const auto other = s().stage(source("1.0.0"));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message(), "echo-1.0.0 is installed already, with other contents");
}

TEST_F(store_test, a_damaged_release_is_repaired_by_installing_it_again_whatever_its_status) {
  reach_probation();
  ASSERT_OK(pack(source("2.0.0"), folder / "echo.molt"));
  const auto damages = {
      +[](const fs::path& release) { tests::write_file(release / "share/notes.txt", "other"); },
      +[](const fs::path& release) { fs::remove(release / "plugins/libecho-2.0.0.so"); },
      +[](const fs::path& release) { tests::write_file(release / "more", "not of the release"); },
      +[](const fs::path& release) { tests::write_file(release / "molt-contents", "damaged too"); },
      +[](const fs::path& release) { fs::remove_all(release); },
  };
  for (const auto& damage : damages) {
    const auto release = s().folder_of("echo-2.0.0");
    for (const auto& each :
         {release, release / "share", release / "plugins", release / "share/notes.txt", release / "molt-contents"})
      fs::permissions(each, fs::perms::owner_all);
    damage(release);
    const auto broken = verify_contents(release);
    ASSERT_FALSE(broken);
    const auto staged = s().stage(folder / "echo.molt");
    ASSERT_OK(staged);
    const auto repaired = s().admit(*staged);
    ASSERT_OK(repaired);
    EXPECT_TRUE(repaired->repaired);
    ASSERT_OK(verify_contents(release));
    EXPECT_EQ(statuses(), "permanent current unpacked");
    EXPECT_EQ(on_disk(), (std::vector<std::string>{"echo-1.0.0", "echo-2.0.0", "echo-3.0.0"}));
  }
}

/// Another file, and a list that fits it.
void forge(const fs::path& release) {
  for (const auto& each : {release, release / "share", release / "share/notes.txt", release / "molt-contents"})
    fs::permissions(each, fs::perms::owner_all);
  tests::write_file(release / "share/notes.txt", "other");
  tests::write_file(release / "molt-contents", print_contents(*list_contents(release)));
}

TEST_F(store_test, knows_what_it_has_installed_though_files_and_list_were_changed_together) {
  reach_probation();
  const auto release = s().folder_of("echo-2.0.0");
  const auto contents = s().contents_of("echo-2.0.0");
  ASSERT_EQ(contents.size(), 64U);
  ASSERT_OK(verify_contents(release, contents));
  ASSERT_OK(read_installed(release, contents));
  forge(release);
  ASSERT_TRUE(verify_contents(release)) << "by itself it is sound";
  reopen();
  ASSERT_EQ(s().contents_of("echo-2.0.0"), contents);
  for (const auto& refused : {verify_contents(release, contents).error(), read_installed(release, contents).error()}) {
    EXPECT_EQ(refused.why(), reason::corrupt);
    EXPECT_THAT(refused.message(), HasSubstr("echo-2.0.0/molt-contents: has changed since it was installed"));
    EXPECT_THAT(refused.message(), HasSubstr(contents));
    EXPECT_THAT(refused.hint(), HasSubstr("install the package that it came from again"));
  }
  const auto staged = s().stage(source("2.0.0"));
  ASSERT_OK(staged);
  const auto repaired = s().admit(*staged);
  ASSERT_OK(repaired);
  EXPECT_TRUE(repaired->repaired);
  ASSERT_OK(verify_contents(release, contents));
}

TEST_F(store_test, believes_the_list_of_a_release_that_was_installed_before_it_wrote_that_down) {
  ASSERT_OK(s().install(source("1.0.0")));
  opened.reset();
  const auto file = folder / "store/store.json";
  std::ifstream from{file};
  std::string text{std::istreambuf_iterator<char>{from}, {}};
  const auto at = text.find(",\"contents\":\"");
  ASSERT_NE(at, std::string::npos);
  text.erase(at, text.find('}', at) - at);
  tests::write_file(file, text);
  reopen();
  EXPECT_EQ(s().contents_of("echo-1.0.0"), "");
  const auto release = s().folder_of("echo-1.0.0");
  ASSERT_OK(verify_contents(release, s().contents_of("echo-1.0.0")));
  ASSERT_OK(read_installed(release, s().contents_of("echo-1.0.0")));
  EXPECT_EQ(s().install(source("1.0.0")).error().message(), "echo-1.0.0 is installed already, and undamaged");
  EXPECT_EQ(s().contents_of("echo-9.9.9"), "");
}

TEST_F(store_test, repairs_nothing_with_other_contents_of_the_same_id) {
  ASSERT_OK(s().install(source("1.0.0")));
  fs::permissions(s().folder_of("echo-1.0.0") / "release.toml", fs::perms::owner_all);
  tests::write_file(s().folder_of("echo-1.0.0") / "release.toml", "damaged");
  const auto broken = verify_contents(s().folder_of("echo-1.0.0"));
  ASSERT_FALSE(broken);
  EXPECT_THAT(broken.error().hint(), HasSubstr("install the package that it came from again"));
  tests::write_file(source("1.0.0") / "share/notes.txt", "another text\n");
  const auto other = s().install(source("1.0.0"));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message(), "echo-1.0.0 is installed already, with other contents");
  EXPECT_EQ(on_disk(), std::vector<std::string>{"echo-1.0.0"});
}

TEST_F(store_test, refuses_a_release_with_a_bad_plugin_and_leaves_nothing) {
  tests::write_file(source("1.0.0") / "plugins/libecho-1.0.0.so", "not an ELF file");
  const auto installed = s().install(source("1.0.0"));
  ASSERT_FALSE(installed);
  EXPECT_THAT(installed.error().message(),
              testing::StartsWith(source("1.0.0").string() + ": plugins/libecho-1.0.0.so"));
  EXPECT_TRUE(on_disk().empty());
  fs::copy_file(tests::echo_plugin("1.0.0"), source("1.0.0") / "plugins/libecho-1.0.0.so",
                fs::copy_options::overwrite_existing);
  EXPECT_TRUE(s().install(source("1.0.0"))) << "a failed attempt does not block the next";
}

TEST_F(store_test, refuses_a_state_that_changed_though_its_plugin_kept_its_version) {
  ASSERT_OK(s().install(source("1.0.0")));
  const auto next = folder / "rebuilt";
  auto manifest = tests::echo_manifest("1.0.0");
  manifest.replace(manifest.find("1.0.0"), 5, "1.5.0");  // of the release; the plugin is still 1.0.0
  tests::write_file(next / "release.toml", manifest);
  fs::create_directories(next / "plugins");
  const auto plugin = next / "plugins/libecho-1.0.0.so";
  fs::copy_file(tests::echo_plugin("1.0.0"), plugin);
  ASSERT_OK(s().install(next));
  ASSERT_OK(s().remove("echo-1.5.0"));
  fs::remove(plugin);
  fs::copy_file(fs::path{ECHO_PLUGIN_FOLDER} / "changed/libecho-1.0.0.so", plugin);
  const auto refused = s().install(next);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().why(), reason::unversioned);
  EXPECT_THAT(refused.error().message(),
              HasSubstr("the state of echo.keeper changed but the version is still 1.0.0: raise it"));
  EXPECT_THAT(refused.error().message(), HasSubstr("echo-1.0.0/plugins/libecho-1.0.0.so"));
  EXPECT_EQ(on_disk(), std::vector<std::string>{"echo-1.0.0"});
}

TEST_F(store_test, refuses_a_plugin_for_another_machine_which_can_be_packed) {
  const auto plugin = source("1.0.0") / "plugins/libecho-1.0.0.so";
  constexpr int machine_at = 18;  // e_machine, little-endian
  std::fstream file{plugin, std::ios::binary | std::ios::in | std::ios::out};
  file.seekg(machine_at);
  const bool is_x86_64 = file.get() == 62;
  file.seekp(machine_at);
  file.put(static_cast<char>(is_x86_64 ? 183 : 62));
  file.close();
  EXPECT_TRUE(pack(source("1.0.0"), folder / "echo.molt"));
  const auto installed = s().install(folder / "echo.molt");
  ASSERT_FALSE(installed);
  EXPECT_EQ(installed.error().why(), reason::incompatible);
  EXPECT_THAT(installed.error().message(), testing::HasSubstr("plugins/libecho-1.0.0.so: is for "));
  EXPECT_TRUE(on_disk().empty());
}

TEST_F(store_test, a_first_start_is_permanent_at_once) {
  install_all();
  move_to(kind::start, "echo-1.0.0");
  EXPECT_EQ(statuses(), "permanent unpacked unpacked");
  EXPECT_EQ(s().boot_release(), "echo-1.0.0");
  EXPECT_FALSE(s().in_probation());
}

TEST_F(store_test, an_upgrade_is_current_until_it_is_committed) {
  reach_probation();
  EXPECT_EQ(statuses(), "permanent current unpacked");
  EXPECT_EQ(s().running(), "echo-2.0.0");
  EXPECT_EQ(s().boot_release(), "echo-1.0.0") << "a restart goes back while in probation";
  EXPECT_TRUE(s().in_probation());
  ASSERT_OK(s().commit());
  EXPECT_EQ(statuses(), "old permanent unpacked");
  EXPECT_EQ(s().boot_release(), "echo-2.0.0");
  EXPECT_EQ(s().commit().error().why(), reason::refused);
}

TEST_F(store_test, refuses_an_upgrade_during_probation) {
  reach_probation();
  const auto begun = s().begin_transition(kind::upgrade, "echo-3.0.0");
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().why(), reason::refused);
  EXPECT_EQ(begun.error().hint(), "molt commit or molt rollback first");
}

TEST_F(store_test, rolls_back_to_the_parent_not_to_the_number_below) {
  install_all();
  move_to(kind::start, "echo-1.0.0");
  move_to(kind::upgrade, "echo-3.0.0");
  EXPECT_EQ(s().rollback_target()->id, "echo-1.0.0");
  EXPECT_EQ(s().begin_transition(kind::rollback, "echo-2.0.0").error().why(), reason::refused);
  move_to(kind::rollback, "echo-1.0.0");
  EXPECT_EQ(statuses(), "permanent unpacked old");
}

TEST_F(store_test, rolls_back_after_commit_and_then_the_parent_is_permanent) {
  reach_probation();
  ASSERT_OK(s().commit());
  move_to(kind::upgrade, "echo-3.0.0");
  ASSERT_OK(s().commit());
  EXPECT_EQ(statuses(), "old old permanent");
  move_to(kind::rollback, "echo-2.0.0");
  EXPECT_EQ(statuses(), "old permanent old");
  move_to(kind::rollback, "echo-1.0.0");
  EXPECT_EQ(statuses(), "permanent old old");
  EXPECT_EQ(s().rollback_target().error().why(), reason::refused);
  move_to(kind::upgrade, "echo-2.0.0");
  EXPECT_EQ(statuses(), "permanent current old") << "an old release can be upgraded to again";
}

TEST_F(store_test, a_transition_that_was_not_done_changes_no_status) {
  reach_probation();
  ASSERT_OK(s().commit());
  for (const outcome end : {outcome::refused, outcome::rolled_back, outcome::failed, outcome::needs_attention}) {
    move_to(kind::upgrade, "echo-3.0.0", end);
    EXPECT_EQ(statuses(), "old permanent unpacked");
    EXPECT_EQ(s().attention().empty(), end != outcome::needs_attention);
  }
  EXPECT_EQ(s().history().size(), 6U);
  EXPECT_EQ(s().history().back().outcome, outcome::needs_attention);
  move_to(kind::upgrade, "echo-3.0.0");
  EXPECT_EQ(s().attention(), "") << "and one that was done clears what an operator had to see";
}

TEST_F(store_test, an_outcome_that_needs_attention_may_have_arrived) {
  install_all();
  move_to(kind::start, "echo-1.0.0");
  ASSERT_OK(s().begin_transition(kind::upgrade, "echo-2.0.0"));
  ASSERT_OK(s().finish_transition(outcome::needs_attention, "2 servers are quarantined", "echo-2.0.0"));
  EXPECT_EQ(statuses(), "permanent current unpacked");
  EXPECT_THAT(s().attention(), HasSubstr("2 servers are quarantined"));
}

TEST_F(store_test, one_transition_at_a_time) {
  install_all();
  ASSERT_OK(s().begin_transition(kind::start, "echo-1.0.0"));
  EXPECT_EQ(s().begin_transition(kind::start, "echo-2.0.0").error().why(), reason::busy);
  EXPECT_EQ(s().commit().error().why(), reason::busy);
  EXPECT_EQ(s().remove("echo-1.0.0").error().why(), reason::busy);
  EXPECT_EQ(s().rollback_target().error().why(), reason::busy);
  reopen();
  ASSERT_TRUE(s().in_flight()) << "it is journalled";
  EXPECT_EQ(s().in_flight()->phase, transition_phase::planned);
  ASSERT_OK(s().begin_switch());
  reopen();
  EXPECT_EQ(s().in_flight()->phase, transition_phase::switching);
}

TEST_F(store_test, refuses_transitions_that_make_no_sense) {
  install_all();
  EXPECT_EQ(s().begin_transition(kind::upgrade, "echo-2.0.0").error().why(), reason::refused);
  EXPECT_EQ(s().begin_transition(kind::start, "echo-9.0.0").error().why(), reason::not_found);
  EXPECT_EQ(s().finish_transition(outcome::done).error().why(), reason::refused);
  EXPECT_EQ(s().begin_switch().error().why(), reason::refused);
  move_to(kind::start, "echo-1.0.0");
  EXPECT_EQ(s().begin_transition(kind::start, "echo-2.0.0").error().why(), reason::refused);
  EXPECT_EQ(s().begin_transition(kind::upgrade, "echo-1.0.0").error().why(), reason::refused);
  EXPECT_EQ(s().begin_transition(kind::rollback, "echo-1.0.0").error().why(), reason::refused);
}

TEST_F(store_test, removes_only_what_nothing_needs) {
  reach_probation();
  EXPECT_EQ(s().remove("echo-1.0.0").error().hint(), "molt commit first");
  EXPECT_EQ(s().remove("echo-2.0.0").error().why(), reason::refused);
  EXPECT_EQ(s().remove("echo-9.0.0").error().why(), reason::not_found);
  ASSERT_OK(s().remove("echo-3.0.0"));
  EXPECT_EQ(on_disk(), (std::vector<std::string>{"echo-1.0.0", "echo-2.0.0"}));
  ASSERT_OK(s().commit());
  ASSERT_OK(s().remove("echo-1.0.0"));
  EXPECT_EQ(statuses(), "none permanent none");
  EXPECT_EQ(s().rollback_target().error().why(), reason::refused) << "the parent is gone";
}

TEST_F(store_test, a_lost_node_ends_probation_and_the_permanent_release_runs) {
  reach_probation();
  EXPECT_TRUE(*s().node_lost("killed by signal 9"));
  EXPECT_EQ(statuses(), "permanent old unpacked");
  EXPECT_EQ(s().running(), "echo-1.0.0");
  EXPECT_THAT(s().history().back().detail, HasSubstr("killed by signal 9"));
  EXPECT_FALSE(*s().node_lost("again")) << "nothing was under way";
}

TEST_F(store_test, a_lost_node_ends_the_transition_under_way) {
  install_all();
  move_to(kind::start, "echo-1.0.0");
  ASSERT_OK(s().begin_transition(kind::upgrade, "echo-2.0.0"));
  EXPECT_TRUE(*s().node_lost("it crashed"));
  EXPECT_EQ(statuses(), "permanent unpacked unpacked");
  EXPECT_EQ(s().history().back().outcome, outcome::failed);
  move_to(kind::upgrade, "echo-2.0.0");
  ASSERT_OK(s().begin_transition(kind::rollback, "echo-1.0.0"));
  EXPECT_TRUE(*s().node_lost("it crashed"));
  EXPECT_EQ(statuses(), "permanent old unpacked") << "out of probation the way back has arrived either way";
  EXPECT_EQ(s().history().back().outcome, outcome::done);
}

TEST_F(store_test, is_resolved_by_what_a_living_node_says) {
  install_all();
  move_to(kind::start, "echo-1.0.0");
  ASSERT_OK(s().begin_transition(kind::upgrade, "echo-2.0.0"));
  ASSERT_OK(s().resolve_by("echo-1.0.0"));
  EXPECT_EQ(statuses(), "permanent unpacked unpacked");
  ASSERT_OK(s().begin_transition(kind::upgrade, "echo-2.0.0"));
  ASSERT_OK(s().resolve_by("echo-2.0.0"));
  EXPECT_EQ(statuses(), "permanent current unpacked");
  ASSERT_OK(s().resolve_by("echo-2.0.0"));
  ASSERT_OK(s().resolve_by("echo-1.0.0"));
  EXPECT_EQ(statuses(), "permanent old unpacked") << "probation ended while nobody looked";
  EXPECT_EQ(s().resolve_by("echo-3.0.0").error().why(), reason::needs_attention);
  EXPECT_THAT(s().attention(), HasSubstr("the node runs echo-3.0.0"));
  EXPECT_EQ(statuses(), "permanent old unpacked");
}

TEST_F(store_test, finds_releases_by_version_when_it_is_unique) {
  install_all();
  EXPECT_EQ(s().find("2.0.0")->id, "echo-2.0.0");
  EXPECT_EQ(s().find("echo-2.0.0")->id, "echo-2.0.0");
  const auto unknown = s().find("4.0.0");
  EXPECT_EQ(unknown.error().why(), reason::not_found);
  EXPECT_THAT(unknown.error().hint(), HasSubstr("echo-1.0.0, echo-2.0.0, echo-3.0.0"));
  auto text = tests::echo_manifest("1.0.0");
  tests::write_file(source("1.0.0") / "release.toml", text.replace(text.find("echo"), 4, "other"));
  ASSERT_OK(s().install(source("1.0.0")));
  EXPECT_THAT(s().find("1.0.0").error().message(), HasSubstr("echo-1.0.0, other-1.0.0"));
}

TEST_F(store_test, has_one_writer) {
  const auto second = store::open(folder / "store");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().why(), reason::busy);
  EXPECT_THAT(second.error().message(), HasSubstr("in use by process " + std::to_string(::getpid())));
}

TEST_F(store_test, sweeps_what_interrupted_installs_left) {
  install_all();
  opened.reset();
  tests::write_file(folder / "store/releases/.new/plugins/x.so", "x");
  tests::write_file(folder / "store/releases/echo-4.0.0/release.toml", "x");
  tests::write_file(folder / "store/releases/stray", "x");
  reopen();
  EXPECT_EQ(on_disk(), (std::vector<std::string>{"echo-1.0.0", "echo-2.0.0", "echo-3.0.0"}));
}

TEST_F(store_test, touches_nothing_when_its_file_cannot_be_read) {
  install_all();
  opened.reset();
  const fs::path file = folder / "store/store.json";
  const auto sound = *read_file(file, store_bytes_max);
  const auto refusal = [&](const std::string& text) {
    tests::write_file(file, text);
    const auto failed = store::open(folder / "store");
    EXPECT_FALSE(failed);
    EXPECT_EQ(on_disk().size(), 3U);
    return failed ? error{} : failed.error();
  };
  EXPECT_EQ(refusal("").why(), reason::corrupt);
  EXPECT_EQ(refusal(sound.substr(0, sound.size() / 2)).why(), reason::corrupt);
  EXPECT_EQ(refusal("[]").why(), reason::corrupt);
  EXPECT_EQ(refusal("{\"format\":2}").why(), reason::incompatible);
  auto unknown = sound;
  EXPECT_THAT(refusal(unknown.replace(unknown.find("unpacked"), 8, "melted!!")).message(), HasSubstr("\"melted!!\""));
  auto two = sound;
  for (int i = 0; i < 2; ++i) two.replace(two.find("unpacked"), 8, "permanent");
  EXPECT_THAT(refusal(two).message(), HasSubstr("several permanent releases"));
  fs::remove(file);
  const auto missing = store::open(folder / "store");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("store.json: missing, but releases/ is not empty"));
  EXPECT_EQ(on_disk().size(), 3U);
  tests::write_file(file, sound);
  EXPECT_TRUE(store::open(folder / "store"));
}

TEST_F(store_test, keeps_what_plugins_said_readable) {
  install_all();
  ASSERT_OK(s().begin_transition(kind::start, "echo-1.0.0"));
  ASSERT_OK(s().finish_transition(outcome::failed,
                                  "\xff\xc3(\xed\xa0\x80 caf\xc3\xa9 \xf0\x9f\x90\x8d" + std::string(100'000, 'x')));
  reopen();
  EXPECT_THAT(s().history().back().detail, testing::StartsWith("?\?(??? caf\xc3\xa9 \xf0\x9f\x90\x8dxxx"));
  EXPECT_EQ(s().history().back().detail.size(), text_bytes_max);
}

TEST_F(store_test, forgets_the_oldest_transitions) {
  install_all();
  for (std::size_t i = 0; i < history_max + 5; ++i) {
    ASSERT_OK(s().begin_transition(kind::start, "echo-1.0.0"));
    ASSERT_OK(s().finish_transition(outcome::failed, std::to_string(i)));
  }
  reopen();
  ASSERT_EQ(s().history().size(), history_max);
  EXPECT_EQ(s().history().front().detail, "5");
}

/// As many syncs as it has; then the disk is full.
class filling_disk : public file_system {
 public:
  int sync(int fd) override {
    if (syncs_left-- > 0) return file_system::sync(fd);
    errno = ENOSPC;
    return -1;
  }
  int syncs_left = 1'000'000;
};

TEST_F(store_test, goes_on_once_a_write_that_could_not_even_be_undone_can_be) {
  opened.reset();
  filling_disk disk;
  auto full = store::open(folder / "store", disk);
  ASSERT_TRUE(full) << full.error().text();
  disk.syncs_left = 1;  // store.json is replaced, but not the folder synced; and then nothing goes any more
  EXPECT_FALSE(full->set_attention("look"));
  EXPECT_EQ(full->attention(), "");
  const auto again = full->set_attention("look");
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message(), HasSubstr("an earlier write failed half-way, and still cannot be undone"));
  EXPECT_THAT(again.error().hint(), HasSubstr("make room"));
  disk.syncs_left = 1'000'000;
  ASSERT_OK(full->set_attention("now"));
  full = error{};
  reopen();
  EXPECT_EQ(s().attention(), "now");
}

/// Nothing can be written before something of a release is deleted.
class full_disk : public file_system {
 public:
  explicit full_disk(bool makes_room) : makes_room_{makes_room} {}
  ssize_t write(int fd, const void* bytes, std::size_t size) override {
    if (!full) return file_system::write(fd, bytes, size);
    errno = ENOSPC;
    return -1;
  }
  int remove(int folder, const char* name, int flags) override {
    if (makes_room_ && std::string{name} != "store.json.new") full = false;
    return file_system::remove(folder, name, flags);
  }
  bool full = false;

 private:
  bool makes_room_;
};

TEST_F(store_test, removes_a_release_from_a_full_disk_by_deleting_its_files_first) {
  reach_probation();
  opened.reset();
  full_disk disk{true};
  auto full = store::open(folder / "store", disk);
  ASSERT_TRUE(full) << full.error().text();
  disk.full = true;
  EXPECT_FALSE(full->remove("echo-2.0.0")) << "it runs";
  EXPECT_TRUE(disk.full) << "so nothing of it was deleted";
  ASSERT_OK(full->remove("echo-3.0.0"));
  full = error{};
  EXPECT_EQ(statuses(), "permanent current none");
  EXPECT_EQ(on_disk(), (std::vector<std::string>{"echo-1.0.0", "echo-2.0.0"}));
}

TEST_F(store_test, lists_a_release_without_files_where_even_that_makes_no_room_and_can_remove_it_later) {
  reach_probation();
  opened.reset();
  full_disk disk{false};
  auto full = store::open(folder / "store", disk);
  ASSERT_TRUE(full) << full.error().text();
  disk.full = true;
  const auto half = full->remove("echo-3.0.0");
  ASSERT_FALSE(half);
  EXPECT_THAT(half.error().message(), HasSubstr("echo-3.0.0's files are deleted, but it is listed still: writing "));
  EXPECT_EQ(half.error().hint(), "make room on its file system, then molt remove echo-3.0.0 again");
  EXPECT_TRUE(full->find("echo-3.0.0"));
  EXPECT_EQ(on_disk(), (std::vector<std::string>{"echo-1.0.0", "echo-2.0.0"}));
  disk.full = false;
  ASSERT_OK(full->remove("echo-3.0.0"));
  full = error{};
  EXPECT_EQ(statuses(), "permanent current none");
}

}  // namespace
}  // namespace molt::releases
