// Types of every form, for the tests of schemas and archives and for the comparison of compilers.
#pragma once

#include <molt/plugin.hpp>

namespace example {

enum class colour : std::uint8_t { red, green, blue };
enum plain_with_type : std::int16_t { left, right };

struct empty {};

struct scalars {
  bool a = false;
  char b = 0;
  signed char c = 0;
  unsigned char d = 0;
  short e = 0;
  unsigned short f = 0;
  int g = 0;
  unsigned h = 0;
  long i = 0;
  unsigned long j = 0;
  long long k = 0;
  unsigned long long l = 0;
  float m = 0;
  double n = 0;
  colour o = colour::red;
  plain_with_type p = left;
  std::byte q{};
};

struct point {
  std::int32_t x = 0;
  std::int32_t y = 0;
  friend bool operator==(const point&, const point&) = default;
};

template <class T>
struct box {
  T inside{};
  friend bool operator==(const box&, const box&) = default;
};

struct containers {
  std::vector<std::int32_t> vector;
  std::vector<bool> bits;
  std::deque<std::string> deque;
  std::list<point> list;
  std::set<std::string> set;
  std::multiset<std::int16_t> multiset;
  std::unordered_set<std::uint64_t> unordered_set;
  std::unordered_multiset<char> unordered_multiset;
  std::map<std::string, std::vector<double>> map;
  std::multimap<std::int32_t, std::string> multimap;
  std::unordered_map<std::uint64_t, box<std::string>> unordered_map;
  std::unordered_multimap<std::int32_t, std::int32_t> unordered_multimap;
  friend bool operator==(const containers&, const containers&) = default;
};

struct others {
  std::optional<std::string> optional;
  std::pair<std::int32_t, std::string> pair;
  std::tuple<bool, std::uint8_t, std::string> tuple;
  std::variant<std::monostate, std::int32_t, std::string, point> variant;
  std::array<std::uint16_t, 3> array{};
  std::array<std::array<point, 2>, 2> nested_array{};
  std::int32_t plain_array[2] = {};
  std::chrono::milliseconds duration{};
  std::chrono::duration<float, std::ratio<60>> minutes{};
  std::chrono::system_clock::time_point wall;
  std::chrono::steady_clock::time_point steady;
  molt::ref ref;
  molt::reply_to<std::string> reply;
  molt::timer timer;
  molt::named named;
  empty nothing;
  box<box<std::int64_t>> boxes;
};

struct tree {
  std::string label;
  std::vector<tree> children;
  friend bool operator==(const tree&, const tree&) = default;
};

struct chain {
  std::int64_t value = 0;
  std::unique_ptr<chain> next;
};

/// Two levels out and back in.
struct outer {
  struct middle {
    std::vector<outer> outers;
    std::vector<middle> middles;
  };
  middle inside;
};

struct strange_order {
  std::set<int, std::greater<>> falling;
  std::map<std::string, int, std::greater<std::string>> names;
};

struct forty {
  int a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9;
  int c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, d0, d1, d2, d3, d4, d5, d6, d7, d8, d9;
};

/// Its own form, versioned.
class account {
 public:
  static constexpr unsigned molt_version = 3;

  account() = default;
  account(std::string owner, std::int64_t cents) : owner_{std::move(owner)}, cents_{cents} {}

  template <class Archive>
  void serialize(Archive& archive, unsigned version) {
    archive& owner_;
    if (version >= 2) archive& cents_;
  }
  friend bool operator==(const account&, const account&) = default;

 private:
  std::string owner_;
  std::int64_t cents_ = 0;
};

}  // namespace example

namespace geo {

/// Described from outside, serialised by a free function.
class grid {
 public:
  std::vector<std::int32_t>& cells() { return cells_; }

 private:
  std::vector<std::int32_t> cells_;
};

template <class Archive>
void serialize(Archive& archive, grid& object, unsigned) {
  archive& object.cells();
}

}  // namespace geo

template <>
struct molt::described<geo::grid> {
  static constexpr std::string_view name = "grid";
  static constexpr std::uint32_t version = 7;
  static constexpr bool code_free = true;
};
