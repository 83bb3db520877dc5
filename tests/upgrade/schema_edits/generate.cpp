// Writes two versions of a plugin that differ by random edits, one edit a server type, with hooks or without, and what
// is expected of the gate:
//
//   generate SEED COUNT FOLDER     FOLDER/edits_1.cpp, edits_2.cpp, edits.txt
//
// edits.txt begins with "seed N"; then a line a server type:
//
//   edits.s3 add_a_member inner hooks=both two_way=1 one_way=1 identity=older
//
// identity: whose random states are the same again after the way there and back; none where nothing can be taken over.
// The same seed writes the same files.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

std::mt19937_64 source;
std::size_t below(std::size_t bound) { return static_cast<std::size_t>(source() % bound); }
template <class T>
const T& one_of(const std::vector<T>& all) {
  return all[below(all.size())];
}

struct member {
  int id = 0;  // the same over versions, whatever its name
  std::string name;
  std::string type;
};

/// What the author of one version writes.
struct version {
  std::vector<member> state;
  std::vector<member> inner;  // of the struct that stands in a member of the state
  std::vector<member> ask;    // of the message
  std::string reply = "std::int64_t";
  std::string colour = "std::uint8_t";  // below the enum that each state has
  bool handles_extra = false;           // a second message
  unsigned meaning = 0;
};

/// Around the inner struct; the edited place may lie in any of them.
const std::vector<std::string> wrappers{"inner",
                                        "std::vector<inner>",
                                        "std::deque<inner>",
                                        "std::list<inner>",
                                        "std::set<inner>",
                                        "std::map<std::uint32_t, inner>",
                                        "std::map<inner, std::uint8_t>",
                                        "std::unordered_map<std::string, inner>",
                                        "std::multimap<std::int16_t, inner>",
                                        "std::optional<inner>",
                                        "std::unique_ptr<inner>",
                                        "std::variant<std::int32_t, inner>",
                                        "std::pair<std::string, inner>",
                                        "std::tuple<bool, inner>",
                                        "std::array<inner, 2>",
                                        "std::vector<std::optional<inner>>"};
bool is_key(const std::string& wrapper) { return wrapper == wrappers[4] || wrapper == wrappers[6]; }

const std::vector<std::string> pool{"std::int64_t",
                                    "bool",
                                    "std::uint16_t",
                                    "double",
                                    "std::string",
                                    "std::vector<std::int32_t>",
                                    "std::optional<std::string>",
                                    "std::chrono::milliseconds",
                                    "std::chrono::system_clock::time_point",
                                    "std::pair<std::int32_t, std::string>",
                                    "std::array<std::uint8_t, 3>",
                                    "std::vector<bool>",
                                    "std::unordered_set<std::uint64_t>",
                                    "std::multiset<std::int16_t>",
                                    "molt::ref"};
const std::vector<std::string> simple{"std::int64_t", "std::uint16_t", "std::string", "std::int8_t"};  // may be keys

/// From a type to one that can hold all its values.
const std::vector<std::pair<std::string, std::string>> widenings{
    {"std::int32_t", "std::int64_t"},
    {"std::uint8_t", "std::uint64_t"},
    {"std::int8_t", "std::int16_t"},
    {"float", "double"},
    {"std::string", "std::vector<char>"},
    {"std::int64_t", "std::optional<std::int64_t>"},
    {"std::vector<std::uint32_t>", "std::deque<std::uint32_t>"},
    {"std::vector<std::int16_t>", "std::list<std::int64_t>"},
    {"std::map<std::string, std::int32_t>", "std::unordered_map<std::string, std::int64_t>"},
    {"std::set<std::uint16_t>", "std::vector<std::uint16_t>"},
    {"std::array<std::int32_t, 3>", "std::array<std::int32_t, 5>"},
    {"std::variant<std::int32_t, std::string>", "std::variant<std::int32_t, std::string, bool>"},
    {"std::pair<std::uint8_t, std::string>", "std::pair<std::uint32_t, std::string>"},
    {"std::tuple<bool, std::int8_t>", "std::tuple<bool, std::int32_t>"},
    {"std::unique_ptr<std::int32_t>", "std::optional<std::int32_t>"}};

