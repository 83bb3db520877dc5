// Who still points into an image, what becomes of it then, and that whoever uses it lives.
#include "loader/image_evidence.hpp"

#include "hand_made.hpp"
#include "loader/plugin_image.hpp"
#include "loader/process_memory.hpp"
#include "loader/tripwire.hpp"
#include "loader/word_scan.hpp"
#include "plugins/keepsakes.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <optional>
#include <random>
#include <thread>

namespace molt::loader {
namespace {

using namespace std::chrono_literals;
using testing::hand_made;
using testing::keepsakes;
using kind = testing::keepsakes::kind;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

// ---- Words

TEST(word_scan, finds_exactly_the_words_that_a_plain_search_finds) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random{seed};
  const hidden_range ranges[] = {{0x7f0000000000, 0x7f0000010000}, {0xffff800000000000, 0xffff800000000008}};
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uintptr_t> words(random() % 100);
    for (auto& word : words) switch (random() % 5) {
        case 0:
          word = 0x7f0000000000 + random() % 0x10000;
          break;
        case 1:
          word = 0x7f0000010000 - 1 + random() % 2;
          break;
        case 2:
          word = 0xffff800000000000 + random() % 16;
          break;
        case 3:
          word = 0x7f0000000000 - random() % 3;
          break;
        default:
          word = random();
      }
    std::vector<std::pair<const std::uintptr_t*, std::size_t>> expected;
    for (const auto& word : words)
      for (std::size_t r = 0; r < 2; ++r)
        if (word >= ranges[r].begin() && word - ranges[r].begin() < ranges[r].size()) expected.emplace_back(&word, r);
    std::vector<std::pair<const std::uintptr_t*, std::size_t>> found;
    EXPECT_TRUE(scan_words(
        words, ranges,
        [](const std::uintptr_t* at, std::size_t range, void* to) {
          static_cast<decltype(found)*>(to)->emplace_back(at, range);
          return true;
        },
        &found));
    EXPECT_EQ(found, expected);
  }
}

// ---- Holders

lease loaded(const char* name) {
  auto image = load(hand_made(name));
  EXPECT_TRUE(image) << image.error().text();
  return image ? *image : lease{};
}

/// On a thread of its own: frames of who is about to look may hold what calls before have left on this stack.
void ask(const plugin_image& image, keepsakes& what) {
  std::thread{[&] {
    std::int64_t state = 0;
    auto payload = reinterpret_cast<std::int64_t>(&what);
    std::int64_t reply = 0;
    molt_text text{};
    EXPECT_EQ(image.server_type(0).handlers[0].handle(nullptr, &state, &payload, &reply, &text), MOLT_OK);
  }}.join();
}

result<pid_t> copied(const std::function<void()>& before, const std::function<void(const memory_facts&)>& work) {
  const auto images = hold_images();
  before();
  const pid_t made = ::fork();
  if (made == 0) work({});
  if (made < 0) return error{reason::io, "fork"};
  return made;
}

image_evidence look(const lease& image) {
  auto report = look_for_holders(std::span{&image, 1}, copied, 60s);
  EXPECT_TRUE(report) << report.error().text();
  return report ? report->images.front() : image_evidence{};
}

/// Looks as often as image_retirement would: bytes behind what a block is used for may hold what others left there.
void expect_nobody(const lease& image) {
  image_evidence found;
  for (int looks = 0; looks < 10; ++looks) {
    found = look(image);
    if (found.found == evidence::none) return;
    std::vector<std::vector<std::uintptr_t>> other(100,
                                                   std::vector<std::uintptr_t>(static_cast<std::size_t>(looks + 1)));
  }
  ADD_FAILURE() << found.why;
}

class evidence_test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!unmaps_images()) GTEST_SKIP() << "a sanitizer's own memory is not told apart from a program's";
  }
  static std::string told(const image_evidence& found) {
    std::string all = found.why;
    for (const auto& each : found.holders) all += "\n" + each.text();
    return all;
  }
};

TEST_F(evidence_test, finds_nothing_where_nothing_is) {
  for (int round = 0; round < 3; ++round) {
    lease image = loaded("hand_leaves");
    keepsakes none;
    ask(*image, none);
    expect_nobody(image);
    const auto report = unload(image);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->unmapped) << report->why;
  }
}

