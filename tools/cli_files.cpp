// diff, gate, pack: read and write files; no daemon is asked and no plugin's code is run.
#include "loader/foreign_file.hpp"
#include "loader/inspection.hpp"
#include "loader/plugin_report.hpp"
#include "node/api_error.hpp"
#include "plugin/abi.h"
#include "releases/package.hpp"
#include "releases/release_gate.hpp"
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"
#include "upgrade/gate.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>

namespace molt::cli {

namespace json = boost::json;

namespace {

int fail(const settings& with, const error& why, std::string_view where) {
  const int exit_code = static_cast<int>(node::exit_code_of(why.why()));
  report_error(with, why, where, exit_code);
  return exit_code;
}

template <class Range>
json::array strings(const Range& from) {
  json::array out;
  for (const auto& text : from) out.emplace_back(text);
  return out;
}

std::string hex(std::uint64_t number) {
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(number));
  return text.data();
}

json::value schema_name(const plugin_description& of, std::uint32_t index) {
  if (index >= of.schemas.size()) return nullptr;
  return json::value(of.schemas[index].name);
}

json::array edges_json(const plugin_description& plugin, const std::vector<edge_description>& edges) {
  json::array out;
  for (const auto& edge : edges) {
    json::object one{
        {"type", edge.server_type < plugin.server_types.size() ? plugin.server_types[edge.server_type].name : ""},
        {"from", schema_name(plugin, edge.from)},
        {"to", schema_name(plugin, edge.to)},
        {"flags", strings(loader::edge_flag_names(edge.flags))}};
    if (!edge.message.empty()) one["message"] = edge.message;
    if (!edge.loss.empty()) one["loss"] = {{"name", edge.loss}, {"text", edge.loss_text}};
    out.emplace_back(std::move(one));
  }
  return out;
}

json::object coverage_json(const loader::coverage& how) {
  json::array hooks;
  for (const auto& hook : how.hooks)
    hooks.push_back({{"from", hook.from}, {"to", hook.to}, {"kind", hook.kind}, {"evolves", hook.evolves}});
  json::object out{{"covered", how.covered},
                   {"steps", strings(how.steps)},
                   {"hooks", std::move(hooks)},
                   {"losses", strings(how.losses)}};
  if (!how.to_write.empty()) out["to_write"] = how.to_write;
  return out;
}

/// Whether the difference has said already what to write, or which version to raise.
bool stands_beside_a_change(const std::string& problem, const loader::plugin_difference& difference) {
  const auto in_it = [&](const std::string& text) { return !text.empty() && problem.find(text) != std::string::npos; };
  return std::any_of(difference.unversioned.begin(), difference.unversioned.end(), in_it) ||
         std::any_of(difference.changes.begin(), difference.changes.end(),
                     [&](const auto& change) { return in_it(change.up.to_write) || in_it(change.down.to_write); });
}

json::object verdict_json(const upgrade::gate_verdict& verdict) {
  const auto& difference = verdict.difference;
  json::array changes;
  for (const auto& change : difference.changes)
    changes.emplace_back(json::object{{"what", change.what},
                                      {"lines", strings(change.lines)},
                                      {"up", coverage_json(change.up)},
                                      {"down", coverage_json(change.down)}});
  return {{"older", difference.older},
          {"newer", difference.newer},
          {"passed", verdict.passed()},
          {"problems", strings(verdict.problems)},
          {"unversioned", strings(difference.unversioned)},
          {"notes", strings(verdict.notes)},
          {"remarks", strings(difference.remarks)},
          {"added_types", strings(difference.added_types)},
          {"removed_types", strings(difference.removed_types)},
          {"added_messages", strings(difference.added_messages)},
          {"removed_messages", strings(difference.removed_messages)},
          {"changes", std::move(changes)}};
}

}  // namespace

