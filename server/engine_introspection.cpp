// State, status and trace of one server: what `sys` offers in OTP.
//
// All that looks into a state holds its server, as a handler would, and puts it back as it was found: idle or
// suspended.
#include "server/engine.hpp"
#include "server/growing_sink.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

namespace molt::servers {

namespace {

constexpr std::int64_t trace_lasts_max_ns = 24LL * 3600 * 1'000'000'000;

error too_many_watched() {
  return {reason::out_of_bounds,
          std::to_string(watched_max) + " servers are watched or recorded, and no more can be at once"};
}

/// A server at an update point, until this is gone.
class held_server {
 public:
  held_server(engine& owner, thread_record& me) noexcept : owner_{owner}, me_{me}, inside_{owner, me} {}
  held_server(const held_server&) = delete;
  held_server& operator=(const held_server&) = delete;
  ~held_server() {
    if (held_ == nullptr) return;
    if (suspended_)
      owner_.put_back_suspended(*held_);
    else
      owner_.leave_mailbox(me_, *held_);
  }

  /// Brought to the current release, too.
  result<void> take(molt_ref ref, std::int64_t timeout_ns) {
    const auto deadline = deadline_in(timeout_ns);
    while (held_ == nullptr) {
      const auto held = owner_.hold(me_, ref, deadline, false);
      if (held)
        held_ = *held;
      else if (held.error().why() == reason::busy)
        take_suspended(ref);
      else
        return held.error();
    }
    owner_.adopt_if_behind(*held_);
    return ok();
  }

  [[nodiscard]] cell& get() const noexcept { return *held_; }
  [[nodiscard]] const server_type& type() const noexcept {
    return held_->type.load(std::memory_order_relaxed)->original();
  }

 private:
  /// Unless it has been resumed meanwhile.
  void take_suspended(molt_ref ref) {
    cell* const wanted = owner_.find(ref);
    auto expected = word::make(generation_of(ref), condition::suspended);
    if (wanted == nullptr ||
        !wanted->word.compare_exchange_strong(expected, word::held(ref, me_.id), std::memory_order_acquire))
      return;
    suspended_ = true;
    held_ = wanted;
  }

  engine& owner_;
  thread_record& me_;
  activity inside_;
  cell* held_ = nullptr;
  bool suspended_ = false;
};

std::string text_or(const molt_text& text, std::string_view otherwise) {
  return std::string{text.size != 0 ? text_of(text) : otherwise};
}

/// A state that was not taken into use.
class discarded_state {
 public:
  discarded_state(const molt_schema& schema, void* state) noexcept : schema_{schema}, state_{state} {}
  discarded_state(const discarded_state&) = delete;
  discarded_state& operator=(const discarded_state&) = delete;
  ~discarded_state() {
    schema_.destroy(state_);
    free_state(state_, schema_);
  }
  void* exchange(void* other) noexcept { return std::exchange(state_, other); }

