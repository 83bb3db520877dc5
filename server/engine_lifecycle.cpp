#include "server/engine.hpp"

#include "base/assert.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace molt::servers {

namespace {

options checked(options given) {
  if (given.pool_threads == 0) given.pool_threads = std::max(1U, std::thread::hardware_concurrency());
  given.pool_threads = std::min(given.pool_threads, 256U);
  given.mailbox_max = std::clamp<std::size_t>(given.mailbox_max, 1, mailbox::count_max);
  given.nesting_max = std::clamp(given.nesting_max, 1U, active::handlers_max);
  return given;
}

}  // namespace

engine::engine(options given)
    : options_{checked(std::move(given))},
      direct_nesting_max_{(fence::prepare(), fence::is_free()) ? options_.nesting_max : 0},
      clock_{options_.clock != nullptr ? *options_.clock : machine_clock()},
      registry_{options_.servers_max},
      host_{make_host(*this)},
      current_{nullptr},
      timers_{clock_, options_.timers_max,
              [this](molt_ref to, envelope* message) {
                thread_record& me = this_thread();
                activity here{*this, me, 0, activity::how::regardless};
                if (find(to) != nullptr)
                  push_cast(me, to, message);
                else
                  destroy_cast(me, message);
              },
              [this](molt_ref to, envelope& message) -> envelope* {
                if (find(to) == nullptr) return nullptr;
                return copy_cast(this_thread(), message);
              }},
      deferred_{options_.deferred_max},
      relations_{options_.relations_max},
      offloads_{options_.offload_threads, options_.offload_max, [this](offloaded_job& job) { run_offloaded(job); }},
      pool_{options_.pool_threads, [this](cell& each) -> cell_detail& { return registry_.detail(each); },
            [this](cell& due) { turn(due); }, [this](thread_record& from) { return rescue_handoff(from); }} {
  timers_.start();
  pool_.start();
}

engine::~engine() {
  stopping_ = true;
  timers_.stop();
  offloads_.stop();
  stop_all();
  pool_.stop();
  thread_record& me = this_thread();
  timers_.for_each([&](molt_ref, envelope*& message) { destroy_cast(me, std::exchange(message, nullptr)); });
  // What was pushed to servers after they ended.
  for (std::uint32_t slot = 0; slot < registry_.used(); ++slot)
    drain_dead(me, registry_.at(slot), MOLT_NO_SUCH_SERVER, "the runtime is stopping");
}

cell* engine::find(molt_ref ref) const noexcept {
  const auto slot = slot_of(ref);
  if (!registry_.is_slot(slot)) return nullptr;
  cell& found = registry_.at(slot);
  const auto seen = found.word.load(std::memory_order_acquire);
  return word::generation(seen) == generation_of(ref) && word::now(seen) != condition::free ? &found : nullptr;
}

void engine::keep(const server_type& type) {
  if (last_kept_.load(std::memory_order_acquire) == &type) return;
  std::lock_guard lock{types_mutex_};
  types_.try_emplace(&type, type.shared_from_this());  // which needs no memory where it is known
  last_kept_.store(&type, std::memory_order_release);
}

void engine::log(int level, const cell* from, std::string_view text) const {
  if (options_.log) options_.log(level, from != nullptr ? describe(*from) : std::string{}, text);
}

// ---- Starting

