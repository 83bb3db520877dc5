#include "loader/plugin_report.hpp"

#include "base/utf8.hpp"
#include "loader/plugin_advice.hpp"
#include "plugin/abi.h"
#include "plugin/schema_text.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

namespace molt::loader {
namespace {

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : std::string{between}) + part;
  return out;
}

std::string words_of(const schema_description& schema) {
  const auto tree = parse_schema_text(schema.text);
  return tree ? to_string(*tree) : schema.text;
}

// Where a change starts and ends, and the edges that may lead there.
struct route {
  const plugin_description& edges_of;
  const std::vector<edge_description>& edges;
  const server_type_description& type;  // of edges_of
  std::string_view message;             // whose payload or reply; empty: the state
  bool down;
};

bool has_evolving(const schema_node& node) {
  const auto inside = [](const auto& all, const auto& node_of) {
    return std::any_of(all.begin(), all.end(), [&](const auto& each) { return has_evolving(node_of(each)); });
  };
  return (node.what == schema_node::kind::container && node.name.starts_with("evolving_")) ||
         inside(node.arguments, [](const auto& each) -> const schema_node& { return each; }) ||
         inside(node.members, [](const auto& each) -> const schema_node& { return each.type; });
}

bool has_evolving(const std::string& text) {
  const auto tree = parse_schema_text(text);
  return tree && has_evolving(*tree);
}

// The shortest way over the newer plugin's edges, by fingerprint. upgrade/ decides; this only shows.
coverage find_coverage(const route& along, const schema_description& from, const schema_description& to) {
  coverage found;
  if (from.fingerprint == to.fingerprint) {
    found.covered = true;
    return found;
  }
  const auto& plugin = along.edges_of;
  const auto type_index = static_cast<std::uint32_t>(&along.type - plugin.server_types.data());
  std::map<std::uint64_t, const edge_description*> reached{{from.fingerprint, nullptr}};
  std::vector<std::uint64_t> queue{from.fingerprint};
  for (std::size_t i = 0; i < queue.size() && !reached.contains(to.fingerprint); ++i) {
    for (const auto& edge : along.edges) {
      const bool usable = edge.server_type == type_index && ((edge.flags & MOLT_EDGE_DOWN) != 0) == along.down &&
                          (edge.message.empty() || edge.message == along.message) &&
                          plugin.schemas[edge.from].fingerprint == queue[i];
      if (usable && reached.emplace(plugin.schemas[edge.to].fingerprint, &edge).second)
        queue.push_back(plugin.schemas[edge.to].fingerprint);
    }
  }
  if (!reached.contains(to.fingerprint)) {
    found.covered =
        !along.down && (to.flags & MOLT_SCHEMA_READS_OLDER) != 0 && from.name == to.name && from.version < to.version;
    if (found.covered) found.steps.push_back("reads archives of version " + std::to_string(from.version));
    return found;
  }
  found.covered = true;
  for (const auto* edge = reached[to.fingerprint]; edge != nullptr;
       edge = reached[plugin.schemas[edge->from].fingerprint]) {
    const auto& taken = plugin.schemas[edge->from];
    const auto& made = plugin.schemas[edge->to];
    found.steps.insert(found.steps.begin(), taken.name + " -> " + made.name);
    found.hooks.insert(found.hooks.begin(), {taken.name, made.name, std::string{hook_kind(edge->flags)},
                                             has_evolving(along.down ? taken.text : made.text)});
    if (!edge->loss.empty()) found.losses.insert(found.losses.begin(), edge->loss);
  }
  return found;
}

class comparison {
 public:
  comparison(const plugin_description& older, const plugin_description& newer) : older_{older}, newer_{newer} {
    found_.older = older.name + " " + older.version;
    found_.newer = newer.name + " " + newer.version;
  }

