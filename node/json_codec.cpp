#include "node/json_codec.hpp"

#include "plugin/schema_text.hpp"

#include <boost/beast/core/detail/base64.hpp>
#include <boost/json.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

namespace molt::node {
namespace {

namespace json = boost::json;
using kind = schema_node::kind;

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");

constexpr char archive_format_byte = 1;
constexpr std::size_t zero_byte_elements_max = 65'536;

struct number_shape {
  std::size_t size = 0;
  bool is_signed = false;
  bool is_float = false;
};

number_shape shape_of(std::string_view scalar) {
  const bool wide = scalar.size() == 3;
  const std::size_t size = scalar == "bool" || scalar == "char" ? 1
                           : wide                               ? static_cast<std::size_t>((scalar[1] - '0') * 10 + scalar[2] - '0') / 8
                                                                : 1;
  return {size, scalar.front() == 'i' || scalar == "char", scalar.front() == 'f'};
}

bool is_map(const schema_node& type) {
  return type.is("map") || type.is("unordered_map") || type.is("multimap") || type.is("unordered_multimap");
}
bool has_unique_keys(const schema_node& type) { return type.is("map") || type.is("unordered_map"); }
bool is_product(const schema_node& type) { return type.is("pair") || type.is("tuple"); }
bool is_optional(const schema_node& type) { return type.is("optional") || type.is("unique_ptr"); }
bool is_time(const schema_node& type) { return type.is("duration") || type.is("time_point"); }

/// Whether these bytes are well-formed UTF-8, and so may stand in a JSON string.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3
                                           : lead >= 0xf0 && lead < 0xf5     ? 4
                                                                             : 0;
    if (length == 0 || text.size() - i < length) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0U) != 0x80U) return false;
    const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0U;
    const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
    const bool beyond = (lead == 0xed && second >= 0xa0) || (lead == 0xf4 && second >= 0x90);
    if (overlong || beyond) return false;
    i += length;
  }
  return true;
}

std::string base64_of(std::string_view bytes) {
  namespace base64 = boost::beast::detail::base64;
  std::string out(base64::encoded_size(bytes.size()), '\0');
  out.resize(base64::encode(out.data(), bytes.data(), bytes.size()));
  return out;
}

std::optional<std::string> bytes_of_base64(std::string_view text) {
  namespace base64 = boost::beast::detail::base64;
  std::string out(base64::decoded_size(text.size()) + 3, '\0');
  const auto [written, read] = base64::decode(out.data(), text.data(), text.size());
  const auto rest = text.substr(read);
  if (rest.size() > 2 || rest.find_first_not_of('=') != std::string_view::npos) return std::nullopt;
  out.resize(written);
  return out;
}

/// Where we are, for error texts; grows and shrinks with the recursion.
class place {
 public:
  explicit place(std::string_view root) : text_{root} {}
  class step {
   public:
    step(place& where, std::string_view name) : where_{where}, size_{where.text_.size()} { where.text_.append(".").append(name); }
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
  [[nodiscard]] error fail(reason why, std::string_view what) const { return error{why, text_ + ": " + std::string{what}}; }

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

// ---- JSON to archive

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
      case kind::scalar: return scalar(type.name, value);
      case kind::enumeration: return write(type.arguments.front(), value);
      case kind::string: return string(value);
      case kind::ref: return scalar("u64", value);
      case kind::structure: return structure(type, value);
      case kind::container: return container(type, value);
      case kind::recursion:
        return at_recursion(enclosing_, type, [&](const schema_node& target) { return write(target, value); });
      case kind::reply_to: return where_.fail(reason::incompatible, "a reply token cannot come from outside");
      case kind::opaque: return where_.fail(reason::incompatible, "only code can read this type's archive");
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
    const auto out_of_range = [&] { return where_.fail(reason::invalid_argument, "out of range for " + std::string{name}); };
    if (value.is_uint64() || (value.is_int64() && value.get_int64() >= 0)) {
      const std::uint64_t number = value.is_uint64() ? value.get_uint64() : static_cast<std::uint64_t>(value.get_int64());
      const unsigned usable = shape.is_signed ? bits - 1 : bits;
      if (usable < 64 && (number >> usable) != 0) return out_of_range();
      low_bytes(number, shape.size);
      return ok();
    }
    if (!value.is_int64()) return where_.fail(reason::invalid_argument, "expected an integer (" + std::string{name} + ")");
    const std::int64_t number = value.get_int64();
    if (!shape.is_signed || (bits < 64 && number < -(std::int64_t{1} << (bits - 1)))) return out_of_range();
    low_bytes(static_cast<std::uint64_t>(number), shape.size);
    return ok();
  }

  result<void> floating(number_shape shape, const json::value& value) {
    double number = 0;
    if (value.is_string()) {
      const std::string_view text = value.get_string();
      if (text == "nan") number = std::numeric_limits<double>::quiet_NaN();
      else if (text == "inf") number = std::numeric_limits<double>::infinity();
      else if (text == "-inf") number = -std::numeric_limits<double>::infinity();
      else return where_.fail(reason::invalid_argument, "expected a number");
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
      return where_.fail(reason::invalid_argument, string_keys ? "expected an object" : "expected an array of [key, value]");
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

// ---- Archive to JSON

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
      case kind::scalar: return scalar(type.name);
      case kind::enumeration: return read(type.arguments.front());
      case kind::string: return string();
      case kind::ref:
      case kind::reply_to: return scalar("u64");
      case kind::structure: return structure(type);
      case kind::container: return container(type);
      case kind::recursion: return at_recursion(enclosing_, type, [&](const schema_node& target) { return read(target); });
      case kind::opaque: return where_.fail(reason::incompatible, "only code can read this type's archive");
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
    if (number > bytes_.size() && number > zero_byte_elements_max) return corrupt("a size is larger than the bytes left");
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

result<schema_node> type_of(const molt_schema& schema, std::string_view path) {
  if ((schema.flags & MOLT_SCHEMA_TRANSPARENT) == 0)
    return error{reason::incompatible,
                 std::string{path} + ": " + schema.name + " has its own serialize, so JSON cannot be converted to it"};
  auto type = parse_schema_text(schema.text);
  if (!type) return std::move(type).error().with(path);
  return type;
}

}  // namespace

result<json::value> parse_json(std::string_view text) {
  json::parse_options options;
  options.max_depth = json_depth_max;
  json::error_code failed;
  json::value value = json::parse(text, failed, {}, options);
  if (failed) return error{reason::invalid_argument, "no JSON: " + failed.message()};
  return value;
}

result<std::string> archive_from_json(const molt_schema& schema, const json::value& value, std::string_view path) {
  MOLT_TRY(const schema_node type, type_of(schema, path));
  encoder to{path};
  MOLT_CHECK(to.write(type, value));
  return to.take();
}

result<json::value> json_from_archive(const molt_schema& schema, std::string_view archive, std::string_view path) {
  MOLT_TRY(const schema_node type, type_of(schema, path));
  return decoder{archive, path}.read_all(type);
}

}  // namespace molt::node
