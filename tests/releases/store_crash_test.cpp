// Every change of the store, failed and killed at every step: afterwards the store shows what was before it or what is
// after it.
#include "releases/store.hpp"

#include "tests/base/faulty_file_system.hpp"
#include "tests/releases/release_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <iterator>
#include <ostream>
#include <string>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;
using kind = transition_kind;
using outcome = transition_outcome;
using tests::fault;

struct change {
  const char* name;
  void (*prepare)(store&, const fs::path& sources);
  result<void> (*run)(store&, const fs::path& sources);
  // Without it a test's name would show the addresses within, and differ from run to run.
  friend void PrintTo(const change& each, std::ostream* out) { *out << each.name; }
};

void install(store& s, const fs::path& sources, const char* version) { ASSERT_TRUE(s.install(sources / version)); }
void move_to(store& s, kind how, const char* to) {
  ASSERT_TRUE(s.begin_transition(how, to) && s.begin_switch() && s.finish_transition(outcome::done));
}
void one_runs(store& s, const fs::path& sources) {
  install(s, sources, "1.0.0");
  install(s, sources, "2.0.0");
  move_to(s, kind::start, "echo-1.0.0");
}
void upgrade_begun(store& s, const fs::path& sources) {
  one_runs(s, sources);
  ASSERT_TRUE(s.begin_transition(kind::upgrade, "echo-2.0.0") && s.begin_switch());
}
void in_probation(store& s, const fs::path& sources) {
  one_runs(s, sources);
  move_to(s, kind::upgrade, "echo-2.0.0");
}
void rollback_begun(store& s, const fs::path& sources) {
  in_probation(s, sources);
  ASSERT_TRUE(s.commit() && s.begin_transition(kind::rollback, "echo-1.0.0") && s.begin_switch());
}

class store_change : public testing::TestWithParam<change> {
 protected:
  store_change() {
    for (const char* version : {"1.0.0", "2.0.0", "3.0.0"}) tests::make_release(folder / "sources" / version, version);
    const auto opened = store::open(folder / "prepared");
    EXPECT_TRUE(opened);
  }

  void SetUp() override {
    auto s = store::open(folder / "prepared");
    ASSERT_TRUE(s);
    GetParam().prepare(*s, sources());
  }

  [[nodiscard]] fs::path sources() const { return folder.path() / "sources"; }
  /// A store in the state before the change.
  fs::path fresh_copy() {
    ASSERT_COPY(remove_tree(folder / "store"));
    fs::copy(folder / "prepared", folder / "store", fs::copy_options::recursive);
    return folder.path() / "store";
  }
  static void ASSERT_COPY(const result<void>& done) { ASSERT_TRUE(done) << done.error().text(); }

  /// Everything a store says, in one line, without times.
  static std::string summary(const store& s) {
    std::string text = "runs " + s.running() + " boots " + s.boot_release() + " |";
    for (const auto& r : s.releases()) text += ' ' + r.id + '=' + std::string{to_string(r.status)} + '<' + r.parent;
    if (s.in_flight())
      text +=
          " | " + s.in_flight()->from + "->" + s.in_flight()->to + ' ' + std::string{to_string(s.in_flight()->phase)};
    return text + " | " + std::to_string(s.history().size()) + s.attention();
  }
  /// The same of a store on disk, which must be sound: every release whole, no debris.
  static std::string reopened(const fs::path& path) {
    const auto s = store::open(path);
    if (!s) return "unreadable: " + s.error().text();
    std::size_t folders = 0;
    for (const auto& entry : fs::directory_iterator{path / "releases"}) folders += entry.is_directory() ? 1 : 0;
    EXPECT_EQ(folders, s->releases().size());
    for (const auto& r : s->releases()) {
      const auto whole = verify_contents(s->folder_of(r.id));
      EXPECT_TRUE(whole) << whole.error().text();
    }
    return summary(*s);
  }

  tests::scratch_folder folder;
};

