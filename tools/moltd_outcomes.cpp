// What the store could not be told when it happened: a full disk. It is kept in memory and tried again until it is
// written.
//
//   everything written   write_down() fails            owing      status: attention; changes are refused
//   owing                the delay is over, or a
//                        change or commit is asked for tried again, in order; the delay doubles up to its bound
//   owing                the last is written           everything written
//   owing                the node ends                 what it was in the middle of is dropped: its end is owed instead
//   owing                moltd is killed               the next one asks the node that it adopts
//
// moltd_commit.cpp says the same of a commit.
#include "node/api_error.hpp"
#include "tools/moltd_daemon.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace molt::daemon {
namespace {

using releases::transition_outcome;

constexpr milliseconds retry_first{200};
constexpr milliseconds retry_most{2000};

}  // namespace

std::string daemon::what_to_do_about_the_store() const {
  return "make room for " + options_.store_folder.string() +
         "; moltd writes it down by itself then. Do not stop it before";
}

error daemon::what_is_owed(const lock& /*held*/) const {
  std::string what;
  for (const auto& each : unwritten_) what += (what.empty() ? "" : ", and ") + each.what;
  return {reason::io, what + " could not be written down yet: " + unwritten_why_, what_to_do_about_the_store()};
}

result<void> daemon::write_down(const lock& held, std::string what, std::function<result<void>()> write) {
  if (write_what_is_owed(held)) {
    const auto written = write();
    if (written) return ok();
    unwritten_why_ = written.error().message();
    retry_delay_ = retry_first;
    retry_at_ = clock::now() + retry_delay_;
    spdlog::error("{} could not be written down, and is tried again: {}", what, written.error().text());
  }
  unwritten_.push_back({std::move(what), std::move(write)});
  wake();
  return what_is_owed(held);
}

result<void> daemon::write_what_is_owed(const lock& held) {
  if (unwritten_.empty()) return ok();
  while (!unwritten_.empty()) {
    if (const auto written = unwritten_.front().write(); !written) {
      unwritten_why_ = written.error().message();
      retry_delay_ = std::min(2 * retry_delay_, retry_most);
      retry_at_ = clock::now() + retry_delay_;
      return what_is_owed(held);
    }
    spdlog::info("{} is written down now", unwritten_.front().what);
    unwritten_.pop_front();
  }
  changed_.notify_all();
  return ok();
}

/// Only if there still is one to end when it can be written.
result<void> daemon::end_transition(const lock& held, transition_outcome outcome, const std::string& detail,
                                    const std::string& runs) {
  if (!store_.in_flight()) return ok();
  const auto& ending = *store_.in_flight();
  const std::string what = "the end of the " + std::string{releases::to_string(ending.kind)} +
                           (ending.from.empty() ? "" : " from " + ending.from) + " to " + ending.to + " (" +
                           std::string{releases::to_string(outcome)} + ")";
  return write_down(held, what, [this, outcome, detail, runs] {
    return store_.in_flight() ? store_.finish_transition(outcome, detail, runs) : ok();
  });
}

/// By what the node says it runs. Error needs_attention: that is neither of the two; the store holds that.
result<void> daemon::settle_by(const lock& held, const std::string& node_runs) {
  auto settled = store_.resolve_by(node_runs);
  if (settled || settled.error().why() == reason::needs_attention) return settled;
  return write_down(held, "that the node runs " + node_runs, [this, node_runs]() -> result<void> {
    auto again = store_.resolve_by(node_runs);
    return again || again.error().why() == reason::needs_attention ? ok() : again;
  });
}

/// Transition and probation have ended with the node. What was owed about them cannot be told apart from that any more.
void daemon::end_with_the_node(const lock& held, const std::string& why) {
  (void)write_what_is_owed(held);
  unwritten_.clear();
  if (!store_.in_flight() && !store_.in_probation()) return;
  const auto next = store_.boot_release();
  spdlog::warn("a transition or probation ended with the node; {} is next", next.empty() ? "nothing" : next);
  (void)write_down(held, "the end of the node (" + why + ")", [this, why]() -> result<void> {
    MOLT_TRY([[maybe_unused]] const bool ended, store_.node_lost(why));
    return ok();
  });
}

node::http_response daemon::not_written_down(const std::string& message, const error& owed) const {
  return node::error_response({reason::needs_attention, message + owed.message(), owed.hint()},
                              node::exit_code::needs_attention);
}

}  // namespace molt::daemon
