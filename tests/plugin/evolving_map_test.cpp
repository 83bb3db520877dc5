// Evolving maps against plain ones: random operations at every stage of conversion, up and down, over archives, with
// hooks that throw.
#include "tests/plugin/fake_host.hpp"
#include "tests/plugin/memory_archive.hpp"

#include <gtest/gtest.h>
#include <molt/plugin.hpp>

#include <cstdio>
#include <random>

namespace {

using molt::not_converted;

namespace v1 {
struct entry {
  std::int64_t value = 0;
  std::string name;
  friend bool operator==(const entry&, const entry&) = default;
};
}  // namespace v1

bool armed = false;  // hooks throw for some entries
bool is_bad(std::int64_t value) { return armed && value % 16 == 7; }

namespace v2 {
struct entry {
  std::int64_t value = 0;
  std::string name;
  std::int64_t doubled = 0;
  static entry evolve(std::int64_t key, v1::entry&& old) {
    entry made{old.value, std::move(old.name), 2 * key};
    if (is_bad(made.value)) throw std::runtime_error{"bad entry"};
    return made;
  }
  static v1::entry devolve(const entry& now) {
    if (is_bad(now.value)) throw std::runtime_error{"bad entry"};
    return {now.value, now.name};
  }
  friend bool operator==(const entry&, const entry&) = default;
};
}  // namespace v2

namespace v3 {
struct entry {
  std::string name;
  std::int64_t value = 0;
  std::int64_t doubled = 0;
  static entry evolve(const v2::entry& old) {
    if (is_bad(old.value + 1)) throw std::runtime_error{"bad entry"};
    return {old.name, old.value, old.doubled};
  }
  static v2::entry devolve(entry&& now) noexcept { return {now.value, std::move(now.name), now.doubled}; }
  friend bool operator==(const entry&, const entry&) = default;
};
}  // namespace v3

template <class Old>
using two = molt::evolving_map<std::int64_t, v2::entry, Old>;
template <class Old>
using three = molt::evolving_map<std::int64_t, v3::entry, two<Old>>;
using hash_map = std::unordered_map<std::int64_t, v1::entry>;
using steady = molt::steady_map<std::int64_t, v1::entry>;
using tree = std::map<std::int64_t, v1::entry>;

template <class Map>
class evolving : public testing::Test {};
using kinds = testing::Types<two<hash_map>, two<steady>, two<tree>, three<hash_map>, three<tree>>;
TYPED_TEST_SUITE(evolving, kinds);

template <class Map>
struct world {
  using entry = typename Map::mapped_type;
  static constexpr bool ordered = molt::detail::is_ordered_map<typename Map::now_map>;
  static constexpr bool is_nested = std::is_same_v<entry, v3::entry>;

  explicit world(unsigned seed) : random{seed} {
    const std::int64_t count = static_cast<std::int64_t>(random() % 3000);
    if constexpr (is_nested) {
      auto inner = fill(count, static_cast<two_of<Map>*>(nullptr));
      for (auto steps = random() % 1000; steps > 0 && inner.evolve_one(); --steps) {
      }
      map = Map{std::move(inner)};
    } else {
      map = fill(count, &map);
    }
  }
  template <class M>
  struct older_of;
  template <class K, class T, class Old>
  struct older_of<molt::evolving_map<K, T, Old>> {
    using type = Old;
  };
  template <class M>
  using two_of = typename older_of<M>::type;

  template <class Two>
  Two fill(std::int64_t count, Two*) {
    typename older_of<Two>::type old;
    for (std::int64_t n = 0; n < count; ++n) {
      const auto key = any_key();
      if (!old.try_emplace(key, v1::entry{n, long_name(n)}).second) continue;
      model[key] = made(n, long_name(n), 2 * key);
    }
    return Two{std::move(old)};
  }
  static std::string long_name(std::int64_t n) { return "a name that is stored on the heap " + std::to_string(n); }
  static entry made(std::int64_t value, std::string name, std::int64_t doubled) {
    if constexpr (is_nested)
      return {std::move(name), value, doubled};
    else
      return {value, std::move(name), doubled};
  }
  std::int64_t any_key() { return static_cast<std::int64_t>(random() % 4000); }

