// inspect, diff, pack: read and write files; no daemon is asked and no plugin's code is run.
#include "loader/inspection.hpp"
#include "loader/plugin_report.hpp"
#include "node/api_error.hpp"
#include "plugin/abi.h"
#include "releases/package.hpp"
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <array>
#include <cstdint>
#include <cstdio>

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
          {"server_types", std::move(types)},
          {"schemas", std::move(schemas)},
          {"state_edges", edges_json(plugin, plugin.state_edges)},
          {"message_edges", edges_json(plugin, plugin.message_edges)},
          {"reply_edges", edges_json(plugin, plugin.reply_edges)}};
}

json::object inspection_json(const loader::inspection& facts) {
  json::array findings;
  for (const auto& finding : facts.findings)
    findings.emplace_back(json::object{{"kind", loader::to_string(finding.kind)},
                                       {"severity", finding.level == loader::severity::refuse ? "refuse" : "warn"},
                                       {"text", finding.text},
                                       {"hint", finding.hint}});
  return {{"path", facts.path.string()},        {"size", facts.size},
          {"machine", facts.machine},           {"build_id", facts.build_id},
          {"replaceable", facts.replaceable()}, {"needed", strings(facts.needed)},
          {"findings", std::move(findings)},    {"plugin", plugin_json(facts.plugin)}};
}

json::object coverage_json(const loader::coverage& how) {
  return {{"covered", how.covered}, {"steps", strings(how.steps)}, {"losses", strings(how.losses)}};
}

json::object difference_json(const loader::plugin_difference& difference) {
  json::array changes;
  for (const auto& change : difference.changes)
    changes.emplace_back(json::object{{"what", change.what},
                                      {"lines", strings(change.lines)},
                                      {"up", coverage_json(change.up)},
                                      {"down", coverage_json(change.down)}});
  return {{"older", difference.older},
          {"newer", difference.newer},
          {"covered", difference.covered()},
          {"remarks", strings(difference.remarks)},
          {"added_types", strings(difference.added_types)},
          {"removed_types", strings(difference.removed_types)},
          {"added_messages", strings(difference.added_messages)},
          {"removed_messages", strings(difference.removed_messages)},
          {"changes", std::move(changes)}};
}

}  // namespace

// Exit 1 says that a node would refuse to load the file.
int inspect(const settings& with, const std::string& file) {
  const auto facts = loader::inspect(file);
  if (!facts) return fail(with, facts.error(), file);
  if (with.json)
    print_json(inspection_json(*facts));
  else
    std::fputs(loader::describe(*facts).c_str(), stdout);
  if (facts->replaceable()) return exit_done;
  if (with.json) return exit_refused;  // the findings are in the answer
  return fail(with, loader::require_replaceable(*facts).error(), file);
}

// Exit 1 says that a change has no way in one direction, so that an upgrade would be refused.
int diff(const settings& with, const std::string& older, const std::string& newer) {
  const auto before = loader::inspect(older);
  if (!before) return fail(with, before.error(), older);
  const auto after = loader::inspect(newer);
  if (!after) return fail(with, after.error(), newer);
  const auto difference = loader::compare(before->plugin, after->plugin);
  if (with.json)
    print_json(difference_json(difference));
  else
    std::fputs(loader::describe(difference).c_str(), stdout);
  if (!difference.covered()) {
    suggest(with, "write code_change and code_change_down in the newer plugin for what is not covered");
    return exit_refused;
  }
  return exit_done;
}

int pack(const settings& with, const std::string& folder, const std::string& output) {
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
