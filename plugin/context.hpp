// What a server may ask of its host while one of its functions runs.
//
// Threading: the thread that runs the function, for as long as it runs. Not to be kept.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "plugin/schema.hpp"
#include "plugin/types.hpp"

#include <chrono>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace molt {

enum class log_level {
  debug = MOLT_LOG_DEBUG,
  info = MOLT_LOG_INFO,
  warning = MOLT_LOG_WARNING,
  error = MOLT_LOG_ERROR
};

namespace detail {

[[gnu::cold]] inline error status_error(int status, std::string_view what, const molt_text* text) {
  struct entry {
    reason why;
    const char* words;
  };
  static constexpr entry known[] = {
      {reason::internal, "no error"},
      {reason::timeout, "no answer in time"},
      {reason::no_such_server, "no such server"},
      {reason::server_failed, "the server failed"},
      {reason::overloaded, "overloaded"},
      {reason::would_deadlock, "the call would wait for itself"},
      {reason::unknown_message, "the server handles no such message"},
      {reason::stopping, "the server is stopping"},
      {reason::hook_failed, "its code threw"},
      {reason::corrupt, "bad archive"},
      {reason::out_of_bounds, "a limit was reached"},
      {reason::already_exists, "the name is taken"},
      {reason::not_found, "not found"},
      {reason::refused, "refused"},
  };
  const bool is_known = status > 0 && static_cast<std::size_t>(status) < std::size(known);
  const entry& found = known[is_known ? status : 0];
  std::string message{what};
  message += ": ";
  message += is_known ? found.words : "unknown status";
  if (text != nullptr && text->size != 0) message.append(": ").append(text->data, text->size);
  return error{found.why, std::move(message)};
}

[[nodiscard]] inline result<void> status_result(int status, std::string_view what) {
  if (status != MOLT_OK) return status_error(status, what, nullptr);
  return ok();
}

}  // namespace detail

class context {
 public:
  explicit context(molt_context& abi) noexcept : abi_{&abi} {}
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  /// The running server.
  [[nodiscard]] ref self() const noexcept { return ref{abi_->self.bits}; }
  /// The server registered under `name` now, or none.
  [[nodiscard]] ref lookup(std::string_view name) { return ref{host().lookup(abi_, name.data(), name.size()).bits}; }

  /// Sends a message with a `reply` and waits for it; 5 s unless `timeout` says otherwise.
  /// Errors: timeout, no_such_server, server_failed, overloaded, would_deadlock, unknown_message, stopping.
  template <detail::is_call M>
  [[nodiscard]] result<typename M::reply> call(ref to, M message, std::chrono::nanoseconds timeout = {}) {
    return call_in_place(to, message, timeout);
  }
  /// Sends a message; delivery is not confirmed. Errors: no_such_server, overloaded, stopping.
  template <class M>
  result<void> cast(ref to, M message) {
    static_assert(!detail::is_call<M>, "molt: this message has a reply: call it");
    return detail::status_result(host().cast(abi_, molt_ref{to.bits}, &message_of<M>(), &message),
                                 message_of<M>().name);
  }

  /// Sends a message to this server, or another one, after a delay. An empty timer: overloaded. Survives upgrades.
  template <class M>
  timer send_after(std::chrono::nanoseconds delay, M message) {
    return send_after(delay, self(), std::move(message));
  }
  template <class M>
  timer send_after(std::chrono::nanoseconds delay, ref to, M message) {
    static_assert(!detail::is_call<M>, "molt: a timer sends casts; this message has a reply");
    return timer{host().send_after(abi_, molt_ref{to.bits}, delay.count(), &message_of<M>(), &message)};
  }
  /// Whether the timer had not fired and now will not.
  bool cancel(timer pending) { return host().cancel(abi_, pending.id) == 1; }

  /// Starts a server of a type of the running release, unsupervised; returns when its init has.
  /// Errors: not_found, already_exists, hook_failed, refused, out_of_bounds.
  result<ref> start(std::string_view type, std::string_view name = {}, const argument_list& given = {}) {
    return start_by(host().start, type, name, given);
  }
  /// Starts a child of the dynamic supervisor of that name: it is restarted as its supervisor says, and gets the
  /// arguments of the release, replaced and followed by these. Registered if `name` is not empty.
  /// Errors: not_found (no such supervisor), refused (it is not dynamic), stopping, already_exists, hook_failed,
  /// out_of_bounds.
  result<ref> start_child(std::string_view supervisor, const argument_list& given = {}, std::string_view name = {}) {
    return start_by(host().start_child, supervisor, name, given);
  }
  /// Asks a server to stop after the message that it is handling.
  result<void> stop(ref server, std::string_view why) {
    return detail::status_result(host().stop(abi_, molt_ref{server.bits}, std::string{why}.c_str()),
                                 "stopping a server");
  }

