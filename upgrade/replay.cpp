#include "upgrade/replay.hpp"

#include "plugin/storage.hpp"
#include "plugin/text.hpp"
#include "server/message_route.hpp"
#include "state_migration/archive_difference.hpp"
#include "state_migration/owned_object.hpp"
#include "upgrade/message_ways.hpp"

#include <memory>
#include <new>
#include <utility>

namespace molt::upgrade {
namespace {

using object = migration::owned_object;

/// Beyond any that the runtime gives: a state may hold such.
constexpr std::uint64_t first_token = std::uint64_t{1} << 63U;

std::string said(const molt_text& text) { return std::string{text_of(text)}; }

bool load(object& to, const molt_schema& schema, std::string_view archive, std::string& why) {
  text_buffer text;
  if (migration::load_all(schema, archive, to.storage(), text) != MOLT_OK) {
    why = text.size != 0 ? said(text) : "it cannot be read";
    return false;
  }
  to.made();
  return true;
}

std::string shown_status(const replayed& of) {
  if (of.status == MOLT_OK) return "was handled";
  return "failed: " + (of.text.empty() ? "status " + std::to_string(of.status) : of.text);
}

}  // namespace

/// What handlers get as their host.
struct replayer::host : molt_host {
  explicit host(replayer& of) : molt_host{}, owner{&of} {
    abi_version = MOLT_ABI_VERSION;
    size = sizeof(molt_host);
    fill();
  }
  static replayer& of(molt_context* c) noexcept { return *static_cast<const host*>(c->host)->owner; }
  replayer* owner;
  molt_text nobody{};

