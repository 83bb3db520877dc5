// Archives: what is written can be read, and nothing else can.
#include "plugin/schema.hpp"
#include "tests/plugin/example_types.hpp"
#include "tests/plugin/memory_archive.hpp"
#include "tests/plugin/random_value.hpp"

#include <gtest/gtest.h>

namespace {

using namespace example;
using molt::tests::load_bytes;
using molt::tests::save_bytes;

/// Storage for one T that is destroyed if it was made.
template <class T>
struct loaded {
  explicit loaded(std::string_view bytes) : status{load_bytes(molt::schema_of<T>(), storage, bytes, &why, &left)} {}
  loaded(const loaded&) = delete;
  loaded& operator=(const loaded&) = delete;
  ~loaded() {
    if (status == MOLT_OK) molt::schema_of<T>().destroy(storage);
  }
  T& operator*() { return *reinterpret_cast<T*>(storage); }

  alignas(T) char storage[sizeof(T)];
  std::string why;
  std::size_t left = 0;
  int status;
};

template <class T>
std::string saved(const T& value) {
  int status = -1;
  std::string bytes = save_bytes(molt::schema_of<T>(), &value, &status);
  EXPECT_EQ(status, MOLT_OK);
  return bytes;
}

std::string operator""_b(const char* text, std::size_t size) { return {text, size}; }

TEST(archive, form_is_the_documented_one) {
  struct everything {
    bool yes = true;
    std::int32_t number = -2;
    std::string text = "hi";
    std::optional<std::uint8_t> some = std::uint8_t{7};
    std::optional<std::uint8_t> none;
    std::variant<std::int8_t, std::uint16_t> second = std::uint16_t{0x0102};
    std::map<std::string, bool> map = {{"k", false}};
    std::array<char, 2> array = {'x', 'y'};
  };
  EXPECT_EQ(saved(everything{}), "\x01\x01\xfe\xff\xff\xff\x02hi\x01\x07\x00\x01\x02\x01\x01\x01k\x00xy"_b);
  EXPECT_EQ(saved(std::string(300, 'a')).substr(0, 4),
            "\x01\xac\x02"
            "a"_b);
  EXPECT_EQ(saved(account{"me", 5}), "\x01\x03\x02me\x05\x00\x00\x00\x00\x00\x00\x00"_b);
}

/// Round trip, every truncation, and flipped bits; nothing may crash, and what is accepted must be a value that saves
/// and loads.
template <class T>
void check_properties(std::uint64_t seed, int rounds) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  molt::tests::random random{seed};
  for (int round = 0; round < rounds; ++round) {
    const T value = molt::tests::random_value<T>(random);
    const std::string bytes = saved(value);
    loaded<T> back{bytes};
    ASSERT_EQ(back.status, MOLT_OK) << back.why;
    EXPECT_EQ(back.left, 0U);
    if constexpr (std::equality_comparable<T>)
      EXPECT_TRUE(*back == value);
    else
      EXPECT_EQ(saved(*back).size(), bytes.size());
    for (std::size_t size = 0; size < bytes.size(); ++size)
      ASSERT_EQ(loaded<T>{std::string_view{bytes}.substr(0, size)}.status, MOLT_BAD_ARCHIVE)
          << size << " of " << bytes.size();
    for (int flip = 0; flip < 40; ++flip) {
      std::string damaged = bytes;
      damaged[random() % damaged.size()] ^= static_cast<char>(1U << random() % 8);
      loaded<T> other{damaged};
      if (other.status == MOLT_OK) {
        EXPECT_EQ(loaded<T>{saved(*other)}.status, MOLT_OK);
      } else {
        EXPECT_TRUE(other.status == MOLT_BAD_ARCHIVE || other.status == MOLT_OUT_OF_BOUNDS)
            << other.status << other.why;
      }
    }
  }
}

TEST(archive, scalars_survive_and_damage_is_found) { check_properties<scalars>(1, 50); }
TEST(archive, containers_survive_and_damage_is_found) { check_properties<containers>(2, 50); }
TEST(archive, other_forms_survive_and_damage_is_found) { check_properties<others>(3, 50); }
TEST(archive, trees_survive_and_damage_is_found) { check_properties<tree>(4, 50); }
TEST(archive, chains_survive_and_damage_is_found) { check_properties<chain>(5, 100); }
TEST(archive, nested_recursion_survives_and_damage_is_found) { check_properties<outer>(6, 20); }

TEST(archive, noise_is_refused_or_read_but_never_crashes) {
  molt::tests::random random{7};
  for (int round = 0; round < 3000; ++round) {
    std::string noise(1 + random() % 200, '\0');
    for (char& c : noise) c = static_cast<char>(random() % 3 == 0 ? random() : random() % 4);
    noise[0] = 1;
    static_cast<void>(loaded<containers>{noise}.status);
    static_cast<void>(loaded<others>{noise}.status);
    static_cast<void>(loaded<tree>{noise}.status);
    static_cast<void>(loaded<outer>{noise}.status);
  }
}

