// What a server may ask of its host while one of its functions runs.
//
// Threading: the thread that runs the function, for as long as it runs. Not to be kept.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "plugin/schema.hpp"
#include "plugin/types.hpp"

#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <new>
#include <optional>
#include <stdexcept>
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
      {reason::refused, "no server is wanted"},
  };
  const bool is_known = status > 0 && static_cast<std::size_t>(status) < std::size(known);
  const entry& found = known[is_known ? status : 0];
  std::string message{what};
  message += ": ";
  message += is_known ? found.words : "unknown status";
  if (text != nullptr && text->size != 0) message.append(": ").append(text->data, text->size);
  return error{found.why, std::move(message)};
}

/// `what` becomes a string_view only where it is needed: a name would be measured for every message.
[[nodiscard]] inline result<void> status_result(int status, const auto& what) {
  if (status != MOLT_OK) return status_error(status, what, nullptr);
  return ok();
}

}  // namespace detail

namespace detail {

/// Work that makes its message.
template <class Work>
struct making_work {
  using message = std::invoke_result_t<Work&>;
  Work work;
  void make(void* payload_storage) { ::new (payload_storage) message(work()); }
};

/// Work that fills one in.
template <class Work, class M>
struct filling_work {
  using message = M;
  Work work;
  M filled;
  void make(void* payload_storage) {
    work(filled);
    ::new (payload_storage) M(std::move(filled));
  }
};

template <class Job>
int run_work_thunk(void* job, void* payload_storage, molt_text* error) {
  try {
    static_cast<Job*>(job)->make(payload_storage);
    return MOLT_OK;
  } catch (...) {
    return caught_by_author(error);
  }
}

template <class Job>
constexpr molt_work make_work() {
  static_assert(!is_call<typename Job::message>, "molt: offloaded work makes a message without a reply");
  static_assert(std::is_nothrow_move_constructible_v<Job>, "molt: offloaded work is queued by moving it");
  molt_work made{};
  made.message = &message_of<typename Job::message>();
  made.size = sizeof(Job);
  made.align = alignof(Job);
  made.move = [](void* storage, void* from) { ::new (storage) Job(std::move(*static_cast<Job*>(from))); };
  made.destroy = [](void* job) { static_cast<Job*>(job)->~Job(); };
  made.run = &run_work_thunk<Job>;
  return made;
}
template <class Job>
inline constexpr molt_work work_constant = make_work<Job>();

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
  /// Errors: timeout, no_such_server, server_failed, overloaded, would_deadlock, unknown_message, stopping, hook_failed.
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
  /// Sends a message to this server, or another one, the nth time n periods from now: no drift, and what was missed is
  /// not made up for. At most every 2 ms. Ends with the receiver. An empty timer: overloaded. Survives upgrades.
  template <class M>
  timer send_every(std::chrono::nanoseconds period, M message) {
    return send_every(period, self(), std::move(message));
  }
  template <class M>
  timer send_every(std::chrono::nanoseconds period, ref to, M message) {
    static_assert(!detail::is_call<M>, "molt: a timer sends casts; this message has a reply");
    return timer{host().send_every(abi_, molt_ref{to.bits}, period.count(), &message_of<M>(), &message)};
  }
  /// Whether the timer was pending and now will not fire any more.
  bool cancel(timer pending) { return host().cancel(abi_, pending.id) == 1; }

  /// Starts a server of a type of the running release, unsupervised; returns when its init has. Empty: its init has
  /// thrown molt::ignored.
  /// Errors: not_found, already_exists, hook_failed, refused, out_of_bounds.
  result<ref> start(std::string_view type, std::string_view name = {}, const argument_list& given = {}) {
    return start_by(host().start, type, name, given);
  }
  /// Starts a child of the dynamic supervisor of that name: it is restarted as its supervisor says, and gets the
  /// arguments of the release, replaced and followed by these. Registered if `name` is not empty. Empty: its init has
  /// thrown molt::ignored, and there is no such child.
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

