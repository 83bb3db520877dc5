#include "upgrade/plan.hpp"

#include "loader/plugin_advice.hpp"
#include "plugin/abi.h"
#include "plugin/schema_text.hpp"
#include "state_migration/migration_graph.hpp"
#include "upgrade/plan_messages.hpp"
#include "upgrade/plan_parts.hpp"

#include <algorithm>

namespace molt::upgrade {
namespace {

using descriptions = std::span<const plugin_description>;

const std::string kept_loss = "since=";  // kept_states.hpp

using detail::contains;
using detail::difference;
using detail::join;
using detail::located_type;

located_type find_type(descriptions plugins, std::string_view name) {
  for (const auto& plugin : plugins)
    if (const auto* type = plugin.find_server_type(name)) return {&plugin, type};
  return {};
}

/// One direction of a plan: every type of `from`, seen from `to`.
class direction_planner {
 public:
  direction_planner(descriptions from, descriptions to, direction going, const plan_options& options, plan& whole)
      : from_{from}, to_{to}, going_{going}, options_{options}, whole_{whole} {}

  /// `backwards`: this is the way back of the plan, taken only if something fails or the operator wants it.
  std::vector<type_plan> run(bool backwards) {
    backwards_ = backwards;
    std::vector<type_plan> types;
    for (const auto& plugin : from_)
      for (const auto& type : plugin.server_types) {
        const auto target = find_type(to_, type.name);
        types.push_back(target ? plan_staying({&plugin, &type}, target) : plan_removed({&plugin, &type}));
      }
    for (const auto& plugin : to_)
      for (const auto& type : plugin.server_types)
        if (!find_type(from_, type.name)) types.push_back(added(plugin, type));
    return types;
  }

 private:
  static type_plan added(const plugin_description& plugin, const server_type_description& type) {
    type_plan planned;
    planned.type = type.name;
    planned.change = type_change::added;
    planned.to_version = plugin.version;
    return planned;
  }

  type_plan plan_removed(const located_type& gone) {
    type_plan planned;
    planned.type = gone.type->name;
    planned.change = type_change::removed;
    planned.from_version = gone.plugin->version;
    if (backwards_)
      whole_.notes.push_back(planned.type + " is new: its servers must end before a rollback");
    else if (contains(options_.types_in_use, planned.type))
      whole_.problems.push_back(
          planned.type + " is gone from the next release but still in use: keep the type, or end its servers before");
    return planned;
  }

  type_plan plan_staying(const located_type& from, const located_type& to) {
    type_plan planned;
    planned.type = from.type->name;
    planned.from_version = from.plugin->version;
    planned.to_version = to.plugin->version;
    if (*from.plugin == *to.plugin) {
      for (const auto& handler : from.type->handlers)
        planned.messages.push_back({from.plugin->messages.at(handler.message).name, message_cover::same_key, {}, {}});
      return planned;
    }
    planned.change = type_change::changed;
    planned.changes = changes_between(from, to);
    const auto unversioned = loader::unversioned_changes(*from.plugin, *to.plugin, planned.type);
    if (!unversioned.empty()) {
      // Hooks between two things of one name would be of no use: versions tell states, messages and hooks apart.
      if (!backwards_) whole_.problems.insert(whole_.problems.end(), unversioned.begin(), unversioned.end());
      return planned;
    }
    plan_state(from, to, planned);
    const auto known = whole_.problems.size();
    detail::message_planner messages{from, to, going_, backwards_, options_, whole_};
    for (const auto& handler : from.type->handlers)
      planned.messages.push_back(messages.run(from.plugin->messages.at(handler.message)));
    messages.check_deferred_replies(planned);
    if (options_.from_kept && going_ == direction::down && !backwards_) {  // the rest of what is lost
      for (auto at = known; at < whole_.problems.size(); ++at)
        whole_.notes.push_back("those that wait get unknown_message: " + whole_.problems[at]);
      whole_.problems.resize(known);
    }
    return planned;
  }

