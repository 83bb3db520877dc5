#include "upgrade/plan_messages.hpp"

#include "loader/plugin_advice.hpp"

#include <climits>
#include <optional>
#include <utility>

namespace molt::upgrade::detail {
namespace {

using migration::subject;

bool code_free(const plugin_description& plugin, const message_description& message) {
  return (plugin.schemas.at(message.payload).flags & MOLT_SCHEMA_CODE_FREE) != 0 &&
         (message.reply == no_schema || (plugin.schemas.at(message.reply).flags & MOLT_SCHEMA_CODE_FREE) != 0);
}

migration::graph_schema node_of(const schema_description& schema) {
  return {schema.fingerprint, schema.flags, schema.version, UINT_MAX, schema.name, schema.text, nullptr};
}

/// A schema of that structure, of either plugin.
const schema_description* find_schema(const schema_node& wanted, const plugin_description& one,
                                      const plugin_description& other) {
  for (const auto* const plugin : {&one, &other})
    for (const auto& schema : plugin->schemas)
      if (const auto tree = parse_schema_text(schema.text); tree && *tree == wanted) return &schema;
  return nullptr;
}

}  // namespace

/// "counter.server.state.waiting" and what it expects.
struct message_planner::token {
  std::string path;
  schema_node reply;

  static void collect(const schema_node& node, const std::string& path, std::vector<token>& into) {
    if (node.what == schema_node::kind::reply_to) into.push_back({path, node.arguments.at(0)});
    for (const auto& argument : node.arguments) collect(argument, path, into);
    for (const auto& member : node.members) collect(member.type, path + "." + member.name, into);
  }
  static std::vector<token> all_of(const located_type& where) {
    std::vector<token> found;
    if (const auto tree = parse_schema_text(where.state().text)) collect(*tree, where.type->name + ".state", found);
    return found;
  }
};

const message_description* message_planner::find_received(std::string_view name) const {
  for (const auto& handler : to_.type->handlers)
    if (const auto& message = to_.plugin->messages.at(handler.message); message.name == name) return &message;
  return nullptr;
}

message_plan message_planner::run(const message_description& sent) {
  const auto* const received = find_received(sent.name);
  const std::string path = from_.type->name + "." + sent.name;
  message_plan cover{sent.name, message_cover::same_key, {}, {}};
  if (received == nullptr) {
    const auto& version = to_.plugin->version;
    cover.cover = going_ == direction::up ? message_cover::uncovered : message_cover::unhandled;
    if (cover.cover == message_cover::uncovered)
      whole_.problems.push_back(path + ": " + version + " does not handle it, and senders may have it under way: " +
                                "go on handling it in " + version);
    else
      whole_.notes.push_back(path + ": " + version +
                             " does not know it: a caller at the moment of a rollback gets unknown_message");
  } else if (received->key != sent.key) {
    // Both, so that all that is missing is named at once.
    const bool payload = plan_payload(sent, *received, path, cover);
    const bool reply = plan_reply(sent, *received, path, cover);
    cover.cover = payload && reply ? message_cover::edge : message_cover::uncovered;
  }
  if (received != nullptr && !code_free(*from_.plugin, sent) && !backwards_)
    whole_.notes.push_back(path + ": holds pointers or code, which a receiver of another version gets as they are");
  return cover;
}

/// The newer version's hooks first, as for states; at run time the same (bound_release::find_route).
result<migration::migration_path> message_planner::find_path(const subject& of, const schema_description& from,
                                                             const schema_description& to, direction going) const {
  const bool up = going_ == direction::up;
  migration::migration_graph graph;
  auto source = node_of(from);
  auto destination = node_of(to);
  for (const auto* const where : {up ? &to_ : &from_, up ? &from_ : &to_}) {
    const auto* const own = graph.state_of(graph.add(*where->plugin, where->type->name, of));
    if (own == nullptr) continue;
    // What is sent comes from the version that is left, what is answered from the one that is entered.
    const bool sends = (where == &from_) == (of.what == subject::kind::message);
    auto& end = sends ? source : destination;
    if (own->fingerprint == end.fingerprint && own->name == end.name) end = *own;
  }
  return choose_path(graph, source, destination, going);
}

bool message_planner::plan_payload(const message_description& sent, const message_description& received,
                                   const std::string& path, message_plan& cover) {
  const auto& before = from_.plugin->schemas.at(sent.payload);
  const auto& after = to_.plugin->schemas.at(received.payload);
  const auto found = find_path({subject::kind::message, sent.name}, before, after, going_);
  if (found) {
    cover.steps = found->step_texts();
    report_losses(path, *found);
    return true;
  }
  whole_.problems.push_back(
      found.error().why() == reason::incompatible
          ? difference(*from_.plugin, before, *to_.plugin, after, path) +
                what_to_write("message hook", "message_change", going_, *from_.plugin, before, *to_.plugin, after)
          : path + ": " + found.error().text());
  return false;
}

bool message_planner::plan_reply(const message_description& sent, const message_description& received,
                                 const std::string& path, message_plan& cover) {
  const bool answers = received.reply != no_schema;
  if ((sent.reply != no_schema) != answers) {
    whole_.problems.push_back(path + ": is a " + (answers ? "cast" : "call") + " in " + from_.plugin->version +
                              " and a " + (answers ? "call" : "cast") + " in " + to_.plugin->version +
                              ", and senders may have it under way: give the new one another name");
    return false;
  }
  if (!answers) return true;
  const auto& expected = from_.plugin->schemas.at(sent.reply);
  const auto& answered = to_.plugin->schemas.at(received.reply);
  const auto back = opposite(going_);
  const auto found = find_path({subject::kind::reply, sent.name}, answered, expected, back);
  if (found) {
    cover.reply_steps = found->step_texts();
    report_losses(path + ".reply", *found);
    return true;
  }
  whole_.problems.push_back(
      found.error().why() == reason::incompatible
          ? difference(*from_.plugin, expected, *to_.plugin, answered, path + ".reply") +
                ", and a caller under way expects the former" +
                what_to_write("reply hook", "reply_change", back, *to_.plugin, answered, *from_.plugin, expected)
          : path + ".reply: " + found.error().text());
  return false;
}

void message_planner::report_losses(const std::string& path, const migration::migration_path& found) {
  for (const auto& loss : found.losses()) {
    const std::string what = loss.name + (loss.text.empty() ? "" : " (" + loss.text + ")");
    if (backwards_)
      whole_.notes.push_back(path + ": rolling back would lose " + what);
    else if (contains(options_.accept_loss, loss.name))
      whole_.notes.push_back(path + ": loses " + what + ", as accepted");
    else
      whole_.problems.push_back(path + ": going " + std::string{to_string(going_)} + " loses " + what +
                                ": accept it with --accept-loss " + loss.name);
  }
}

/// Hooks of both directions stand in the newer version, which keeps the older types frozen.
std::string message_planner::what_to_write(std::string_view what, std::string_view function, direction way,
                                           const plugin_description& before_of, const schema_description& before,
                                           const plugin_description& after_of, const schema_description& after) const {
  const bool up = way == direction::up;
  const loader::missing_hook hook{function,
                                  from_.type->name,
                                  up ? &before_of : &after_of,
                                  up ? &after_of : &before_of,
                                  up ? &before : &after,
                                  up ? &after : &before,
                                  !up};
  return ", and no " + std::string{what} + " leads " + std::string{to_string(way)} + " from " + before_of.version +
         " to " + after_of.version + ": " + loader::hook_to_write(hook) +
         (backwards_ ? ", or declare the release one_way" : "");
}

// ---- Calls that are answered later

/// Whether a reply by one of the tokens can be made into what the caller expects.
bool message_planner::is_answered(const schema_node& expected, const std::vector<token>& with) const {
  const auto* const wanted = find_schema(expected, *from_.plugin, *to_.plugin);
  for (const auto& each : with) {
    if (each.reply == expected) return true;
    const auto* const given = find_schema(each.reply, *to_.plugin, *from_.plugin);
    if (given == nullptr || wanted == nullptr) continue;
    for (const auto& handler : from_.type->handlers) {
      const auto& message = from_.plugin->messages.at(handler.message);
      if ((handler.flags & MOLT_HANDLER_DEFERS) == 0 || message.reply == no_schema ||
          from_.plugin->schemas.at(message.reply).fingerprint != wanted->fingerprint)
        continue;
      if (find_path({subject::kind::reply, message.name}, *given, *wanted, opposite(going_))) return true;
    }
  }
  return false;
}

void message_planner::check_deferred_replies(const type_plan& planned) {
  if (from_.state().fingerprint == to_.state().fingerprint || !planned.losses.empty()) return;
  const auto owed = token::all_of(from_);
  if (owed.empty()) return;
  const auto kept = token::all_of(to_);
  for (const auto& each : owed) {
    if (is_answered(each.reply, kept)) continue;
    const std::string expects = each.path + ": the calls that it is to answer expect " + to_string(each.reply);
    const std::string otherwise = backwards_ ? ", or declare the release one_way" : "";
    if (kept.empty())
      whole_.problems.push_back(expects + ", and the state of " + to_.plugin->version +
                                " has no molt::reply_to for them: keep one until they are answered" + otherwise);
    else
      whole_.problems.push_back(
          expects + ", and no reply hook leads " + std::string{to_string(opposite(going_))} + " there from what " +
          to_.plugin->version + " answers: write " + (going_ == direction::up ? "reply_change_down" : "reply_change") +
          " in " + from_.type->name + " " + (going_ == direction::up ? to_ : from_).plugin->version + otherwise);
  }
}

}  // namespace molt::upgrade::detail