struct edit {
  std::string name;
  std::string place = "-";  // "state", "inner", "ask"
  std::string identity = "both";
  bool changes = true;
  bool of_message = false;
  bool of_reply = false;  // and not of the payload
  bool refused_always = false;
};

int next_id = 0;

member made(const std::vector<std::string>& types) {
  const int id = next_id++;
  return {id, "m" + std::to_string(id), one_of(types)};
}

version first_version(bool inner_is_key) {
  version made_one;
  for (std::size_t i = 0; i < 2 + below(2); ++i) made_one.state.push_back(made(pool));
  for (std::size_t i = 0; i < 2; ++i) made_one.inner.push_back(made(inner_is_key ? simple : pool));
  for (std::size_t i = 0; i < 1 + below(2); ++i) made_one.ask.push_back(made(pool));
  return made_one;
}

/// One random edit from `before` to `after`, which comes in as a copy. `before` may get what is to be edited.
edit change(version& before, version& after, bool inner_is_key) {
  edit how;
  const std::size_t which = below(15);
  how.place = one_of(std::vector<std::string>{"state", "inner", "ask"});
  how.of_message = how.place == "ask";
  const bool in_key = how.place == "inner" && inner_is_key;
  const auto members_of = [&](version& of) -> std::vector<member>& {
    return how.place == "state" ? of.state : how.place == "inner" ? of.inner : of.ask;
  };
  auto& was = members_of(before);
  auto& is = members_of(after);
  const auto nowhere = [&] {
    how.place = "-";
    how.of_message = false;
  };
  switch (which) {
    case 0:
      nowhere();
      how.name = "nothing";
      how.changes = false;
      break;
    case 1:
    case 2:
    case 3:
      how.name = "add_a_member";
      how.identity = "older";
      is.insert(is.begin() + static_cast<std::ptrdiff_t>(below(is.size() + 1)), made(in_key ? simple : pool));
      break;
    case 4:
    case 5:
      how.name = "rename_a_member";
      is[below(is.size())].name = "renamed";
      break;
    case 6:
    case 7: {
      how.name = "reorder_members";
      was.push_back(made(simple));
      is.insert(is.begin(), was.back());
      break;
    }
    case 8:
    case 9:
    case 10: {
      how.name = "retype_a_member";
      how.identity = "older";
      auto [from, to] = in_key ? widenings[below(3)] : one_of(widenings);
      // A message's move may not throw.
      while (how.of_message && to.starts_with("std::deque")) std::tie(from, to) = one_of(widenings);
      was.push_back(made({from}));
      is.push_back(was.back());
      is.back().type = to;
      break;
    }
    case 11:
      nowhere();
      how.name = "widen_an_enum";
      how.identity = "older";
      after.colour = "std::int32_t";
      break;
    case 12:
      nowhere();
      how.name = "change_the_meaning";
      after.meaning = 2;
      break;
    case 13:
      nowhere();
      how.of_message = true;
      how.of_reply = true;
      how.name = "change_a_reply";
      after.reply = "std::uint32_t";
      break;
    default:
      nowhere();
      how.of_message = true;
      how.name = "add_a_message";
      how.changes = false;
      after.handles_extra = true;
      break;
  }
  return how;
}

/// The same edit the other way round: what was added is removed.
void invert(edit& how, version& before, version& after) {
  std::swap(before, after);
  how.name = "inverse_of_" + how.name;
  if (how.identity == "older") how.identity = "newer";
  if (how.name == "inverse_of_add_a_message") {  // senders may have it under way
    how.changes = true;
    how.refused_always = true;
  }
}

// -- Code

void write_struct(std::ostream& out, const char* name, const std::vector<member>& members,
                  const std::string& more = {}) {
  out << "struct " << name << " {\n" << more;
  for (const auto& each : members) out << "  " << each.type << ' ' << each.name << "{};\n";
}

