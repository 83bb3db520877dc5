// JSON to archives: one half of json_codec.hpp.
#include "node/json_walk.hpp"

#include <boost/json.hpp>

#include <cmath>
#include <limits>
#include <optional>

namespace molt::node::json_walk {
namespace {

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648); nothing if it is not that.
std::optional<std::string> bytes_of_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string out;
  std::size_t padding = 0;
  for (std::size_t at = 0; at < text.size(); at += 4) {
    std::uint32_t bits = 0;
    for (const char c : text.substr(at, 4)) {
      const auto digit = base64_digits.find(c);
      const bool pads = c == '=' && at + 4 == text.size();
      if ((digit == std::string_view::npos && !pads) || (padding != 0 && !pads)) return std::nullopt;
      padding += pads ? 1 : 0;
      bits = (bits << 6U) | (pads ? 0U : static_cast<std::uint32_t>(digit));
    }
    for (unsigned shift = 24; shift > 0;) out += static_cast<char>((bits >> (shift -= 8)) & 0xffU);
  }
  if (padding > 2) return std::nullopt;
  out.resize(out.size() - padding);
  return out;
}

class encoder {
 public:
  explicit encoder(std::string_view path) : where_{path} { out_ += archive_format_byte; }
  [[nodiscard]] result<void> write(const schema_node& type, const json::value& value) {
    if (depth_ >= json_depth_max) return where_.fail(reason::out_of_bounds, "nested too deeply");
    ++depth_;
    auto done = dispatch(type, value);
    --depth_;
    return done;
  }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  result<void> dispatch(const schema_node& type, const json::value& value) {
    switch (type.what) {
      case kind::scalar:
        return scalar(type.name, value);
      case kind::enumeration:
        return write(type.arguments.front(), value);
      case kind::string:
        return string(value);
      case kind::ref:
        return scalar("u64", value);
      case kind::structure:
        return structure(type, value);
      case kind::container:
        return container(type, value);
      case kind::recursion:
        return at_recursion(enclosing_, type, [&](const schema_node& target) { return write(target, value); });
      case kind::reply_to:
        return where_.fail(reason::incompatible, "a reply token cannot come from outside");
      case kind::opaque:
        return where_.fail(reason::incompatible, "only code can read this type's archive");
    }
    return where_.fail(reason::internal, "unknown kind of type");
  }