 private:
  const molt_schema& schema_;
  void* state_;
};

}  // namespace

// ---- Status

std::uint32_t engine::seconds_now() const noexcept {
  if (options_.clock != nullptr) return static_cast<std::uint32_t>(clock_.wall_clock_ns() / 1'000'000'000);
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);  // a third of what the exact one takes; each start pays it
  return static_cast<std::uint32_t>(now.tv_sec);
}

void engine::raise_queue_mark(const cell& receiver, std::size_t length) noexcept {
  kept::raise(registry_.detail(receiver), length);
}

server_info engine::info_of(const cell& each, std::uint64_t seen, const server_type& type) const {
  const cell_detail& detail = registry_.detail(each);
  server_info info;
  info.ref = {(std::uint64_t{word::generation(seen)} << 32U) | registry_.slot_of(each)};
  info.name = registry_.name_of(each);
  info.type = type.name();
  info.version = type.version();
  info.status = word::now(seen) == condition::held        ? "running"
                : word::now(seen) == condition::suspended ? "suspended"
                                                          : "idle";
  info.queued =
      mailbox::count(each.head.load(std::memory_order_relaxed)) + each.pending_count.load(std::memory_order_relaxed);
  info.queued_most = std::max<std::size_t>(kept::queued_most(detail), info.queued);
  info.handled = each.handled.load(std::memory_order_relaxed);
  info.started_at = std::chrono::seconds{detail.started.load(std::memory_order_relaxed) >> 32U};
  if (!type.watched()) return info;
  if (const auto record = watches_.find(info.ref)) {
    info.watched = record->watching();
    info.recorded = record->kept().messages;
  }
  return info;
}

result<server_status> engine::status(molt_ref ref, bool measure, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  server_status made;
  {
    const activity here{*this, me, 0, activity::how::regardless};
    const cell* const found = find(ref);
    if (found == nullptr) return no_such_server();
    const auto seen = found->word.load(std::memory_order_acquire);
    const server_type* const type = found->type.load(std::memory_order_acquire);
    if (word::generation(seen) != generation_of(ref) || type == nullptr) return no_such_server();
    made.info = info_of(*found, seen, *type);
    if (const auto record = watches_.find(ref))
      if (auto times = record->handlers(); times.total() != 0 || record->watching()) made.handlers = times;
  }
  if (!measure) return made;
  held_server held{*this, me};
  MOLT_CHECK(held.take(ref, timeout_ns));
  counting_sink to;
  molt_text why{};
  if (held.type().abi().state->save(state_of(held.get()), &to, &why) != MOLT_OK)
    return error{reason::hook_failed,
                 describe(held.get()) + ": its state cannot be written: " + text_or(why, "no reason given")};
  made.archive_bytes = to.count();
  return made;
}

// ---- State

result<state_copy> engine::get_state(molt_ref ref, std::size_t bytes_max, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  held_server held{*this, me};
  MOLT_CHECK(held.take(ref, timeout_ns));
  const server_type& type = held.type();
  growing_sink to{bytes_max};
  molt_text why{};
  int status = MOLT_OK;
  const int shown = type.show(
      state_of(held.get()), [&](const void* state) { status = type.abi().state->save(state, &to, &why); }, &why);
  if (shown != MOLT_OK)
    return error{reason::hook_failed, describe(held.get()) + ": its format_status threw: " + text_or(why, "no text")};
  if (status == MOLT_OUT_OF_BOUNDS)
    return error{reason::out_of_bounds,
                 describe(held.get()) + ": its state takes more than " + std::to_string(bytes_max) + " bytes"};
  if (status != MOLT_OK)
    return error{reason::hook_failed,
                 describe(held.get()) + ": its state cannot be written: " + text_or(why, "no reason given")};
  const molt_source written = to.written();
  state_copy made{type.shared_from_this(), {}, type.abi().format_status != nullptr};
  made.archive.assign(written.cursor, written.end);
  return made;
}

result<void> engine::replace_state(molt_ref ref, const server_type& as, std::string_view archive,
                                   std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const molt_schema& schema = *as.abi().state;
  // Made before the server is held: it waits only for the check and the exchange.
  void* const made = allocate_state(schema);
  molt_source from{archive.data(), archive.data() + archive.size()};
  molt_text why{};
  if (const int status = schema.load(made, &from, &why); status != MOLT_OK) {
    free_state(made, schema);
    return error{status == MOLT_OUT_OF_BOUNDS ? reason::out_of_bounds : reason::corrupt,
                 "the state cannot be read: " + text_or(why, "no such archive")};
  }
  discarded_state unused{schema, made};
  if (from.cursor != from.end) return error{reason::corrupt, "the state cannot be read: bytes are left over"};

  held_server held{*this, me};
  MOLT_CHECK(held.take(ref, timeout_ns));
  if (&held.type() != &as)
    return error{reason::incompatible,
                 describe(held.get()) + " has meanwhile come to " + std::string{held.type().name()} + " " +
                     std::string{held.type().version()},
                 "get its state again"};
  why.size = 0;
  if (as.abi().self_check != nullptr && as.abi().self_check(made, &why) != MOLT_OK)
    return error{reason::refused, describe(held.get()) + ": self_check refuses the state: " + text_or(why, "no text"),
                 "the server goes on with the state it had"};
  held.get().state.store(unused.exchange(state_of(held.get())), std::memory_order_relaxed);
  log(MOLT_LOG_WARNING, &held.get(), "its state was replaced");
  return ok();
}

// ---- Trace

void engine::set_watched(cell& held, bool watched) {
  const server_type& type = held.type.load(std::memory_order_relaxed)->original();
  held.type.store(watched ? &type.watched_twin() : &type, std::memory_order_release);
}

result<void> engine::watch(molt_ref ref, std::int64_t lasts_ns, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  lasts_ns = std::clamp<std::int64_t>(lasts_ns, 1, trace_lasts_max_ns);
  held_server held{*this, me};
  MOLT_CHECK(held.take(ref, timeout_ns));
  const auto record = watches_.make(ref);
  if (record == nullptr) return too_many_watched();
  record->begin(steady_ns() + lasts_ns, lasts_ns);
  set_watched(held.get(), true);
  return ok();
}

result<void> engine::unwatch(molt_ref ref) {
  thread_record& me = this_thread();
  const activity here{*this, me, 0, activity::how::regardless};
  const auto record = watches_.find(ref);
  if (record == nullptr || !record->watching()) return error{reason::not_found, "nobody watches this server"};
  if (!record->leave()) return ok();
  cell* const wanted = find(ref);
  // If it is busy or suspended, it sees at its next message that nobody watches any more.
  if (wanted == nullptr || try_acquire(me, *wanted, generation_of(ref), false) != MOLT_OK) return ok();
  if (!record->in_use()) set_watched(*wanted, false);
  leave_mailbox(me, *wanted);
  return ok();
}

result<trace_page> engine::trace(molt_ref ref, std::uint64_t after) {
  const auto record = watches_.find(ref);
  if (record == nullptr) return error{reason::not_found, "nobody watches this server", "watch it first"};
  return record->read(after, steady_ns());
}

// ---- The last messages

result<void> engine::record(molt_ref ref, recording most, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  held_server held{*this, me};
  MOLT_CHECK(held.take(ref, timeout_ns));
  if (const std::string name = registry_.name_of(held.get()); !name.empty()) watches_.keep_for(name, most);
  return record_held(held.get(), most);
}

result<void> engine::record_held(cell& held, recording most) {
  const auto record = most.messages != 0 ? watches_.make(ref_of(held)) : watches_.find(ref_of(held));
  if (record == nullptr) return most.messages != 0 ? result<void>{too_many_watched()} : ok();
  record->keep(most);
  set_watched(held, record->in_use());
  return ok();
}

void engine::record_from_start(cell& held, std::string_view name) {
  const recording most = watches_.kept_for(name);
  if (most.messages == 0) return;
  if (const auto recorded = record_held(held, most); !recorded)
    log(MOLT_LOG_WARNING, &held, "its messages are not recorded: " + recorded.error().message());
}

result<std::vector<recorded_message>> engine::last_messages(molt_ref ref) {
  const auto record = watches_.find(ref);
  if (record == nullptr || record->kept().messages == 0)
    return error{reason::not_found, "this server's messages are not recorded", "molt record SERVER 16 begins it"};
  return record->last_messages();
}

int engine::handle_watched(thread_record& me, activation& here, const molt_message& message, void* payload, void* reply,
                           bool& ended, const activation* caller) {
  cell& held = running(here);
  observation watched{*this, held, message, payload, caller != nullptr ? describe(running(*caller)) : std::string{}};
  const int status = handle(me, here, message, payload, reply, &me.scratch, ended);
  watched.done(status);
  return status;
}

observation::observation(engine& of, cell& held, const molt_message& message, const void* payload, std::string from) {
  if (!held.type.load(std::memory_order_relaxed)->watched()) [[likely]]
    return;
  begin(of, held, message.reply != nullptr ? message_kind::call : message_kind::cast, message.name, std::move(from));
  if (record_ == nullptr || wanted_.last.payload_bytes == 0) return;
  growing_sink to{wanted_.last.payload_bytes};
  molt_text why{};
  if (message.payload->save(payload, &to, &why) == MOLT_OK) {  // before the handler: it may move from it
    const molt_source written = to.written();
    message_.payload.assign(written.cursor, written.end);
    message_.has_payload = true;
  }
  message_.key = message.key;
}

observation::observation(engine& of, cell& held, std::string_view data) {
  if (!held.type.load(std::memory_order_relaxed)->watched()) [[likely]]
    return;
  begin(of, held, message_kind::data, "data", {});
  if (record_ == nullptr || data.size() > wanted_.last.payload_bytes || wanted_.last.payload_bytes == 0) return;
  message_.payload = data;
  message_.has_payload = true;
}

void observation::begin(engine& of, cell& held, message_kind kind, std::string_view message, std::string from) {
  const auto record = of.watches_.find(of.ref_of(held));
  begun_ns_ = steady_ns();
  if (record != nullptr) wanted_ = record->expire(begun_ns_);
  if (!wanted_.anything()) {
    engine::set_watched(held, false);
    return;
  }
  record_ = record;
  event_.kind = message_.kind = kind;
  event_.message = message;
  event_.from = std::move(from);
  event_.at = message_.at = std::chrono::nanoseconds{of.clock_.wall_clock_ns()};
}

void observation::done(int status) {
  if (record_ == nullptr) [[likely]]
    return;
  event_.took = message_.took = std::chrono::nanoseconds{steady_ns() - begun_ns_};
  event_.status = message_.status = status;
  message_.message = event_.message;
  if (wanted_.last.messages != 0) record_->add(std::move(message_));
  if (wanted_.trace) record_->add(std::move(event_));
}

}  // namespace molt::servers
