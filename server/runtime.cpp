#include "server/runtime.hpp"

#include "server/engine.hpp"

#include <utility>

namespace molt::servers {

namespace {

struct c_arguments {
  explicit c_arguments(const arguments& given) {
    items.reserve(given.size());
    for (const auto& [key, value] : given) items.push_back({key.c_str(), value.c_str()});
  }
  [[nodiscard]] molt_arguments view() const noexcept { return {items.data(), items.size()}; }
  std::vector<molt_argument> items;
};

}  // namespace

runtime::runtime(options given) : engine_{std::make_unique<engine>(std::move(given))} {}
runtime::~runtime() = default;

void runtime::switch_to(std::shared_ptr<const release> next) noexcept { engine_->switch_to(std::move(next)); }

std::shared_ptr<const release> runtime::current() const {
  std::lock_guard lock{engine_->switches_mutex_};
  const switch_entry* const entry = engine_->current_.load();
  return entry != nullptr ? entry->release : nullptr;
}

std::size_t runtime::sweep(const std::function<bool()>& keep_going) { return engine_->sweep(keep_going); }
void runtime::tend(const std::function<bool(const server_type&)>& wanted,
                   const std::function<tending(resting_server&)>& look, const std::function<bool()>& keep_going,
                   unsigned callers_share) {
  engine_->tend(wanted, look, keep_going, callers_share);
}

result<molt_ref> runtime::start(std::string_view type, std::string_view name, const arguments& given) {
  return engine_->start(type, name, c_arguments{given}.view(), nullptr);
}

result<molt_ref> runtime::start(std::string_view type, std::string_view name, const molt_argument* given,
                                std::size_t count) {
  return engine_->start(type, name, {given, count}, nullptr);
}

result<molt_ref> runtime::start_connection(std::string_view type, connection_output& output, const arguments& given) {
  return engine_->start(type, {}, c_arguments{given}.view(), &output);
}

result<void> runtime::stop(molt_ref ref, std::string_view why, std::chrono::nanoseconds timeout) {
  return engine_->stop(ref, why, timeout.count());
}

result<void> runtime::drain_and_stop(molt_ref ref, std::string_view why, std::chrono::nanoseconds timeout) {
  return engine_->drain_and_stop(ref, why, timeout.count());
}

void runtime::kill(molt_ref ref, std::string_view why) {
  const activity here{*engine_, this_thread()};
  engine_->kill(ref, why);
}

void runtime::starts_children(std::shared_ptr<child_starter> starter) {
  std::lock_guard lock{engine_->child_starter_mutex_};
  engine_->child_starter_.swap(starter);
}

void runtime::gives_states(std::shared_ptr<state_giver> giver) {
  std::lock_guard lock{engine_->child_starter_mutex_};
  engine_->state_giver_.swap(giver);
}

void runtime::request_stop(molt_ref ref, std::string_view why) {
  const activity here{*engine_, this_thread()};
  engine_->request_stop(ref, why);
}

result<void> runtime::change_config(molt_ref ref, const arguments& now, std::chrono::nanoseconds timeout) {
  return engine_->change_config(ref, c_arguments{now}.view(), timeout.count());
}

std::vector<molt_ref> runtime::members(std::string_view group) const {
  std::vector<molt_ref> found(16);
  for (;;) {
    const std::size_t count = engine_->relations_.members(group, found.data(), found.size());
    const bool all = count <= found.size();
    found.resize(count);
    if (all) return found;
  }
}

runtime::name_expectation::name_expectation(runtime& of, const std::vector<std::string>& names) : owner_{*of.engine_} {
  owner_.expected_names_.expect(names);
}
runtime::name_expectation::~name_expectation() { owner_.expected_names_.forget(); }

molt_ref runtime::lookup(std::string_view name) const { return engine_->registry_.lookup(name); }

std::shared_ptr<const server_type> runtime::type_of(molt_ref ref) const {
  const activity here{*engine_, this_thread(), 0, activity::how::regardless};
  const cell* const found = engine_->find(ref);
  const server_type* const type = found != nullptr ? found->type.load(std::memory_order_acquire) : nullptr;
  return type != nullptr ? type->original().shared_from_this() : nullptr;
}

const molt_handler* runtime::find_handler(molt_ref ref, std::string_view message_name) const {
  const auto type = type_of(ref);
  return type != nullptr ? type->find(message_name) : nullptr;
}

std::vector<server_info> runtime::servers() const { return engine_->servers(); }
std::size_t runtime::size() const noexcept { return engine_->live_.load(); }
statistics runtime::stats() const { return engine_->stats(); }

int runtime::call(molt_ref to, const molt_message& message, void* payload, void* reply_storage,
                  std::chrono::nanoseconds timeout) {
  return engine_->call(to, message, payload, reply_storage, timeout.count());
}

std::string_view runtime::call_failure() noexcept { return text_of(this_thread().scratch); }

int runtime::cast(molt_ref to, const molt_message& message, void* payload) {
  return engine_->cast(to, message, payload);
}

int runtime::deliver(molt_ref connection, const char* data, std::size_t size, std::size_t& consumed, molt_text* error) {
  return engine_->deliver(connection, data, size, consumed, error);
}

result<void> runtime::suspend(molt_ref ref, std::chrono::nanoseconds timeout) {
  return engine_->suspend(ref, timeout.count());
}
result<void> runtime::resume(molt_ref ref) { return engine_->resume(ref); }

result<runtime::rest_guard> runtime::rest(std::chrono::nanoseconds timeout) {
  if (engine_->gate_.inside(this_thread()))
    return error{reason::would_deadlock, "a handler waits for everything to come to rest, itself too"};
  switch (engine_->gate_.close(deadline_in(timeout.count()))) {
    case gate::outcome::closed:
      return rest_guard{*engine_};
    case gate::outcome::busy:
      return error{reason::busy, "everything is being brought to rest already"};
    case gate::outcome::timed_out:
      break;
  }
  return error{reason::timeout,
               "not every handler returned within " +
                   std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()) + " ms"};
}