  plugin_difference run() {
    if (older_.name != newer_.name) found_.remarks.push_back("these are two plugins, not two versions of one");
    if (older_.toolchain != newer_.toolchain)
      found_.remarks.push_back("toolchain \"" + older_.toolchain + "\" became \"" + newer_.toolchain +
                               "\": every state goes through its archive");
    if (older_.build != newer_.build)
      found_.remarks.push_back("built with " + (older_.build.empty() ? "nobody knows what" : older_.build) +
                               ", now with " + (newer_.build.empty() ? "nobody knows what" : newer_.build));
    if (older_.abi_version != newer_.abi_version)
      found_.remarks.push_back("plugin ABI version " + std::to_string(older_.abi_version) + " became " +
                               std::to_string(newer_.abi_version));
    found_.unversioned = unversioned_changes(older_, newer_);
    for (const auto& type : older_.server_types)
      if (newer_.find_server_type(type.name) == nullptr) found_.removed_types.push_back(type.name);
    for (const auto& type : newer_.server_types) {
      if (const auto* old = older_.find_server_type(type.name))
        compare_types(*old, type);
      else
        found_.added_types.push_back(type.name);
    }
    return std::move(found_);
  }

 private:
  static const message_description* find_message(const plugin_description& plugin, const server_type_description& type,
                                                 const std::string& name) {
    for (const auto& handler : type.handlers)
      if (plugin.messages[handler.message].name == name) return &plugin.messages[handler.message];
    return nullptr;
  }

  void compare_types(const server_type_description& old, const server_type_description& now) {
    const std::string& name = now.name;
    compare_schemas(name + " state", name + ".state", {newer_, newer_.state_edges, now, {}, false},
                    older_.schemas[old.state], newer_.schemas[now.state]);
    for (const auto& handler : old.handlers) {
      const auto& message = older_.messages[handler.message];
      const auto* kept = find_message(newer_, now, message.name);
      if (kept == nullptr)
        found_.removed_messages.push_back(name + ' ' + message.name);
      else
        compare_messages(name + ' ' + message.name, name + '.' + message.name, now, message, *kept);
    }
    for (const auto& handler : now.handlers) {
      const auto& message = newer_.messages[handler.message];
      if (find_message(older_, old, message.name) == nullptr)
        found_.added_messages.push_back(name + ' ' + message.name);
    }
  }

  void compare_messages(const std::string& what, const std::string& path, const server_type_description& type,
                        const message_description& old, const message_description& now) {
    compare_schemas(what, path, {newer_, newer_.message_edges, type, now.name, false}, older_.schemas[old.payload],
                    newer_.schemas[now.payload]);
    const bool was_call = old.reply != no_schema;
    const bool is_call = now.reply != no_schema;
    if (was_call && is_call) {
      compare_schemas(what + " reply", path + ".reply", {newer_, newer_.reply_edges, type, now.name, false},
                      older_.schemas[old.reply], newer_.schemas[now.reply]);
    } else if (was_call != is_call) {
      schema_change change;
      change.what = what;
      change.lines.push_back(path + (was_call ? ": was a call, is a cast" : ": was a cast, is a call"));
      found_.changes.push_back(std::move(change));
    }
  }

  void compare_schemas(std::string what, const std::string& path, route along, const schema_description& old,
                       const schema_description& now) {
    if (old.fingerprint == now.fingerprint && old.text == now.text) return;
    schema_change change;
    change.what = std::move(what);
    change.lines = describe_difference(old.text, now.text, path);
    if (change.lines.empty()) change.lines.push_back(path + ": the same structure under another toolchain");
    missing_hook hook{"code_change", along.type.name, &older_, &newer_, &old, &now};
    if (!along.message.empty()) hook.function = "message_change";
    const bool replies = &along.edges == &newer_.reply_edges;
    if (replies) hook.function = "reply_change";
    auto up = find_coverage(along, old, now);
    if (!up.covered) up.to_write = hook_to_write(hook);
    along.down = hook.down = true;
    auto down = find_coverage(along, now, old);
    if (!down.covered) down.to_write = hook_to_write(hook);
    // Replies travel the other way: once the newer version answers, its replies go to callers of the older one.
    change.up = replies ? down : up;
    change.down = replies ? up : down;
    found_.changes.push_back(std::move(change));
  }

