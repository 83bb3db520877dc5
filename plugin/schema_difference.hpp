// What differs between two schema texts, in a person's words; include plugin/schema_text.hpp.
#pragma once

#include "plugin/schema_text.hpp"

namespace molt::detail {

/// What the n-th type argument of a container is called in a path.
inline std::string argument_name(const schema_node& node, std::size_t index) {
  if (node.name == "reply_to") return "reply";
  if (node.name.starts_with("evolving_")) return index == 0 ? "now" : "before";
  if (node.name.find("map") != std::string::npos) return index == 0 ? "key" : "value";
  if (node.name == "pair") return index == 0 ? "first" : "second";
  if (node.name == "tuple" || node.name == "variant") return std::to_string(index);
  if (node.name == "duration") return "count";
  if (node.name == "time_point") return "since_epoch";
  return node.name == "optional" || node.name.ends_with("_ptr") ? "value" : "element";
}

class schema_comparison {
 public:
  std::vector<std::string> lines;

  void compare(const schema_node& before, const schema_node& after, const std::string& path) {
    if (before == after) return;
    if (evolves(before, after)) return compare_evolving(before, after.arguments[0], after.name, path);
    const bool same_kind = before.what == after.what && before.name == after.name;
    if (!same_kind || before.what == schema_node::kind::opaque || before.what == schema_node::kind::recursion)
      return became(before, after, path);
    if (before.what == schema_node::kind::structure) return compare_structures(before, after, path);
    if (before.what == schema_node::kind::enumeration) return compare_enumerations(before, after, path);
    if (before.numbers != after.numbers) return became(before, after, path);
    if (before.arguments.size() != after.arguments.size()) return compare_lists(before, after, path);
    if (before.names != after.names) return compare_functions(before, after, path);
    for (std::size_t i = 0; i < before.arguments.size(); ++i)
      compare(before.arguments[i], after.arguments[i], path + '.' + argument_name(before, i));
  }

 private:
  void became(const schema_node& before, const schema_node& after, const std::string& path) {
    const std::string was = to_string(before);
    const std::string is = to_string(after);
    if (was == is)  // the words leave out offsets and sizes
      lines.push_back(path + ": " + was + " has another size or alignment");
    else
      lines.push_back(path + ": " + was + " became " + is);
  }

  // -- Containers taken over by one whose elements change one by one

  static bool evolves(const schema_node& before, const schema_node& after) {
    return after.what == schema_node::kind::container && after.name.starts_with("evolving_") &&
           after.arguments[1] == before && before.arguments.size() == after.arguments[0].arguments.size();
  }
  void compare_evolving(const schema_node& before, const schema_node& now, const std::string& by,
                        const std::string& path) {
    lines.push_back(path + ": " + before.name + " became " + by + ", which changes its elements one by one");
    for (std::size_t i = 0; i < before.arguments.size(); ++i)
      compare(before.arguments[i], now.arguments[i], path + '.' + argument_name(before, i));
  }

  // -- Variants and tuples, which grow at their end

  void compare_lists(const schema_node& before, const schema_node& after, const std::string& path) {
    const auto& shorter = std::min(before.arguments, after.arguments, by_size);
    const auto& longer = std::max(before.arguments, after.arguments, by_size);
    if (!std::equal(shorter.begin(), shorter.end(), longer.begin())) return became(before, after, path);
    const bool grown = after.arguments.size() > before.arguments.size();
    const std::string what = before.name == "variant" ? "alternative " : "element ";
    for (std::size_t i = shorter.size(); i < longer.size(); ++i)
      lines.push_back(path + (grown ? ": added " : ": removed ") + what + std::to_string(i) + ": " +
                      to_string(longer[i]));
  }
  static bool by_size(const std::vector<schema_node>& a, const std::vector<schema_node>& b) {
    return a.size() < b.size();
  }

  // -- Sets and maps with another order or hash, time points of another clock

  void compare_functions(const schema_node& before, const schema_node& after, const std::string& path) {
    if (before.arguments != after.arguments) return became(before, after, path);
    const auto words = [](const schema_node& node) {
      std::string all;
      for (const auto& name : node.names)
        all += (all.empty() ? "" : ", ") + (name.front() == '=' ? name.substr(1) : "the clock " + name);
      return all.empty() ? std::string{"the standard one"} : all;
    };
    const bool clock = before.name == "time_point";
    lines.push_back(path + (clock ? ": " : ": order or hash: ") + words(before) + " became " + words(after));
  }

  // -- Enums whose author describes them

