#include "upgrade/gate.hpp"

#include <utility>

namespace molt::upgrade {

gate_verdict check_replacement(const plugin_description& older, const plugin_description& newer, bool one_way) {
  gate_verdict verdict;
  verdict.difference = loader::compare(older, newer);
  if (older.name != newer.name) {
    verdict.problems.push_back(newer.name + ' ' + newer.version + " is another plugin than " + older.name + ' ' +
                               older.version + ": a plugin is replaced by a version of itself");
    return verdict;
  }
  plan_options options;
  options.one_way = one_way;
  for (const auto* plugin : {&older, &newer})
    for (const auto* edges : {&plugin->state_edges, &plugin->message_edges, &plugin->reply_edges})
      for (const auto& edge : *edges)
        if (!edge.loss.empty()) options.accept_loss.push_back(edge.loss);
  verdict.planned = make_plan({&older, 1}, {&newer, 1}, options);
  verdict.problems = verdict.planned.problems;
  verdict.notes = verdict.planned.notes;
  for (const auto& type : verdict.difference.removed_types)
    verdict.notes.push_back(type + " is gone: its servers must end before an upgrade");
  return verdict;
}

}  // namespace molt::upgrade
