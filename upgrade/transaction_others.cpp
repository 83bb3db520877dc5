// Hooks that use the states of other servers: they run while everything rests, before all other hooks and one after the
// other, so that each sees every server as it was. The way back from there rests too.
#include "plugin/storage.hpp"
#include "plugin/text.hpp"
#include "upgrade/transaction.hpp"
#include "upgrade/transaction_attempt.hpp"

#include <thread>
#include <utility>

namespace molt::upgrade {
namespace {

using clock = std::chrono::steady_clock;

/// So often it is tried to find a moment without messages for servers that are read and end.
constexpr unsigned rounds_for_empty_mailboxes = 20;
constexpr std::chrono::milliseconds between_rounds{1};

/// What those that `to` adds start with is theirs to keep until they are ended.
settings with_added_types(const settings& chosen, const release_content& from, const release_content& to) {
  auto made = chosen;
  for (const auto& plugin : to.plugins)
    for (const auto& type : plugin->types())
      if (from.find_type(type->name()) == nullptr) made.types_leaving.emplace_back(type->name());
  return made;
}

}  // namespace

/// `rest` and `moved` need to be there only as long as hooks run.
std::shared_ptr<handed_states> switcher::hand_states(attempt& now, const destination& to, const rest_guard& rest,
                                                     const first_moved& moved) {
  auto find = [this, &now, &rest, &moved, before = to.before,
               into = to.bound.get()](std::string_view name) -> result<std::optional<state_view>> {
    const molt_ref ref = runtime_.lookup(name);
    const bool untaken = before != nullptr && before->is_untaken(name);  // who runs began without it
    if (ref.bits == 0 || untaken) return before != nullptr ? before->find_given(name) : std::nullopt;
    if (const auto known = moved.moves.find(ref.bits); known != moved.moves.end() && known->second)
      return std::optional{known->second->before()};
    std::optional<state_view> found;
    const bool there = runtime_.visit(rest, ref, [&](servers::resting_server& server) {
      found = state_view{server.type().abi().state, server.state(), {}};
      if (const auto waiting = server.waiting(); waiting != 0 && into->find_type(server.type().name()) == nullptr)
        now.waiting[std::string{name}] = waiting;
    });
    if (!there) return error{reason::refused, "it is the very server that the hook changes"};
    return found;
  };
  return std::make_shared<handed_states>(std::move(find), to.bound, to.bound->content().id, to.starts, to.replaces);
}

/// A server that is read and then ends is read when its mailbox is empty, if such a moment comes: what it handles later
/// is in nobody's state.
result<bool> switcher::move_first(attempt& now, const destination& to, std::shared_ptr<handed_states>& handed,
                                  std::optional<rest_guard>& rest, first_moved& moved, clock::time_point& asked) {
  const auto& bound = *to.bound;
  for (unsigned round = 0;; ++round) {
    asked = clock::now();
    auto guard = runtime_.rest(now.settings.switch_timeout);
    if (!guard) return std::move(guard).error();
    rest.emplace(std::move(*guard));
    const auto& going = to.bound == now.bound ? now.from : now.to;
    if (!bound.uses_others(going)) return true;
    now.waiting.clear();
    handed = hand_states(now, to, *rest, moved);
    bound.hand_states(handed.get());
    bool good = true;
    runtime_.for_each(*rest, 0, 1, [&](servers::resting_server& server) {
      if (!good || !bound.uses_others(server.type())) return;
      auto* const undo = moved.make_room(server.ref());
      good = undo != nullptr && bound.adopt_revertibly(server, *undo) != bound_release::moved::failed;
    });
    bound.hand_states(nullptr);
    if (!good || now.waiting.empty()) return good;
    if (round == rounds_for_empty_mailboxes) break;
    revert(*rest, bound, moved);
    moved.moves.clear();
    handed.reset();
    rest.reset();
    std::this_thread::sleep_for(between_rounds);
  }
  for (const auto& [name, count] : now.waiting)
    now.report.notes.push_back(name + " had " + std::to_string(count) +
                               " messages waiting when a hook read its state: it handles them before it ends, and what "
                               "they change goes with it");
  return true;
}

void switcher::revert(const rest_guard& rest, const bound_release& bound, first_moved& moved) {
  if (moved.moves.empty()) return;
  runtime_.for_each(rest, 0, 1, [&](servers::resting_server& server) {
    const auto found = moved.moves.find(server.ref().bits);
    if (found != moved.moves.end() && found->second) bound.revert(server, *found->second);
  });
}

/// What nobody asked for would be lost with the operation.
bool switcher::all_taken(attempt& now) {
  if (now.handed == nullptr) return true;
  const auto left = now.handed->not_taken();
  for (const auto& name : left)
    now.report.problems.push_back("a hook gave a state to " + name +
                                  ", whose init has not asked for it: let it begin with ctx.given<state>()");
  return left.empty();
}

/// The release to go back to, bound, if that needs everything at rest: hooks on the way use the states of other
/// servers; or states are kept, which are of use only as long as the release stays from which an operator can go back
/// to them.
std::shared_ptr<bound_release> switcher::way_back_that_needs_rest(const attempt& now) const {
  auto back = bind(now.from, opposite(now.going), with_added_types(now.settings, now.from, now.to), {}, nullptr);
  const bool keeps = now.going == direction::up && now.keeps != nullptr;
  return keeps || back->uses_others(now.to) ? back : nullptr;
}

/// As roll_back(), but that servers which were added are read before they end, and all go back together or none.
void switcher::roll_back_at_rest(attempt& now, std::shared_ptr<bound_release> back) {
  convert_entries_back(now.to, now.from, now.settings.convert_back_timeout, {});
  std::optional<rest_guard> rest;
  first_moved first;
  first_moved others;
  auto asked = clock::now();
  const auto begun =
      move_first(now, {back, now.settings.starts_back, now.handed.get(), true}, now.handed_back, rest, first, asked);
  if (!begun) {
    now.report.problems.push_back("the servers did not come to rest to go back to " + now.from.id + ": " +
                                  begun.error().text() + "; molt rollback tries it again");
    return conclude(now, phase::needs_attention);
  }
  bool good = *begun;
  runtime_.for_each(*rest, 0, 1, [&](servers::resting_server& server) {
    if (!good) return;
    auto* const undo = others.make_room(server.ref());
    good = undo != nullptr && back->adopt_revertibly(server, *undo) != bound_release::moved::failed;
  });
  if (!good) {
    revert(*rest, *back, others);
    revert(*rest, *back, first);
    rest.reset();
    now.report.at_rest += clock::now() - asked;
    now.report.servers_failed += back->failed();
    for (auto& failure : back->failures()) {
      now.report.problems.push_back(failure.server + " could not go back to " + now.from.id +
                                    ", so none did: " + failure.error);
      now.report.failures.push_back(std::move(failure));
    }
    return conclude(now, phase::needs_attention);
  }
  if (now.handed_back != nullptr) give_back(now, *rest);
  unmake_current(now, back);
  runtime_.switch_to(back);
  runtime_.gives_states(now.handed_back);
  rest.reset();
  now.report.at_rest += clock::now() - asked;
  if (now.switched && now.settings.going_back) now.settings.going_back();
  sweep(now, *back, false);
  const auto known = now.report.problems.size();
  for (const auto& name : now.handed_back != nullptr ? now.handed_back->not_taken() : std::vector<std::string>{})
    now.report.problems.push_back("the state that a hook gave back to " + name + " was taken by nobody");
  const bool lost = now.report.problems.size() != known;
  conclude(now, back->failed() == 0 && !lost ? phase::rolled_back : phase::needs_attention);
}

/// Servers that still run go on with what was given back to them: it holds what happened since.
void switcher::give_back(attempt& now, const rest_guard& rest) {
  for (const auto& name : now.handed_back->given()) {
    const molt_ref ref = runtime_.lookup(name);
    if (ref.bits == 0) continue;
    runtime_.visit(rest, ref, [&](servers::resting_server& server) {
      const auto& schema = *server.type().abi().state;
      void* const storage = allocate_storage(schema);
      text_buffer text;
      if (storage == nullptr || now.handed_back->copy_to(name, schema, storage, &text) != MOLT_OK) {
        free_storage(schema, storage);
        return;  // not taken: said later
      }
      void* const before = server.state();
      server.become(server.type(), storage);
      destroy_and_free(schema, before);
      now.handed_back->settle(name);
    });
  }
}

}  // namespace molt::upgrade