  /// One operation on both; false if a hook threw, and then the model has not changed.
  /// (What `doubled` is follows from the key: going down loses nothing.)
  bool step() {
    const auto key = any_key();
    try {
      switch (random() % 16) {
        case 0: {
          const auto found = map.find(key);
          EXPECT_EQ(found != map.end(), model.contains(key));
          if (found != map.end()) {
            EXPECT_EQ(found->second, model[key]);
            found->second.value = ++model[key].value;
          }
          break;
        }
        case 1:
          map[key] = made(5, "five", 2 * key);
          model[key] = made(5, "five", 2 * key);
          break;
        case 2:
          EXPECT_EQ(map.try_emplace(key, made(1, "one", 2 * key)).second,
                    model.try_emplace(key, made(1, "one", 2 * key)).second);
          break;
        case 3:
          EXPECT_EQ(map.insert_or_assign(key, made(2, "two", 2 * key)).second,
                    model.insert_or_assign(key, made(2, "two", 2 * key)).second);
          break;
        case 4:
          EXPECT_EQ(map.erase(key), model.erase(key));
          break;
        case 5:
          if (const auto found = map.find(key); found != map.end()) {
            if constexpr (ordered) {
              const auto next = model.upper_bound(key);
              const auto behind = map.erase(found);
              model.erase(key);
              EXPECT_EQ(behind == map.end(), next == model.end());
              if (next != model.end()) {
                EXPECT_EQ(behind->first, next->first);
              }
            } else {
              map.erase(found);
              model.erase(key);
            }
          }
          break;
        case 6:
          EXPECT_EQ(map.contains(key), model.contains(key));
          break;
        case 7: {
          const auto copy = std::as_const(map).get(key);
          EXPECT_EQ(copy.has_value(), model.contains(key));
          if (copy) {
            EXPECT_EQ(*copy, model[key]);
          }
          break;
        }
        case 8:
          for (auto steps = random() % 300; steps > 0 && map.evolve_one(); --steps) {
          }
          break;
        case 9:
          for (auto steps = random() % 300; steps > 0 && map.devolve_one(); --steps) {
          }
          break;
        case 10:
          round_trip();
          break;
        case 11: {
          Map copied = map;
          copied[key] = made(-1, "copied", 2 * key);  // of the copy alone
          map = std::move(copied);
          model[key] = made(-1, "copied", 2 * key);
          break;
        }
        case 12:
          if constexpr (ordered) look_around(key);
          break;
        default:
          if (random() % 20 == 0) loop();
      }
    } catch (const not_converted& thrown) {
      EXPECT_TRUE(armed);
      EXPECT_STREQ(thrown.what(), "an entry could not be converted: bad entry");
      return false;
    }
    return true;
  }

  void round_trip() {
    const auto& schema = molt::schema_of<Map>();
    const std::string bytes = molt::tests::save_bytes(schema, &map);
    alignas(Map) unsigned char storage[sizeof(Map)];
    std::string why;
    ASSERT_EQ(molt::tests::load_bytes(schema, storage, bytes, &why), MOLT_OK) << why;
    auto* const loaded = std::launder(reinterpret_cast<Map*>(storage));
    EXPECT_EQ(loaded->size(), map.size());
    EXPECT_EQ(loaded->left(), map.left()) << "an archive converts nothing";
    map = std::move(*loaded);
    loaded->~Map();
  }
  void look_around(std::int64_t key) {
    auto mine = map.lower_bound(key);
    auto theirs = model.lower_bound(key);
    for (int n = 0; n < 5 && theirs != model.end(); ++n, ++mine, ++theirs) {
      ASSERT_NE(mine, map.end());
      EXPECT_EQ(mine->first, theirs->first);
      static_cast<void>(map.find(any_key()));  // may convert beside
    }
    for (int n = 0; n < 5 && theirs != model.begin(); ++n) {
      --mine;
      --theirs;
      EXPECT_EQ(mine->first, theirs->first);
      EXPECT_EQ(mine->second, theirs->second);
    }
  }
  void loop() {
    std::size_t count = 0;
    std::int64_t last = -1;
    for (auto& [key, value] : map) {
      ++count;
      EXPECT_EQ(value, model[key]);
      if constexpr (ordered) {
        EXPECT_LT(last, key);
      }
      last = key;
    }
    EXPECT_EQ(count, model.size());
    EXPECT_EQ(map.left(), 0U);
    const auto odd = [](const auto& each) { return each.first % 8 == 3; };
    EXPECT_EQ(erase_if(map, odd), std::erase_if(model, odd));
  }
  void compare() {
    ASSERT_EQ(map.size(), model.size());
    EXPECT_EQ(map.left() + map.converted(), map.size());
    EXPECT_TRUE(map.parts_fit());
    std::size_t count = 0;
    std::as_const(map).for_each([&](std::int64_t key, const entry& value) {
      ++count;
      const auto expected = model.find(key);
      ASSERT_NE(expected, model.end()) << key;
      ASSERT_EQ(value, expected->second) << key;
    });
    EXPECT_EQ(count, model.size());
  }

