// The parser behind plugin/schema_text.hpp; include that.
#pragma once

#include "plugin/schema_text.hpp"

namespace molt {
namespace detail {

inline constexpr std::array<std::string_view, 12> schema_scalars{"bool", "char", "i8",  "i16", "i32", "i64",
                                                                 "u8",   "u16",  "u32", "u64", "f32", "f64"};

/// A container's name and how many types, numbers and names it is given; names may follow where `ordered` says so.
struct schema_container {
  std::string_view name;
  std::size_t types_min;
  std::size_t types_max;
  std::size_t numbers;
  std::size_t names_min;
  std::size_t names_max;
};
inline constexpr std::size_t schema_any = ~std::size_t{0};
inline constexpr std::array<schema_container, 27> schema_containers{{
    {"vector", 1, 1, 0, 0, 0},
    {"deque", 1, 1, 0, 0, 0},
    {"list", 1, 1, 0, 0, 0},
    {"set", 1, 1, 0, 0, 1},
    {"multiset", 1, 1, 0, 0, 1},
    {"unordered_set", 1, 1, 0, 0, 2},
    {"unordered_multiset", 1, 1, 0, 0, 2},
    {"map", 2, 2, 0, 0, 1},
    {"multimap", 2, 2, 0, 0, 1},
    {"unordered_map", 2, 2, 0, 0, 2},
    {"unordered_multimap", 2, 2, 0, 0, 2},
    {"steady_map", 2, 2, 0, 0, 2},
    {"steady_set", 1, 1, 0, 0, 2},
    {"steady_vector", 1, 1, 0, 0, 0},
    {"evolving_map", 2, 2, 0, 0, 0},
    {"evolving_set", 2, 2, 0, 0, 0},
    {"evolving_vector", 2, 2, 0, 0, 0},
    {"optional", 1, 1, 0, 0, 0},
    {"unique_ptr", 1, 1, 0, 0, 0},
    {"shared_ptr", 1, 1, 0, 0, 0},
    {"weak_ptr", 1, 1, 0, 0, 0},
    {"pair", 2, 2, 0, 0, 0},
    {"tuple", 0, schema_any, 0, 0, 0},
    {"variant", 1, schema_any, 0, 0, 0},
    {"array", 1, 1, 1, 0, 0},
    {"duration", 1, 1, 2, 0, 0},
    {"time_point", 1, 1, 0, 1, 1},
}};

class schema_parser {
 public:
  explicit schema_parser(std::string_view text) : text_{text} {}

  result<schema_node> parse() {
    if (text_.size() > schema_text_max) return error{reason::out_of_bounds, "the schema text is longer than 1 MiB"};
    schema_node root;
    if (!type(root, 0, 0)) return failure();
    if (at_ != text_.size()) {
      expected("the end");
      return failure();
    }
    return root;
  }

 private:
  // Each returns false after having called expected(); at_ never passes the end.
  bool expected(std::string_view what) {
    if (expected_.empty()) {
      expected_ = what;
      failed_at_ = at_;
    }
    return false;
  }
  error failure() const {
    return error{reason::corrupt, "schema text: expected " + expected_ + " at byte " + std::to_string(failed_at_)};
  }

  [[nodiscard]] bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
  [[nodiscard]] bool next_is_digit() const { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; }
  bool take(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  bool need(char c) { return take(c) || expected(std::string{'"', c, '"'}); }

  bool number(std::uint64_t& to) {
    const char* first = text_.data() + at_;
    const auto [end, failed] = std::from_chars(first, text_.data() + text_.size(), to);
    if (failed != std::errc{}) return expected("a number");
    at_ += static_cast<std::size_t>(end - first);
    return true;
  }

  // A C++ identifier; bytes over 127 are taken to be parts of one.
  static bool in_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80) != 0;
  }
  [[nodiscard]] std::string_view peek_word() const {
    std::size_t end = at_;
    while (end < text_.size() && in_word(text_[end])) ++end;
    return text_.substr(at_, end - at_);
  }

  bool size_and_align(schema_node& to) { return need('(') && number(to.size) && need(',') && number(to.align); }

  bool type(schema_node& to, std::size_t depth, std::uint64_t enclosing) {
    if (depth > schema_depth_max) return expected("at most 64 levels of nesting");
    if (take('^')) {
      to.what = schema_node::kind::recursion;
      return number(to.depth) && (to.depth < enclosing || expected("the number of an enclosing struct"));
    }
    const std::string_view word = peek_word();
    if (word == "struct") return structure(to, depth, enclosing);
    if (word == "opaque") return opaque(to);
    if (word == "string" || word == "ref") {
      to.what = word == "ref" ? schema_node::kind::ref : schema_node::kind::string;
      to.name = word;
      at_ += word.size();
      return true;
    }
    if (word == "enum" || word == "reply_to") return wrapper(to, word, depth, enclosing);
    if (std::find(schema_scalars.begin(), schema_scalars.end(), word) != schema_scalars.end()) {
      to.what = schema_node::kind::scalar;
      to.name = word;
      at_ += word.size();
      return true;
    }
    for (const auto& shape : schema_containers)
      if (shape.name == word) return container(to, shape, depth, enclosing);
    return expected("a type");
  }

  bool structure(schema_node& to, std::size_t depth, std::uint64_t enclosing) {
    to.what = schema_node::kind::structure;
    at_ += std::string_view{"struct"}.size();
    if (!size_and_align(to)) return false;
    if (take(',') && !number(to.version)) return false;
    if (!need(')') || !need('{')) return false;
    if (take('}')) return true;
    do {
      schema_member& member = to.members.emplace_back();
      if (!name_of(member, to.members.size()) || !type(member.type, depth + 1, enclosing + 1) || !need('@') ||
          !number(member.offset))
        return false;
    } while (take(','));
    return need('}');
  }