result<molt_ref> engine::start(std::string_view type_name, std::string_view name, const molt_arguments& arguments,
                               connection_output* output) {
  thread_record& me = this_thread();
  const activity here{*this, me};
  const std::string wanted{type_name};
  if (stopping_.load(std::memory_order_relaxed))
    return error{reason::stopping, "starting " + wanted + ": the runtime is stopping"};
  const switch_entry* const entry = current_.load(std::memory_order_acquire);
  if (entry == nullptr) return error{reason::refused, "starting " + wanted + ": no release is running yet"};
  const server_type* const type = entry->release->find_type(type_name);
  if (type == nullptr) return error{reason::not_found, "the running release has no server type " + wanted};
  const auto kind = output != nullptr ? MOLT_KIND_CONNECTION : MOLT_KIND_SERVER;
  if (type->abi().kind != static_cast<std::uint32_t>(kind))
    return error{reason::refused, wanted + (output != nullptr ? " is not a connection type"
                                                              : " is a connection type, which only a listener starts")};
  keep(*type);
  cell* const taken = registry_.take_free();
  if (taken == nullptr)
    return error{reason::out_of_bounds,
                 "starting " + wanted + ": all " + std::to_string(options_.servers_max) + " servers are taken"};

  // A worker may be clearing out what came for the last server here.
  auto seen = taken->word.load(std::memory_order_acquire);
  const auto next = std::max(word::generation(seen), 1U);
  for (;;) {
    seen = taken->word.load(std::memory_order_acquire);
    if (word::now(seen) == condition::free &&
        taken->word.compare_exchange_weak(seen, word::make(next, condition::held, me.id), std::memory_order_acquire))
      break;
    std::this_thread::yield();
  }
  return start_held(me, *taken, *type, name, arguments, output, *entry);
}

result<molt_ref> engine::start_held(thread_record& me, cell& held, const server_type& type, std::string_view name,
                                    const molt_arguments& arguments, connection_output* output,
                                    const switch_entry& entry) {
  const molt_ref ref = ref_of(held);
  if (!name.empty() && !registry_.name(held, name, ref)) {
    free_cell(me, held, MOLT_NO_SUCH_SERVER, "the server did not start");
    return error{reason::already_exists, "a server named " + std::string{name} + " exists"};
  }
  if (!name.empty()) expected_names_.named();
  const molt_schema& schema = *type.abi().state;
  held.type.store(&type, std::memory_order_release);
  held.seen.store(&entry, std::memory_order_release);
  registry_.detail(held).output = output;
  const auto order = static_cast<std::uint32_t>(started_.fetch_add(1, std::memory_order_relaxed) + 1);
  registry_.detail(held).started.store((std::uint64_t{seconds_now()} << 32U) | order, std::memory_order_relaxed);
  registry_.detail(held).kept.store(0, std::memory_order_relaxed);
  kept::exchange(registry_.detail(held), argument_blocks_.find_or_make(arguments));
  held.state.store(allocate_state(schema), std::memory_order_relaxed);
  int status = MOLT_OK;
  {
    frame here{*this, me, held};
    me.scratch.size = 0;
    status = type.abi().init(&here.context, &arguments, state_of(held), &me.scratch);
  }
  std::erase_if(me.continuations,
                [&](const auto& each) { return each.runtime == number_ && each.server.bits == ref.bits; });
  std::string why{status != MOLT_OK ? text_of(me.scratch) : std::string_view{}};
  if (bool failed = false; status == MOLT_OK &&
                           (held.attention.load(std::memory_order_relaxed) & attention::stop) != 0 &&
                           take_stop_reason(ref, why, failed)) {
    status = MOLT_REFUSED;
    schema.destroy(state_of(held));
  }
  if (status != MOLT_OK) {
    const bool refused = status == MOLT_REFUSED || status == MOLT_IGNORED;
    if (!refused) tell_failure(me, held, why);
    free_state(take_state(held), schema);
    registry_.unname(held);
    if (free_cell(me, held, MOLT_NO_SUCH_SERVER, "the server did not start"))
      part(me, {ref, std::string{name}, std::string{type.name()}, !refused, why});
    if (status == MOLT_IGNORED) return molt_ref{};
    return error{refused ? reason::refused : reason::hook_failed,
                 "init of " + std::string{type.name()} + (name.empty() ? "" : " \"" + std::string{name} + "\"") +
                     (refused ? " refused: " : ": ") + why};
  }
  live_.fetch_add(1, std::memory_order_relaxed);
  if (!name.empty()) record_from_start(held, name);
  leave_mailbox(me, held);
  return ref;
}

// ---- Ending

result<void> engine::stop(molt_ref ref, std::string_view why, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const activity here{*this, me};
  MOLT_TRY(cell* const held, hold(me, ref, deadline_in(timeout_ns), true));
  end_server(me, *held, false, why);
  return ok();
}