  /// Answers a deferred call. not_found: answered already, timed out or gone; harmless.
  template <class Reply>
  result<void> reply(reply_to<Reply> token, std::type_identity_t<Reply> value) {
    return detail::status_result(host().reply(abi_, token.token, &schema_of<Reply>(), &value), "replying");
  }
  result<void> reply(reply_to<done> token) { return reply(token, done{}); }

  // -- Connections only
  /// Appends to the output. Errors: out_of_bounds, stopping.
  result<void> write(std::string_view bytes) {
    return detail::status_result(host().write(abi_, bytes.data(), bytes.size()), "writing to the client");
  }
  /// Ends the connection after its output is flushed.
  void close() { host().close(abi_); }
  /// Bytes written and not yet taken by the client.
  [[nodiscard]] std::size_t output_pending() { return host().output_pending(abi_); }

  void log(log_level level, std::string_view text) {
    host().log(abi_, static_cast<int>(level), text.data(), text.size());
  }
  [[nodiscard]] std::chrono::steady_clock::time_point now() {
    return std::chrono::steady_clock::time_point{std::chrono::nanoseconds{host().monotonic_ns(abi_)}};
  }
  [[nodiscard]] std::chrono::system_clock::time_point wall_clock() {
    return std::chrono::system_clock::time_point{std::chrono::duration_cast<std::chrono::system_clock::duration>(
        std::chrono::nanoseconds{host().wall_clock_ns(abi_)})};
  }

  [[nodiscard]] molt_context& abi() noexcept { return *abi_; }

 private:
  friend struct named;

  [[nodiscard]] const molt_host& host() const noexcept { return *abi_->host; }

  [[nodiscard]] result<ref> start_by(decltype(molt_host::start) start, std::string_view what, std::string_view name,
                                     const argument_list& given) {
    const std::string what_text{what};
    const std::string name_text{name};
    std::vector<molt_argument> items;
    items.reserve(given.size());
    for (const auto& [key, value] : given) items.push_back({key.c_str(), value.c_str()});
    const molt_arguments list{items.data(), items.size()};
    molt_ref started{};
    molt_text text{};
    const int status = start(abi_, what_text.c_str(), name_text.c_str(), &list, &started, &text);
    if (status != MOLT_OK) return detail::status_error(status, "starting " + what_text, &text);
    return ref{started.bits};
  }

  template <class M>
  [[nodiscard]] result<typename M::reply> call_in_place(ref to, M& message, std::chrono::nanoseconds timeout) {
    using reply = detail::reply_type<M>;
    union storage {
      storage() noexcept {}
      ~storage() {}
      reply value;
    } answer;
    const int status = host().call(abi_, molt_ref{to.bits}, &message_of<M>(), &message, &answer.value, timeout.count());
    if (status != MOLT_OK) return detail::status_error(status, message_of<M>().name, host().call_failure(abi_));
    if constexpr (std::is_void_v<typename M::reply>) {
      return ok();
    } else {
      struct guard {
        reply& held;
        ~guard() { held.~reply(); }
      } const destroy{answer.value};
      return result<reply>{std::move(answer.value)};
    }
  }

  molt_context* abi_;
};

/// A server known by its name; keeps the reference and looks the name up again when that server is gone.
struct named {
  std::string name;
  ref cached{};

  template <detail::is_call M>
  [[nodiscard]] result<typename M::reply> call(context& ctx, M message, std::chrono::nanoseconds timeout = {}) {
    if (cached) {
      auto answer = ctx.call_in_place(cached, message, timeout);
      if (answer || answer.error().why() != reason::no_such_server) return answer;
    }
    cached = ctx.lookup(name);
    if (!cached) return nobody();
    return ctx.call_in_place(cached, message, timeout);
  }

  template <class M>
  result<void> cast(context& ctx, M message) {
    if (cached) {
      auto sent = ctx.cast(cached, message);
      if (sent || sent.error().why() != reason::no_such_server) return sent;
    }
    cached = ctx.lookup(name);
    if (!cached) return nobody();
    return ctx.cast(cached, std::move(message));
  }

 private:
  [[nodiscard]] error nobody() const { return error{reason::no_such_server, "no server is registered as " + name}; }
};

}  // namespace molt
