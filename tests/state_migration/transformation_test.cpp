#include "state_migration/transformation.hpp"

#include "plugin/storage.hpp"
#include "tests/state_migration/handmade.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>

namespace molt::migration {
namespace {

using namespace std::chrono_literals;
using handmade::edge;
using handmade::schema;
using testing::HasSubstr;
using outcome = transformation::state;

template <int From, int To>
int sleepy(void* from, void* to, const molt_change* change, molt_text* text) {
  std::this_thread::sleep_for(20ms);
  return handmade::consume<From, To>(from, to, change, text);
}

/// One old image and one new image with up to two hooks, 1 -> 2 -> 3, and a state to take along.
class transformations : public testing::Test {
 protected:
  void SetUp() override {
    handmade::now = {};
    living_before_ = handmade::living;
    state_ = allocate_storage(old_);
    auto* made = new (state_) handmade::state<1>;
    for (int n = 0; n < 1000; ++n) made->numbers.push_back(n * n);
    made->text = "a text too long for the small string optimisation";
    before_ = archive();
    handmade::now = {};
  }

  void TearDown() override {
    if (state_ != nullptr) destroy_and_free(old_, state_);
    EXPECT_EQ(handmade::living, living_before_) << "a state was leaked or destroyed twice";
  }

  [[nodiscard]] std::string archive() const {
    archive_buffer buffer;
    molt_text text;
    EXPECT_EQ(buffer.save(old_, state_, text), MOLT_OK);
    return std::string{buffer.bytes()};
  }

  void two_hooks(handmade::hook first, std::uint32_t first_flags, handmade::hook second, std::uint32_t second_flags) {
    hooks_ = {edge(frozen_, middle_, first, first_flags), edge(middle_, new_, second, second_flags)};
    const auto old_type = handmade::type(old_, {});
    const auto new_type = handmade::type(new_, hooks_);
    migration_graph graph;
    graph.add(new_type, "3.0.0");
    graph.add(old_type, "1.0.0");
    path_ = *choose_path(graph, *graph.state_of(1), *graph.state_of(0), direction::up);
  }

  transformation run(transformation_settings settings = {}) {
    return transformation{path_, state_, {"1.0.0", "3.0.0", {nullptr, 0}, nullptr, nullptr}, settings};
  }

  void expect_as_before(transformation& done) {
    ASSERT_EQ(done.outcome(), outcome::failed);
    state_ = done.current();
    EXPECT_EQ(archive(), before_) << "the old state differs";
  }

  void expect_new(transformation& done, const char* ending) {
    ASSERT_EQ(done.outcome(), outcome::complete) << done.failure().step << ": " << done.failure().error;
    const auto& made = *static_cast<const handmade::state<3>*>(done.current());
    EXPECT_EQ(made.numbers.size(), 1000U);
    EXPECT_THAT(made.text, testing::EndsWith(ending));
  }

  void finish(transformation& done) {
    void* const made = done.current();
    done.keep_new();
    destroy_and_free(new_, made);
    state_ = nullptr;
  }