  /// Has this server handle `message` (by handle_continue, or handle_info) before anything else that waits for it.
  /// Errors: overloaded.
  template <class M>
  result<void> continue_with(M message) {
    static_assert(!detail::is_call<M>, "molt: this message has a reply, and nobody would get it");
    return detail::status_result(host().continue_with(abi_, &message_of<M>(), &message), message_of<M>().name);
  }
  /// Ends this server after the running function, whose reply is still given. In init: the start is refused.
  void stop_self(std::string_view why) { host().stop_self(abi_, std::string{why}.c_str()); }

  /// In init: the state that a hook of the release has given to this server, under its name (molt::change::give). Empty
  /// if there is none: also when the server is started again later. Throws std::runtime_error if it has another
  /// structure than `State`.
  template <class State>
  [[nodiscard]] std::optional<State> given() {
    union storage {
      storage() noexcept {}
      ~storage() {}
      State value;
    } place;
    molt_text text;
    text.size = 0;
    const int status = host().size < offsetof(molt_host, given) + sizeof host().given || host().given == nullptr
                           ? MOLT_NOT_FOUND
                           : host().given(abi_, &schema_of<State>(), &place.value, &text);
    if (status == MOLT_NOT_FOUND) return std::nullopt;
    if (status != MOLT_OK) throw std::runtime_error{"the state that was given: " + std::string{text.data, text.size}};
    struct guard {
      State& held;
      ~guard() { held.~State(); }
    } const destroy{place.value};
    return std::optional<State>{std::move(place.value)};
  }

  // -- Watching others
  /// Sends this server molt::down once when `other` ends; at once if it has. Empty: overloaded, or `other` is this
  /// server. Survives upgrades of both.
  molt::monitor monitor(ref other) { return molt::monitor{host().monitor(abi_, molt_ref{other.bits})}; }
  /// Whether the monitor had not fired and now will not.
  bool demonitor(molt::monitor pending) { return host().demonitor(abi_, pending.id) == 1; }
  /// Ties this server's fate to another's: when one fails, so does the other, with the same reason, unless it handles
  /// molt::exit_signal. Twice is once. Errors: no_such_server, overloaded, refused (itself).
  result<void> link(ref other) {
    return detail::status_result(host().link(abi_, molt_ref{other.bits}), "linking a server");
  }
  /// Errors: not_found.
  result<void> unlink(ref other) {
    return detail::status_result(host().unlink(abi_, molt_ref{other.bits}), "unlinking a server");
  }

  // -- Groups of servers. One that ends leaves.
  /// Joins this server; twice is once. Errors: out_of_bounds.
  result<void> join(std::string_view group) {
    return detail::status_result(host().join(abi_, group.data(), group.size()), group);
  }
  /// Errors: not_found.
  result<void> leave(std::string_view group) {
    return detail::status_result(host().leave(abi_, group.data(), group.size()), group);
  }
  /// In no order.
  [[nodiscard]] std::vector<ref> members(std::string_view group) {
    std::vector<molt_ref> found(16);
    for (;;) {
      const std::size_t count = host().members(abi_, group.data(), group.size(), found.data(), found.size());
      const bool all = count <= found.size();
      found.resize(count);
      if (all) break;
    }
    std::vector<ref> list;
    list.reserve(found.size());
    for (const molt_ref each : found) list.push_back(ref{each.bits});
    return list;
  }
  /// Casts a copy to each member, itself too if it is one; for how many it was queued.
  template <class M>
  std::size_t cast_to_group(std::string_view group, const M& message) {
    std::size_t queued = 0;
    for (const ref each : members(group)) queued += static_cast<std::size_t>(static_cast<bool>(cast(each, M(message))));
    return queued;
  }

  // -- Work that blocks
  /// Runs `work()` on a thread where it may block, and sends the message that it returns to this server. `work` must
  /// not use the context, and keeps its image loaded. When it throws, molt::offload_failed is sent instead.
  /// Errors: overloaded, stopping.
  template <class Work>
  result<void> offload(Work work) {
    return offload_job(detail::making_work<Work>{std::move(work)});
  }
  /// The same with `work(message)`, which fills in a message that is sent then.
  template <class Work, class M>
  result<void> offload(Work work, M message) {
    return offload_job(detail::filling_work<Work, M>{std::move(work), std::move(message)});
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

  template <class Job>
  result<void> offload_job(Job job) {
    constexpr const molt_work& work = detail::work_constant<Job>;
    return detail::status_result(host().offload(abi_, &work, &job), work.message->name);
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