TEST_P(store_change, is_done_or_undone_when_a_step_fails) {
  const auto before = reopened(fresh_copy());
  tests::faulty_file_system counting;
  int opening = 0;
  {
    auto s = store::open(fresh_copy(), counting);
    ASSERT_TRUE(s);
    opening = counting.steps();
    const auto done = GetParam().run(*s, sources());
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_NE(summary(*s), before) << "the change changes nothing";
  }
  const auto after = reopened(folder / "store");
  for (int step = opening + 1; step <= counting.steps(); ++step) {
    tests::faulty_file_system system{fault::error, step, step % 2 == 0 ? ENOSPC : EIO};
    {
      auto s = store::open(fresh_copy(), system);
      ASSERT_TRUE(s);
      const auto done = GetParam().run(*s, sources());
      EXPECT_EQ(summary(*s), done ? after : before) << "step " << step;
    }
    EXPECT_TRUE(reopened(folder / "store") == before || reopened(folder / "store") == after) << "step " << step;
    auto s = store::open(folder / "store");
    ASSERT_TRUE(s);
    if (summary(*s) == before) {
      const auto again = GetParam().run(*s, sources());
      EXPECT_TRUE(again) << "a failed attempt blocks the retry, step " << step << ": " << again.error().text();
    }
  }
}

TEST_P(store_change, leaves_one_defined_release_after_dying_at_any_step) {
  const auto before = reopened(fresh_copy());
  std::string after;
  {
    auto s = store::open(fresh_copy());
    ASSERT_TRUE(s && GetParam().run(*s, sources()));
    after = summary(*s);
  }
  for (const fault what : {fault::kill, fault::power_cut, fault::power_cut_of_data}) {
    int deaths = 0;
    for (int step = 1;; ++step) {
      const auto path = fresh_copy();
      const int status = tests::run_in_child([&] {
        tests::faulty_file_system system{what, step};
        auto s = store::open(path, system);
        if (s) (void)GetParam().run(*s, sources());
      });
      const auto found = reopened(path);
      EXPECT_TRUE(found == before || found == after) << "step " << step << ":\n"
                                                     << found << "\nneither\n"
                                                     << before << "\nnor\n"
                                                     << after;
      if (status == 0) {
        EXPECT_EQ(found, after);
        break;
      }
      ASSERT_EQ(status, tests::died);
      ++deaths;
    }
    EXPECT_GE(deaths, 6) << "the change took no steps that could fail";
  }
}