void write_types(std::ostream& out, const version& of, const std::string& wrapper, bool with_messages) {
  out << "enum class colour : " << of.colour << " {};\n";
  write_struct(out, "inner", of.inner);
  if (is_key(wrapper)) out << "  friend auto operator<=>(const inner&, const inner&) = default;\n";
  out << "};\n";
  write_struct(
      out, "state", of.state,
      of.meaning == 0 ? "" : "  static constexpr unsigned molt_meaning = " + std::to_string(of.meaning) + ";\n");
  out << "  " << wrapper << " wrapped{};\n  colour paint{};\n};\n";
  write_struct(out, "ask", of.ask, with_messages ? "  using reply = " + of.reply + ";\n" : "");
  out << "};\n";
  if (with_messages && of.handles_extra) out << "struct extra {};\n";
}

/// become(to, from) for one struct of both versions.
void write_become(std::ostream& out, const std::string& to_type, const std::vector<member>& to,
                  const std::string& from_type, const std::vector<member>& from, const char* more = "") {
  out << "inline void become([[maybe_unused]] " << to_type << "& to, [[maybe_unused]] const " << from_type
      << "& from) {\n"
      << "  using edits::become;\n";
  for (const auto& each : to)
    for (const auto& other : from)
      if (other.id == each.id) out << "  become(to." << each.name << ", from." << other.name << ");\n";
  out << more << "}\n";
}

void write_hook(std::ostream& out, const std::string& name, const std::string& to, const std::string& from) {
  out << "  static " << to << ' ' << name << "(const " << from << "& from) {\n    " << to
      << " to{};\n    become(to, from);\n    return to;\n  }\n";
}

void write_reply_hooks(std::ostream& out, const std::string& now, const std::string& before, bool up, bool down) {
  const auto write = [&out](const char* name, const std::string& to, const std::string& from) {
    out << "  static " << to << ' ' << name << "(const " << from << "& from) {\n    " << to
        << " to{};\n    edits::become(to, from);\n    return to;\n  }\n";
  };
  if (up) write("reply_change", now, before);
  if (down) write("reply_change_down", before, now);
}

void write_server(std::ostream& out, int number, const version& of) {
  out << "struct s" << number << " : molt::server<state> {\n";
  if (of.handles_extra)
    out << "  using messages = molt::messages<ask, extra>;\n  void handle_cast(molt::context&, const extra&) {}\n";
  out << "  " << of.reply << " handle_call(molt::context&, const ask&) { return {}; }\n";
}

struct hooks_written {
  std::string name;
  bool up = false;
  bool down = false;
  bool elsewhere = false;  // they lead to a state that nobody had
};

void write_newer(std::ostream& out, int number, const version& before, const version& after, const std::string& wrapper,
                 const edit& how, const hooks_written& hooks) {
  out << "namespace n" << number << " {\nnamespace v1 {\n";
  write_types(out, before, wrapper, false);
  out << "}\n";
  write_types(out, after, wrapper, true);
  const std::string elsewhere = how.of_message ? "v0::ask" : "v0::state";
  if (hooks.elsewhere && !how.of_reply) {
    out << "namespace v0 {\nstruct " << elsewhere.substr(4) << " { std::int8_t never_was = 0; };\n"
        << "}\ntemplate <class To>\nvoid become(To&, const " << elsewhere << "&) {}\n"
        << "template <class From>\nvoid become(" << elsewhere << "&, const From&) {}\n";
  } else if (!how.of_reply && (hooks.up || hooks.down)) {
    const char* rest = "  become(to.wrapped, from.wrapped);\n  become(to.paint, from.paint);\n";
    for (const bool up : {true, false}) {
      const std::string to = up ? "" : "v1::";
      const std::string from = up ? "v1::" : "";
      const auto& now = up ? after : before;
      const auto& then = up ? before : after;
      write_become(out, to + "inner", now.inner, from + "inner", then.inner);
      write_become(out, to + "state", now.state, from + "state", then.state, rest);
      write_become(out, to + "ask", now.ask, from + "ask", then.ask);
    }
  }
  write_server(out, number, after);
  if (how.of_reply) {
    write_reply_hooks(out, after.reply, hooks.elsewhere ? "std::int8_t" : before.reply, hooks.up, hooks.down);
    out << "};\n}\n\n";
    return;
  }
  const std::string what = how.of_message ? "ask" : "state";
  const std::string frozen = hooks.elsewhere ? elsewhere : "v1::" + what;
  const std::string name = how.of_message ? "message_change" : "code_change";
  if (hooks.up) write_hook(out, name, what, frozen);
  if (hooks.down) write_hook(out, name + "_down", frozen, what);
  out << "};\n}\n\n";
}