  [[nodiscard]] const plan_options::kept_type* kept_of(std::string_view type) const {
    if (!options_.from_kept || going_ == direction::up || backwards_) return nullptr;
    const auto found =
        std::find_if(options_.kept.begin(), options_.kept.end(), [&](const auto& kept) { return kept.type == type; });
    return found == options_.kept.end() ? nullptr : &*found;
  }

  /// No hook leads back: all its servers become what was kept of them.
  void plan_from_kept(const plan_options::kept_type& kept, const std::string& why, type_plan& planned) {
    planned.way = way::archive;
    planned.steps = {"from what was kept at migration"};
    planned.losses = {{kept_loss + kept.since, "what " + std::to_string(kept.servers) + " servers did since"}};
    whole_.notes.push_back(planned.type + " has no way back but what was kept: " + why);
    for (const auto& loss : planned.losses) report_loss(planned.type, loss);
  }

  static std::vector<std::string> changes_between(const located_type& from, const located_type& to) {
    const std::string& type = from.type->name;
    std::vector<std::string> changes;
    const auto add = [&](std::uint32_t before, std::uint32_t after, const std::string& path) {
      if (before == no_schema || after == no_schema) return;
      for (auto& line :
           describe_difference(from.plugin->schemas.at(before).text, to.plugin->schemas.at(after).text, path))
        changes.push_back(std::move(line));
    };
    add(from.type->state, to.type->state, type + ".state");
    for (const auto& old : from.type->handlers)
      for (const auto& now : to.type->handlers) {
        const auto& sent = from.plugin->messages.at(old.message);
        const auto& received = to.plugin->messages.at(now.message);
        if (sent.name != received.name) continue;
        add(sent.payload, received.payload, type + "." + sent.name);
        add(sent.reply, received.reply, type + "." + sent.name + ".reply");
      }
    return changes;
  }

  void plan_state(const located_type& from, const located_type& to, type_plan& planned) {
    const bool up = going_ == direction::up;
    migration::migration_graph graph;
    const auto newer = graph.add(up ? *to.plugin : *from.plugin, planned.type);
    const auto older = graph.add(up ? *from.plugin : *to.plugin, planned.type);
    for (const auto& edge : graph.edges())
      if (edge.from.fingerprint == edge.to.fingerprint && !backwards_)
        whole_.notes.push_back(planned.type + ": the hook from " + edge.text() +
                               " never runs: both have the same structure");
    const auto path =
        choose_path(graph, *graph.state_of(up ? older : newer), *graph.state_of(up ? newer : older), going_);
    const auto* const kept = kept_of(planned.type);
    if (!path && kept != nullptr && path.error().why() == reason::incompatible)
      return plan_from_kept(*kept, uncovered_state(from, to), planned);
    if (!path) {
      whole_.problems.push_back(path.error().why() == reason::incompatible ? uncovered_state(from, to)
                                                                           : planned.type + ": " + path.error().text());
      return;
    }
    planned.way = path->way;
    planned.steps = path->step_texts();
    planned.losses = path->losses();
    planned.archive_to_undo = path->needs_archive_to_undo();
    planned.uses_others = path->uses_others();
    if (planned.uses_others) report_others(planned.type);
    for (const auto& loss : planned.losses) report_loss(planned.type, loss);
    if (kept != nullptr && !planned.steps.empty())
      whole_.notes.push_back(planned.type + ": where a hook fails, its server becomes what it was when it migrated, " +
                             kept->since + " or later, if that is accepted with --accept-loss " + kept_loss +
                             kept->since + "; kept of " + std::to_string(kept->servers) + " servers");
  }

  /// A time covers every later one: they are spelt so that they sort.
  [[nodiscard]] bool is_accepted(const std::string& loss) const {
    return std::any_of(options_.accept_loss.begin(), options_.accept_loss.end(), [&](const std::string& name) {
      return name == loss || (loss.starts_with(kept_loss) && name.starts_with(kept_loss) && name <= loss);
    });
  }

