// What supervisors need beside start and stop.
#include "server/engine.hpp"

#include <utility>

namespace molt::servers {

result<void> engine::drain_and_stop(molt_ref ref, std::string_view why, std::int64_t timeout_ns) {
  thread_record& me = this_thread();
  const activity here{*this, me};
  const auto deadline = deadline_in(timeout_ns);
  MOLT_TRY(cell* const held, hold(me, ref, deadline, true));
  take_all(*held);
  // Those that wait now and none of those that come meanwhile, or a busy sender would keep it for ever.
  for (auto left = held->pending_count.load(std::memory_order_relaxed); left != 0; --left) {
    if (steady_ns() >= deadline) {
      error late{reason::timeout, describe(*held) + " was stopped before " + std::to_string(left) + " of its messages"};
      end_server(me, *held, false, why);
      return late;
    }
    envelope* const oldest = next_message(*held);
    if (oldest == nullptr) break;
    if (!run_envelope(me, *held, oldest)) return ok();  // it ended by itself
  }
  end_server(me, *held, false, why);
  return ok();
}

void engine::kill(molt_ref ref, std::string_view why) {
  registry_.unname(ref);
  request_stop(ref, why);
}

result<molt_ref> engine::start_child(std::string_view supervisor, std::string_view name,
                                     const molt_arguments& arguments) {
  std::shared_ptr<child_starter> starter;
  {
    std::lock_guard lock{child_starter_mutex_};
    starter = child_starter_;
  }
  if (starter == nullptr) return error{reason::not_found, "there are no supervisors here"};
  return starter->start_child(supervisor, name, arguments);
}

/// A starting server has its name before its init runs.
int engine::take_given(const cell& held, const molt_schema& as, void* storage, molt_text* error) {
  std::shared_ptr<state_giver> giver;
  {
    std::lock_guard lock{child_starter_mutex_};
    giver = state_giver_;
  }
  if (giver == nullptr) return MOLT_NOT_FOUND;
  const std::string name = registry_.name_of(held);
  if (name.empty()) return MOLT_NOT_FOUND;
  return giver->take(name, held.type.load(std::memory_order_relaxed)->name(), as, storage, error);
}

}  // namespace molt::servers
