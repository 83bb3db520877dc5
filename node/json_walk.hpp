// What both directions of json_codec share: shapes of schema types, and where in a value they are.
#pragma once

#include "base/result.hpp"
#include "node/json_codec.hpp"
#include "plugin/schema_text.hpp"

#include <boost/json/value.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::node::json_walk {

namespace json = boost::json;
using kind = schema_node::kind;

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");

inline constexpr char archive_format_byte = 1;
inline constexpr std::size_t zero_byte_elements_max = 65'536;

struct number_shape {
  std::size_t size = 0;
  bool is_signed = false;
  bool is_float = false;
};

inline number_shape shape_of(std::string_view scalar) {
  const bool wide = scalar.size() == 3;
  const std::size_t size = scalar == "bool" || scalar == "char" ? 1
                           : wide ? static_cast<std::size_t>((scalar[1] - '0') * 10 + scalar[2] - '0') / 8
                                  : 1;
  return {size, scalar.front() == 'i' || scalar == "char", scalar.front() == 'f'};
}

inline bool is_map(const schema_node& type) {
  return type.is("map") || type.is("unordered_map") || type.is("multimap") || type.is("unordered_multimap") ||
         type.is("steady_map");
}
inline bool has_unique_keys(const schema_node& type) {
  return type.is("map") || type.is("unordered_map") || type.is("steady_map");
}
/// An evolving container is two: what is converted, and what is not yet.
inline bool is_product(const schema_node& type) {
  return type.is("pair") || type.is("tuple") || type.name.starts_with("evolving_");
}
inline bool is_optional(const schema_node& type) { return type.is("optional") || type.is("unique_ptr"); }
/// Where several pointers may lead to one object, JSON could not say so.
inline bool is_shared(const schema_node& type) { return type.is("shared_ptr") || type.is("weak_ptr"); }
inline bool is_time(const schema_node& type) { return type.is("duration") || type.is("time_point"); }

/// Where we are, for error texts; grows and shrinks with the recursion.
class place {
 public:
  explicit place(std::string_view root) : text_{root} {}
  class step {
   public:
    step(place& where, std::string_view name) : where_{where}, size_{where.text_.size()} {
      where.text_.append(".").append(name);
    }
    step(place& where, std::size_t index) : where_{where}, size_{where.text_.size()} {
      where.text_.append("[").append(std::to_string(index)).append("]");
    }
    step(const step&) = delete;
    step& operator=(const step&) = delete;
    ~step() { where_.text_.resize(size_); }

   private:
    place& where_;
    std::size_t size_;
  };
  [[nodiscard]] error fail(reason why, std::string_view what) const {
    return error{why, text_ + ": " + std::string{what}};
  }

 private:
  std::string text_;
};

/// The struct that "^n" stands for, while walking a type.
using enclosing_structs = std::vector<const schema_node*>;
struct enclosed {
  enclosed(enclosing_structs& all, const schema_node& type) : all_{all} { all.push_back(&type); }
  enclosed(const enclosed&) = delete;
  enclosed& operator=(const enclosed&) = delete;
  ~enclosed() { all_.pop_back(); }
  enclosing_structs& all_;
};

/// Walks "^n": the type is that enclosing struct, with the structs around it as they are there.
template <class Walk>
auto at_recursion(enclosing_structs& enclosing, const schema_node& type, Walk walk) {
  const std::size_t index = enclosing.size() - 1 - static_cast<std::size_t>(type.depth);
  const enclosing_structs inner{enclosing.begin() + static_cast<std::ptrdiff_t>(index), enclosing.end()};
  const schema_node& target = *enclosing[index];
  enclosing.resize(index);
  auto done = walk(target);
  enclosing.insert(enclosing.end(), inner.begin(), inner.end());
  return done;
}

/// One direction each; `path` begins error texts.
[[nodiscard]] result<std::string> encode(const schema_node&, const json::value&, std::string_view path);
[[nodiscard]] result<json::value> decode(const schema_node&, std::string_view archive, std::string_view path);

}  // namespace molt::node::json_walk