  void report_others(const std::string& type) {
    if (backwards_)
      whole_.notes.push_back(type + ": rolling back uses the states of other servers, for which everything rests");
    else if (going_ == direction::up && !options_.everything_rests)
      whole_.problems.push_back(type +
                                ": its hook uses the states of other servers, for which everything has to rest: "
                                "say mode = \"atomic\" under [upgrade] in the release, or --mode atomic");
  }

  void report_loss(const std::string& type, const migration::path_loss& loss) {
    const std::string what = loss.name + (loss.text.empty() ? "" : " (" + loss.text + ")");
    if (backwards_)
      whole_.notes.push_back(type + ": rolling back would lose " + what);
    else if (is_accepted(loss.name))
      whole_.notes.push_back(type + ": loses " + what + ", as accepted");
    else
      whole_.problems.push_back(type + ": going " + std::string{to_string(going_)} + " loses " + what +
                                ": accept it with --accept-loss " + loss.name);
  }

  [[nodiscard]] std::string uncovered_state(const located_type& from, const located_type& to) const {
    const std::string changes =
        difference(*from.plugin, from.state(), *to.plugin, to.state(), from.type->name + ".state");
    return changes + what_to_write("hook", "code_change", from, to, from.state(), to.state());
  }

  /// Hooks of both directions stand in the newer version, which keeps the older type frozen in its namespace v<number>.
  [[nodiscard]] std::string what_to_write(std::string_view what, std::string_view function, const located_type& from,
                                          const located_type& to, const schema_description& before,
                                          const schema_description& after) const {
    const bool up = going_ == direction::up;
    const loader::missing_hook hook{function,
                                    from.type->name,
                                    (up ? from : to).plugin,
                                    (up ? to : from).plugin,
                                    up ? &before : &after,
                                    up ? &after : &before,
                                    !up};
    return ", and no " + std::string{what} + " leads " + std::string{to_string(going_)} + " from " +
           from.plugin->version + " to " + to.plugin->version + ": " + loader::hook_to_write(hook) +
           (backwards_ ? ", or declare the release one_way" : "");
  }

