// Memory that is missing at every step of keeping a state and of going back to it: everything stays as it was, the
// report says why, and with memory it goes well.
#include "tests/upgrade/running_box.hpp"

#include <gmock/gmock.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

namespace {

/// Allocations on this thread that still succeed before one does not; negative: all do.
thread_local long allowed = -1;
thread_local bool fails_from_then_on = false;
thread_local long missed = 0;

bool is_refused() noexcept {
  if (allowed < 0 || allowed-- > 0) return false;
  allowed = fails_from_then_on ? 0 : -1;
  ++missed;
  return true;
}

void* take(std::size_t size) noexcept { return is_refused() ? nullptr : std::malloc(size == 0 ? 1 : size); }

}  // namespace

// Not inlined: the compiler would take free for a mistake.
// NOLINTBEGIN(misc-new-delete-overloads)
void* operator new(std::size_t size) {
  if (void* const taken = take(size)) return taken;
  throw std::bad_alloc{};
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return take(size); }
[[gnu::noinline]] void operator delete(void* taken) noexcept { std::free(taken); }
[[gnu::noinline]] void operator delete(void* taken, std::size_t) noexcept { std::free(taken); }
// NOLINTEND(misc-new-delete-overloads)

// Archives grow by realloc; the linker leads it here.
extern "C" void* __real_realloc(void* taken, std::size_t size);   // NOLINT(bugprone-reserved-identifier)
extern "C" void* __wrap_realloc(void* taken, std::size_t size) {  // NOLINT(bugprone-reserved-identifier)
  return is_refused() ? nullptr : __real_realloc(taken, size);
}

namespace molt::upgrade {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class memory : public running_box {
 protected:
  static constexpr long allocations_max = 500;  // of one server; ends a test that would never end

  struct snapshot {
    std::vector<std::string> archives;
    std::vector<std::string> versions;
    std::string release;
    friend bool operator==(const snapshot&, const snapshot&) = default;
  };
  [[nodiscard]] snapshot now() {
    snapshot made;
    for (const auto each : all_) {
      made.archives.push_back(archive_of(runtime_, each));
      made.versions.emplace_back(runtime_.type_of(each)->version());
    }
    made.release = switcher_->current().id;
    return made;
  }
  void ledgers() {
    start(ledger_1);
    for (const char* title :
         {"the first of three ledgers", "the second of three ledgers", "the third of three ledgers"})
      all_.push_back(server("ledger.server", title, {{"title", title}}));
  }
  /// From the first look at whether it is cancelled until the next one, the k-th allocation fails. In mode lazy all
  /// servers are moved in between, in mode atomic the second one.
  settings without_memory(settings chosen, long k, bool from_then_on) {
    looks_ = 0;
    missed = 0;
    fails_from_then_on = from_then_on;
    chosen.atomic_threads = 1;
    chosen.collect_timeout = 0ns;
    chosen.cancelled = [this, k] {
      allowed = ++looks_ == 1 ? k : -1;
      return false;
    };
    return chosen;
  }
  /// Runs it with memory missing at one step after the other, until it needs no more; `undo` what was done all the
  /// same.
  template <class Change, class Undo>
  void at_every_step(bool from_then_on, const Change& change, const Undo& undo) {
    const auto before = now();
    for (long k = 0; k < allocations_max; ++k) {
      const report ended = change(k, from_then_on);
      allowed = -1;
      if (missed == 0) {
        EXPECT_EQ(ended.result, phase::done) << told(ended);
        EXPECT_GT(k, 5) << "it takes some memory";
        return;
      }
      SCOPED_TRACE("allocation " + std::to_string(k) + (from_then_on ? " and those after it: " : ": ") + told(ended));
      if (ended.result == phase::done) {
        undo();
      } else {
        EXPECT_EQ(ended.result, phase::rolled_back);
        EXPECT_EQ(ended.servers_failed, 1U);
        EXPECT_THAT(told(ended), testing::AnyOf(HasSubstr("memory"), HasSubstr("bad_alloc")));
      }
      ASSERT_EQ(now(), before);
    }
    ADD_FAILURE() << "it never came through";
  }

  std::vector<molt_ref> all_;
  int looks_ = 0;
};

/// Their hooks empty the old state. One that is made again from its archive needs memory: so it is missing once.
TEST_F(memory, that_is_missing_while_states_are_kept_leaves_all_servers_as_they_were) {
  ledgers();
  at_every_step(
      false,
      [&](long k, bool from_then_on) {
        settings keeping;
        keeping.mode = mode::atomic;
        keeping.keep_states = true;
        auto ended = upgrade(ledger_2, without_memory(keeping, k, from_then_on));
        EXPECT_EQ(switcher_->kept() != nullptr, ended.result == phase::done);
        return ended;
      },
      [&] {
        settings accepting;
        accepting.accept_loss = {"tags"};
        ASSERT_EQ(rollback(accepting).result, phase::done);
      });
}

TEST_F(memory, that_is_missing_while_states_without_memory_of_their_own_are_kept_leaves_all_servers_as_they_were) {
  start(fixtures::counter_1_0_0);
  all_ = counters(3);
  for (const auto chosen : {mode::lazy, mode::atomic})
    for (const bool from_then_on : {false, true}) {
      if (chosen == mode::lazy && from_then_on) continue;  // it would be missing for going back, too
      at_every_step(
          from_then_on,
          [&](long k, bool all_of_it) {
            settings keeping;
            keeping.mode = chosen;
            keeping.keep_states = true;
            return upgrade(fixtures::counter_2_0_0, without_memory(keeping, k, all_of_it));
          },
          [&] { ASSERT_EQ(rollback().result, phase::done); });
      EXPECT_EQ(switcher_->kept()->summary().servers, 3U);
      ASSERT_EQ(rollback().result, phase::done);
    }
}

TEST_F(memory, that_is_missing_while_servers_go_back_to_what_was_kept_leaves_all_as_they_were) {
  ledgers();
  const auto first = now();
  settings back;
  back.from_kept = true;
  const auto go_up = [&] {
    settings keeping;
    keeping.keep_states = true;
    keeping.one_way = true;
    ASSERT_EQ(upgrade(ledger_2_one_way, keeping).result, phase::done);
    const auto speaks = speaking(ledger_1);
    for (const auto each : all_) EXPECT_EQ((speaks.call<std::uint64_t, std::int64_t>(each, "append", 7)).second, 101U);
    back.accept_loss = {loss_since(switcher_->kept()->summary().since)};
  };
  for (const bool from_then_on : {false, true}) {
    go_up();
    at_every_step(
        from_then_on,
        [&](long k, bool all_of_it) {
          auto ended = rollback(without_memory(back, k, all_of_it));
          if (ended.result != phase::done) {
            EXPECT_EQ(switcher_->kept()->summary().servers, 3U) << "for another time";
          }
          return ended;
        },
        [&] {  // only the list of those restored was not to be had
          EXPECT_EQ(now(), first);
          go_up();
        });
    EXPECT_EQ(now(), first);
  }
}

}  // namespace
}  // namespace molt::upgrade