  molt_schema old_ = schema<1>("state", 1);
  molt_schema frozen_ = schema<1>("v1::state", 1);
  molt_schema middle_ = schema<2>("v2::state", 2);
  molt_schema new_ = schema<3>("state", 3);
  std::vector<molt_edge> hooks_;
  migration_path path_;
  void* state_ = nullptr;
  std::string before_;
  std::int64_t living_before_ = 0;
};

TEST_F(transformations, run_every_hook_in_order) {
  two_hooks(handmade::copy<1, 2>, 0, handmade::copy<2, 3>, 0);
  auto done = run();
  expect_new(done, "+2+3");
  EXPECT_EQ(handmade::now.saves, 0) << "nothing to archive: the hooks leave their input";
  finish(done);
}

TEST_F(transformations, leave_the_state_when_the_first_hook_throws) {
  two_hooks(handmade::empty_and_throw<1>, MOLT_EDGE_CONSUMES, handmade::copy<2, 3>, 0);
  auto done = run();
  expect_as_before(done);
  EXPECT_EQ(done.failure().error, "no such luck");
  EXPECT_THAT(done.failure().step, HasSubstr("v1::state to v2::state"));
}

TEST_F(transformations, take_the_archive_that_somebody_else_has_made) {
  const auto kept = std::make_shared<archive_buffer>();
  molt_text text;
  ASSERT_EQ(kept->save(old_, state_, text), MOLT_OK);
  handmade::now = {};
  two_hooks(handmade::empty_and_throw<1>, MOLT_EDGE_CONSUMES, handmade::copy<2, 3>, 0);
  transformation_settings settings;
  settings.archive_of_old = kept;
  auto done = run(settings);
  EXPECT_EQ(handmade::now.saves, 0) << "once is enough";
  expect_as_before(done);
  EXPECT_EQ(kept->bytes(), before_) << "still there for whoever made it";
}

TEST_F(transformations, leave_the_state_when_a_hook_throws_in_the_middle) {
  for (const std::uint32_t first :
       {0U, unsigned{MOLT_EDGE_CONSUMES}, unsigned{MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT}}) {
    two_hooks(first == 0 ? handmade::copy<1, 2> : handmade::consume<1, 2>, first, handmade::empty_and_throw<2>,
              MOLT_EDGE_CONSUMES);
    auto done = run();
    expect_as_before(done);
    EXPECT_THAT(done.failure().step, HasSubstr("v2::state to state"));
  }
}

TEST_F(transformations, say_when_even_restoring_failed) {
  two_hooks(handmade::empty_and_throw<1>, MOLT_EDGE_CONSUMES, handmade::copy<2, 3>, 0);
  handmade::now.load_fails = true;
  auto done = run();
  EXPECT_EQ(done.outcome(), outcome::lost);
  state_ = done.current();
  handmade::now = {};
}

TEST_F(transformations, do_not_begin_when_the_archive_before_fails) {
  two_hooks(handmade::consume<1, 2>, MOLT_EDGE_CONSUMES, handmade::copy<2, 3>, 0);
  handmade::now.save_throws = true;
  auto done = run();
  handmade::now = {};
  expect_as_before(done);
  EXPECT_EQ(done.failure().error, "save threw");
  transformation_settings small;
  small.archive_size_max = 100;
  auto bounded = run(small);
  expect_as_before(bounded);
  EXPECT_THAT(bounded.failure().error, HasSubstr("limit"));
}

TEST_F(transformations, undo_a_hook_over_its_deadline) {
  two_hooks(sleepy<1, 2>, MOLT_EDGE_CONSUMES, handmade::copy<2, 3>, 0);
  transformation_settings hasty;
  hasty.hook_timeout = 5ms;
  auto done = run(hasty);
  expect_as_before(done);
  EXPECT_TRUE(done.failure().timed_out);
  EXPECT_THAT(done.failure().error, HasSubstr("hook timeout of 5 ms"));
}

TEST_F(transformations, go_through_when_a_late_hook_left_nothing_to_go_back_to) {
  two_hooks(sleepy<1, 2>, MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT, handmade::consume<2, 3>,
            MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT);
  transformation_settings hasty;
  hasty.hook_timeout = 5ms;
  auto done = run(hasty);
  expect_new(done, "+2+3");
  EXPECT_TRUE(done.late());
  finish(done);
}

TEST_F(transformations, revert_when_complete) {
  for (const std::uint32_t flags :
       {0U, unsigned{MOLT_EDGE_CONSUMES}, unsigned{MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT}}) {
    two_hooks(flags == 0 ? handmade::copy<1, 2> : handmade::consume<1, 2>, flags, handmade::consume<2, 3>,
              MOLT_EDGE_CONSUMES | MOLT_EDGE_NOEXCEPT);
    transformation_settings careful;
    careful.revertible = true;
    auto done = run(careful);
    expect_new(done, "+2+3");
    done.revert();
    expect_as_before(done);
  }
}

TEST_F(transformations, bridge_a_state_that_reaches_code) {
  old_.flags = 0;
  frozen_.flags = 0;
  two_hooks(handmade::consume<1, 2>, MOLT_EDGE_CONSUMES, handmade::consume<2, 3>, MOLT_EDGE_CONSUMES);
  auto done = run();
  expect_new(done, "+2+3");
  EXPECT_EQ(handmade::now.saves, 1);
  EXPECT_EQ(handmade::now.loads, 1);
  finish(done);
}

TEST_F(transformations, leave_the_state_when_a_bridge_fails) {
  old_.flags = 0;
  frozen_.flags = 0;
  two_hooks(handmade::consume<1, 2>, MOLT_EDGE_CONSUMES, handmade::consume<2, 3>, MOLT_EDGE_CONSUMES);
  handmade::now.load_fails = true;
  auto done = run();
  handmade::now = {};
  expect_as_before(done);
  EXPECT_THAT(done.failure().step, HasSubstr("v1::state by archive"));
}

TEST_F(transformations, hand_the_same_object_over_where_nothing_changes) {
  const auto again = schema<1>("state", 1);
  const auto old_type = handmade::type(old_, {});
  const auto new_type = handmade::type(again, {});
  migration_graph graph;
  graph.add(new_type, "1.0.1");
  graph.add(old_type, "1.0.0");
  path_ = *choose_path(graph, *graph.state_of(1), *graph.state_of(0), direction::up);
  {
    auto done = run();
    EXPECT_EQ(done.outcome(), outcome::complete);
    EXPECT_EQ(done.current(), state_);
  }
  {
    auto done = run();
    done.revert();
    EXPECT_EQ(done.current(), state_);
  }
  EXPECT_EQ(archive(), before_);
}

}  // namespace
}  // namespace molt::migration
