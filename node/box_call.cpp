// Calls that arrive as JSON, and what their failure means to the operator who made them.
//
//   status               what is known then                                                    `molt call` exits
//   (before sending)     the message was not sent                                              1
//   unknown_message      it reached no handler                                                 1
//   no_such_server       the server ended first; of a handler that may answer later: or after  1; 5
//   overloaded           it reached no handler                                                 3
//   would_deadlock       it reached no handler                                                 3
//   timeout              it may have been handled, or be handled later                         5
//   server_failed        the server and its state are gone, whoever starts it again            5
//   (reply unshowable)   it was handled                                                        5
#include "node/box_parts.hpp"
#include "node/json_codec.hpp"
#include "plugin/text.hpp"
#include "state_migration/archive_buffer.hpp"
#include "state_migration/owned_object.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <thread>

namespace molt::node {
namespace {

constexpr std::size_t reply_size_max = std::size_t{64} << 20U;  // as a request's body
constexpr std::chrono::milliseconds end_patience{200};          // a server that failed ends at once
constexpr std::chrono::milliseconds restart_patience{1000};     // and its supervisor starts it in as long as init takes
constexpr std::chrono::milliseconds look_again{1};

std::string name_of(const json_call& asked) { return asked.server + "." + asked.message; }

error no_handler(const servers::server_type& type, const json_call& asked) {
  std::string known;
  for (std::uint32_t i = 0; i < type.abi().handler_count; ++i)
    known += (i == 0 ? "" : ", ") + std::string{type.abi().handlers[i].message->name};
  return {reason::unknown_message,
          asked.server + " (" + std::string{type.name()} + " " + std::string{type.version()} + ") handles no message " +
              asked.message,
          known.empty() ? "it handles none" : "it handles " + known};
}

error unshowable(const json_call& asked, const std::string& why) {
  return {reason::needs_attention, name_of(asked) + " was handled, but its reply cannot be shown as JSON: " + why,
          "what the message does is done; sending it again does it again"};
}

template <class Holds>
bool within(std::chrono::milliseconds patience, Holds holds) {
  for (const auto end = std::chrono::steady_clock::now() + patience; !holds();) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(look_again);
  }
  return true;
}

}  // namespace

result<std::string> box::implementation::call(const json_call& asked) {
  const molt_ref to = runtime_->lookup(asked.server);
  const auto type = runtime_->type_of(to);  // keeps the image while its schemas are used
  if (to.bits == 0 || !type)
    return error{reason::no_such_server, "no server is named " + asked.server, "`molt servers` lists them"};
  const auto* handler = type->find(asked.message);
  if (handler == nullptr) return no_handler(*type, asked);

  const molt_message& message = *handler->message;
  MOLT_TRY(boost::json::value given, parse_json(asked.payload));
  if (asked.words && given.is_object()) {
    MOLT_TRY(given, json_from_words(*message.payload, given.get_object(), "payload"));
  }
  MOLT_TRY(const std::string archive, archive_from_json(*message.payload, given, "payload"));
  migration::owned_object payload{*message.payload};
  molt_text why{};
  const int loaded = migration::load_all(*message.payload, archive, payload.storage(), why);
  if (loaded != MOLT_OK) return error{reason::invalid_argument, "payload: " + std::string{text_of(why)}};
  payload.made();

  if (message.reply == nullptr) {
    const int status = runtime_->cast(to, message, payload.storage());
    if (status != MOLT_OK) return call_error(status, asked, *handler, to, {});
    return std::string{"null"};
  }
  migration::owned_object reply{*message.reply};
  const int status = runtime_->call(to, message, payload.storage(), reply.storage(), asked.timeout);
  if (status != MOLT_OK) return call_error(status, asked, *handler, to, std::string{servers::runtime::call_failure()});
  reply.made();
  migration::archive_buffer saved{reply_size_max};
  if (saved.save(*message.reply, reply.storage(), why) != MOLT_OK) return unshowable(asked, std::string{text_of(why)});
  const auto value = json_from_archive(*message.reply, saved.bytes(), "reply");
  if (!value) return unshowable(asked, value.error().message());
  return boost::json::serialize(*value);
}

error box::implementation::call_error(int status, const json_call& asked, const molt_handler& handler, molt_ref to,
                                      std::string text) const {
  const auto with = [&](std::string_view otherwise) {
    return name_of(asked) + ": " + (text.empty() ? std::string{otherwise} : text);
  };
  switch (status) {
    case MOLT_TIMEOUT:
      return {reason::timeout, with("no reply in time"),
              "it may have been handled, or be handled later: look at " + asked.server + " before sending it again"};
    case MOLT_NO_SUCH_SERVER:
      if (handler.flags != 0)  // it may have begun, and have left the answer for later
        return {reason::needs_attention, with("the server ended before it replied"),
                "the message may have been handled; molt servers shows what runs"};
      return {reason::no_such_server, with("the server ended before it took the message"),
              "molt servers shows what runs"};
    case MOLT_SERVER_FAILED:
      return failed_error(asked, to, text.empty() ? "an exception without a text" : text);
    case MOLT_THREW:  // the server was brought to another version meanwhile
      return {reason::needs_attention, with("a hook between two versions of the message or its reply threw"),
              "the message may have been handled; " + asked.server + " goes on running"};
    case MOLT_OVERLOADED:
      return {reason::overloaded, with("too many messages are waiting"),
              "it was not handled: try again later; molt servers shows how many are queued"};
    case MOLT_WOULD_DEADLOCK:
      return {reason::would_deadlock, with("the call would wait for itself")};
    case MOLT_UNKNOWN_MESSAGE:
      return {reason::unknown_message, with("it handles no such message")};
    case MOLT_STOPPING:
      return {reason::stopping, with("the node stops")};
    default:
      return {reason::internal, with("status " + std::to_string(status))};
  }
}

/// A handler threw: says what became of its server, by looking.
error box::implementation::failed_error(const json_call& asked, molt_ref to, const std::string& text) const {
  if (!within(end_patience, [&] { return !runtime_->type_of(to); }))
    return {reason::server_failed, name_of(asked) + ": " + text + "; " + asked.server + " goes on running",
            "the message may have been handled"};
  const bool by_this = !text.starts_with("the server failed");  // else this message waited while another was handled
  const std::string what = name_of(asked) + (by_this ? ": its handler threw: " : ": ") + text + "; ";
  const auto release = current().manifest;
  const auto entry = std::find_if(release.servers.begin(), release.servers.end(),
                                  [&](const auto& each) { return each.name == asked.server; });
  const bool supervised = entry != release.servers.end() && entry->restart != releases::restart_kind::temporary;
  const bool back = within(supervised ? restart_patience : std::chrono::milliseconds{0},
                           [&] { return runtime_->lookup(asked.server).bits != 0; });
  const std::string lost = what + asked.server + " failed, and the state it had is lost; ";
  const std::string mend = "the same message may fail again: mend its handler, then molt upgrade";
  if (back)
    return {reason::server_failed,
            lost + (supervised ? "its supervisor" : "somebody") + " has started it again with a fresh one", mend};
  if (supervised)
    return {reason::server_failed, lost + "its supervisor has not started it again so far",
            "molt servers and molt status show what runs; " + mend};
  return {reason::server_failed, lost + "nothing starts it again", "molt servers shows what runs; " + mend};
}

}  // namespace molt::node
