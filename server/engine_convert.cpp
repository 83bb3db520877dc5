// Messages and replies of another version: through the routes of the current release; and replies given later.
#include "server/engine.hpp"
#include "server/failure.hpp"

#include <exception>
#include <utility>

namespace molt::servers {

message_route release::find_route(const server_type& receiver, const molt_message& sent,
                                  const molt_schema* /*answered*/) const {
  message_route none;
  none.problem =
      std::string{receiver.name()} + " " + std::string{receiver.version()} + " handles no such message: " + sent.name;
  return none;
}

// ---- Which way

const message_route* engine::find_route(const server_type& type, const molt_message& sent,
                                        const molt_schema* answered) {
  // As long as an activation is under way, the release that is current in it stays alive (forget).
  const switch_entry& entry = *current_.load(std::memory_order_acquire);
  const server_type& receiver = type.original();
  const std::uint64_t reply = answered != nullptr ? answered->fingerprint : 0;
  if (const auto* const known = entry.routes->find(receiver, sent.key, reply)) return known;
  try {
    return entry.routes->add(receiver, sent.key, reply, entry.release->find_route(receiver, sent, answered));
  } catch (const std::exception&) {  // there is no memory
    return nullptr;
  }
}

engine::arrival engine::find_arrival(const server_type& type, const molt_message& sent) {
  if (const molt_handler* const handler = type.find(sent.key)) [[likely]]
    return {handler, nullptr};
  const message_route* const route = find_route(type, sent);
  return {route != nullptr ? route->handler : nullptr, route};
}

int engine::refuse_unknown(const cell& held, const molt_message& message, const message_route* route,
                           molt_text* error) {
  if (route == nullptr) {
    set_text(error, describe(held) + ": no memory to convert the message " + message.name);
    return MOLT_OVERLOADED;
  }
  unknown_.fetch_add(1, std::memory_order_relaxed);
  set_text(error, describe(held) + " (" + route->problem + ")");
  return MOLT_UNKNOWN_MESSAGE;
}

// ---- Messages

int engine::handle_converted(thread_record& me, activation& here, const molt_message& message, void* payload,
                             void* reply, molt_text* error, bool& ended) {
  cell& held = running(here);
  const message_route* const route = find_route(*held.type.load(std::memory_order_relaxed), message);
  if (route == nullptr || route->handler == nullptr) return refuse_unknown(held, message, route, error);
  const molt_message& taken = *route->handler->message;
  conversion_storage converted;
  conversion_storage answer;
  const bool converts_payload = !route->payload.steps.empty();
  const bool converts_reply = !route->reply.steps.empty();
  // All memory first: once the message is handled, nothing but a hook can keep its reply back.
  if ((converts_payload && !converted.reserve(*taken.payload)) || (converts_reply && !answer.reserve(*taken.reply)))
    return refuse_unknown(held, message, nullptr, error);
  if (converts_payload) {
    if (const int status = convert(route->payload, payload, converted.get(), error); status != MOLT_OK) return status;
    converted.constructed();
    payload = converted.get();
  }
  const int status =
      route->handler->handle(&here.context, state_of(held), payload, converts_reply ? answer.get() : reply, error);
  if (status != MOLT_OK) return finish_handled(me, here, status, error, ended);
  if (!converts_reply) return MOLT_OK;
  answer.constructed();
  return convert(route->reply, answer.get(), reply, error);
}

// ---- Replies given later

bool engine::run_deferrable(thread_record& me, cell& held, const arrival& how, call_envelope& call) {
  call.token = deferred_.hold(call, ref_of(held));  // takes over this side's reference
  if (call.token == 0) {
    if (call.advance(call_state::queued, call_state::running))
      finish_call(me, call, MOLT_OVERLOADED, "too many replies are outstanding");
    else
      release_call(me, &call);
    return true;
  }
  if (!call.advance(call_state::queued, call_state::deferring)) {
    if (call_envelope* const back = deferred_.take(call.token)) release_call(me, back);
    return true;
  }
  const std::uint64_t token = call.token;
  call.references.fetch_add(1, std::memory_order_relaxed);  // it may be answered before the handler returns
  held.has_deferred = true;
  bool ended = false;
  {
    frame here{*this, me, held, token};
    me.scratch.size = 0;
    observation watched{*this, held, *call.message, call.payload_at};
    conversion_storage converted;
    void* payload = call.payload_at;
    int status = MOLT_OK;
    if (how.route != nullptr && !how.route->payload.steps.empty()) {
      status = converted.reserve(*how.handler->message->payload)
                   ? convert(how.route->payload, payload, converted.get(), &me.scratch)
                   : refuse_unknown(held, *call.message, nullptr, &me.scratch);
      if (status == MOLT_OK) converted.constructed();
      payload = converted.get();
    }
    if (status != MOLT_OK) {  // the server was not asked, and goes on
      watched.done(status);
      fail_deferred(me, token, status, text_of(me.scratch));
    } else if (status = how.handler->handle(&here.context, state_of(held), payload, nullptr, &me.scratch);
               status == MOLT_OK) {
      watched.done(status);
      call.advance(call_state::deferring, call_state::deferred);
    } else {
      watched.done(status);
      fail_deferred(me, token, MOLT_SERVER_FAILED, text_of(me.scratch));
      finish_handled(me, here, status, &me.scratch, ended);
    }
  }
  release_call(me, &call);
  return !ended;
}

void engine::fail_deferred(thread_record& me, std::uint64_t token, int status, std::string_view text) {
  if (call_envelope* const unanswered = deferred_.take(token)) finish_call(me, *unanswered, status, text);
}

int engine::reply(std::uint64_t token, const molt_schema& schema, void* value) {
  thread_record& me = this_thread();
  const message_route* route = nullptr;  // to a caller that expects another version of the reply
  if (const auto owed = deferred_.find(token); owed.message != nullptr && owed.message->reply != nullptr &&
                                               owed.message->reply->fingerprint != schema.fingerprint) {
    const cell* const asked = find(owed.server);
    const server_type* const type = asked != nullptr ? asked->type.load(std::memory_order_acquire) : nullptr;
    route = type != nullptr ? find_route(*type, *owed.message, &schema) : nullptr;
    if (route == nullptr || !route->leads()) {
      late_replies_.fetch_add(1, std::memory_order_relaxed);
      return MOLT_NOT_FOUND;  // the call goes on waiting for a reply that fits
    }
  }
  call_envelope* const call = deferred_.take(token);
  if (call == nullptr || (!call->advance(call_state::deferring, call_state::replying) &&
                          !call->advance(call_state::deferred, call_state::replying))) {
    late_replies_.fetch_add(1, std::memory_order_relaxed);
    if (call != nullptr) release_call(me, call);
    return MOLT_NOT_FOUND;
  }
  if (route != nullptr && !route->reply.steps.empty()) {
    text_buffer text;
    const int status = convert(route->reply, value, call->reply_at, &text);
    finish_call(me, *call, status, text_of(text));  // a hook that threw is the caller's to hear of
    return MOLT_OK;
  }
  if (schema.move == nullptr) {
    finish_call(me, *call, MOLT_SERVER_FAILED, "a deferred reply must be movable without throwing");
    return MOLT_REFUSED;
  }
  schema.move(call->reply_at, value);
  finish_call(me, *call, MOLT_OK, {});
  return MOLT_OK;
}

}  // namespace molt::servers