TEST(archive, refuses_a_size_that_the_bytes_left_cannot_hold) {
  // 2^62 elements, with 8 bytes behind.
  const std::string huge = "\x01\x80\x80\x80\x80\x80\x80\x80\x80\x40xxxxxxxx"_b;
  EXPECT_EQ(loaded<std::vector<std::uint64_t>>{huge}.status, MOLT_BAD_ARCHIVE);
  EXPECT_EQ(loaded<std::string>{huge}.status, MOLT_BAD_ARCHIVE);
  EXPECT_EQ((loaded<std::unordered_map<std::uint64_t, std::string>>{huge}.status), MOLT_BAD_ARCHIVE);
  EXPECT_EQ((loaded<std::list<std::array<std::uint64_t, 2>>>{"\x01\x01"
                                                             "12345678"_b}
                 .status),
            MOLT_BAD_ARCHIVE);
}

TEST(archive, bounds_elements_that_take_no_bytes) {
  EXPECT_EQ(loaded<std::vector<empty>>{saved(std::vector<empty>(65536))}.status, MOLT_OK);
  const std::vector<empty> more(65537);
  int status = 0;
  save_bytes(molt::schema_of<std::vector<empty>>(), &more, &status);
  EXPECT_EQ(status, MOLT_OUT_OF_BOUNDS);
  EXPECT_EQ(loaded<std::vector<empty>>{"\x01\x81\x80\x04"_b}.status, MOLT_BAD_ARCHIVE);
}

TEST(archive, bounds_nesting_when_writing_and_when_reading) {
  const auto chain_of = [](int length) {
    chain head;
    for (int i = 1; i < length; ++i) {
      auto next = std::make_unique<chain>(std::move(head));
      head = chain{i, std::move(next)};
    }
    return head;
  };
  EXPECT_EQ(loaded<chain>{saved(chain_of(512))}.status, MOLT_OK);
  int status = 0;
  const chain deep = chain_of(513);
  save_bytes(molt::schema_of<chain>(), &deep, &status);
  EXPECT_EQ(status, MOLT_OUT_OF_BOUNDS);
  std::string bytes = "\x01"_b;
  for (int i = 0; i < 5000; ++i) bytes += "\0\0\0\0\0\0\0\0\x01"_b;
  const loaded<chain> read{bytes};
  EXPECT_EQ(read.status, MOLT_OUT_OF_BOUNDS);
  EXPECT_EQ(read.why, "nested deeper than 512 levels");
}

TEST(archive, refuses_what_no_writer_writes) {
  EXPECT_EQ(loaded<bool>{"\x01\x02"_b}.status, MOLT_BAD_ARCHIVE);
  EXPECT_EQ(loaded<std::optional<int>>{"\x01\x02"_b}.status, MOLT_BAD_ARCHIVE);
  EXPECT_EQ(loaded<std::string>{"\x01\x80\x00"_b}.status, MOLT_BAD_ARCHIVE) << "not the shortest form";
  EXPECT_EQ(loaded<std::string>{"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"_b}.status, MOLT_BAD_ARCHIVE);
  EXPECT_EQ((loaded<std::variant<int, bool>>{"\x01\x02"_b}.status), MOLT_BAD_ARCHIVE);
  EXPECT_EQ((loaded<std::set<char>>{"\x01\x02xx"_b}.status), MOLT_BAD_ARCHIVE) << "a key twice";
  EXPECT_EQ((loaded<std::multiset<char>>{"\x01\x02xx"_b}.status), MOLT_OK);
  EXPECT_EQ(loaded<bool>{"\x02\x01"_b}.status, MOLT_BAD_ARCHIVE) << "another format version";
  EXPECT_EQ(loaded<account>{"\x01\x04\x02me\x05\x00\x00\x00\x00\x00\x00\x00"_b}.status, MOLT_BAD_ARCHIVE)
      << "a newer class";
}

TEST(archive, a_class_reads_what_its_older_version_wrote) {
  loaded<account> old{"\x01\x01\x02me"_b};
  ASSERT_EQ(old.status, MOLT_OK);
  EXPECT_EQ(*old, (account{"me", 0}));
}

TEST(archive, a_class_described_from_outside_uses_its_free_serialize) {
  geo::grid grid;
  grid.cells() = {1, 2, 3};
  loaded<geo::grid> back{saved(grid)};
  ASSERT_EQ(back.status, MOLT_OK);
  EXPECT_EQ((*back).cells(), grid.cells());
}

TEST(archive, leaves_bytes_behind_the_object_to_the_caller) {
  const loaded<bool> read{"\x01\x01rest"_b};
  EXPECT_EQ(read.status, MOLT_OK);
  EXPECT_EQ(read.left, 4U);
}

TEST(archive, reports_a_sink_that_will_not_grow) {
  molt::tests::memory_sink sink{100};
  const std::string text(200, 'x');
  molt_text error{};
  EXPECT_EQ(molt::schema_of<std::string>().save(&text, &sink, &error), MOLT_OUT_OF_BOUNDS);
}

struct grumpy {
  static constexpr unsigned molt_version = 0;
  bool throw_on_save = false;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    if (Archive::is_saving::value ? throw_on_save : true) throw std::runtime_error{"not today"};
    archive& throw_on_save;
  }
};

TEST(archive, copies_the_text_of_what_serialize_throws) {
  const grumpy now{true};
  int status = 0;
  save_bytes(molt::schema_of<grumpy>(), &now, &status);
  EXPECT_EQ(status, MOLT_THREW);
  const loaded<grumpy> read{"\x01\x00\x00"_b};
  EXPECT_EQ(read.status, MOLT_THREW);
  EXPECT_EQ(read.why, "not today");
}

}  // namespace
