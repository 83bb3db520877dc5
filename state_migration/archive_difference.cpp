#include "state_migration/archive_difference.hpp"

#include "plugin/schema_text.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

namespace molt::migration {
namespace {

using kind = schema_node::kind;

constexpr char archive_format_byte = 1;
constexpr unsigned depth_max = 2048;   // archives nest 512 deep; a type's own levels count too
constexpr std::size_t shown_max = 40;  // bytes of a string
constexpr std::uint64_t empty_elements_max = 65'536;

struct unreadable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class reader {
 public:
  explicit reader(std::string_view bytes) : rest_{bytes} {}
  std::string_view take(std::size_t count) {
    if (rest_.size() < count) throw unreadable{"ends too early"};
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  std::uint64_t size() {
    std::uint64_t number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      number |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return number;
    }
    throw unreadable{"a size has too many bytes"};
  }
  std::uint64_t elements() {
    const auto number = size();
    if (number > rest_.size() && number > empty_elements_max) throw unreadable{"a size is too large"};
    return number;
  }
  [[nodiscard]] const char* at() const noexcept { return rest_.data(); }

 private:
  std::string_view rest_;
};

/// The structs around a type, for "^n".
struct enclosing {
  const schema_node* structure;
  const enclosing* outer;
};

const enclosing& target_of(const schema_node& recursion, const enclosing* around) {
  for (auto left = recursion.depth; around != nullptr && left > 0; --left) around = around->outer;
  if (around == nullptr) throw unreadable{"the schema leads nowhere"};
  return *around;
}

void check_depth(unsigned depth) {
  if (depth > depth_max) throw unreadable{"nested too deeply"};
}

bool is_map(const schema_node& type) {
  return type.is("map") || type.is("unordered_map") || type.is("multimap") || type.is("unordered_multimap") ||
         type.is("steady_map");
}
bool is_unordered(const schema_node& type) {
  return type.name.starts_with("unordered_") || type.is("steady_map") || type.is("steady_set");
}
/// An evolving container is written as its two parts.
bool is_product(const schema_node& type) {
  return type.is("pair") || type.is("tuple") || type.name.starts_with("evolving_");
}
bool is_shared(const schema_node& type) { return type.is("shared_ptr") || type.is("weak_ptr"); }
bool is_time(const schema_node& type) { return type.is("duration") || type.is("time_point"); }
bool is_optional(const schema_node& type) { return type.is("optional") || type.is("unique_ptr"); }

std::size_t size_of_scalar(std::string_view name) {
  return name.size() == 3 ? static_cast<std::size_t>((name[1] - '0') * 10 + name[2] - '0') / 8 : 1;
}

/// Where an archive goes that is written again with the elements of unordered containers sorted.
class sorted_bytes {
 public:
  void add(std::string_view bytes) { bytes_ += bytes; }
  [[nodiscard]] std::string take() { return std::move(bytes_); }

  struct unordered {
    std::vector<sorted_bytes> elements;
    sorted_bytes& next() { return elements.emplace_back(); }
    void end(sorted_bytes& into) {
      std::sort(elements.begin(), elements.end(), [](const auto& a, const auto& b) { return a.bytes_ < b.bytes_; });
      for (const auto& each : elements) into.bytes_ += each.bytes_;
    }
  };

 private:
  std::string bytes_;
};

/// The same as a number of 128 bits: much faster, and enough to tell that two archives hold the same.
class digest {
 public:
  void add(std::string_view bytes) noexcept {
    while (bytes.size() >= sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data(), sizeof word);
      mix(word);
      bytes.remove_prefix(sizeof word);
    }
    std::uint64_t last = bytes.size() + 1;
    for (const char c : bytes) last = last << 8U | static_cast<unsigned char>(c);
    mix(last);
  }
  friend bool operator==(const digest&, const digest&) = default;

  class unordered;

 private:
  static std::uint64_t scramble(std::uint64_t value) noexcept {  // splitmix64's last step
    value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31U);
  }
  void mix(std::uint64_t word) noexcept {
    first_ = scramble(first_ + 0x9e3779b97f4a7c15U + word);
    second_ = scramble((second_ ^ word) + 0xd1b54a32d192ed03U);
  }

  std::uint64_t first_ = 1;
  std::uint64_t second_ = 2;
};

/// A sum, which does not depend on the order.
class digest::unordered {
 public:
  digest& next() noexcept {
    take();
    element_ = {};
    return element_;
  }
  void end(digest& into) noexcept {
    take();
    into.mix(first_);
    into.mix(second_);
  }

 private:
  void take() noexcept {
    if (std::exchange(any_, true)) {
      first_ += element_.first_;
      second_ += element_.second_;
    }
  }
  std::uint64_t first_ = 0;
  std::uint64_t second_ = 0;
  bool any_ = false;
  digest element_;
};