  const plugin_description& older_;
  const plugin_description& newer_;
  plugin_difference found_;
};

std::string describe_coverage(std::string_view direction, const coverage& way) {
  std::string out = "    " + std::string{direction} + ": ";
  if (!way.covered) return out + "no hook leads there" + (way.to_write.empty() ? "" : ": " + way.to_write) + '\n';
  std::vector<std::string> steps;
  for (const auto& hook : way.hooks) {
    const std::string uses = hook.kind == "pure"     ? "pure"
                             : hook.kind == "others" ? "with other servers"
                                                     : "with context";
    steps.push_back(hook.from + " -> " + hook.to + " (" + uses + (hook.evolves ? ", evolving)" : ")"));
  }
  if (steps.empty()) steps = way.steps;
  out += steps.empty() ? "nothing to do" : joined(steps, ", then ");
  if (!way.losses.empty()) out += "; loses " + joined(way.losses, ", ");
  return out + '\n';
}

void describe_plugin(std::string& out, const plugin_description& plugin) {
  out += "plugin     " + plugin.name + ' ' + plugin.version + "\n";
  out += "abi        " + std::to_string(plugin.abi_version) + "\n";
  out += "toolchain  " + plugin.toolchain + "\n";
  if (!plugin.build.empty()) out += "built      " + plugin.build + "\n";
  for (std::uint32_t i = 0; i < plugin.server_types.size(); ++i) {
    const auto& type = plugin.server_types[i];
    const auto& state = plugin.schemas[type.state];
    out += "\n" + type.name + (type.kind == MOLT_KIND_CONNECTION ? "  (connection)\n" : "\n");
    out += "  state " + state.name + ": " + words_of(state) + "\n";
    if (state.flags != 0) out += "    " + joined(schema_flag_names(state.flags), ", ") + "\n";
    for (const auto& handler : type.handlers) {
      const auto& message = plugin.messages[handler.message];
      out += (message.reply == no_schema ? "  cast " : "  call ") + message.name + ": " +
             words_of(plugin.schemas[message.payload]);
      if (message.reply != no_schema) out += " -> " + words_of(plugin.schemas[message.reply]);
      out += (handler.flags & MOLT_HANDLER_DEFERS) != 0 ? "  (may reply later)\n" : "\n";
    }
    const auto list = [&](const std::vector<edge_description>& edges, std::string_view what) {
      for (const auto& edge : edges) {
        if (edge.server_type != i) continue;
        out += "  " + std::string{what} + ((edge.flags & MOLT_EDGE_DOWN) != 0 ? " down " : " up ") +
               plugin.schemas[edge.from].name + " -> " + plugin.schemas[edge.to].name;
        if (!edge.message.empty() && plugin.messages.size() > 1) out += "  (" + edge.message + ")";
        if ((edge.flags & MOLT_EDGE_OTHERS) != 0)
          out += "; uses other servers";
        else if ((edge.flags & MOLT_EDGE_CONTEXT) != 0)
          out += "; uses its context";
        if (!edge.loss.empty()) out += "; loses " + edge.loss + ": " + edge.loss_text;
        out += '\n';
      }
    };
    list(plugin.state_edges, "state");
    list(plugin.message_edges, "message");
    list(plugin.reply_edges, "reply");
  }
}

constexpr std::size_t findings_shown_max = 5;  // of one kind