TEST_F(evidence_test, names_what_a_moved_shared_pointer_points_to) {
  const lease image = loaded("hand_leaves");
  keepsakes with;
  with.wanted = kind::shared_pointer;
  ask(*image, with);
  const auto found = look(image);
  EXPECT_EQ(found.found, evidence::held);
  EXPECT_THAT(told(found), HasSubstr("of heap"));
  EXPECT_THAT(told(found), HasSubstr("vtable for std::_Sp_counted_deleter<int*, leaving::releases"));
  EXPECT_EQ(*with.shared, 7) << "the copy closed its own, not ours";
  with.shared.reset();
  EXPECT_THAT(told(look(image)), Not(HasSubstr("_Sp_counted_deleter"))) << "it was the only one";
}

TEST_F(evidence_test, names_the_code_that_a_function_object_calls) {
  const lease image = loaded("hand_leaves");
  auto with = std::make_unique<keepsakes>();
  with->wanted = kind::function;
  ask(*image, *with);
  const auto found = look(image);
  EXPECT_EQ(found.found, evidence::held);
  EXPECT_THAT(told(found), HasSubstr("leaving::leave"));
  EXPECT_THAT(told(found), HasSubstr("_M_manager"));
  EXPECT_EQ(with->function(), 42);
}

TEST_F(evidence_test, names_the_type_of_an_exception_that_is_kept) {
  const lease image = loaded("hand_leaves");
  keepsakes with;
  with.wanted = kind::exception;
  ask(*image, with);
  const auto found = look(image);
  EXPECT_EQ(found.found, evidence::held);
  EXPECT_THAT(told(found), HasSubstr("leaving::own_error"));
  EXPECT_THROW(std::rethrow_exception(with.thrown), std::exception);
}

TEST_F(evidence_test, sees_a_thread_in_the_code) {
  const lease image = loaded("hand_leaves");
  keepsakes with;
  with.wanted = kind::thread;
  std::thread guest{[&] { ask(*image, with); }};
  while (with.inside != 1) std::this_thread::yield();
  const auto found = look(image);
  EXPECT_THAT(found.found, ::testing::AnyOf(evidence::on_stacks, evidence::held)) << told(found);
  EXPECT_THAT(told(found), HasSubstr("the stack of "));
  EXPECT_THAT(told(found), HasSubstr("leaving::leave"));
  with.inside = 2;
  guest.join();
  EXPECT_THAT(told(look(image)), Not(HasSubstr("leaving::leave")));
}

TEST_F(evidence_test, names_the_callback_of_a_timer) {
  const lease image = loaded("hand_leaves");
  auto with = std::make_unique<keepsakes>();
  with->wanted = kind::timer;
  ask(*image, *with);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD;
  event.sigev_notify_function = with->on_timer;
  with.reset();  // now the C library is the only one to know it
  timer_t timer{};
  ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  event = {};
  const auto found = look(image);
  EXPECT_EQ(found.found, evidence::held) << told(found);
  EXPECT_THAT(told(found), HasSubstr("leaving::tick"));
  timer_delete(timer);
}

TEST_F(evidence_test, names_the_server_from_whose_state_a_holder_can_be_reached) {
  const lease image = loaded("hand_leaves");
  keepsakes with;
  with.wanted = kind::shared_pointer;
  ask(*image, with);
  // A state with a table of handles that are objects of the old version.
  struct table {
    std::uint64_t handles[4];
  };
  const auto state = std::make_unique<std::unique_ptr<table>>(std::make_unique<table>());
  (*state)->handles[1] = reinterpret_cast<std::uint64_t>(new std::shared_ptr<int>{std::move(with.shared)});
  const auto make = [&](const auto& before, const auto& work) -> result<pid_t> {
    return copied(before, [&](const memory_facts&) {
      memory_facts facts;
      facts.owned = [&] {
        return std::vector<owned_memory>{{reinterpret_cast<std::uintptr_t>(state.get()), sizeof *state, 5}};
      };
      facts.name = [](std::uint64_t owner) { return owner == 5 ? "anna" : "?"; };
      work(facts);
    });
  };
  const auto report = look_for_holders(std::span{&image, 1}, make, 60s);
  ASSERT_TRUE(report);
  const auto& found = report->images.front();
  ASSERT_EQ(found.found, evidence::held);
  EXPECT_THAT(told(found), HasSubstr("the server anna, 3 pointers from its state"));
  delete reinterpret_cast<std::shared_ptr<int>*>((*state)->handles[1]);
}