json::object plugin_json(const plugin_description& plugin) {
  json::array schemas;
  for (const auto& schema : plugin.schemas)
    schemas.emplace_back(json::object{{"name", schema.name},
                                      {"fingerprint", hex(schema.fingerprint)},
                                      {"size", schema.size},
                                      {"align", schema.align},
                                      {"version", schema.version},
                                      {"flags", strings(loader::schema_flag_names(schema.flags))},
                                      {"text", schema.text}});
  json::array types;
  for (const auto& type : plugin.server_types) {
    json::array messages;
    for (const auto& handler : type.handlers) {
      if (handler.message >= plugin.messages.size()) continue;
      const auto& message = plugin.messages[handler.message];
      messages.emplace_back(json::object{{"name", message.name},
                                         {"payload", schema_name(plugin, message.payload)},
                                         {"reply", schema_name(plugin, message.reply)}});
    }
    types.emplace_back(json::object{{"name", type.name},
                                    {"kind", type.kind == MOLT_KIND_CONNECTION ? "connection" : "server"},
                                    {"state", schema_name(plugin, type.state)},
                                    {"messages", std::move(messages)}});
  }
  return {{"name", plugin.name},
          {"version", plugin.version},
          {"abi_version", plugin.abi_version},
          {"toolchain", plugin.toolchain},
          {"build", plugin.build},
          {"server_types", std::move(types)},
          {"schemas", std::move(schemas)},
          {"state_edges", edges_json(plugin, plugin.state_edges)},
          {"message_edges", edges_json(plugin, plugin.message_edges)},
          {"reply_edges", edges_json(plugin, plugin.reply_edges)}};
}

// Exit 1 says that an upgrade from one to the other would be refused.
int diff(const settings& with, const std::string& older, const std::string& newer, bool one_way) {
  const auto before = loader::inspect_foreign(older);
  if (!before) return fail(with, before.error(), older);
  const auto after = loader::inspect_foreign(newer);
  if (!after) return fail(with, after.error(), newer);
  const auto verdict = upgrade::check_replacement(before->plugin, after->plugin, one_way);
  if (with.json) {
    print_json(verdict_json(verdict));
  } else {
    std::fputs(loader::describe(verdict.difference).c_str(), stdout);
    if (!verdict.passed()) std::fputs("an upgrade would be refused\n", stdout);
    for (const auto& problem : verdict.problems)
      if (!stands_beside_a_change(problem, verdict.difference)) std::printf("  %s\n", problem.c_str());
    if (!verdict.notes.empty()) std::fputs("notes:\n", stdout);
    for (const auto& note : verdict.notes) std::printf("  %s\n", note.c_str());
  }
  return verdict.passed() ? exit_done : exit_refused;
}

int gate(const settings& with, const std::string& newer, const std::vector<std::string>& replaced, bool one_way) {
  const auto after = loader::inspect_foreign(newer);
  if (!after) return fail(with, after.error(), newer);
  if (const auto sound = loader::require_replaceable(*after); !sound) return fail(with, sound.error(), newer);
  json::array verdicts;
  bool all = true;
  for (const auto& older : replaced) {
    const auto before = loader::inspect_foreign(older);
    if (!before) return fail(with, before.error(), older);
    const auto verdict = upgrade::check_replacement(before->plugin, after->plugin, one_way);
    all = all && verdict.passed();
    verdicts.push_back(verdict_json(verdict));
    if (with.json || verdict.passed()) continue;
    std::printf("%s: cannot replace %s while it runs:\n", newer.c_str(), verdict.difference.older.c_str());
    for (const auto& problem : verdict.problems) std::printf("  %s\n", problem.c_str());
  }
  if (with.json) print_json(json::object{{"passed", all}, {"replaces", std::move(verdicts)}});
  return all ? exit_done : exit_refused;
}

// Exit 1 and no package if an upgrade from one of `replaced` would be refused.
int pack(const settings& with, const std::string& folder, const std::string& output,
         const std::vector<std::string>& replaced, const inspect_request& findings) {
  if (!findings.policy.empty())
    if (const auto sound = check_policy(folder, findings.policy, findings.fail_on); !sound)
      return fail(with, sound.error(), folder);
  const auto parent = std::filesystem::absolute(output).parent_path();
  for (const auto& older : replaced) {
    const auto verdict = releases::check_replacement(older, folder, parent);
    if (!verdict) return fail(with, verdict.error(), older);
    if (verdict->passed()) continue;
    std::string text = verdict->newer + " cannot follow " + verdict->older + " while it runs";
    for (const auto& problem : verdict->problems) text += "\n  " + problem;
    return fail(with, {reason::refused, text, "no package was written"}, folder);
  }
  const auto packed = [&] {
    const progress shown{"packing " + folder};
    return releases::pack(folder, output);
  }();
  if (!packed) return fail(with, packed.error(), folder);
  if (with.json)
    print_json(json::object{{"id", packed->id()}, {"file", output}});
  else
    std::printf("%s\n", output.c_str());
  suggest(with, "molt install " + output);
  return exit_done;
}

}  // namespace molt::cli