void describe_findings(std::string& out, const std::vector<finding>& findings) {
  std::map<finding_kind, std::size_t> shown;
  for (std::size_t i = 0; i < findings.size(); ++i) {
    const auto& one = findings[i];
    if (++shown[one.kind] > findings_shown_max) continue;
    out += one.level == severity::refuse ? "refused: " : one.level == severity::warn ? "warning: " : "note: ";
    out += one.text + " (" + std::string{to_string(one.kind)} + ")";
    const bool same_follows = i + 1 < findings.size() && findings[i + 1].hint == one.hint;
    if (!one.hint.empty() && (!same_follows || shown[one.kind] == findings_shown_max)) out += "\n         " + one.hint;
    out += '\n';
  }
  for (const auto& [kind, count] : shown)
    if (count > findings_shown_max)
      out += "and " + std::to_string(count - findings_shown_max) + " more: " + std::string{to_string(kind)} + '\n';
}

}  // namespace

bool plugin_difference::empty() const noexcept {
  return remarks.empty() && unversioned.empty() && added_types.empty() && removed_types.empty() &&
         added_messages.empty() && removed_messages.empty() && changes.empty();
}

bool plugin_difference::covered() const noexcept {
  return unversioned.empty() && std::all_of(changes.begin(), changes.end(), [](const schema_change& change) {
           return change.up.covered && change.down.covered;
         });
}

plugin_difference compare(const plugin_description& older, const plugin_description& newer) {
  return comparison{older, newer}.run();
}

std::string describe(const inspection& seen) {
  std::string out = "file       " + printable(seen.path.string()) + "\n";
  out += "machine    " + seen.machine + ", " + std::to_string(seen.size) + " bytes\n";
  out += "build id   " + (seen.build_id.empty() ? "none" : seen.build_id) + "\n";
  if (!seen.plugin.name.empty()) describe_plugin(out, seen.plugin);
  if (!seen.findings.empty()) out += "\n";
  describe_findings(out, seen.findings);
  out += seen.replaceable() ? "\ncan be replaced while running\n" : "\ncannot be loaded\n";
  return out;
}

std::string describe(const plugin_difference& found) {
  std::string out = found.older + " -> " + found.newer + "\n";
  for (const auto& remark : found.remarks) out += "  " + remark + "\n";
  for (const auto& change : found.unversioned) out += "  " + change + "\n";
  const auto list = [&out](std::string_view what, const std::vector<std::string>& names) {
    for (const auto& name : names) out += "  " + std::string{what} + ' ' + name + '\n';
  };
  list("added server type", found.added_types);
  list("removed server type", found.removed_types);
  list("added message", found.added_messages);
  list("removed message", found.removed_messages);
  for (const auto& change : found.changes) {
    for (const auto& line : change.lines) out += "  " + line + '\n';
    out += describe_coverage("up", change.up);
    out += describe_coverage("down", change.down);
  }
  if (found.empty()) out += "  no difference in states and messages\n";
  return out;
}

std::vector<std::string> schema_flag_names(std::uint32_t flags) {
  std::vector<std::string> names;
  if ((flags & MOLT_SCHEMA_CODE_FREE) != 0) names.emplace_back("code_free");
  if ((flags & MOLT_SCHEMA_READS_OLDER) != 0) names.emplace_back("reads_older");
  if ((flags & MOLT_SCHEMA_TRANSPARENT) != 0) names.emplace_back("transparent");
  return names;
}

std::string_view hook_kind(std::uint32_t flags) noexcept {
  if ((flags & MOLT_EDGE_OTHERS) != 0) return "others";
  return (flags & MOLT_EDGE_CONTEXT) != 0 ? "context" : "pure";
}

std::vector<std::string> edge_flag_names(std::uint32_t flags) {
  std::vector<std::string> names;
  if ((flags & MOLT_EDGE_DOWN) != 0) names.emplace_back("down");
  if ((flags & MOLT_EDGE_CONSUMES) != 0) names.emplace_back("consumes");
  if ((flags & MOLT_EDGE_NOEXCEPT) != 0) names.emplace_back("noexcept");
  if ((flags & MOLT_EDGE_WHOLE) != 0) names.emplace_back("whole");
  if ((flags & MOLT_EDGE_CONTEXT) != 0) names.emplace_back("context");
  if ((flags & MOLT_EDGE_OTHERS) != 0) names.emplace_back("others");
  return names;
}

}  // namespace molt::loader
