// Archives to JSON: the other half of json_codec.hpp.
#include "base/utf8.hpp"
#include "node/json_walk.hpp"

#include <boost/json.hpp>

#include <cmath>
#include <cstring>

namespace molt::node::json_walk {
namespace {

constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string base64_of(std::string_view bytes) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const auto group = bytes.substr(at, 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = (bits << 8U) | (i < group.size() ? static_cast<unsigned char>(group[i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i) out += i <= group.size() ? base64_digits[(bits >> (18 - 6 * i)) & 0x3fU] : '=';
  }
  return out;
}

class decoder {
 public:
  decoder(std::string_view bytes, std::string_view path) : bytes_{bytes}, where_{path} {}

  result<json::value> read_all(const schema_node& type) {
    if (bytes_.empty() || bytes_.front() != archive_format_byte) return corrupt("another archive format");
    bytes_.remove_prefix(1);
    MOLT_TRY(json::value value, read(type));
    if (!bytes_.empty()) return corrupt("bytes are left over");
    return value;
  }

 private:
  [[nodiscard]] error corrupt(std::string_view what) const { return where_.fail(reason::corrupt, what); }

  result<json::value> read(const schema_node& type) {
    if (depth_ >= json_depth_max) return where_.fail(reason::out_of_bounds, "nested too deeply");
    ++depth_;
    auto done = dispatch(type);
    --depth_;
    return done;
  }

  result<json::value> dispatch(const schema_node& type) {
    switch (type.what) {
      case kind::scalar:
        return scalar(type.name);
      case kind::enumeration:
        return read(type.arguments.front());
      case kind::string:
        return string();
      case kind::ref:
      case kind::reply_to:
        return scalar("u64");
      case kind::structure:
        return structure(type);
      case kind::container:
        return container(type);
      case kind::recursion:
        return at_recursion(enclosing_, type, [&](const schema_node& target) { return read(target); });
      case kind::opaque:
        return where_.fail(reason::incompatible, "only code can read this type's archive");
    }
    return where_.fail(reason::internal, "unknown kind of type");
  }

  result<std::string_view> take(std::size_t count) {
    if (bytes_.size() < count) return corrupt("ends too early");
    const auto taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  result<std::uint64_t> size() {
    std::uint64_t number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      MOLT_TRY(const auto byte, take(1));
      const auto bits = static_cast<unsigned char>(byte.front());
      number |= static_cast<std::uint64_t>(bits & 0x7fU) << shift;
      if ((bits & 0x80U) == 0) return number;
    }
    return corrupt("a size has too many bytes");
  }

  /// A count of elements that the rest could hold.
  result<std::size_t> count() {
    MOLT_TRY(const std::uint64_t number, size());
    if (number > bytes_.size() && number > zero_byte_elements_max)
      return corrupt("a size is larger than the bytes left");
    return static_cast<std::size_t>(number);
  }

  result<json::value> scalar(std::string_view name) {
    const number_shape shape = shape_of(name);
    MOLT_TRY(const auto raw, take(shape.size));
    if (name == "bool") return json::value(raw.front() != 0);
    if (name == "char" && raw.front() >= 0x20 && raw.front() < 0x7f) return json::value(json::string(raw));
    if (shape.is_float) {
      double number = 0;
      if (shape.size == sizeof number) {
        std::memcpy(&number, raw.data(), sizeof number);
      } else {
        float single = 0;
        std::memcpy(&single, raw.data(), sizeof single);
        number = static_cast<double>(single);
      }
      if (std::isnan(number)) return json::value("nan");
      if (std::isinf(number)) return json::value(number > 0 ? "inf" : "-inf");
      return json::value(number);
    }
    std::uint64_t number = 0;
    std::memcpy(&number, raw.data(), raw.size());
    if (!shape.is_signed) return json::value(number);
    const auto unused = static_cast<unsigned>(64 - 8 * shape.size);
    return json::value(static_cast<std::int64_t>(number << unused) >> unused);
  }

  result<std::string_view> raw_string() {
    MOLT_TRY(const std::uint64_t length, size());
    if (length > bytes_.size()) return corrupt("a string is longer than the bytes left");
    return take(static_cast<std::size_t>(length));
  }
  result<json::value> string() {
    MOLT_TRY(const auto text, raw_string());
    if (is_utf8(text)) return json::value(json::string(text));
    return json::value(json::object{{"base64", base64_of(text)}});
  }

  result<json::value> structure(const schema_node& type) {
    const enclosed inside{enclosing_, type};
    json::object object;
    object.reserve(type.members.size());
    for (const auto& member : type.members) {
      const place::step here{where_, member.name};
      MOLT_TRY(json::value value, read(member.type));
      object.emplace(member.name, std::move(value));
    }
    return json::value(std::move(object));
  }

  result<json::value> container(const schema_node& type) {
    if (is_shared(type)) return where_.fail(reason::incompatible, "only code can read this type's archive");
    if (is_time(type)) return read(type.arguments.front());
    if (is_optional(type)) {
      MOLT_TRY(const auto there, take(1));
      return there.front() == 0 ? result<json::value>{json::value(nullptr)} : read(type.arguments.front());
    }
    if (type.is("variant")) {
      MOLT_TRY(const std::uint64_t index, size());
      if (index >= type.arguments.size()) return corrupt("there is no such alternative");
      MOLT_TRY(json::value value, read(type.arguments[static_cast<std::size_t>(index)]));
      return json::value(json::object{{"alternative", index}, {"value", std::move(value)}});
    }
    if (is_product(type)) return product(type.arguments);
    if (is_map(type)) return map(type);
    std::size_t elements = 0;
    if (type.is("array")) {
      elements = static_cast<std::size_t>(type.numbers.front());
      if (elements > bytes_.size() && elements > zero_byte_elements_max) return corrupt("ends too early");
    } else {
      MOLT_TRY(elements, count());
    }
    json::array array;
    for (std::size_t i = 0; i < elements; ++i) {
      const place::step here{where_, i};
      MOLT_TRY(json::value value, read(type.arguments.front()));
      array.push_back(std::move(value));
    }
    return json::value(std::move(array));
  }

  result<json::value> product(const std::vector<schema_node>& types) {
    json::array array;
    for (const auto& each : types) {
      MOLT_TRY(json::value value, read(each));
      array.push_back(std::move(value));
    }
    return json::value(std::move(array));
  }

  /// An object if the keys are strings that may stand in one, else an array of pairs.
  result<json::value> map(const schema_node& type) {
    MOLT_TRY(const std::size_t elements, count());
    json::array pairs;
    bool as_object = type.arguments[0].what == kind::string && has_unique_keys(type);
    for (std::size_t i = 0; i < elements; ++i) {
      const place::step here{where_, i};
      MOLT_TRY(json::value pair, product(type.arguments));
      as_object = as_object && pair.get_array()[0].is_string();
      pairs.push_back(std::move(pair));
    }
    if (!as_object) return json::value(std::move(pairs));
    json::object object;
    object.reserve(pairs.size());
    for (auto& pair : pairs)
      object.insert_or_assign(std::string_view{pair.get_array()[0].get_string()}, std::move(pair.get_array()[1]));
    return json::value(std::move(object));
  }

  std::string_view bytes_;
  place where_;
  enclosing_structs enclosing_;
  std::size_t depth_ = 0;
};

}  // namespace

result<json::value> decode(const schema_node& type, std::string_view archive, std::string_view path) {
  return decoder{archive, path}.read_all(type);
}

}  // namespace molt::node::json_walk