  std::mt19937 random;
  Map map;
  std::map<std::int64_t, entry> model;
};

TYPED_TEST(evolving, is_as_a_plain_map_at_every_stage) {
  const unsigned first = std::random_device{}();
  std::printf("seeds from %u\n", first);
  for (unsigned seed = first; seed != first + 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    armed = false;
    world<TypeParam> each{seed};
    unsigned thrown = 0;
    for (int n = 0; n < 400 && !testing::Test::HasFailure(); ++n) {
      armed = n % 100 >= 50;
      if (!each.step()) ++thrown;
      armed = false;
      if (n % 20 == 0) each.compare();
    }
    each.compare();
    if (testing::Test::HasFailure()) return;
  }
}

TYPED_TEST(evolving, goes_back_whole_from_the_middle) {
  world<TypeParam> each{7};
  armed = false;
  for (int n = 0; n < 200; ++n) each.map.evolve_one();
  each.map[5].value = 50;
  each.map.erase(6);
  each.map[4001].value = 3;
  const auto size = each.map.size();
  auto old = std::move(each.map).devolved();
  EXPECT_EQ(old.size(), size);
  EXPECT_EQ(old.at(5).value, 50);
  EXPECT_EQ(old.at(4001).value, 3);
  EXPECT_FALSE(old.contains(6));
  TypeParam again{std::move(old)};
  EXPECT_EQ(again.left(), size);
  EXPECT_EQ(std::move(again).finished().size(), size);
}

TEST(evolving_map, lets_go_of_what_was_before_when_the_next_release_takes_it_finished) {
  armed = false;
  hash_map old;
  for (std::int64_t n = 0; n < 100; ++n) old[n].value = n;
  using second = two<hash_map>;
  using third = molt::evolving_map<std::int64_t, v3::entry, second::now_map>;
  third live{second{std::move(old)}.finished()};
  EXPECT_EQ(live.at(8).value, 8);
  second back{std::move(live).devolved()};
  EXPECT_EQ(back.size(), 100U);
  EXPECT_EQ(back.left(), 0U);
  EXPECT_EQ(std::move(back).devolved().at(8).value, 8);
}

struct throwing : testing::Test {
  throwing() {
    armed = false;
    hash_map old;
    for (std::int64_t n = 0; n < 100; ++n) old[n] = {n, "entry " + std::to_string(n)};
    map = two<hash_map>{std::move(old)};
    armed = true;
  }
  ~throwing() override { armed = false; }
  two<hash_map> map;
};

TEST_F(throwing, a_touched_entry_stays_as_it_was) {
  EXPECT_THROW(static_cast<void>(map.find(7)), not_converted);
  EXPECT_THROW(static_cast<void>(map[7]), not_converted);
  EXPECT_THROW(static_cast<void>(map.begin()), not_converted);
  EXPECT_EQ(map.size(), 100U);
  EXPECT_TRUE(map.contains(7));
  EXPECT_EQ(map.at(8).value, 8) << "others are not affected";
  armed = false;
  EXPECT_EQ(map.at(7).name, "entry 7") << "although the hook may have taken it apart";
}

TEST_F(throwing, a_bad_entry_can_be_erased_or_replaced) {
  EXPECT_EQ(map.erase(7), 1U);
  EXPECT_FALSE(map.insert_or_assign(23, v2::entry{1, "new", 1}).second);
  EXPECT_EQ(map.at(23).name, "new");
  EXPECT_EQ(map.size(), 99U);
}

TEST_F(throwing, going_back_leaves_everything_here) {
  armed = false;
  map.finish();
  armed = true;
  EXPECT_THROW(static_cast<void>(std::move(map).devolved()), not_converted);
  EXPECT_EQ(map.size(), 100U);
  armed = false;
  EXPECT_EQ(std::move(map).devolved().size(), 100U);
}

TEST(steady_map, is_as_a_plain_map_while_it_grows_and_shrinks) {
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random{seed};
  molt::steady_map<std::string, int> map;
  std::map<std::string, int> model;
  for (int n = 0; n < 60'000; ++n) {
    const auto key = "key " + std::to_string(random() % 20'000);
    const bool grows = n < 40'000;
    if (random() % 4 < (grows ? 3U : 1U))
      EXPECT_EQ(map.insert_or_assign(key, n).second, model.insert_or_assign(key, n).second);
    else
      EXPECT_EQ(map.erase(key), model.erase(key));
    if (n % 5'000 == 0) {
      std::map<std::string, int> seen;
      for (const auto& [each, value] : std::as_const(map)) seen.emplace(each, value);
      ASSERT_EQ(seen, model);
    }
  }
  for (auto entry = map.begin(); entry != map.end();) entry = map.erase(entry);
  EXPECT_TRUE(map.empty());
  EXPECT_EQ(map.begin(), map.end());
}

// -- In a state, over the boundary

struct inner {
  std::optional<two<hash_map>> live;
};
struct state {
  std::array<inner, 2> halves;
  std::string title;
};
struct look {
  using reply = std::int64_t;
  std::int64_t key = 0;
};
struct server : molt::server<state> {
  std::int64_t handle_call(molt::context&, const look& m) { return self().halves[1].live->at(m.key).value; }
};

state filled(std::int64_t count) {
  armed = false;
  state made;
  for (auto& half : made.halves) {
    hash_map old;
    for (std::int64_t n = 0; n < count; ++n) old[n].value = n;
    half.live.emplace(std::move(old));
  }
  return made;
}

TEST(evolving_state, is_converted_in_slices_and_back) {
  const auto& type = molt::server_type_of<server, "x">();
  ASSERT_NE(type.evolve, nullptr);
  state now = filled(1000);
  molt_text why{};
  for (const int down : {0, 1}) {
    std::uint64_t left = 0;
    ASSERT_EQ(type.evolve(&now, down, 0, &left, &why), MOLT_OK);
    EXPECT_LT(left, 2000U) << "at least one";
    EXPECT_GT(left, 1900U) << "a slice is short";
    unsigned slices = 1;
    for (; left != 0; ++slices) ASSERT_EQ(type.evolve(&now, down, 1000, &left, &why), MOLT_OK);
    EXPECT_GT(slices, 2U);
    EXPECT_EQ(now.halves[1].live->left(), down == 0 ? 0U : 1000U);
  }
}

TEST(evolving_state, of_others_has_no_slices) {
  struct plain {
    std::vector<int> values;
  };
  static_assert(!molt::detail::evolves<plain>());
  static_assert(!molt::detail::evolves<std::vector<inner>>(), "converted when touched");
  static_assert(molt::code_free<state>);
}

TEST(evolving_state, says_which_entry_stopped_it_and_goes_on_without) {
  const auto& type = molt::server_type_of<server, "x">();
  state now = filled(100);
  armed = true;
  molt_text why{};
  std::uint64_t left = 0;
  int status = MOLT_OK;
  for (int n = 0; n < 1000 && status == MOLT_OK; ++n) status = type.evolve(&now, 0, 0, &left, &why);
  EXPECT_EQ(status, MOLT_THREW);
  EXPECT_EQ((std::string_view{why.data, why.size}), "an entry could not be converted: bad entry");
  EXPECT_GT(left, 0U);
  armed = false;
  while (left != 0) ASSERT_EQ(type.evolve(&now, 0, 1000, &left, &why), MOLT_OK);
}

TEST(evolving_state, that_is_archived_with_a_key_in_both_parts_is_refused) {
  std::pair<molt::steady_map<std::int64_t, v2::entry>, hash_map> parts;  // has the same form
  parts.first[1].value = 1;
  parts.second[1].value = 2;
  const auto bytes = molt::tests::save_bytes(molt::schema_of<decltype(parts)>(), &parts);
  alignas(two<hash_map>) unsigned char storage[sizeof(two<hash_map>)];
  std::string why;
  EXPECT_EQ(molt::tests::load_bytes(molt::schema_of<two<hash_map>>(), storage, bytes, &why), MOLT_BAD_ARCHIVE);
  EXPECT_EQ(why, "a key stands twice");
}

TEST(evolving_state, has_its_own_fingerprint) {
  EXPECT_NE(molt::schema_of<two<hash_map>>().fingerprint, molt::schema_of<two<steady>>().fingerprint);
  EXPECT_STREQ(molt::schema_of<two<hash_map>>().text,
               "evolving_map<steady_map<i64,struct(48,8){value:i64@0,name:string@8,doubled:i64@40}>,"
               "unordered_map<i64,struct(40,8){value:i64@0,name:string@8}>>");
}

}  // namespace
