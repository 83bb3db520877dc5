// Evolving vectors and sets against plain ones: random operations at every stage of conversion, up and down, over
// archives, with hooks that throw. And the containers underneath.
#include "tests/plugin/memory_archive.hpp"

#include <gtest/gtest.h>
#include <molt/plugin.hpp>

#include <algorithm>
#include <cstdio>
#include <random>

namespace {

using molt::not_converted;

bool armed = false;  // hooks throw for some elements
bool is_bad(std::int64_t value) { return armed && value % 64 == 7; }

namespace v1 {
struct sample {
  std::int64_t value = 0;
  std::string note;
  friend bool operator==(const sample&, const sample&) = default;
  friend auto operator<=>(const sample&, const sample&) = default;
};
}  // namespace v1

namespace v2 {
struct sample {
  std::int64_t value = 0;
  std::string note;
  std::int64_t weight = 1;
  static sample evolve(v1::sample&& old) {
    if (is_bad(old.value)) throw std::runtime_error{"bad sample"};
    return {old.value, std::move(old.note), 1};
  }
  static v1::sample devolve(const sample& now) {
    if (is_bad(now.value)) throw std::runtime_error{"bad sample"};
    return {now.value, now.note};
  }
  friend bool operator==(const sample&, const sample&) = default;
  friend auto operator<=>(const sample&, const sample&) = default;
};
}  // namespace v2

std::string note_of(std::int64_t value) { return "a note that is stored on the heap " + std::to_string(value); }

}  // namespace

template <>
struct std::hash<v1::sample> {
  std::size_t operator()(const v1::sample& of) const { return std::hash<std::int64_t>{}(of.value); }
};
template <>
struct std::hash<v2::sample> {
  std::size_t operator()(const v2::sample& of) const { return std::hash<std::int64_t>{}(of.value); }
};

namespace {

/// Through its archive form.
template <class T>
T read_back(const T& given) {
  struct holder {
    T value;
  };
  const auto& schema = molt::schema_of<holder>();
  const holder out{given};
  const auto bytes = molt::tests::save_bytes(schema, &out);
  alignas(holder) std::byte storage[sizeof(holder)];
  std::string why;
  EXPECT_EQ(molt::tests::load_bytes(schema, storage, bytes, &why), MOLT_OK) << why;
  auto* const read = std::launder(reinterpret_cast<holder*>(storage));
  T back = std::move(read->value);
  schema.destroy(read);
  return back;
}

unsigned fresh_seed() {
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  return seed;
}

// ---- Vectors

template <class Old>
class evolving_vectors : public testing::Test {
 protected:
  using vector = molt::evolving_vector<v2::sample, Old>;
  void TearDown() override { armed = false; }