result<void> engine::change_config(molt_ref ref, const molt_arguments& now, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const activity here{*this, me};
  MOLT_TRY(cell* const held, hold(me, ref, deadline_in(timeout_ns), false));
  return change_held(me, *held, now);
}

result<void> engine::change_held(thread_record& me, cell& held, const molt_arguments& now) {
  const std::string who = describe(held);
  bool ended = false;
  int status = MOLT_OK;
  {
    frame here{*this, me, held};
    adopt_if_behind(held);
    const molt_server_type& type = held.type.load(std::memory_order_relaxed)->abi();
    me.scratch.size = 0;
    if (type.config_change != nullptr)
      status = finish_handled(me, here, type.config_change(&here.context, state_of(held), &now, &me.scratch),
                              &me.scratch, ended);
  }
  if (status == MOLT_OK) {
    const auto* const known = argument_blocks_.find_or_make(now);
    argument_block::let_go(kept::exchange(registry_.detail(held), known));
  }
  if (!ended) leave_mailbox(me, held);
  if (status == MOLT_OK) return ok();
  return error{reason::hook_failed, "config_change of " + who + ": " + std::string{text_of(me.scratch)}};
}

void engine::request_stop(molt_ref ref, std::string_view why, bool failed) {
  thread_record& me = this_thread();
  cell* const target = find(ref);
  if (target == nullptr) return;
  {
    std::lock_guard lock{stop_reasons_mutex_};
    stop_reasons_.emplace(ref.bits, stop_reason{std::string{why}, failed});
  }
  want(*target, attention::stop);
  if (find(ref) == nullptr) {
    std::string unused;
    take_stop_reason(ref, unused, failed);
    return;
  }
  attend(me, *target);  // if nobody holds it
}

bool engine::take_stop_reason(molt_ref ref, std::string& why, bool& failed) {
  std::lock_guard lock{stop_reasons_mutex_};
  const auto found = stop_reasons_.find(ref.bits);
  if (found == stop_reasons_.end()) return false;
  why = std::move(found->second.why);
  failed = found->second.failed;
  stop_reasons_.erase(found);
  return true;
}

void engine::end_server(thread_record& me, cell& held, bool failed, std::string_view why) {
  if (me.drains != nullptr && me.drains->held == &held) give_back(*me.drains);
  const molt_ref ref = ref_of(held);
  const server_type& type = *held.type.load(std::memory_order_relaxed);
  const std::string reason_text{why};
  if (type.watched())
    if (const auto record = watches_.find(ref)) record->end(reason_text);
  exit_event event{ref, registry_.name_of(held), std::string{type.name()}, failed, reason_text};
  if (failed) log(MOLT_LOG_ERROR, &held, "failed: " + reason_text);
  if (type.abi().terminate != nullptr) {
    frame here{*this, me, held};
    text_buffer text;
    if (type.abi().terminate(&here.context, state_of(held), reason_text.c_str(), &text) != MOLT_OK)
      log(MOLT_LOG_ERROR, &held, "terminate failed: " + std::string{text_of(text)});
  }
  const molt_schema& schema = *type.abi().state;
  schema.destroy(state_of(held));
  free_state(take_state(held), schema);
  registry_.unname(held);
  const int status = failed ? MOLT_SERVER_FAILED : MOLT_NO_SUCH_SERVER;
  const std::string text = failed ? "the server failed: " + reason_text : "the server was stopped: " + reason_text;
  if (held.has_deferred)
    while (call_envelope* const unanswered = deferred_.take_any_of(ref)) {
      if (unanswered->advance(call_state::deferred, call_state::replying) ||
          unanswered->advance(call_state::deferring, call_state::replying))
        finish_call(me, *unanswered, status, text);
      else
        release_call(me, unanswered);
    }
  std::string unused;
  bool unused_too = false;
  take_stop_reason(ref, unused, unused_too);
  live_.fetch_sub(1, std::memory_order_relaxed);
  ended_.fetch_add(1, std::memory_order_relaxed);
  if (failed) failed_.fetch_add(1, std::memory_order_relaxed);
  const bool related = free_cell(me, held, status, text);
  me.exits.push_back(event);
  me.has_exits = true;
  if (related) part(me, std::move(event));
}