INSTANTIATE_TEST_SUITE_P(
    all, store_change,
    testing::Values(
        change{"install", one_runs,
               [](store& s, const fs::path& sources) -> result<void> {
                 MOLT_CHECK(s.install(sources / "3.0.0"));
                 return ok();
               }},
        change{"remove", one_runs, [](store& s, const fs::path&) { return s.remove("echo-2.0.0"); }},
        change{"begin", one_runs,
               [](store& s, const fs::path&) { return s.begin_transition(kind::upgrade, "echo-2.0.0"); }},
        change{"begin_start", [](store& s, const fs::path& sources) { install(s, sources, "1.0.0"); },
               [](store& s, const fs::path&) { return s.begin_transition(kind::start, "echo-1.0.0"); }},
        change{"finish_start",
               [](store& s, const fs::path& sources) {
                 install(s, sources, "1.0.0");
                 ASSERT_TRUE(s.begin_transition(kind::start, "echo-1.0.0"));
               },
               [](store& s, const fs::path&) { return s.finish_transition(outcome::done); }},
        change{"switching",
               [](store& s, const fs::path& sources) {
                 one_runs(s, sources);
                 ASSERT_TRUE(s.begin_transition(kind::upgrade, "echo-2.0.0"));
               },
               [](store& s, const fs::path&) { return s.begin_switch(); }},
        change{"finish_done", upgrade_begun,
               [](store& s, const fs::path&) { return s.finish_transition(outcome::done); }},
        change{"finish_rolled_back", upgrade_begun,
               [](store& s, const fs::path&) { return s.finish_transition(outcome::rolled_back, "a hook threw"); }},
        change{"finish_needs_attention", upgrade_begun,
               [](store& s, const fs::path&) {
                 return s.finish_transition(outcome::needs_attention, "mixed", "echo-2.0.0");
               }},
        change{"commit", in_probation, [](store& s, const fs::path&) { return s.commit(); }},
        change{"finish_rollback", rollback_begun,
               [](store& s, const fs::path&) { return s.finish_transition(outcome::done); }},
        change{"lost_while_switching", upgrade_begun,
               [](store& s, const fs::path&) -> result<void> {
                 MOLT_CHECK(s.node_lost("killed"));
                 return ok();
               }},
        change{"lost_in_probation", in_probation,
               [](store& s, const fs::path&) -> result<void> {
                 MOLT_CHECK(s.node_lost("killed"));
                 return ok();
               }},
        change{"resolved_as_done", upgrade_begun, [](store& s, const fs::path&) { return s.resolve_by("echo-2.0.0"); }},
        change{"resolved_as_not_done", upgrade_begun,
               [](store& s, const fs::path&) { return s.resolve_by("echo-1.0.0"); }}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(store_creation, can_die_at_any_step_and_be_opened_again) {
  for (const fault what : {fault::kill, fault::power_cut, fault::power_cut_of_data}) {
    for (int step = 1;; ++step) {
      const tests::scratch_folder folder;
      const int status = tests::run_in_child([&] {
        tests::faulty_file_system system{what, step};
        (void)store::open(folder / "store", system);
      });
      const auto s = store::open(folder / "store");
      ASSERT_TRUE(s) << "step " << step << ": " << s.error().text();
      EXPECT_EQ(s->boot_release(), "");
      if (status == 0) break;
    }
  }
}

TEST(store_repair, leaves_the_damaged_or_the_whole_release_at_every_step_and_can_be_repeated) {
  tests::scratch_folder folder;
  const auto source = tests::make_release(folder / "source", "1.0.0");
  const auto at = folder / "store";
  const auto damaged_store = [&] {
    EXPECT_TRUE(remove_tree(at));
    auto s = store::open(at);
    ASSERT_TRUE(s && s->install(source));
    move_to(*s, kind::start, "echo-1.0.0");
    const auto file = s->folder_of("echo-1.0.0") / "share/notes.txt";
    fs::permissions(file, fs::perms::owner_all);
    tests::write_file(file, "damaged");
  };
  const auto repair_with = [&](file_system& system) {
    auto s = store::open(at, system);
    return s && s->install(source).has_value();
  };
  tests::faulty_file_system counting;
  damaged_store();
  ASSERT_TRUE(repair_with(counting));
  for (const auto what : {fault::error, fault::kill, fault::power_cut})
    for (int step = 1; step <= counting.steps(); ++step) {
      SCOPED_TRACE("fault " + std::to_string(static_cast<int>(what)) + ", step " + std::to_string(step));
      damaged_store();
      tests::run_in_child([&] {
        tests::faulty_file_system system{what, step};
        (void)repair_with(system);
      });
      auto s = store::open(at);
      ASSERT_TRUE(s) << s.error().text();
      EXPECT_EQ(s->permanent(), "echo-1.0.0");
      if (const auto whole = verify_contents(s->folder_of("echo-1.0.0")); !whole) {
        EXPECT_THAT(whole.error().message(), testing::HasSubstr("share/notes.txt: has changed")) << "and nothing else";
        EXPECT_TRUE(s->install(source));
      }
      EXPECT_TRUE(verify_contents(s->folder_of("echo-1.0.0")));
      EXPECT_EQ(std::distance(fs::directory_iterator{at / "releases"}, {}), 1);
    }
}

}  // namespace
}  // namespace molt::releases