/// Goes through an archive and writes it to an Out.
template <class Out>
class rewriter {
 public:
  explicit rewriter(std::string_view archive) : in_{archive} {}

  Out all(const schema_node& type) {
    Out out;
    if (in_.take(1).front() != archive_format_byte) throw unreadable{"another archive format"};
    copy(type, nullptr, 0, out);
    return out;
  }

 private:
  void copy(const schema_node& type, const enclosing* around, unsigned depth, Out& out) {
    check_depth(depth);
    switch (type.what) {
      case kind::scalar:
        out.add(in_.take(size_of_scalar(type.name)));
        return;
      case kind::enumeration:
        return copy(type.arguments.at(0), around, depth + 1, out);
      case kind::string:
        out.add(in_.take(static_cast<std::size_t>(copy_size(out))));
        return;
      case kind::ref:
      case kind::reply_to:
        out.add(in_.take(8));
        return;
      case kind::structure: {
        const enclosing here{&type, around};
        for (const auto& member : type.members) copy(member.type, &here, depth + 1, out);
        return;
      }
      case kind::recursion: {
        const auto& target = target_of(type, around);
        return copy(*target.structure, target.outer, depth + 1, out);
      }
      case kind::container:
        return container(type, around, depth, out);
      case kind::opaque:
        throw unreadable{"only code can read this type's archive"};
    }
  }

  void container(const schema_node& type, const enclosing* around, unsigned depth, Out& out) {
    if (is_shared(type)) throw unreadable{"only code can read this type's archive"};
    if (is_time(type)) return copy(type.arguments.at(0), around, depth + 1, out);
    if (is_optional(type)) {
      const auto there = in_.take(1);
      out.add(there);
      if (there.front() != 0) copy(type.arguments.at(0), around, depth + 1, out);
      return;
    }
    if (type.is("variant")) return copy(type.arguments.at(copy_size(out)), around, depth + 1, out);
    if (is_product(type)) {
      for (const auto& each : type.arguments) copy(each, around, depth + 1, out);
      return;
    }
    const auto count = type.is("array") ? type.numbers.at(0) : copy_elements(out);
    const auto element = [&](Out& to) {
      copy(type.arguments.at(0), around, depth + 1, to);
      if (is_map(type)) copy(type.arguments.at(1), around, depth + 1, to);
    };
    if (!is_unordered(type)) {
      for (std::uint64_t n = 0; n < count; ++n) element(out);
      return;
    }
    typename Out::unordered elements;
    for (std::uint64_t n = 0; n < count; ++n) element(elements.next());
    elements.end(out);
  }

  std::uint64_t copy_size(Out& out) {
    const char* const from = in_.at();
    const auto number = in_.size();
    out.add({from, static_cast<std::size_t>(in_.at() - from)});
    return number;
  }
  std::uint64_t copy_elements(Out& out) {
    const char* const from = in_.at();
    const auto number = in_.elements();
    out.add({from, static_cast<std::size_t>(in_.at() - from)});
    return number;
  }

  reader in_;
};

std::string shown(std::string_view text) {
  std::string made = "\"";
  for (const char c : text.substr(0, shown_max)) made += c >= 0x20 && c < 0x7f ? c : '?';
  return made + (text.size() > shown_max ? "...\"" : "\"");
}

std::string shown(std::string_view scalar, std::string_view raw) {
  if (scalar == "bool") return raw.front() != 0 ? "true" : "false";
  if (scalar == "char") return shown(raw);
  if (scalar == "f64") {
    double number = 0;
    std::memcpy(&number, raw.data(), sizeof number);
    return std::to_string(number);
  }
  if (scalar == "f32") {
    float number = 0;
    std::memcpy(&number, raw.data(), sizeof number);
    return std::to_string(number);
  }
  std::uint64_t number = 0;
  std::memcpy(&number, raw.data(), raw.size());
  if (scalar.front() != 'i') return std::to_string(number);
  const auto unused = static_cast<unsigned>(64 - 8 * raw.size());
  return std::to_string(static_cast<std::int64_t>(number << unused) >> unused);
}

/// Goes through two sorted archives until they differ.
class finder {
 public:
  finder(std::string_view before, std::string_view after) : before_{before}, after_{after} {}

  std::string first(const schema_node& type) {
    (void)find(type, nullptr, 0);
    return text_;
  }