  template <class Number>
  void bytes(Number number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void low_bytes(std::uint64_t number, std::size_t size) { out_.append(reinterpret_cast<const char*>(&number), size); }
  void size(std::uint64_t number) {
    for (; number >= 0x80; number >>= 7U) out_ += static_cast<char>((number & 0x7fU) | 0x80U);
    out_ += static_cast<char>(number);
  }

  result<void> scalar(std::string_view name, const json::value& value) {
    if (name == "bool") {
      if (!value.is_bool()) return where_.fail(reason::invalid_argument, "expected true or false");
      out_ += value.get_bool() ? '\1' : '\0';
      return ok();
    }
    if (name == "char" && value.is_string()) {
      const std::string_view text = value.get_string();
      if (text.size() != 1) return where_.fail(reason::invalid_argument, "expected one ASCII character");
      out_ += text.front();
      return ok();
    }
    const number_shape shape = shape_of(name);
    return shape.is_float ? floating(shape, value) : integer(name, shape, value);
  }

  result<void> integer(std::string_view name, number_shape shape, const json::value& value) {
    const unsigned bits = static_cast<unsigned>(shape.size * 8);
    const auto out_of_range = [&] {
      return where_.fail(reason::invalid_argument, "out of range for " + std::string{name});
    };
    if (value.is_uint64() || (value.is_int64() && value.get_int64() >= 0)) {
      const std::uint64_t number =
          value.is_uint64() ? value.get_uint64() : static_cast<std::uint64_t>(value.get_int64());
      const unsigned usable = shape.is_signed ? bits - 1 : bits;
      if (usable < 64 && (number >> usable) != 0) return out_of_range();
      low_bytes(number, shape.size);
      return ok();
    }
    if (!value.is_int64())
      return where_.fail(reason::invalid_argument, "expected an integer (" + std::string{name} + ")");
    const std::int64_t number = value.get_int64();
    if (!shape.is_signed || (bits < 64 && number < -(std::int64_t{1} << (bits - 1)))) return out_of_range();
    low_bytes(static_cast<std::uint64_t>(number), shape.size);
    return ok();
  }

  result<void> floating(number_shape shape, const json::value& value) {
    double number = 0;
    if (value.is_string()) {
      const std::string_view text = value.get_string();
      if (text == "nan")
        number = std::numeric_limits<double>::quiet_NaN();
      else if (text == "inf")
        number = std::numeric_limits<double>::infinity();
      else if (text == "-inf")
        number = -std::numeric_limits<double>::infinity();
      else
        return where_.fail(reason::invalid_argument, "expected a number");
    } else if (value.is_number()) {
      number = value.to_number<double>();
    } else {
      return where_.fail(reason::invalid_argument, "expected a number");
    }
    if (shape.size == sizeof(double)) {
      bytes(number);
      return ok();
    }
    if (std::isfinite(number) && std::abs(number) > static_cast<double>(std::numeric_limits<float>::max()))
      return where_.fail(reason::invalid_argument, "out of range for f32");
    bytes(static_cast<float>(number));
    return ok();
  }

  result<void> string(const json::value& value) {
    if (value.is_string()) return string(std::string_view{value.get_string()});
    if (const auto* object = value.if_object(); object != nullptr && object->size() == 1)
      if (const auto* text = object->if_contains("base64"); text != nullptr && text->is_string()) {
        const auto decoded = bytes_of_base64(std::string_view{text->get_string()});
        if (!decoded) return where_.fail(reason::invalid_argument, "no base64");
        return string(std::string_view{*decoded});
      }
    return where_.fail(reason::invalid_argument, "expected a string");
  }
  result<void> string(std::string_view text) {
    size(text.size());
    out_ += text;
    return ok();
  }

  result<void> structure(const schema_node& type, const json::value& value) {
    const auto* object = value.if_object();
    if (object == nullptr) return where_.fail(reason::invalid_argument, "expected an object");
    const enclosed inside{enclosing_, type};
    std::size_t found = 0;
    for (const auto& member : type.members) {
      const place::step here{where_, member.name};
      const auto* given = object->if_contains(member.name);
      if (given == nullptr) return where_.fail(reason::invalid_argument, "missing (" + to_string(member.type) + ")");
      ++found;
      MOLT_CHECK(write(member.type, *given));
    }
    if (found != object->size()) return unknown_member(type, *object);
    return ok();
  }

  [[nodiscard]] error unknown_member(const schema_node& type, const json::object& object) {
    for (const auto& field : object) {
      const std::string_view name = field.key();
      bool known = false;
      for (const auto& member : type.members) known = known || member.name == name;
      if (known) continue;
      const place::step here{where_, name};
      return where_.fail(reason::invalid_argument, "there is no such member in " + to_string(type));
    }
    return where_.fail(reason::invalid_argument, "a member stands twice");
  }

  result<void> container(const schema_node& type, const json::value& value) {
    if (is_shared(type)) return where_.fail(reason::incompatible, "only code can read this type's archive");
    if (is_time(type)) return write(type.arguments.front(), value);
    if (is_optional(type)) {
      out_ += value.is_null() ? '\0' : '\1';
      return value.is_null() ? ok() : write(type.arguments.front(), value);
    }
    if (type.is("variant")) return variant(type, value);
    if (is_map(type)) return map(type, value);
    const auto* array = value.if_array();
    if (array == nullptr) return where_.fail(reason::invalid_argument, "expected an array");
    if (is_product(type)) return product(type.arguments, *array);
    const schema_node& element = type.arguments.front();
    if (type.is("array")) {
      if (array->size() != type.numbers.front()) return wrong_count(type.numbers.front());
    } else {
      size(array->size());
    }
    for (std::size_t i = 0; i < array->size(); ++i) {
      const place::step here{where_, i};
      MOLT_CHECK(write(element, (*array)[i]));
    }
    return ok();
  }

  [[nodiscard]] error wrong_count(std::uint64_t count) const {
    return where_.fail(reason::invalid_argument, "expected exactly " + std::to_string(count) + " elements");
  }

  result<void> product(const std::vector<schema_node>& types, const json::array& values) {
    if (values.size() != types.size()) return wrong_count(types.size());
    for (std::size_t i = 0; i < types.size(); ++i) {
      const place::step here{where_, i};
      MOLT_CHECK(write(types[i], values[i]));
    }
    return ok();
  }

  result<void> variant(const schema_node& type, const json::value& value) {
    const auto* object = value.if_object();
    const auto* index = object == nullptr ? nullptr : object->if_contains("alternative");
    const auto* inner = object == nullptr ? nullptr : object->if_contains("value");
    if (index == nullptr || inner == nullptr || object->size() != 2 || !index->is_int64())
      return where_.fail(reason::invalid_argument, R"(expected {"alternative": index, "value": …})");
    const std::int64_t number = index->get_int64();
    if (number < 0 || static_cast<std::uint64_t>(number) >= type.arguments.size())
      return where_.fail(reason::invalid_argument, "there is no alternative " + std::to_string(number));
    size(static_cast<std::uint64_t>(number));
    return write(type.arguments[static_cast<std::size_t>(number)], *inner);
  }

  result<void> map(const schema_node& type, const json::value& value) {
    const bool string_keys = type.arguments[0].what == kind::string;
    if (const auto* object = value.if_object(); object != nullptr && string_keys) {
      size(object->size());
      for (const auto& field : *object) {
        const place::step here{where_, std::string_view{field.key()}};
        MOLT_CHECK(string(std::string_view{field.key()}));
        MOLT_CHECK(write(type.arguments[1], field.value()));
      }
      return ok();
    }
    const auto* array = value.if_array();
    if (array == nullptr)
      return where_.fail(reason::invalid_argument,
                         string_keys ? "expected an object" : "expected an array of [key, value]");
    size(array->size());
    for (std::size_t i = 0; i < array->size(); ++i) {
      const place::step here{where_, i};
      const auto* pair = (*array)[i].if_array();
      if (pair == nullptr) return where_.fail(reason::invalid_argument, "expected [key, value]");
      MOLT_CHECK(product(type.arguments, *pair));
    }
    return ok();
  }

  std::string out_;
  place where_;
  enclosing_structs enclosing_;
  std::size_t depth_ = 0;
};

}  // namespace

result<std::string> encode(const schema_node& type, const json::value& value, std::string_view path) {
  encoder to{path};
  MOLT_CHECK(to.write(type, value));
  return to.take();
}

}  // namespace molt::node::json_walk