void runtime::rest_guard::let_go() noexcept {
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->gate_.open();
}

void runtime::for_each(const rest_guard&, unsigned part, unsigned parts,
                       const std::function<void(resting_server&)>& visit) {
  engine_->for_each(part, parts, visit);
}

bool runtime::visit(const rest_guard&, molt_ref wanted, const std::function<void(resting_server&)>& look) {
  return engine_->visit(wanted, look);
}

int runtime::fork_at_rest(const rest_guard&) { return engine_->fork_at_rest(); }

void runtime::keep(const server_type& type) { engine_->keep(type); }
void runtime::overwrite_free_envelopes(const rest_guard&) noexcept { servers::overwrite_free_envelopes(); }

std::vector<image_uses> runtime::uses(std::span<const image_range> images) { return engine_->uses(images); }

result<void> runtime::retire(const server_type& type, std::chrono::nanoseconds timeout) {
  return engine_->retire(type, timeout.count());
}

void runtime::on_failure(std::function<void(const server_failure&)> listener) {
  engine_->on_failure_ = std::move(listener);
}
result<server_status> runtime::status(molt_ref ref, bool measure, std::chrono::nanoseconds timeout) {
  return engine_->status(ref, measure, timeout.count());
}
result<state_copy> runtime::get_state(molt_ref ref, std::size_t bytes_max, std::chrono::nanoseconds timeout) {
  return engine_->get_state(ref, bytes_max, timeout.count());
}
result<void> runtime::replace_state(molt_ref ref, const server_type& as, std::string_view archive,
                                    std::chrono::nanoseconds timeout) {
  return engine_->replace_state(ref, as, archive, timeout.count());
}
result<void> runtime::watch(molt_ref ref, std::chrono::nanoseconds lasts, std::chrono::nanoseconds timeout) {
  return engine_->watch(ref, lasts.count(), timeout.count());
}
result<void> runtime::unwatch(molt_ref ref) { return engine_->unwatch(ref); }
result<void> runtime::record(molt_ref ref, recording most, std::chrono::nanoseconds timeout) {
  return engine_->record(ref, most, timeout.count());
}
void runtime::record_named(const std::string& name, recording most) { engine_->watches_.keep_for(name, most); }
result<std::vector<recorded_message>> runtime::last_messages(molt_ref ref) { return engine_->last_messages(ref); }
result<trace_page> runtime::trace(molt_ref ref, std::uint64_t after) { return engine_->trace(ref, after); }

void runtime::on_exit(std::function<void(const exit_event&)> listener) { engine_->on_exit_ = std::move(listener); }

}  // namespace molt::servers
