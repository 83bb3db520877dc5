// A random object of any transparent schema, as its archive: made from the schema's text alone, so of types that only a
// loaded plugin has. docs/reference/archive-format.md read as a recipe.
#pragma once

#include "plugin/schema_text.hpp"

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace molt::tests {

class random_archive {
 public:
  explicit random_archive(std::mt19937_64& from) : from_{from} {}

  [[nodiscard]] std::string of(const schema_node& type) {
    out_ = std::string(1, '\1');
    write(type, 5);
    return out_;
  }

 private:
  using kind = schema_node::kind;

  std::uint64_t below(std::uint64_t bound) { return from_() % bound; }

  void size(std::uint64_t number) {
    for (; number >= 0x80; number >>= 7U) out_ += static_cast<char>((number & 0x7fU) | 0x80U);
    out_ += static_cast<char>(number);
  }
  template <class Number>
  void raw(Number number, std::size_t bytes = sizeof(Number)) {
    out_.append(reinterpret_cast<const char*>(&number), bytes);
  }

  void scalar(const std::string& name) {
    if (name == "bool") return raw(static_cast<char>(below(2)));
    // Whole numbers, so that f32 to f64 and back is what it was.
    if (name == "f64") return raw(static_cast<double>(static_cast<std::int32_t>(from_())));
    if (name == "f32") return raw(static_cast<float>(static_cast<std::int16_t>(from_())));
    raw(from_(), name.size() == 3 ? static_cast<std::size_t>((name[1] - '0') * 10 + name[2] - '0') / 8 : 1);
  }

  void write(const schema_node& type, unsigned depth) {
    switch (type.what) {
      case kind::scalar:
        return scalar(type.name);
      case kind::enumeration:
        return scalar(type.arguments[0].name);
      case kind::string:
        size(24);  // longer than what a string keeps in itself
        for (int i = 0; i < 24; ++i) out_ += static_cast<char>(from_());
        return;
      case kind::ref:
      case kind::reply_to:
        return raw(from_());
      case kind::structure:
        structures_.push_back(&type);
        for (const auto& member : type.members) write(member.type, depth);
        structures_.pop_back();
        return;
      case kind::recursion: {
        const auto outer = structures_;
        const auto& target = *structures_[structures_.size() - 1 - type.depth];
        structures_.resize(structures_.size() - 1 - type.depth);
        write(target, depth == 0 ? 0 : depth - 1);
        structures_ = outer;
        return;
      }
      case kind::container:
        return container(type, depth);
      case kind::opaque:
        return;  // only code could: the schema is not transparent
    }
  }

  void container(const schema_node& type, unsigned depth) {
    const auto inside = [&](std::size_t n) { write(type.arguments[n], depth == 0 ? 0 : depth - 1); };
    if (type.name == "duration" || type.name == "time_point") return inside(0);
    if (type.name == "pair" || type.name == "tuple") {
      for (std::size_t n = 0; n < type.arguments.size(); ++n) inside(n);
      return;
    }
    if (type.name == "optional" || type.name == "unique_ptr") {
      const bool there = depth > 0 && below(3) != 0;
      raw(static_cast<char>(there));
      if (there) inside(0);
      return;
    }
    if (type.name == "variant") {
      const auto index = below(type.arguments.size());
      size(index);
      return inside(index);
    }
    if (type.name == "array") {
      for (std::uint64_t n = 0; n < type.numbers[0]; ++n) inside(0);
      return;
    }
    elements(type, depth == 0 ? 0 : below(4), inside);
  }

  template <class Inside>
  void elements(const schema_node& type, std::uint64_t count, const Inside& inside) {
    // Keys are drawn first: where they must differ, and where an order is to be the same whoever sorts.
    const bool keyed = type.name.find("map") != std::string::npos || type.name.find("set") != std::string::npos;
    const auto before = std::move(out_);
    std::set<std::string> keys;
    for (std::uint64_t n = 0; keyed && n < count; ++n) {
      out_.clear();
      inside(0);
      keys.insert(out_);
    }
    out_ = before;
    if (keyed) count = keys.size();
    size(count);
    auto key = keys.begin();
    for (std::uint64_t n = 0; n < count; ++n) {
      if (keyed)
        out_ += *key++;
      else
        inside(0);
      if (type.arguments.size() == 2) inside(1);
    }
  }

  std::mt19937_64& from_;
  std::string out_;
  std::vector<const schema_node*> structures_;
};

}  // namespace molt::tests