 private:
  /// True: found.
  bool find(const schema_node& type, const enclosing* around, unsigned depth) {
    check_depth(depth);
    switch (type.what) {
      case kind::scalar: {
        const auto size = size_of_scalar(type.name);
        const auto was = before_.take(size);
        const auto is = after_.take(size);
        return was != is && found(shown(type.name, was), shown(type.name, is));
      }
      case kind::enumeration:
        return find(type.arguments.at(0), around, depth + 1);
      case kind::string: {
        const auto was = before_.take(static_cast<std::size_t>(before_.size()));
        const auto is = after_.take(static_cast<std::size_t>(after_.size()));
        return was != is && found(shown(was), shown(is));
      }
      case kind::ref:
      case kind::reply_to:
        return before_.take(8) != after_.take(8) && found("one reference", "another");
      case kind::structure: {
        const enclosing here{&type, around};
        return std::any_of(type.members.begin(), type.members.end(), [&](const auto& member) {
          return at((path_.empty() ? "" : ".") + member.name, [&] { return find(member.type, &here, depth + 1); });
        });
      }
      case kind::recursion: {
        const auto& target = target_of(type, around);
        return find(*target.structure, target.outer, depth + 1);
      }
      case kind::container:
        return container(type, around, depth);
      case kind::opaque:
        break;
    }
    throw unreadable{"only code can read this type's archive"};
  }

  bool container(const schema_node& type, const enclosing* around, unsigned depth) {
    const auto element = [&](std::size_t n) { return find(type.arguments.at(n), around, depth + 1); };
    if (is_time(type)) return element(0);
    if (is_optional(type)) {
      const bool was = before_.take(1).front() != 0;
      const bool is = after_.take(1).front() != 0;
      if (was != is) return found(was ? "a value" : "none", is ? "a value" : "none");
      return was && element(0);
    }
    if (type.is("variant")) {
      const auto was = before_.size();
      const auto is = after_.size();
      if (was != is) return found("alternative " + std::to_string(was), std::to_string(is));
      return element(was);
    }
    if (is_product(type)) {
      for (std::size_t n = 0; n < type.arguments.size(); ++n)
        if (at("[" + std::to_string(n) + "]", [&] { return element(n); })) return true;
      return false;
    }
    std::uint64_t count = 0;
    if (type.is("array")) {
      count = type.numbers.at(0);
    } else {
      count = before_.elements();
      if (const auto is = after_.elements(); is != count)
        return found(std::to_string(count) + " elements", std::to_string(is));
    }
    for (std::uint64_t n = 0; n < count; ++n) {
      const std::string place = "[" + std::to_string(n) + "]";
      if (at(is_map(type) ? place + " (key)" : place, [&] { return element(0); })) return true;
      if (is_map(type) && at(place, [&] { return element(1); })) return true;
    }
    return false;
  }

  template <class Walk>
  bool at(const std::string& step, Walk walk) {
    const auto size = path_.size();
    path_ += step;
    const bool done = walk();
    path_.resize(size);
    return done;
  }

  bool found(const std::string& was, const std::string& is) {
    text_ = (path_.empty() ? "the state" : path_) + ": " + was + " became " + is;
    return true;
  }

  reader before_;
  reader after_;
  std::string path_;
  std::string text_;
};

archive_difference by_bytes(std::string_view before, std::string_view after, bool readable) {
  if (before.size() != after.size())
    return {likeness::different,
            "its archive had " + std::to_string(before.size()) + " bytes and has " + std::to_string(after.size())};
  const auto differing = std::mismatch(before.begin(), before.end(), after.begin());
  const auto where = "its archives differ from byte " + std::to_string(differing.first - before.begin()) + " of " +
                     std::to_string(before.size()) + " on";
  return {readable ? likeness::different : likeness::unclear, where};
}

}  // namespace

archive_difference compare_archives(const molt_schema& schema, std::string_view before, std::string_view after) {
  if (before == after) return {};
  if ((schema.flags & MOLT_SCHEMA_TRANSPARENT) == 0) return by_bytes(before, after, false);
  const auto type = parse_schema_text(schema.text);
  if (!type) return by_bytes(before, after, true);
  try {
    if (rewriter<digest>{before}.all(*type) == rewriter<digest>{after}.all(*type)) return {};
    const std::string was = rewriter<sorted_bytes>{before}.all(*type).take();
    const std::string is = rewriter<sorted_bytes>{after}.all(*type).take();
    // Entries may have gone from one part of an evolving container to the other; only their hooks know whether they are
    // the same.
    const bool evolving = std::string_view{schema.text}.find("evolving_") != std::string_view::npos;
    return {evolving ? likeness::unclear : likeness::different, finder{was, is}.first(*type)};
  } catch (const std::runtime_error&) {
    return by_bytes(before, after, true);
  } catch (const std::out_of_range&) {
    return by_bytes(before, after, true);
  }
}

}  // namespace molt::migration