bool engine::free_cell(thread_record& me, cell& held, int status, std::string_view text) {
  const auto next = std::max(word::generation(held.word.load(std::memory_order_relaxed)) + 1, 1U);
  held.type.store(nullptr, std::memory_order_relaxed);
  held.seen.store(nullptr, std::memory_order_relaxed);
  held.handled.store(0, std::memory_order_relaxed);
  held.has_deferred = false;
  registry_.detail(held).output = nullptr;
  argument_block::let_go(kept::exchange(registry_.detail(held), nullptr));
  held.word.store(word::make(next, condition::held, me.id),
                  std::memory_order_seq_cst);                                     // from here on references are stale
  const bool related = held.related.exchange(0, std::memory_order_seq_cst) != 0;  // see mark_related
  for (;;) {
    held.attention.store(0, std::memory_order_seq_cst);
    drain_dead(me, held, status, text);
    held.word.store(word::make(next, condition::free), fence::fast_store);
    fence::light();
    if (held.attention.load(fence::fast_load) == 0) break;
    auto expected = word::make(next, condition::free);
    if (!held.word.compare_exchange_strong(expected, word::make(next, condition::held, me.id),
                                           std::memory_order_acquire))
      break;
  }
  wake_acquirers();
  registry_.give_back(held);
  return related;
}

void engine::drain_dead(thread_record& me, cell& held, int status, std::string_view text) {
  for (;;) {
    while (envelope* const refused = next_message(held)) reject(me, refused, status, text);
    auto seen = held.head.load(std::memory_order_acquire);
    if (seen == mailbox::empty) return;
    if (seen == mailbox::attended && held.head.compare_exchange_strong(seen, mailbox::empty, std::memory_order_acq_rel))
      return;
  }
}

void engine::tell_exits(thread_record& me) {
  while (me.has_exits && !gate_.inside(me)) {
    const auto events = std::exchange(me.exits, {});
    me.has_exits = false;
    if (on_exit_)
      for (const auto& each : events) on_exit_(each);
  }
}

void engine::stop_all() {
  thread_record& me = this_thread();
  MOLT_ASSERT(me.depth() == 0, "a runtime destroyed by one of its own handlers");
  while (live_.load() != 0) {
    std::vector<std::pair<std::uint64_t, molt_ref>> newest_first;
    for (std::uint32_t slot = 0; slot < registry_.used(); ++slot) {
      cell& each = registry_.at(slot);
      if (word::now(each.word.load(std::memory_order_acquire)) != condition::free)
        newest_first.emplace_back(registry_.detail(each).started.load(std::memory_order_relaxed), ref_of(each));
    }
    std::sort(newest_first.begin(), newest_first.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [started, ref] : newest_first) {
      const auto stopped = stop(ref, "the runtime is stopping", 5'000'000'000);
      if (!stopped && stopped.error().why() == reason::timeout) log(MOLT_LOG_WARNING, nullptr, stopped.error().text());
    }
  }
}

// ---- Introspection

std::vector<server_info> engine::servers() const {
  std::vector<server_info> all;
  auto& self = const_cast<engine&>(*this);
  const activity here{self, this_thread(), 0, activity::how::regardless};
  for (std::uint32_t slot = 0; slot < registry_.used(); ++slot) {
    const cell& each = registry_.at(slot);
    const auto seen = each.word.load(std::memory_order_acquire);
    const server_type* const type = each.type.load(std::memory_order_acquire);
    if (word::now(seen) == condition::free || type == nullptr) continue;
    all.push_back(info_of(each, seen, *type));
  }
  return all;
}

statistics engine::stats() const {
  statistics now;
  now.servers = live_.load();
  now.timers_pending = timers_.size();
  now.deferred_pending = deferred_.size();
  now.relations = relations_.size();
  now.offloaded_pending = offloads_.size();
  now.started = started_.load();
  now.ended = ended_.load();
  now.failed = failed_.load();
  now.unknown_messages = unknown_.load();
  now.late_replies = late_replies_.load();
  return now;
}

}  // namespace molt::servers