// Nothing leads there from a server, so what was allocated just before and after it is what there is to go by.
TEST_F(evidence_test, says_what_lies_beside_a_holder_that_no_server_leads_to) {
  const lease image = loaded("hand_leaves");
  const plugin_image* const code = image.get();
  constexpr std::size_t size = 120;  // of nothing else here, so that the three lie side by side
  std::vector<std::unique_ptr<std::uintptr_t[]>> blocks;
  const auto next_to = [](const void* lower, const void* upper) {
    return static_cast<const char*>(upper) - static_cast<const char*>(lower) == size + 8;
  };
  const auto rows = [&] {
    const auto n = blocks.size();
    return n >= 3 && next_to(blocks[n - 3].get(), blocks[n - 2].get()) &&
           next_to(blocks[n - 2].get(), blocks[n - 1].get());
  };
  while (blocks.size() < 10'000 && !rows()) blocks.push_back(std::make_unique<std::uintptr_t[]>(size / 8));
  ASSERT_TRUE(rows());
  std::uintptr_t* const before = blocks[blocks.size() - 3].get();
  std::uintptr_t* const holds = blocks[blocks.size() - 2].get();
  std::uintptr_t* const after = blocks[blocks.size() - 1].get();
  holds[3] = code->range().begin() + 64;
  after[1] = reinterpret_cast<std::uintptr_t>(&::timer_create);
  const auto make = [&](const auto& first, const auto& work) -> result<pid_t> {
    return copied(first, [&](const memory_facts&) {
      memory_facts facts;
      facts.owned = [&] { return std::vector<owned_memory>{{reinterpret_cast<std::uintptr_t>(before), size, 7}}; };
      facts.name = [](std::uint64_t) { return "bert"; };
      work(facts);
    });
  };
  const auto report = look_for_holders(std::span{&image, 1}, make, 60s);
  ASSERT_TRUE(report);
  const auto& found = report->images.front();
  ASSERT_EQ(found.found, evidence::held);
  EXPECT_THAT(told(found),
              HasSubstr("it lies behind 120 bytes of the state of the server bert, before 120 bytes pointing "
                        "to timer_create"));
  holds[3] = 0;
}

TEST_F(evidence_test, takes_memory_above_a_place_that_an_image_has_left_for_no_stack) {
  const auto pages_of = [](const lease& of) {
    return (of->range().size() + page_size() - 1) / page_size() * page_size();
  };
  // Room for just an image, right below a page, above memory that nobody can read, as the rest of an arena of
  // malloc is: both become one mapping.
  const std::size_t room = pages_of(loaded("hand_counter_2"));
  auto* const start = static_cast<std::byte*>(
      ::mmap(nullptr, room + 2 * page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ASSERT_NE(start, MAP_FAILED);
  auto* const above = start + page_size() + room;
  ASSERT_EQ(::mprotect(above, page_size(), PROT_READ | PROT_WRITE), 0);
  ASSERT_EQ(::munmap(start + page_size(), room), 0);
  bool lies_below = false;
  for (int tries = 0; tries < 60 && !lies_below; ++tries) {  // the linker takes the highest room; what it left is taken
    lease other = loaded("hand_counter_2");
    ASSERT_TRUE(other);
    lies_below = other->range().begin() + room == reinterpret_cast<std::uintptr_t>(above);
    ASSERT_TRUE(unload(other));
  }
  if (!lies_below) GTEST_SKIP() << "the kernel puts images elsewhere";
  const lease image = loaded("hand_counter_1");
  ASSERT_TRUE(image);
  expect_nobody(image);
  *reinterpret_cast<std::uintptr_t*>(above) = image->range().begin() + 64;
  const auto found = look(image);
  EXPECT_EQ(found.found, evidence::held) << found.why;
  *reinterpret_cast<std::uintptr_t*>(above) = 0;
  expect_nobody(image);
  ::munmap(above, page_size());
  ::munmap(start, page_size());
}

TEST_F(evidence_test, judges_each_of_several_images) {
  const lease leaves = loaded("hand_leaves");
  const lease other = loaded("hand_counter_2");
  keepsakes with;
  with.wanted = kind::shared_pointer;
  ask(*leaves, with);
  const lease both[] = {other, leaves};
  const auto report = look_for_holders(both, copied, 60s);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->images[1].found, evidence::held);
  EXPECT_THAT(told(report->images[0]), Not(HasSubstr("releases"))) << "that is the other's";
  EXPECT_GT(report->scanned_bytes, 0U);
}

TEST_F(evidence_test, finds_none_clean_when_the_copy_does_not_finish) {
  const lease image = loaded("hand_leaves");
  const auto hangs = [](const auto& before, const auto&) -> result<pid_t> {
    before();
    const pid_t made = ::fork();
    if (made == 0)
      for (;;) ::pause();
    return made;
  };
  const auto late = look_for_holders(std::span{&image, 1}, hangs, 50ms);
  ASSERT_TRUE(late);
  EXPECT_EQ(late->images.front().found, evidence::not_looked);
  EXPECT_THAT(late->images.front().why, HasSubstr("50 ms"));
  const auto dies = [](const auto& before, const auto& work) -> result<pid_t> {
    before();
    const pid_t made = ::fork();
    if (made == 0) work(memory_facts{[] { std::raise(SIGKILL); }, {}, {}});
    return made;
  };
  const auto dead = look_for_holders(std::span{&image, 1}, dies, 60s);
  ASSERT_TRUE(dead);
  EXPECT_EQ(dead->images.front().found, evidence::not_looked);
  EXPECT_THAT(dead->images.front().why, HasSubstr("SIGKILL"));
  EXPECT_EQ(look_for_holders(
                std::span{&image, 1},
                [](const auto&, const auto&) -> result<pid_t> {
                  return error{reason::timeout, "no rest"};
                },
                1s)
                .error()
                .why(),
            reason::timeout);
}

TEST_F(evidence_test, sees_that_an_image_would_stay_mapped) {
  const lease image = loaded("hand_no_delete");
  const auto found = look(image);
  EXPECT_EQ(found.found, evidence::not_unmapped);
  EXPECT_THAT(found.why, HasSubstr("DF_1_NODELETE"));
}

// ---- Tripwire

TEST_F(evidence_test, lets_whoever_touches_an_unreadable_image_go_on_and_tells_who) {
  lease image = loaded("hand_leaves");
  keepsakes with;
  with.wanted = kind::function;
  ask(*image, with);
  set_trip_witness([]() noexcept -> std::uint64_t { return 77; });
  ASSERT_TRUE(arm_tripwire(image));
  EXPECT_FALSE(tripped(image));
  int thread = 0;
  std::thread{[&] {
    EXPECT_EQ(with.function(), 42) << "the call went through";
    thread = ::gettid();
  }}.join();
  const auto seen = tripped(image);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->thread, thread);
  EXPECT_EQ(seen->server, 77U);
  ASSERT_GT(seen->frames, 1U);
  EXPECT_THAT(image->name_of(~seen->inverted_address), HasSubstr("leaving::leave"));
  EXPECT_EQ(unload(image).error().why(), reason::busy);
  const std::string id = image->build_id();
  ASSERT_TRUE(keep(image, "it was used"));
  EXPECT_EQ(image, nullptr);
  EXPECT_EQ(with.function(), 42);
  const auto all = images();
  EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const image_info& each) {
    return each.build_id == id && each.resident_because == "it was used";
  }));
  image = loaded("hand_leaves");  // it can be used again
  keepsakes none;
  ask(*image, none);
}

