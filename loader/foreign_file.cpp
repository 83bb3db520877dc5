#include "loader/foreign_file.hpp"

#include "base/demangle.hpp"
#include "base/utf8.hpp"
#include "loader/confined.hpp"
#include "loader/elf_image.hpp"
#include "loader/finding_rules.hpp"
#include "loader/host_symbols.hpp"
#include "loader/image_file.hpp"
#include "loader/image_findings.hpp"
#include "loader/note.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

namespace molt::loader {
namespace {

constexpr std::size_t demangled_max = 2048;  // the time that it takes may grow faster than the name
constexpr std::uint32_t items_max = 1'000'000;
constexpr std::string_view whole_mark = "molt inspected";  // stands last, so that a cut answer is known

class answer_writer {
 public:
  void number(std::uint64_t value) { out_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void text(std::string_view value) {
    number(value.size());
    out_ += value;
  }
  [[nodiscard]] std::string take() && { return std::move(out_); }

 private:
  std::string out_;
};

// After the first thing that does not fit everything is zero and empty, and bad() is true.
class answer_reader {
 public:
  explicit answer_reader(std::string_view from) : left_{from} {}
  std::uint64_t number() {
    std::uint64_t value = 0;
    if (const auto bytes = take(sizeof value); bytes.size() == sizeof value)
      std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  std::string text() { return std::string{take(number())}; }
  /// How many items follow.
  std::uint64_t count() {
    const std::uint64_t value = number();
    if (value > items_max) bad_ = true;
    return bad_ ? 0 : value;
  }
  [[nodiscard]] bool bad() const { return bad_; }
  [[nodiscard]] bool ended() const { return left_.empty(); }

 private:
  std::string_view take(std::uint64_t size) {
    if (size > left_.size()) {
      bad_ = true;
      left_ = {};
      return {};
    }
    const auto taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }

  std::string_view left_;
  bool bad_ = false;
};

void encode(answer_writer& to, const finding& one) {
  to.number(static_cast<std::uint64_t>(one.kind));
  to.number(static_cast<std::uint64_t>(one.level));
  for (const auto* text : {&one.text, &one.hint, &one.subject, &one.name}) to.text(*text);
}

bool decode(answer_reader& from, finding& to) {
  const auto kind = from.number();
  const auto level = from.number();
  if (kind >= finding_kinds || level > static_cast<std::uint64_t>(severity::refuse)) return false;
  to.kind = static_cast<finding_kind>(kind);
  to.level = static_cast<severity>(level);
  for (auto* text : {&to.text, &to.hint, &to.subject, &to.name}) *text = from.text();
  make_printable(to);  // whatever became of whoever says so
  return true;
}

error garbled() {
  return error{reason::corrupt, "the process that looked at it does not say what it found",
               "the file is damaged or made to do harm"};
}

void name(finding& one) {
  if (!one.subject.starts_with("_Z") || one.subject.size() > demangled_max) return;
  std::string readable = demangle(one.subject);
  if (readable == one.subject) return;
  one.name = std::move(readable);
  if (const auto at = one.text.find(one.subject); at != std::string::npos)
    one.text.replace(at, one.subject.size(), one.name + " [" + one.subject + "]");
}

/// Runs in the confined process: errors are part of the answer.
std::string look(const std::filesystem::path& path, std::span<const std::byte> bytes, bool list_exports) {
  answer_writer out;
  auto seen = inspect_bytes(path, bytes);
  out.number(seen ? 1 : 0);
  if (!seen) {
    out.number(static_cast<std::uint64_t>(seen.error().why()));
    out.text(seen.error().message());
    out.text(seen.error().hint());
    out.text(whole_mark);
    return std::move(out).take();
  }
  for (auto& one : seen->findings) name(one);
  foreign_answer answer{std::move(*seen), {}};
  if (list_exports)
    if (const auto image = elf_image::parse(path, bytes))
      for (const auto& symbol : image->symbols)
        if (symbol.exported) answer.exports.emplace_back(symbol.name);
  return std::move(out).take() + encode_answer(answer);
}

result<foreign_answer> ask(const plugin_file& wanted, bool list_exports) {
  const auto& path = wanted.path;
  MOLT_TRY(const image_file file, image_file::open(wanted));
  MOLT_TRY(const std::string said, run_confined(path.string(), [&] { return look(path, file.bytes(), list_exports); }));
  answer_reader from{said};
  if (from.number() != 0) {
    auto answer = decode_answer(std::string_view{said}.substr(sizeof(std::uint64_t)));
    if (!answer) return std::move(answer).error().with(path.string());
    answer->seen.path = path;
    return answer;
  }
  const auto why = from.number();
  const std::string text = from.text();
  const std::string hint = from.text();
  if (from.text() != whole_mark || from.bad() || !from.ended() || why > static_cast<std::uint64_t>(reason::unversioned))
    return garbled().with(path.string());
  return error{static_cast<reason>(why), printable(text), printable(hint)};
}

/// A library that the plugin needs and that lies in its folder.
void judge_neighbour(const std::filesystem::path& file, host_question& to) {
  auto answer = ask(file, true);
  if (!answer) {
    add_finding(to.seen, finding_kind::missing_library,
                "needs " + file.filename().string() + " beside it, which is unreadable: " + answer.error().message(),
                file.filename().string());
    return;
  }
  for (const auto& one : answer->seen.findings)
    if (one.kind == finding_kind::unique_symbol)
      add_finding(to.seen, finding_kind::private_unique_symbol,
                  "needs " + file.filename().string() + ", which " + one.text, one.subject, one.name);
  for (auto& name : answer->exports) to.defined_beside.insert(std::move(name));
}

}  // namespace

std::string encode_answer(const foreign_answer& answer) {
  answer_writer to;
  const auto& seen = answer.seen;
  to.number(seen.size);
  for (const auto* text : {&seen.machine, &seen.build_id}) to.text(*text);
  to.number(seen.needed.size());
  for (const auto& library : seen.needed) to.text(library);
  to.number(seen.findings.size());
  for (const auto& one : seen.findings) encode(to, one);
  to.number(seen.imports.size());
  for (const auto& one : seen.imports) {
    for (const auto* text : {&one.name, &one.version, &one.library}) to.text(*text);
    to.number(one.weak ? 1 : 0);
  }
  to.text({reinterpret_cast<const char*>(seen.note.data()), seen.note.size()});
  to.number(seen.plugin.server_types.empty() ? 0 : 1);
  to.number(answer.exports.size());
  for (const auto& name : answer.exports) to.text(name);
  to.text(whole_mark);
  return std::move(to).take();
}

result<foreign_answer> decode_answer(std::string_view bytes) {
  answer_reader from{bytes};
  foreign_answer answer;
  auto& seen = answer.seen;
  seen.size = from.number();
  for (auto* text : {&seen.machine, &seen.build_id}) *text = printable(from.text());
  for (auto left = from.count(); left > 0 && !from.bad(); --left) seen.needed.push_back(printable(from.text()));
  for (auto left = from.count(); left > 0 && !from.bad(); --left)
    if (!decode(from, seen.findings.emplace_back())) return garbled();
  for (auto left = from.count(); left > 0 && !from.bad(); --left) {
    auto& one = seen.imports.emplace_back();
    for (auto* text : {&one.name, &one.version, &one.library}) *text = from.text();
    one.weak = from.number() != 0;
  }
  const std::string note = from.text();
  const auto* const start = reinterpret_cast<const std::byte*>(note.data());
  seen.note.assign(start, start + note.size());
  const bool has_plugin = from.number() != 0;
  for (auto left = from.count(); left > 0 && !from.bad(); --left) answer.exports.push_back(from.text());
  if (from.text() != whole_mark || from.bad() || !from.ended()) return garbled();
  if (has_plugin) {
    // Decoded again, so that what the description refers to is there whatever the other process says.
    MOLT_TRY(seen.plugin, decode_note(seen.note));
  }
  return answer;
}

result<inspection> inspect_foreign(const plugin_file& wanted) {
  MOLT_TRY(auto answer, ask(wanted, false));
  host_question question{answer.seen, {}, {}};
  for (const auto& library : answer.seen.needed) {
    // A name with a slash is a path: the linker does not look for it in this folder.
    if (library.empty() || library.find('/') != std::string::npos) continue;
    const auto beside = wanted.path.parent_path() / library;
    std::error_code failed;
    if (!std::filesystem::is_regular_file(beside, failed)) continue;
    question.beside.insert(library);
    judge_neighbour(beside, question);
  }
  if (answer.seen.machine == host_machine()) judge_host(question);
  sort_findings(answer.seen);
  return std::move(answer.seen);
}

}  // namespace molt::loader