 private:
  void fill() {
    constexpr std::string_view why = "in a replay nobody answers";
    nobody.size = static_cast<std::uint32_t>(why.copy(nobody.data, sizeof nobody.data));
    call = [](molt_context*, molt_ref, const molt_message*, void*, void*, std::int64_t) -> int {
      return MOLT_NO_SUCH_SERVER;
    };
    call_failure = [](molt_context* c) -> const molt_text* { return &static_cast<const host*>(c->host)->nobody; };
    cast = [](molt_context*, molt_ref, const molt_message*, void*) -> int { return MOLT_OK; };
    lookup = [](molt_context*, const char*, std::size_t) -> molt_ref { return {}; };
    start = [](molt_context*, const char*, const char*, const molt_arguments*, molt_ref*, molt_text*) -> int {
      return MOLT_REFUSED;
    };
    start_child = [](molt_context*, const char*, const char*, const molt_arguments*, molt_ref*, molt_text*) -> int {
      return MOLT_REFUSED;
    };
    stop = [](molt_context*, molt_ref, const char*) -> int { return MOLT_OK; };
    send_after = [](molt_context*, molt_ref, std::int64_t, const molt_message*, void*) -> std::uint64_t { return 1; };
    send_every = [](molt_context*, molt_ref, std::int64_t, const molt_message*, void*) -> std::uint64_t { return 1; };
    cancel = [](molt_context*, std::uint64_t) -> int { return 1; };
    defer = [](molt_context* c) -> std::uint64_t { return of(c).defer(); };
    reply = [](molt_context* c, std::uint64_t token, const molt_schema* schema, void* value) -> int {
      return of(c).reply(token, *schema, value);
    };
    write = [](molt_context* c, const char* data, std::size_t bytes) -> int {
      try {
        of(c).now_.written.append(data, bytes);
        return MOLT_OK;
      } catch (const std::bad_alloc&) {
        return MOLT_OVERLOADED;
      }
    };
    close = [](molt_context*) {};
    output_pending = [](molt_context*) -> std::size_t { return 0; };
    log = [](molt_context*, int, const char*, std::size_t) {};
    monotonic_ns = [](molt_context* c) -> std::int64_t { return of(c).at_ns_; };
    wall_clock_ns = [](molt_context* c) -> std::int64_t { return of(c).at_ns_; };
    continue_with = [](molt_context*, const molt_message*, void*) -> int { return MOLT_OK; };
    stop_self = [](molt_context*, const char*) {};
    monitor = [](molt_context*, molt_ref) -> std::uint64_t { return 1; };
    demonitor = [](molt_context*, std::uint64_t) -> int { return 1; };
    link = [](molt_context*, molt_ref) -> int { return MOLT_OK; };
    unlink = [](molt_context*, molt_ref) -> int { return MOLT_OK; };
    join = [](molt_context*, const char*, std::size_t) -> int { return MOLT_OK; };
    leave = [](molt_context*, const char*, std::size_t) -> int { return MOLT_OK; };
    members = [](molt_context*, const char*, std::size_t, molt_ref*, std::size_t) -> std::size_t { return 0; };
    offload = [](molt_context*, const molt_work*, void*) -> int { return MOLT_OK; };
    threw = [](molt_context*, const char*) {};
    not_converted = [](molt_context*) {};
  }
};

replayer::replayer(const servers::server_type& type, std::string_view state, molt_ref self) : type_{type}, self_{self} {
  const auto& schema = *type.abi().state;
  void* const storage = allocate_storage(schema);
  if (storage == nullptr) throw std::bad_alloc{};
  text_buffer text;
  if (migration::load_all(schema, state, storage, text) == MOLT_OK) {
    state_ = storage;
    return;
  }
  free_storage(schema, storage);
  why_ = "its state cannot be copied: " + said(text);
}

replayer::~replayer() {
  if (state_ != nullptr) destroy_and_free(*type_.abi().state, state_);
}

void replayer::keep_reply(const molt_message& to, const molt_schema& schema, const void* value) {
  migration::archive_buffer bytes;
  text_buffer text;
  if (bytes.save(schema, value, text) == MOLT_OK)
    now_.answers.push_back({&to, &schema, std::string{bytes.bytes()}});
  else
    now_.text = "its reply cannot be written: " + said(text);
}

/// The same token for one message, however often it is asked for.
std::uint64_t replayer::defer() {
  if (handling_ == nullptr || handling_->reply == nullptr) return 0;
  try {
    if (!defers_) owed_.push_back(handling_);
    defers_ = true;
    return first_token + owed_.size() - 1;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

int replayer::reply(std::uint64_t token, const molt_schema& schema, const void* value) {
  if (token < first_token || token - first_token >= owed_.size()) return MOLT_NOT_FOUND;  // of a call from before
  const auto* const to = std::exchange(owed_[token - first_token], nullptr);
  if (to == nullptr) return MOLT_NOT_FOUND;
  try {
    keep_reply(*to, schema, value);
    return MOLT_OK;
  } catch (const std::bad_alloc&) {
    return MOLT_OVERLOADED;
  }
}

void replayer::run(const molt_handler& handler, void* payload) {
  now_.handled = true;
  handling_ = handler.message;
  defers_ = false;
  const host offered{*this};
  molt_context context{&offered, self_};
  text_buffer text;
  const bool answers = handler.message->reply != nullptr && (handler.flags & MOLT_HANDLER_DEFERS) == 0;
  if (!answers) {
    now_.status = handler.handle(&context, state_, payload, nullptr, &text);
  } else {
    object reply{*handler.message->reply};
    now_.status = handler.handle(&context, state_, payload, reply.storage(), &text);
    if (now_.status == MOLT_OK) {
      reply.made();
      keep_reply(*handler.message, *handler.message->reply, reply.storage());
    }
  }
  if (now_.status != MOLT_OK) now_.text = said(text);
}

replayed replayer::handle_data(const servers::recorded_message& message) {
  if (type_.abi().handle_data == nullptr) return {};
  now_.handled = true;
  handling_ = nullptr;
  const host offered{*this};
  molt_context context{&offered, self_};
  text_buffer text;
  std::size_t consumed = 0;
  now_.status =
      type_.abi().handle_data(&context, state_, message.payload.data(), message.payload.size(), &consumed, &text);
  if (now_.status != MOLT_OK) now_.text = said(text);
  return std::move(now_);
}

replayed replayer::handle(const servers::recorded_message& message, const servers::server_type& senders) {
  now_ = {};
  at_ns_ = message.at.count();
  if (!message.has_payload) {
    now_.text = "its payload was not recorded";
    return std::move(now_);
  }
  if (message.key == 0) return handle_data(message);
  const molt_handler* const sent = senders.find(message.key);
  const molt_handler* handler = type_.find(message.key);
  if (sent == nullptr && handler == nullptr) {
    now_.text = "it is of neither version";
    return std::move(now_);
  }
  const molt_message& as_sent = *(handler != nullptr ? handler : sent)->message;
  servers::message_route route;
  if (handler == nullptr) {
    route.handler = handler = type_.find(std::string_view{as_sent.name});
    if (handler != nullptr)
      if (auto ways = detail::find_message_ways({{&type_, &senders}, migration::direction::up}, as_sent,
                                                handler->message->reply, route);
          !ways) {
        now_.text = "no hook leads to its handler: " + ways.error().text();
        return std::move(now_);
      }
  }
  if (handler == nullptr) {
    now_.text = "no handler takes it";
    return std::move(now_);
  }
  object payload{*as_sent.payload};
  if (!load(payload, *as_sent.payload, message.payload, now_.text)) return std::move(now_);
  if (route.payload.steps.empty()) {
    run(*handler, payload.storage());
    return std::move(now_);
  }
  object converted{*handler->message->payload};
  route.payload.from_version = std::string{senders.version()};
  route.payload.to_version = std::string{type_.version()};
  text_buffer text;
  if (servers::convert(route.payload, payload.storage(), converted.storage(), &text) != MOLT_OK) {
    now_.handled = true;
    now_.status = MOLT_THREW;
    now_.text = "its hook threw: " + said(text);
    return std::move(now_);
  }
  converted.made();
  run(*handler, converted.storage());
  return std::move(now_);
}

namespace {

using answer = replayed::answer;

/// What the later version answers, as a caller of the older one gets it, is compared with what that one answered.
std::string difference_of(const answer& before, const answer& after, const servers::server_type& later) {
  if (std::string_view{before.to->name} != after.to->name)
    return std::string{"it answered "} + before.to->name + " first; now it answers " + after.to->name;
  if (before.reply->fingerprint == after.reply->fingerprint)
    return migration::compare_archives(*before.reply, before.archive, after.archive).text;
  servers::message_route route;
  if (!detail::find_message_ways({{&later}, migration::direction::up}, *before.to, after.reply, route))
    return "its reply is of another type, and no hook leads to the older one";
  std::string why;
  object newer{*after.reply};
  object older{*before.reply};
  if (!load(newer, *after.reply, after.archive, why)) return why;
  route.reply.from_version = std::string{later.version()};
  text_buffer text;
  if (servers::convert(route.reply, newer.storage(), older.storage(), &text) != MOLT_OK)
    return "the hook of its reply threw: " + said(text);
  older.made();
  migration::archive_buffer bytes;
  if (bytes.save(*before.reply, older.storage(), text) != MOLT_OK) return "its converted reply cannot be written";
  return migration::compare_archives(*before.reply, before.archive, bytes.bytes()).text;
}

}  // namespace

std::string difference_of(const replayed& before, const replayed& after, const servers::server_type& later) {
  if (!after.handled) return "the next version does not handle it: " + after.text;
  if (before.status != after.status || before.text != after.text)
    return shown_status(before) == shown_status(after) ? "" : shown_status(before) + "; now it " + shown_status(after);
  if (before.written != after.written) return "its output differs";
  if (before.answers.size() != after.answers.size())
    return "it gave " + std::to_string(before.answers.size()) + " replies; now it gives " +
           std::to_string(after.answers.size());
  for (std::size_t n = 0; n < before.answers.size(); ++n)
    if (auto text = difference_of(before.answers[n], after.answers[n], later); !text.empty()) return text;
  return {};
}

}  // namespace molt::upgrade