TEST_F(evidence_test, unloads_what_nobody_has_touched) {
  lease image = loaded("hand_counter_1");
  ASSERT_TRUE(arm_tripwire(image));
  // The linker reads the tables of images when it loads others.
  const lease other = loaded("hand_counter_2");
  EXPECT_FALSE(tripped(image));
  const auto report = unload(image);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_TRUE(report->unmapped) << report->why;
}

TEST_F(evidence_test, makes_an_image_readable_that_is_loaded_again) {
  const lease image = loaded("hand_leaves");
  ASSERT_TRUE(arm_tripwire(image));
  const lease again = loaded("hand_leaves");
  EXPECT_EQ(image, again);
  keepsakes none;
  ask(*again, none);
  EXPECT_FALSE(tripped(image));
  EXPECT_EQ(arm_tripwire(image).error().why(), reason::busy) << "it has another lease";
}

TEST_F(evidence_test, survives_many_threads_that_touch_it_at_once) {
  lease image = loaded("hand_leaves");
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> go{false};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, table = &image->server_type(0)] {
        while (!go) std::this_thread::yield();
        keepsakes none;
        std::int64_t state = 0;
        auto payload = reinterpret_cast<std::int64_t>(&none);
        std::int64_t reply = 0;
        molt_text text{};
        EXPECT_EQ(table->handlers[0].handle(nullptr, &state, &payload, &reply, &text), MOLT_OK);
      });
    ASSERT_TRUE(arm_tripwire(image));
    go = true;
    threads.clear();
    EXPECT_TRUE(tripped(image));
    ASSERT_TRUE(keep(image, "used"));
    image = loaded("hand_leaves");
  }
}

TEST_F(evidence_test, leaves_other_faults_to_whoever_handled_them) {
  EXPECT_EXIT(
      {
        lease image = loaded("hand_leaves");
        if (!arm_tripwire(image)) std::_Exit(3);
        *static_cast<volatile int*>(nullptr) = 1;
        std::_Exit(4);
      },
      ::testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace molt::loader