  void compare_enumerations(const schema_node& before, const schema_node& after, const std::string& path) {
    const std::size_t lines_before = lines.size();
    if (before.arguments != after.arguments)
      lines.push_back(path + ": enum<" + to_string(before.arguments[0]) + "> became enum<" +
                      to_string(after.arguments[0]) + '>');
    if (before.names.empty() != after.names.empty())
      return lines.push_back(path + (after.names.empty() ? ": its enumerators are no longer described"
                                                         : ": its enumerators are now described"));
    for (const auto& was : before.names) {
      const auto* is = enumerator(after, was);
      if (is == nullptr)
        lines.push_back(path + ": removed " + was);
      else if (*is != was)
        lines.push_back(path + ": " + was + " became " + *is);
    }
    for (const auto& is : after.names)
      if (enumerator(before, is) == nullptr) lines.push_back(path + ": added " + is);
    if (lines.size() == lines_before) lines.push_back(path + ": the order of enumerators changed");
  }
  static const std::string* enumerator(const schema_node& in, const std::string& like) {
    const std::string_view name = std::string_view{like}.substr(0, like.find('=') + 1);
    for (const auto& each : in.names)
      if (each.starts_with(name)) return &each;
    return nullptr;
  }

  // -- Structs

  static const schema_member* find(const schema_node& in, const std::string& name) {
    for (const auto& member : in.members)
      if (member.name == name) return &member;
    return nullptr;
  }

  void compare_structures(const schema_node& before, const schema_node& after, const std::string& path) {
    const std::size_t lines_before = lines.size();
    if (before.version != after.version)
      lines.push_back(path + ": means something else: molt_meaning " + std::to_string(before.version) + " became " +
                      std::to_string(after.version));
    for (const auto& old : before.members)
      if (find(after, old.name) == nullptr) removed(before, after, old, path);
    for (const auto& now : after.members)
      if (find(before, now.name) == nullptr && in_place_of(before, after, now) == nullptr)
        lines.push_back(path + ": added " + now.name + ": " + to_string(now.type));
    for (const auto& now : after.members)
      if (const auto* old = find(before, now.name)) compare(old->type, now.type, path + '.' + now.name);
    compare_order(before, after, path);
    if (lines.size() == lines_before) compare_layout(before, after, path);
  }

  void removed(const schema_node& before, const schema_node& after, const schema_member& old, const std::string& path) {
    std::string line = path + ": removed " + old.name + ": " + to_string(old.type);
    for (const auto& now : after.members)
      if (find(before, now.name) == nullptr && in_place_of(before, after, now) == &old)
        line += ", added " + now.name + " in its place";
    lines.push_back(std::move(line));
  }

  /// The removed member whose place and type a new one has: most likely it was renamed.
  static const schema_member* in_place_of(const schema_node& before, const schema_node& after,
                                          const schema_member& now) {
    for (const auto& old : before.members)
      if (old.offset == now.offset && old.type == now.type && find(after, old.name) == nullptr) return &old;
    return nullptr;
  }

  void compare_order(const schema_node& before, const schema_node& after, const std::string& path) {
    const auto kept = [](const schema_node& of, const schema_node& other) {
      std::vector<std::string> names;
      for (const auto& member : of.members)
        if (find(other, member.name) != nullptr) names.push_back(member.name);
      return names;
    };
    const auto was = kept(before, after);
    const auto is = kept(after, before);
    if (was == is) return;
    const auto joined = [](const std::vector<std::string>& names) {
      std::string all;
      for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
      return all;
    };
    lines.push_back(path + ": the order " + joined(was) + " became " + joined(is));
  }

  /// Same members in the same order.
  void compare_layout(const schema_node& before, const schema_node& after, const std::string& path) {
    for (const auto& now : after.members) {
      const auto* old = find(before, now.name);
      if (old->offset != now.offset)
        lines.push_back(path + ": " + now.name + " moved from byte " + std::to_string(old->offset) + " to " +
                        std::to_string(now.offset));
    }
    if (before.size != after.size || before.align != after.align)
      lines.push_back(path + ": size and alignment " + std::to_string(before.size) + ", " +
                      std::to_string(before.align) + " became " + std::to_string(after.size) + ", " +
                      std::to_string(after.align));
  }
};

}  // namespace molt::detail

namespace molt {

inline std::vector<std::string> describe_difference(const schema_node& before, const schema_node& after,
                                                    std::string_view path) {
  detail::schema_comparison comparison;
  comparison.compare(before, after, std::string{path});
  return std::move(comparison.lines);
}

inline std::vector<std::string> describe_difference(std::string_view before, std::string_view after,
                                                    std::string_view path) {
  if (before == after) return {};
  const auto old_tree = parse_schema_text(before);
  const auto new_tree = parse_schema_text(after);
  if (!old_tree) return {std::string{path} + ": the older " + old_tree.error().message()};
  if (!new_tree) return {std::string{path} + ": the newer " + new_tree.error().message()};
  return describe_difference(*old_tree, *new_tree, path);
}

}  // namespace molt