  // "hits:" of a member, "+" of a base.
  bool name_of(schema_member& member, std::size_t place) {
    if (take('+')) {
      member.name = place == 1 ? "(base)" : "(base " + std::to_string(place) + ")";
      return true;
    }
    const std::string_view word = peek_word();
    if (word.empty()) return expected("a member's name");
    member.name = word;
    at_ += word.size();
    return need(':');
  }

  bool opaque(schema_node& to) {
    to.what = schema_node::kind::opaque;
    at_ += std::string_view{"opaque"}.size();
    if (!size_and_align(to) || !need(')') || !need('"')) return false;
    const std::size_t end = text_.find('"', at_);
    if (end == std::string_view::npos) return expected("a closing quote");
    to.name = text_.substr(at_, end - at_);
    at_ = end + 1;
    return need('v') && number(to.version);
  }

  bool wrapper(schema_node& to, std::string_view word, std::size_t depth, std::uint64_t enclosing) {
    to.what = word == "enum" ? schema_node::kind::enumeration : schema_node::kind::reply_to;
    to.name = word;
    at_ += word.size();
    if (!need('<') || !type(to.arguments.emplace_back(), depth + 1, enclosing)) return false;
    if (word == "enum" && to.arguments[0].what != schema_node::kind::scalar) return expected("a scalar");
    if (word == "enum" && !enumerators(to)) return false;
    return need('>');
  }

  // ",red=0,green=-1"
  bool enumerators(schema_node& to) {
    while (take(',')) {
      const std::size_t first = at_;
      at_ += peek_word().size();
      if (at_ == first || !need('=')) return expected("an enumerator");
      take('-');
      std::uint64_t value = 0;
      if (!number(value)) return false;
      to.names.emplace_back(text_.substr(first, at_ - first));
    }
    return true;
  }

  // "=my::less<int, char>": up to the comma or bracket that closes the container.
  bool type_name(std::string& to) {
    std::size_t open = 0;
    const std::size_t first = at_;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '<' || c == '(' || c == '{' || c == '[') ++open;
      if (open == 0 && (c == ',' || c == '>')) break;
      if (c == '>' || c == ')' || c == '}' || c == ']') {
        if (open == 0) break;
        --open;
      }
    }
    to = text_.substr(first, at_ - first);
    return to.size() > 1 || expected("a type's name");
  }

  bool argument(schema_node& to, std::size_t depth, std::uint64_t enclosing) {
    if (next_is_digit()) return number(to.numbers.emplace_back());
    if (next_is('=')) return type_name(to.names.emplace_back());
    const std::string_view word = peek_word();
    if (word == "system" || word == "steady") {
      to.names.emplace_back(word);
      at_ += word.size();
      return true;
    }
    return type(to.arguments.emplace_back(), depth + 1, enclosing);
  }

  bool container(schema_node& to, const schema_container& shape, std::size_t depth, std::uint64_t enclosing) {
    to.what = schema_node::kind::container;
    to.name = shape.name;
    at_ += shape.name.size();
    if (!need('<')) return false;
    if (!next_is('>') || shape.types_min > 0) {
      do {
        if (!argument(to, depth, enclosing)) return false;
      } while (take(','));
    }
    if (!need('>')) return false;
    if (to.arguments.size() < shape.types_min || to.arguments.size() > shape.types_max ||
        to.numbers.size() != shape.numbers || to.names.size() < shape.names_min || to.names.size() > shape.names_max)
      return expected("the arguments of " + std::string{shape.name});
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string expected_;
  std::size_t failed_at_ = 0;
};

inline constexpr std::size_t schema_words_max = 400;

inline void append_words(std::string& out, const schema_node& node) {
  if (out.size() > schema_words_max) return;
  const auto list = [&out](const auto& items, const auto& one) {
    bool first = true;
    for (const auto& item : items) {
      if (out.size() > schema_words_max) return;
      if (!std::exchange(first, false)) out += ", ";
      one(item);
    }
  };
  switch (node.what) {
    case schema_node::kind::structure:
      out += "struct{";
      list(node.members, [&out](const schema_member& member) {
        out += member.name + ": ";
        append_words(out, member.type);
      });
      out += '}';
      return;
    case schema_node::kind::opaque:
      out += node.name + " version " + std::to_string(node.version);
      return;
    case schema_node::kind::recursion:
      out += "the enclosing struct" +
             (node.depth == 0 ? std::string{} : " " + std::to_string(node.depth) + " further out");
      return;
    case schema_node::kind::scalar:
    case schema_node::kind::string:
    case schema_node::kind::ref:
      out += node.name;
      return;
    case schema_node::kind::enumeration:
      out += "enum<" + node.arguments.front().name + '>';
      if (!node.names.empty()) out += '{';
      list(node.names, [&out](const std::string& name) { out += name; });
      if (!node.names.empty()) out += '}';
      return;
    case schema_node::kind::container:
    case schema_node::kind::reply_to:
      break;
  }
  out += node.name + '<';
  for (const auto& name : node.names)
    if (name.front() != '=') out += name + ", ";
  list(node.arguments, [&out](const schema_node& argument) { append_words(out, argument); });
  for (const auto number : node.numbers) out += ", " + std::to_string(number);
  for (const auto& name : node.names)
    if (name.front() == '=') out += ", " + name.substr(1);
  out += '>';
}

}  // namespace detail

inline result<schema_node> parse_schema_text(std::string_view text) { return detail::schema_parser{text}.parse(); }

inline std::string to_string(const schema_node& node) {
  std::string out;
  detail::append_words(out, node);
  if (out.size() > detail::schema_words_max) {
    out.resize(detail::schema_words_max);
    out += "...";
  }
  return out;
}

}  // namespace molt