  static vector adopted(std::int64_t count) {
    Old old;
    for (std::int64_t n = 0; n < count; ++n) old.push_back(v1::sample{n, note_of(n)});
    return vector{std::move(old)};
  }
  static std::vector<v2::sample> model_of(std::int64_t count) {
    std::vector<v2::sample> model;
    for (std::int64_t n = 0; n < count; ++n) model.push_back({n, note_of(n), 1});
    return model;
  }
  static void expect_same(const vector& ours, const std::vector<v2::sample>& model) {
    ASSERT_EQ(ours.size(), model.size());
    std::size_t at = 0;
    ours.for_each([&](const v2::sample& each) { EXPECT_EQ(each, model[at++]); });
  }
};
using olds = testing::Types<std::vector<v1::sample>, molt::steady_vector<v1::sample>>;
TYPED_TEST_SUITE(evolving_vectors, olds);

TYPED_TEST(evolving_vectors, are_as_plain_ones_whatever_is_done_while_they_are_converted) {
  std::mt19937 random{fresh_seed()};
  for (int world = 0; world < 30; ++world) {
    const auto count = static_cast<std::int64_t>(random() % 1200);
    auto ours = this->adopted(count);
    auto model = this->model_of(count);
    for (int step = 0; step < 300; ++step) {
      const auto at = model.empty() ? 0 : random() % model.size();
      const v2::sample fresh{static_cast<std::int64_t>(random() % 1000), note_of(step), 1};
      switch (random() % 14) {
        case 0:
        case 1:
          if (!model.empty()) {
            EXPECT_EQ(ours[at], model[at]);
            ours[at].value = ++model[at].value;
          }
          break;
        case 2:
        case 3:
          ours.push_back(fresh);
          model.push_back(fresh);
          break;
        case 4:
          for (auto more = random() % 200; more > 0; --more) {
            ours.emplace_back(fresh);
            model.emplace_back(fresh);
          }
          break;
        case 5:
          for (auto fewer = std::min<std::size_t>(random() % 200, model.size()); fewer > 0; --fewer) {
            ours.pop_back();
            model.pop_back();
          }
          break;
        case 6:
          if (random() % 8 == 0) {
            ours.insert(ours.begin() + static_cast<std::ptrdiff_t>(at), fresh);
            model.insert(model.begin() + static_cast<std::ptrdiff_t>(at), fresh);
          }
          break;
        case 7:
          if (random() % 8 == 0 && !model.empty()) {
            ours.erase(ours.begin() + static_cast<std::ptrdiff_t>(at));
            model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
          }
          break;
        case 8:
        case 9:
          ours.evolve_one();
          break;
        case 10:
          ours.devolve_one();
          break;
        case 11:
          if (random() % 8 == 0) ours = read_back(ours);
          break;
        case 12:
          if (random() % 8 == 0) {
            auto copy = ours;
            EXPECT_TRUE(copy == ours);
            ours = std::move(copy);
          }
          break;
        default:
          EXPECT_EQ(ours.get(at), model.empty() ? std::nullopt : std::optional{model[at]});
      }
      ASSERT_EQ(ours.size(), model.size());
      ASSERT_EQ(ours.left() + ours.converted(), ours.size());
    }
    this->expect_same(ours, model);
    if (random() % 2 == 0) {
      const auto all = std::move(ours).finished();
      EXPECT_TRUE(std::equal(all.begin(), all.end(), model.begin(), model.end()));
    } else {
      const auto old = std::move(ours).devolved();
      ASSERT_EQ(old.size(), model.size());
      for (std::size_t at = 0; at < model.size(); ++at)
        EXPECT_EQ(old[at], (v1::sample{model[at].value, model[at].note}));
    }
  }
}

TYPED_TEST(evolving_vectors, stay_whole_when_a_hook_throws) {
  auto ours = this->adopted(1000);
  auto model = this->model_of(1000);
  ours[500].value = model[500].value = 5000;
  armed = true;
  EXPECT_THROW(ours[10].value = 1, not_converted) << "7 is in the same run";
  EXPECT_THROW(ours.finish(), not_converted);
  EXPECT_EQ(ours[500].value, 5000) << "is converted";
  armed = false;
  this->expect_same(ours, model);
  ours.finish();
  armed = true;
  EXPECT_THROW(while (ours.devolve_one()) continue, not_converted);
  armed = false;
  this->expect_same(ours, model);
  const auto old = std::move(ours).devolved();
  EXPECT_EQ(old.size(), 1000U);
  EXPECT_EQ(old[500].value, 5000);
}

TYPED_TEST(evolving_vectors, refuse_archives_whose_parts_do_not_fit) {
  auto ours = this->adopted(300);
  ours[0].value = 1;
  struct holder {
    std::vector<std::unique_ptr<std::vector<v2::sample>>> now;
    TypeParam before;
  };
  struct target {
    molt::evolving_vector<v2::sample, TypeParam> value;
  };
  const auto status_of = [](std::initializer_list<int> runs, std::size_t before) {
    holder given;
    for (const int size : runs)
      given.now.push_back(size < 0 ? nullptr
                                   : std::make_unique<std::vector<v2::sample>>(static_cast<std::size_t>(size)));
    given.before.resize(before);
    const auto bytes = molt::tests::save_bytes(molt::schema_of<holder>(), &given);
    alignas(target) std::byte storage[sizeof(target)];
    const int status = molt::tests::load_bytes(molt::schema_of<target>(), storage, bytes);
    if (status == MOLT_OK) molt::schema_of<target>().destroy(storage);
    return status;
  };
  EXPECT_EQ(status_of({}, 300), MOLT_OK);
  EXPECT_EQ(status_of({128, -1, -1}, 300), MOLT_OK);
  EXPECT_EQ(status_of({-1, -1, 44}, 300), MOLT_OK);
  EXPECT_EQ(status_of({-1, -1, 50}, 300), MOLT_OK) << "some were appended";
  EXPECT_EQ(status_of({-1, -1, 40}, 300), MOLT_BAD_ARCHIVE);
  EXPECT_EQ(status_of({-1, -1}, 300), MOLT_BAD_ARCHIVE);
  EXPECT_EQ(status_of({-1, -1, -1, -1}, 300), MOLT_BAD_ARCHIVE);
  EXPECT_EQ(status_of({100, -1, -1}, 300), MOLT_BAD_ARCHIVE);
  EXPECT_EQ(status_of({129}, 0), MOLT_BAD_ARCHIVE);
  EXPECT_EQ(status_of({0}, 0), MOLT_BAD_ARCHIVE);
}

// ---- Sets

template <class Old>
class evolving_sets : public testing::Test {
 protected:
  using set = molt::evolving_set<v2::sample, Old>;
  void TearDown() override { armed = false; }
};
using old_sets = testing::Types<std::unordered_set<v1::sample>, std::set<v1::sample>, molt::steady_set<v1::sample>>;
TYPED_TEST_SUITE(evolving_sets, old_sets);

TYPED_TEST(evolving_sets, are_as_plain_ones_whatever_is_done_while_they_are_converted) {
  std::mt19937 random{fresh_seed()};
  const auto sample = [](std::int64_t value) { return v2::sample{value, note_of(value), 1}; };
  for (int world = 0; world < 20; ++world) {
    TypeParam old;
    std::set<v2::sample> model;
    for (auto count = random() % 1000; count > 0; --count) {
      const auto value = static_cast<std::int64_t>(random() % 2000);
      old.insert(v1::sample{value, note_of(value)});
      model.insert(sample(value));
    }
    typename TestFixture::set ours{std::move(old)};
    for (int step = 0; step < 500; ++step) {
      const auto one = sample(static_cast<std::int64_t>(random() % 2000));
      switch (random() % 10) {
        case 0:
        case 1:
          EXPECT_EQ(ours.insert(one).second, model.insert(one).second);
          break;
        case 2:
          EXPECT_EQ(ours.erase(one), model.erase(one));
          break;
        case 3:
        case 4:
          EXPECT_EQ(ours.contains(one), model.contains(one));
          break;
        case 5:
          if (const auto found = ours.find(one); found != ours.end()) {
            EXPECT_EQ(*found, one);
            EXPECT_TRUE(model.contains(one));
          } else {
            EXPECT_FALSE(model.contains(one));
          }
          break;
        case 6:
        case 7:
          for (int n = 0; n < 10; ++n) ours.evolve_one();
          break;
        case 8:
          for (int n = 0; n < 10; ++n) ours.devolve_one();
          break;
        default:
          if (random() % 16 == 0) ours = read_back(ours);
      }
      ASSERT_EQ(ours.size(), model.size());
    }
    std::set<v2::sample> seen;
    ours.for_each([&](const v2::sample& each) { seen.insert(each); });
    EXPECT_EQ(seen, model);
    if (random() % 2 == 0) {
      EXPECT_EQ((std::set<v2::sample>(ours.begin(), ours.end())), model);
      EXPECT_EQ(ours.left(), 0U);
    } else {
      const auto back = std::move(ours).devolved();
      EXPECT_EQ(back.size(), model.size());
      for (const auto& each : model) EXPECT_TRUE(back.contains(v1::sample{each.value, each.note}));
    }
  }
}

TYPED_TEST(evolving_sets, stay_whole_when_a_hook_throws_or_two_elements_become_equal) {
  TypeParam old;
  for (std::int64_t value = 0; value < 100; ++value) old.insert(v1::sample{value, note_of(value)});
  typename TestFixture::set ours{std::move(old)};
  armed = true;
  EXPECT_THROW(ours.finish(), not_converted);
  EXPECT_EQ(ours.size(), 100U);
  armed = false;
  ours.finish();
  ours.insert({5, note_of(5), 2});  // of another weight, which the older version does not know
  EXPECT_THROW(while (ours.devolve_one()) continue, not_converted);
  EXPECT_EQ(ours.size(), 101U);
  EXPECT_EQ(ours.erase({5, note_of(5), 2}), 1U);
  EXPECT_EQ(std::move(ours).devolved().size(), 100U);
}

// ---- Underneath

TEST(steady_vector, is_as_a_plain_vector_and_never_moves_an_element) {
  molt::steady_vector<std::string> ours;
  std::vector<std::string> model;
  std::vector<const std::string*> places;
  for (int n = 0; n < 1000; ++n) {
    places.push_back(&ours.emplace_back(std::to_string(n)));
    model.push_back(std::to_string(n));
  }
  for (std::size_t at = 0; at < model.size(); ++at) EXPECT_EQ(&ours[at], places[at]);
  EXPECT_TRUE(std::equal(ours.begin(), ours.end(), model.begin(), model.end()));
  EXPECT_EQ(read_back(ours), ours);
  ours.resize(300);
  EXPECT_EQ(ours.size(), 300U);
  EXPECT_EQ(ours.back(), "299");
  std::sort(ours.begin(), ours.end(), std::greater<>{});
  EXPECT_TRUE(std::is_sorted(ours.begin(), ours.end(), std::greater<>{}));
  EXPECT_THROW(static_cast<void>(ours.at(300)), std::out_of_range);
}

TEST(steady_set, is_as_a_plain_set) {
  std::mt19937 random{fresh_seed()};
  molt::steady_set<std::int64_t> ours;
  std::set<std::int64_t> model;
  for (int step = 0; step < 20'000; ++step) {
    const auto key = static_cast<std::int64_t>(random() % 5000);
    if (random() % 3 != 0)
      EXPECT_EQ(ours.insert(key).second, model.insert(key).second);
    else
      EXPECT_EQ(ours.erase(key), model.erase(key));
  }
  EXPECT_EQ((std::set<std::int64_t>(ours.begin(), ours.end())), model);
  EXPECT_EQ(read_back(ours), ours);
}

TEST(evolving_containers, are_converted_in_slices_wherever_they_stand_in_a_state) {
  struct state {
    molt::evolving_vector<v2::sample, std::vector<v1::sample>> history;
    std::unique_ptr<molt::evolving_set<v2::sample, std::unordered_set<v1::sample>>> banned;
  };
  state held;
  std::vector<v1::sample> old(1000);
  held.history = std::move(old);
  std::unordered_set<v1::sample> set;
  for (std::int64_t value = 0; value < 1000; ++value) set.insert(v1::sample{value, ""});
  held.banned = std::make_unique<molt::evolving_set<v2::sample, std::unordered_set<v1::sample>>>(std::move(set));
  unsigned slices = 0;
  while (molt::detail::left_in(held, false) != 0) {
    molt::detail::evolve_slice slice{false, 1};
    molt::detail::evolve_in(held, slice);
    ASSERT_LT(++slices, 2000U);
  }
  EXPECT_GT(slices, 7U);
  EXPECT_EQ(held.history.converted(), 1000U);
  EXPECT_EQ(held.banned->converted(), 1000U);
  while (molt::detail::left_in(held, true) != 0) {
    molt::detail::evolve_slice slice{true, 1'000'000};
    molt::detail::evolve_in(held, slice);
  }
  EXPECT_EQ(held.banned->left(), 1000U);
}

}  // namespace
