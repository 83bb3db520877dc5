// Classes with bases and private members, described with Boost.Describe; described enums; pointers that share.
#pragma once

#include <boost/describe.hpp>

#include "tests/plugin/example_types.hpp"

namespace example {

BOOST_DEFINE_FIXED_ENUM_CLASS(mood, std::int16_t, calm, angry)

enum class sign : signed char { minus = -1, none = 0, plus = 1 };
BOOST_DESCRIBE_ENUM(sign, minus, none, plus)

/// All private, with functions and a static member in the description.
class purse {
 public:
  purse() = default;
  purse(std::int64_t cents, std::string owner) : cents_{cents}, owner_{std::move(owner)} {}
  [[nodiscard]] std::int64_t cents() const { return cents_; }
  friend bool operator==(const purse&, const purse&) = default;

 private:
  std::int64_t cents_ = 0;
  std::string owner_;
  char grade_ = 'a';  // five bytes of padding behind it, which a class that derives may use
  static constexpr int limit = 7;
  BOOST_DESCRIBE_CLASS(purse, (), (cents), (), (cents_, owner_, grade_, limit))
};

/// The description is by access; the members lie in another order.
class mixed {
  std::int8_t a_ = 0;

 public:
  std::string b;

 private:
  std::int32_t c_ = 0;

 public:
  double d = 0;

 protected:
  std::int16_t e_ = 0;
  friend bool operator==(const mixed&, const mixed&) = default;
  BOOST_DESCRIBE_CLASS(mixed, (), (b, d), (e_), (a_, c_))
};

struct nothing_base {
  friend bool operator==(const nothing_base&, const nothing_base&) = default;
};

/// Bases of every kind: private, empty, public; members in the first one's tail padding.
class wallet : purse, public nothing_base, public point {
 public:
  wallet() = default;
  friend bool operator==(const wallet&, const wallet&) = default;
  std::vector<std::uint8_t> notes;

 private:
  bool open_ = false;
  mood mood_ = mood::calm;
  BOOST_DESCRIBE_CLASS(wallet, (purse, nothing_base, point), (notes), (), (open_, mood_))
};

/// An aggregate with a base.
struct labelled : point {
  std::string label;
  friend bool operator==(const labelled&, const labelled&) = default;
};
BOOST_DESCRIBE_STRUCT(labelled, (point), (label))

/// An aggregate without bases lists itself; the description can hide nothing.
struct half_described {
  std::int32_t told = 0;
  std::int32_t untold = 0;
};
BOOST_DESCRIBE_STRUCT(half_described, (), (told))

struct cents {
  static constexpr unsigned molt_meaning = 2;
  std::int64_t amount = 0;
  friend bool operator==(const cents&, const cents&) = default;
};

/// A graph: shared, cyclic, and pointed at weakly.
struct node {
  std::int32_t value = 0;
  std::vector<std::shared_ptr<node>> next;
  std::weak_ptr<node> parent;
};

struct described_all {
  purse money;
  mixed order;
  wallet pocket;
  std::map<std::string, wallet> pockets;
  labelled spot;
  cents amount;
  sign which = sign::none;
  friend bool operator==(const described_all&, const described_all&) = default;
};

}  // namespace example
