// store.json: docs/reference/store.md.
#include "base/utf8.hpp"
#include "releases/store_state.hpp"

#include <boost/json.hpp>

#include <array>
#include <exception>
#include <optional>
#include <utility>

namespace molt::releases {
namespace {

namespace json = boost::json;

constexpr std::array statuses{release_status::unpacked, release_status::current, release_status::permanent,
                              release_status::old};
constexpr std::array kinds{transition_kind::start, transition_kind::upgrade, transition_kind::rollback};
constexpr std::array phases{transition_phase::planned, transition_phase::switching};
constexpr std::array outcomes{transition_outcome::done, transition_outcome::refused, transition_outcome::rolled_back,
                              transition_outcome::failed, transition_outcome::needs_attention};

[[nodiscard]] error corrupt(const std::string& text) { return error{reason::corrupt, text}; }

[[nodiscard]] json::string text(std::string_view from) { return json::string{clean_text(from)}; }

[[nodiscard]] json::object print(const release_record& r) {
  return {{"id", text(r.id)},
          {"name", text(r.name)},
          {"version", text(r.version)},
          {"status", text(to_string(r.status))},
          {"parent", text(r.parent)},
          {"installed_at", text(r.installed_at)},
          {"contents", text(r.contents)}};
}

[[nodiscard]] json::object print(const past_transition& p) {
  return {{"kind", text(to_string(p.kind))},
          {"from", text(p.from)},
          {"to", text(p.to)},
          {"outcome", text(to_string(p.outcome))},
          {"started_at", text(p.started_at)},
          {"finished_at", text(p.finished_at)},
          {"detail", text(p.detail)}};
}

/// A text member of an object.
result<std::string> text_at(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) return corrupt('"' + std::string{key} + "\" is missing or no string");
  return std::string{value->get_string()};
}

template <class Enum, std::size_t Count>
result<Enum> enum_at(const json::object& object, std::string_view key, const std::array<Enum, Count>& values) {
  MOLT_TRY(const auto name, text_at(object, key));
  for (const Enum value : values)
    if (to_string(value) == name) return value;
  return corrupt('"' + std::string{key} + "\": unknown value \"" + name + '"');
}

result<release_record> parse_release(const json::object& object) {
  release_record r;
  MOLT_TRY(r.id, text_at(object, "id"));
  MOLT_TRY(r.name, text_at(object, "name"));
  MOLT_TRY(r.version, text_at(object, "version"));
  MOLT_TRY(r.status, enum_at(object, "status", statuses));
  MOLT_TRY(r.parent, text_at(object, "parent"));
  MOLT_TRY(r.installed_at, text_at(object, "installed_at"));
  if (object.contains("contents")) {
    MOLT_TRY(r.contents, text_at(object, "contents"));
  }
  return r;
}

result<transition> parse_transition(const json::object& object) {
  transition t;
  MOLT_TRY(t.kind, enum_at(object, "kind", kinds));
  MOLT_TRY(t.from, text_at(object, "from"));
  MOLT_TRY(t.to, text_at(object, "to"));
  MOLT_TRY(t.phase, enum_at(object, "phase", phases));
  MOLT_TRY(t.started_at, text_at(object, "started_at"));
  return t;
}

result<past_transition> parse_past(const json::object& object) {
  past_transition p;
  MOLT_TRY(p.kind, enum_at(object, "kind", kinds));
  MOLT_TRY(p.from, text_at(object, "from"));
  MOLT_TRY(p.to, text_at(object, "to"));
  MOLT_TRY(p.outcome, enum_at(object, "outcome", outcomes));
  MOLT_TRY(p.started_at, text_at(object, "started_at"));
  MOLT_TRY(p.finished_at, text_at(object, "finished_at"));
  MOLT_TRY(p.detail, text_at(object, "detail"));
  return p;
}

/// Every element of an array member, each an object.
template <class Parse>
result<void> each_at(const json::object& object, std::string_view key, Parse parse) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_array()) return corrupt('"' + std::string{key} + "\" is missing or no array");
  for (const auto& element : value->get_array()) {
    if (!element.is_object()) return corrupt('"' + std::string{key} + "\" holds something that is no object");
    MOLT_CHECK(parse(element.get_object()));
  }
  return ok();
}

}  // namespace

std::string clean_text(std::string_view from) {
  std::string out;
  while (!from.empty()) {
    const std::size_t size = utf8_character(from);
    const auto piece = size != 0 ? from.substr(0, size) : std::string_view{"?"};
    if (out.size() + piece.size() > text_bytes_max) break;
    out += piece;
    from.remove_prefix(piece.size());
  }
  return out;
}

std::string print_state(const store_state& state) {
  json::array releases;
  for (const auto& record : state.releases) releases.push_back(print(record));
  json::array history;
  for (const auto& past : state.history) history.push_back(print(past));
  json::value in_flight = nullptr;
  if (state.in_flight) {
    const auto& t = *state.in_flight;
    in_flight = json::object{{"kind", text(to_string(t.kind))},
                             {"from", text(t.from)},
                             {"to", text(t.to)},
                             {"phase", text(to_string(t.phase))},
                             {"started_at", text(t.started_at)}};
  }
  const json::object root{{"format", store_format_version},
                          {"releases", releases},
                          {"transition", in_flight},
                          {"attention", text(state.attention)},
                          {"history", history}};
  return json::serialize(root) + '\n';
}

result<store_state> parse_state(std::string_view bytes) {
  json::error_code failed;
  const json::value root = json::parse(json::string_view{bytes.data(), bytes.size()}, failed);
  if (failed) return corrupt("no JSON: " + failed.message());
  if (!root.is_object()) return corrupt("no JSON object");
  const auto& object = root.get_object();
  const auto* format = object.if_contains("format");
  if (format == nullptr || !format->is_int64()) return corrupt("\"format\" is missing");
  if (format->get_int64() != store_format_version)
    return error{reason::incompatible,
                 "format " + std::to_string(format->get_int64()) + ", and this molt knows only " +
                     std::to_string(store_format_version),
                 "use the molt that wrote it, or a newer one"};
  store_state state;
  MOLT_CHECK(each_at(object, "releases", [&](const json::object& element) -> result<void> {
    MOLT_TRY(auto record, parse_release(element));
    state.releases.push_back(std::move(record));
    return ok();
  }));
  MOLT_CHECK(each_at(object, "history", [&](const json::object& element) -> result<void> {
    MOLT_TRY(auto past, parse_past(element));
    state.history.push_back(std::move(past));
    return ok();
  }));
  MOLT_TRY(state.attention, text_at(object, "attention"));
  const auto* in_flight = object.if_contains("transition");
  if (in_flight == nullptr) return corrupt("\"transition\" is missing");
  if (!in_flight->is_null()) {
    if (!in_flight->is_object()) return corrupt("\"transition\" is no object");
    MOLT_TRY(state.in_flight, parse_transition(in_flight->get_object()));
  }
  MOLT_CHECK(state.check());
  return state;
}

}  // namespace molt::releases