  descriptions from_;
  descriptions to_;
  direction going_;
  const plan_options& options_;
  plan& whole_;
  bool backwards_ = false;
};

/// "2 hooks, v1::add to v2::add (hook of 3.0.0), then v2::add to add (hook of 3.0.0)".
std::string steps_text(const std::vector<std::string>& steps) {
  const bool hooks = std::all_of(steps.begin(), steps.end(),
                                 [](const auto& step) { return step.find(" (hook of ") != std::string::npos; });
  return std::to_string(steps.size()) + (hooks ? " hook" : " step") + (steps.size() == 1 ? ", " : "s, ") +
         join(steps, ", then ");
}

std::string cover_text(const message_plan& message) {
  if (message.cover != message_cover::edge) return std::string{to_string(message.cover)};
  std::string text = message.steps.empty() ? "as it is" : steps_text(message.steps);
  if (!message.reply_steps.empty()) text += "; its reply: " + steps_text(message.reply_steps);
  return text;
}

void append_type(std::string& out, const type_plan& type) {
  out += "  " + type.type + ": ";
  switch (type.change) {
    case type_change::added:
      out += "added in " + type.to_version + "\n";
      return;
    case type_change::removed:
      out += "removed after " + type.from_version + "\n";
      return;
    case type_change::unchanged:
      out += "unchanged (" + type.to_version + ")\n";
      return;
    case type_change::changed:
      break;
  }
  out += type.from_version + " to " + type.to_version + ", " + std::string{to_string(type.way)};
  if (type.archive_to_undo) out += " (archived first, to be undone)";
  out += "\n";
  for (const auto& change : type.changes) out += "    " + change + "\n";
  for (const auto& step : type.steps) out += "      " + step + "\n";
  for (const auto& loss : type.losses) out += "    loses " + loss.name + ": " + loss.text + "\n";
  for (const auto& message : type.messages)
    if (message.cover != message_cover::same_key)
      out += "    message " + message.name + ": " + cover_text(message) + "\n";
}

}  // namespace

std::string_view to_string(type_change change) noexcept {
  switch (change) {
    case type_change::unchanged:
      return "unchanged";
    case type_change::changed:
      return "changed";
    case type_change::added:
      return "added";
    case type_change::removed:
      return "removed";
  }
  return "unchanged";
}

std::string_view to_string(message_cover cover) noexcept {
  switch (cover) {
    case message_cover::same_key:
      return "same_key";
    case message_cover::edge:
      return "edge";
    case message_cover::unhandled:
      return "unhandled";
    case message_cover::uncovered:
      return "uncovered";
  }
  return "uncovered";
}

bool plan::uses_others() const noexcept {
  return std::any_of(types.begin(), types.end(), [](const type_plan& type) { return type.uses_others; });
}

migration::way plan::costliest() const noexcept {
  auto most = migration::way::keep;
  for (const auto& type : types) most = std::max(most, type.way);
  return most;
}

const type_plan* plan::find(std::string_view type) const noexcept {
  const auto found =
      std::find_if(types.begin(), types.end(), [&](const auto& planned) { return planned.type == type; });
  return found == types.end() ? nullptr : &*found;
}

namespace {

/// A time before anything was kept is none that somebody was shown: who gives it does not know what would be lost.
void check_time(const std::string& name, const plan_options& options, plan& made) {
  const auto oldest = std::min_element(options.kept.begin(), options.kept.end(),
                                       [](const auto& a, const auto& b) { return a.since < b.since; });
  if (oldest != options.kept.end() && name < kept_loss + oldest->since)
    made.problems.push_back(name +
                            " is before anything was kept; without it, molt rollback --from-kept says what would "
                            "be lost");
}

/// A loss accepted by a name that no edge of the two releases has is a slip of the pen, and is not passed over.
void check_accepted(descriptions running, descriptions next, const plan_options& options, plan& made) {
  std::vector<std::string> known;
  for (const auto plugins : {running, next})
    for (const auto& plugin : plugins)
      for (const auto* const edges : {&plugin.state_edges, &plugin.message_edges, &plugin.reply_edges})
        for (const auto& edge : *edges)
          if (!edge.loss.empty() && !contains(known, edge.loss)) known.push_back(edge.loss);
  std::sort(known.begin(), known.end());
  for (const auto& name : options.accept_loss)
    if (options.from_kept && name.starts_with(kept_loss))
      check_time(name, options, made);
    else if (!contains(known, name))
      made.problems.push_back("no hook of the two releases loses " + name + ": " +
                              (known.empty() ? "none loses anything" : "accepted can be " + join(known, ", ")));
}

}  // namespace

plan make_plan(std::span<const plugin_description> running, std::span<const plugin_description> next,
               const plan_options& options) {
  plan made;
  made.going = options.going;
  made.one_way = options.one_way;
  check_accepted(running, next, options, made);
  if (options.from_kept && options.going == direction::up)
    made.problems.emplace_back("only a rollback goes back to what was kept");
  else if (options.from_kept && options.kept.empty())
    made.problems.emplace_back(
        "nothing was kept to go back to: the upgrade was made without keep_states, it migrated no server, or it was "
        "committed, or made by a process that has ended");
  made.types = direction_planner{running, next, options.going, options, made}.run(false);
  if (options.going == direction::down) return made;
  if (options.one_way)
    made.notes.emplace_back("the release is one_way: once it serves, it cannot be rolled back");
  else
    made.back = direction_planner{next, running, direction::down, options, made}.run(true);
  return made;
}

std::string to_text(const plan& planned) {
  std::string out = planned.refused() ? "refused:\n" : "";
  for (const auto& problem : planned.problems) out += "  " + problem + "\n";
  out += planned.going == direction::up ? "going up:\n" : "going down:\n";
  for (const auto& type : planned.types) append_type(out, type);
  if (!planned.back.empty()) {
    out += "and back:\n";
    for (const auto& type : planned.back) append_type(out, type);
  }
  if (!planned.notes.empty()) out += "notes:\n";
  for (const auto& note : planned.notes) out += "  " + note + "\n";
  return out;
}

}  // namespace molt::upgrade
