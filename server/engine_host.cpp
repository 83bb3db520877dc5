// The functions that plugins are given. Each finds its runtime and server through the context's activation.
#include "server/engine.hpp"
#include "server/failure.hpp"

#include <algorithm>

namespace molt::servers {

namespace {

constexpr std::int64_t shortest_period_ns = 2'000'000;  // two ticks of the timers

engine& owner(molt_context* context) noexcept { return *static_cast<const host_of_engine*>(context->host)->owner; }

cell& running(molt_context* context) noexcept { return owner(context).running(activation::of(context)); }

connection_output* output_of(molt_context* context) noexcept {
  return owner(context).registry_.detail(running(context)).output;
}

int host_call(molt_context* context, molt_ref to, const molt_message* message, void* payload, void* reply,
              std::int64_t timeout_ns) {
  return owner(context).call(to, *message, payload, reply, timeout_ns);
}

const molt_text* host_call_failure(molt_context*) { return &this_thread().scratch; }

molt_ref host_lookup(molt_context* context, const char* name, std::size_t size) {
  engine& self = owner(context);
  const std::string_view wanted{name, size};
  const molt_ref found = self.registry_.lookup(wanted);
  if (found.bits != 0 || !self.expected_names_.any()) return found;
  return self.expected_names_.await(wanted, [&] { return self.registry_.lookup(wanted); });
}

int status_of(reason why) noexcept {
  switch (why) {
    case reason::not_found:
      return MOLT_NOT_FOUND;
    case reason::already_exists:
      return MOLT_NAME_TAKEN;
    case reason::hook_failed:
      return MOLT_THREW;
    case reason::out_of_bounds:
      return MOLT_OUT_OF_BOUNDS;
    case reason::stopping:
      return MOLT_STOPPING;
    default:
      return MOLT_REFUSED;
  }
}

int host_start(molt_context* context, const char* type, const char* name, const molt_arguments* arguments,
               molt_ref* started, molt_text* error) {
  static constexpr molt_arguments none{nullptr, 0};
  const auto made =
      owner(context).start(type, name != nullptr ? name : "", arguments != nullptr ? *arguments : none, nullptr);
  if (made) {
    *started = *made;
    return MOLT_OK;
  }
  set_text(error, made.error().text());
  return status_of(made.error().why());
}

int host_start_child(molt_context* context, const char* supervisor, const char* name, const molt_arguments* arguments,
                     molt_ref* started, molt_text* error) {
  static constexpr molt_arguments none{nullptr, 0};
  const auto made =
      owner(context).start_child(supervisor, name != nullptr ? name : "", arguments != nullptr ? *arguments : none);
  if (made) {
    *started = *made;
    return MOLT_OK;
  }
  set_text(error, made.error().text());
  return status_of(made.error().why());
}

int host_stop(molt_context* context, molt_ref ref, const char* why) {
  if (ref.bits == context->self.bits) {
    owner(context).stop_self(ref, why != nullptr ? why : "");
    return MOLT_OK;
  }
  if (owner(context).find(ref) == nullptr) return MOLT_NO_SUCH_SERVER;
  owner(context).request_stop(ref, why != nullptr ? why : "");
  return MOLT_OK;
}

std::uint64_t host_send_after(molt_context* context, molt_ref to, std::int64_t delay_ns, const molt_message* message,
                              void* payload) {
  thread_record& me = this_thread();
  envelope* const made = make_cast(me, *message, generation_of(to), payload);
  if (made == nullptr) return 0;
  const std::uint64_t id = owner(context).timers_.add(to, delay_ns, 0, made);
  if (id == 0) destroy_cast(me, made);
  return id;
}

std::uint64_t host_send_every(molt_context* context, molt_ref to, std::int64_t period_ns, const molt_message* message,
                              void* payload) {
  thread_record& me = this_thread();
  envelope* const made = make_cast(me, *message, generation_of(to), payload);
  if (made == nullptr) return 0;
  const auto period = std::max(period_ns, shortest_period_ns);
  const std::uint64_t id = owner(context).timers_.add(to, period, period, made);
  if (id == 0) destroy_cast(me, made);
  return id;
}

int host_cancel(molt_context* context, std::uint64_t timer) {
  envelope* const stopped = owner(context).timers_.cancel(timer);
  if (stopped == nullptr) return 0;
  destroy_cast(this_thread(), stopped);
  return 1;
}

std::uint64_t host_defer(molt_context* context) {
  const bool may = (this_thread().active.load(std::memory_order_relaxed) & active::may_defer) != 0;
  return may ? activation::of(context).token : 0;
}

int host_reply(molt_context* context, std::uint64_t token, const molt_schema* schema, void* value) {
  return owner(context).reply(token, *schema, value);
}

int host_write(molt_context* context, const char* data, std::size_t size) {
  connection_output* const output = output_of(context);
  return output != nullptr ? output->write(data, size) : MOLT_REFUSED;
}

void host_close(molt_context* context) {
  if (connection_output* const output = output_of(context)) output->close();
}

std::size_t host_output_pending(molt_context* context) {
  connection_output* const output = output_of(context);
  return output != nullptr ? output->pending() : 0;
}

void host_log(molt_context* context, int level, const char* text, std::size_t size) {
  owner(context).log(level, &running(context), {text, size});
}

std::int64_t host_monotonic_ns(molt_context* context) { return owner(context).clock_.monotonic_ns(); }
std::int64_t host_wall_clock_ns(molt_context* context) { return owner(context).clock_.wall_clock_ns(); }

int host_continue_with(molt_context* context, const molt_message* message, void* payload) {
  return owner(context).continue_with(context->self, *message, payload);
}

void host_stop_self(molt_context* context, const char* why) {
  owner(context).stop_self(context->self, why != nullptr ? why : "");
}

std::uint64_t host_monitor(molt_context* context, molt_ref target) {
  return owner(context).monitor(context->self, target);
}

int host_demonitor(molt_context* context, std::uint64_t monitor) {
  return owner(context).relations_.demonitor(context->self, monitor) ? 1 : 0;
}

int host_link(molt_context* context, molt_ref other) { return owner(context).link(context->self, other); }

int host_unlink(molt_context* context, molt_ref other) {
  return owner(context).relations_.unlink(context->self, other) ? MOLT_OK : MOLT_NOT_FOUND;
}

int host_join(molt_context* context, const char* group, std::size_t size) {
  return owner(context).join(context->self, {group, size});
}

int host_leave(molt_context* context, const char* group, std::size_t size) {
  return owner(context).relations_.leave(context->self, {group, size}) ? MOLT_OK : MOLT_NOT_FOUND;
}

std::size_t host_members(molt_context* context, const char* group, std::size_t size, molt_ref* to,
                         std::size_t capacity) {
  return owner(context).relations_.members({group, size}, to, capacity);
}

int host_offload(molt_context* context, const molt_work* work, void* object) {
  return owner(context).offload(context->self, *work, object);
}

int host_given(molt_context* context, const molt_schema* as, void* storage, molt_text* error) {
  return owner(context).take_given(running(context), *as, storage, error);
}

void host_not_converted(molt_context* context) { this_thread().not_converted = context->self.bits; }

}  // namespace

host_of_engine make_host(engine& owner) noexcept {
  host_of_engine made{};
  made.owner = &owner;
  made.abi_version = MOLT_ABI_VERSION;
  made.size = sizeof(molt_host);
  made.call = &host_call;
  made.call_failure = &host_call_failure;
  made.cast = &engine::cast_from_handler;
  made.lookup = &host_lookup;
  made.start = &host_start;
  made.stop = &host_stop;
  made.send_after = &host_send_after;
  made.cancel = &host_cancel;
  made.defer = &host_defer;
  made.reply = &host_reply;
  made.write = &host_write;
  made.close = &host_close;
  made.output_pending = &host_output_pending;
  made.log = &host_log;
  made.monotonic_ns = &host_monotonic_ns;
  made.wall_clock_ns = &host_wall_clock_ns;
  made.continue_with = &host_continue_with;
  made.stop_self = &host_stop_self;
  made.monitor = &host_monitor;
  made.demonitor = &host_demonitor;
  made.link = &host_link;
  made.unlink = &host_unlink;
  made.join = &host_join;
  made.leave = &host_leave;
  made.members = &host_members;
  made.send_every = &host_send_every;
  made.offload = &host_offload;
  made.start_child = &host_start_child;
  made.threw = &note_thrown;
  made.not_converted = &host_not_converted;
  made.given = &host_given;
  return made;
}

}  // namespace molt::servers