void write_older(std::ostream& out, int number, const version& before, const std::string& wrapper) {
  out << "namespace n" << number << " {\n";
  write_types(out, before, wrapper, true);
  write_server(out, number, before);
  out << "};\n}\n\n";
}

hooks_written random_hooks(const edit& how) {
  if (!how.changes || how.refused_always) return {"none"};
  switch (below(8)) {
    case 0:
      return {"up", true};
    case 1:
      return {"down", false, true};
    case 2:
      return {"none"};
    case 3:
      return {"elsewhere", true, true, true};
    default:
      return {"both", true, true};
  }
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) {
    std::cerr << "generate SEED COUNT FOLDER\n";
    return 2;
  }
  const auto seed = std::strtoull(words[1], nullptr, 10);
  const int types = std::atoi(words[2]);
  const std::string folder = words[3];
  source.seed(seed);
  std::ofstream older{folder + "/edits_1.cpp"};
  std::ofstream newer{folder + "/edits_2.cpp"};
  std::ofstream expected{folder + "/edits.txt"};
  older << "// Made by generate.cpp, seed " << seed << ".\n#include <molt/plugin.hpp>\n\n";
  newer << "// Made by generate.cpp, seed " << seed << ".\n#include \"tests/upgrade/schema_edits/become.hpp\"\n\n";
  expected << "seed " << seed << '\n';
  std::string servers;
  for (int number = 0; number < types; ++number) {
    const std::string& wrapper = one_of(wrappers);
    version before = first_version(is_key(wrapper));
    version after = before;
    edit how = change(before, after, is_key(wrapper));
    // Keys that lose a member may become equal, so nothing is taken from an inner struct that is one.
    const bool invertible = how.changes || how.name == "add_a_message";
    if (invertible && !(how.place == "inner" && is_key(wrapper)) && below(3) == 0) invert(how, before, after);
    const hooks_written hooks = random_hooks(how);
    write_older(older, number, before, wrapper);
    write_newer(newer, number, before, after, wrapper, how, hooks);
    bool up = !how.changes || (hooks.up && !hooks.elsewhere);
    bool down = !how.changes || (hooks.down && !hooks.elsewhere);
    if (how.of_reply)
      std::swap(up, down);  // once the newer version answers, its replies go to callers of the older one
    expected << "edits.s" << number << ' ' << how.name << ' ' << how.place << " hooks=" << hooks.name
             << " two_way=" << (!how.refused_always && up && down) << " one_way=" << (!how.refused_always && up)
             << " identity=" << (how.of_message ? "none" : how.identity) << '\n';
    servers += ", n" + std::to_string(number) + "::s" + std::to_string(number);
  }
  older << "MOLT_PLUGIN(\"edits\", MOLT_PLUGIN_VERSION" << servers << ")\n";
  newer << "MOLT_PLUGIN(\"edits\", MOLT_PLUGIN_VERSION" << servers << ")\n";
  older.close();
  newer.close();
  expected.close();
  if (older && newer && expected) return 0;
  std::cerr << "generate: cannot write below " << folder << '\n';
  return 1;
}
