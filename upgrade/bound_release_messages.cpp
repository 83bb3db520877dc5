// Which way messages and replies go between the versions that a release knows: the search that has planned them, over
// the hooks of the loaded images.
#include "state_migration/migration_graph.hpp"
#include "upgrade/bound_release.hpp"
#include "upgrade/message_ways.hpp"

#include <algorithm>
#include <climits>

namespace molt::upgrade {
namespace {

using detail::message_versions;
using migration::subject;
using servers::conversion;
using servers::message_route;
using servers::server_type;

/// From one schema to another, for one message. A schema that none of the images handles is of no image.
result<migration::migration_path> find_path(const message_versions& by, const subject& of, const molt_schema& from,
                                            const molt_schema& to, direction going) {
  migration::migration_graph graph;
  auto source = migration::describe(from, UINT_MAX);
  auto destination = migration::describe(to, UINT_MAX);
  for (const auto* const type : by.types) {
    const auto image = graph.add(type->abi(), type->version(), of);
    const auto* const own = graph.state_of(image);
    if (own != nullptr && own->schema == &from) source = *own;
    if (own != nullptr && own->schema == &to) destination = *own;
  }
  return choose_path(graph, source, destination, going);
}

void take_steps(const migration::migration_path& path, conversion& into) {
  for (const auto& step : path.steps)
    into.steps.push_back(
        {step.what == migration::path_step::kind::hook ? step.edge.hook : nullptr, step.from.schema, step.to.schema});
}

}  // namespace

result<void> detail::find_message_ways(const message_versions& by, const molt_message& sent,
                                       const molt_schema* answered, message_route& into) {
  const std::string_view name{sent.name};
  if (into.handler != nullptr) {
    if ((answered == nullptr) != (sent.reply == nullptr))
      return error{reason::incompatible, std::string{name} + " is a call in one version and a cast in the other"};
    MOLT_TRY(const auto payload,
             find_path(by, {subject::kind::message, name}, *sent.payload, *into.handler->message->payload, by.going));
    take_steps(payload, into.payload);
  }
  if (answered == nullptr || sent.reply == nullptr) return ok();
  auto reply = find_path(by, {subject::kind::reply, name}, *answered, *sent.reply, opposite(by.going));
  if (!reply) return std::move(reply).error().with("its reply");
  take_steps(*reply, into.reply);
  return ok();
}

const server_type* bound_release::sender_of(const server_type& receiver, std::uint64_t key) const noexcept {
  const auto handles = [&](const server_type* type) {
    return type != nullptr && &type->abi() != &receiver.abi() && type->find(key) != nullptr;
  };
  if (const auto* const own = find_type(receiver.name()); handles(own)) return own;
  for (const auto& source : sources_)
    for (const auto& plugin : source.plugins)
      if (const auto* const type = plugin->find_type(receiver.name()); handles(type)) return type;
  return nullptr;
}

message_route bound_release::find_route(const server_type& receiver, const molt_message& sent,
                                        const molt_schema* answered) const {
  message_route found;
  const std::string who = std::string{receiver.name()} + " " + std::string{receiver.version()};
  const std::string unknown = who + " handles no such message: " + sent.name;
  if (answered == nullptr) {
    found.handler = receiver.find(std::string_view{sent.name});
    if (found.handler != nullptr) answered = found.handler->message->reply;
    if (found.handler == nullptr || (answered == nullptr) != (sent.reply == nullptr)) {
      found.problem = unknown;
      if (found.handler != nullptr) found.problem += sent.reply == nullptr ? " as a cast" : " as a call";
      found.handler = nullptr;
      return found;
    }
  }
  const auto* const own = find_type(receiver.name());
  const auto* const sender = sender_of(receiver, sent.key);
  std::vector<message_versions> attempts;
  // As it was planned: between the release that is left and the one that is entered, with the newer one's hooks first.
  if (own != nullptr && sender != nullptr && (own == &receiver || own == sender)) {
    const bool entered = own == &receiver;
    const auto going = entered ? settings_.going : opposite(settings_.going);
    attempts.push_back(
        {going == direction::up ? std::vector{&receiver, sender} : std::vector{sender, &receiver}, going});
  }
  // Between any others: what has been left for longer, and servers that could not be brought over.
  std::vector<const server_type*> all;
  const auto add = [&](const server_type* type) {
    if (type != nullptr && std::find(all.begin(), all.end(), type) == all.end()) all.push_back(type);
  };
  add(own);
  for (const auto& source : sources_)
    for (const auto& plugin : source.plugins) add(plugin->find_type(receiver.name()));
  add(&receiver);
  attempts.push_back({all, direction::up});
  attempts.push_back({all, direction::down});

  error problem;
  for (const auto& each : attempts) {
    message_route made;
    made.handler = found.handler;
    auto ways = detail::find_message_ways(each, sent, answered, made);
    if (ways) {
      const molt_arguments arguments{arguments_.data(), arguments_.size()};
      const std::string other{sender != nullptr ? sender->version() : std::string_view{}};
      made.payload.from_version = made.reply.to_version = other;
      made.payload.to_version = made.reply.from_version = std::string{receiver.version()};
      made.payload.arguments = made.reply.arguments = arguments;
      return made;
    }
    if (&each == &attempts.front() || ways.error().why() != reason::incompatible) problem = std::move(ways).error();
    if (problem.why() != reason::incompatible) break;  // two ways: neither is taken
  }
  found.handler = nullptr;
  found.problem = unknown + " (" + problem.text() + ")";
  return found;
}

}  // namespace molt::upgrade
