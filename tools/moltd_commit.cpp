// The end of probation: the node lets go of the parent's code, then the store says permanent.
//
//   commit       event                                        next
//   (none)       asked for, the store can be written          open      the node is told
//   (none)       asked for, the store cannot be written       (none)    nothing was committed
//   open         the node says no                             (none)    nothing was committed
//   open         the node says yes                            owed      and at once written, unless the disk is full
//   open         no answer                                    open      the node's status is looked at
//   open         the node's status says committed             owed
//   open, owed   moltd is killed                              open      in the next one, if the store is in probation
//   open, owed   the node ends, or a change begins            (none)    probation ends as it does then
//   owed         the store can be written                     (none)    the release is permanent
//
// Invariant: the store never says permanent before the node has committed. Until it says so, a node that ends is
// started again with the parent.
#include "tools/moltd_answers.hpp"
#include "tools/moltd_daemon.hpp"

#include <spdlog/spdlog.h>
#include <boost/json.hpp>

#include <string>

namespace molt::daemon {
namespace {

namespace json = boost::json;
using node::exit_code;
using node::http_response;

constexpr milliseconds commit_timeout = std::chrono::minutes{2};

}  // namespace

http_response daemon::post_commit() {
  const std::unique_lock changing{changing_, std::try_to_lock};
  if (!changing) return refused({reason::busy, "another change of the release is under way", "molt status shows it"});
  json::object body;
  std::string committing;
  {
    const lock held{mutex_};
    const auto owed_by = store_.in_probation() ? store_.running() : std::string{};
    if (auto owed = write_what_is_owed(held); !owed) return refused(owed.error());
    if (!owed_by.empty() && store_.permanent() == owed_by)  // that was an earlier commit
      return respond({{"release", owed_by}, {"unloaded", json::array{}}});
    if (!store_.in_probation() || store_.in_flight()) {
      const auto why = store_.commit();  // it refuses, and says why
      return why ? respond({}) : refused(why.error());
    }
    if (auto writable = store_.check_writable(); !writable)
      return node::error_response(
          {writable.error().why(), "nothing was committed: " + writable.error().message(),
           (writable.error().hint().empty() ? "make room for the store" : writable.error().hint()) +
               ", then molt commit again"},
          exit_code::failed);
    commit_open_ = true;
    committing = store_.running();
    if (adoption_) body["adoption"] = *adoption_;
  }
  // The node first: if something still uses the parent's code, nothing is committed and both sides agree.
  const auto answered = ask_node("POST", "/v1/commit", json::serialize(body), commit_timeout);
  if (!answered && answered.error().why() == reason::timeout)
    return node::error_response(
        {reason::timeout, "the node did not answer the commit in time: " + answered.error().message(),
         "it may still do it, and then moltd writes it down; until then molt status shows probation, and molt commit "
         "may be asked for again"},
        exit_code::needs_attention);
  if (!answered) return refused(answered.error());
  return conclude_commit(committing, *answered);
}

/// The node has answered.
http_response daemon::conclude_commit(const std::string& release, const http_response& from_node) {
  const lock held{mutex_};
  commit_open_ = false;
  if (node::error_of(from_node)) return from_node;
  if (store_.permanent() == release) return from_node;  // the loop has read it in the node's status, and written it
  if (!store_.in_probation())  // the loop has seen it end
    return node::error_response({reason::needs_attention, "the node ended during the commit; its state is lost",
                                 store_.running() + " is started in its place"},
                                exit_code::needs_attention);
  const auto parent = store_.permanent();
  if (auto written = settle_commit(held, store_.running()); !written)
    return not_written_down("the node has committed, but a node that ends now is started again with " + parent + ": ",
                            written.error());
  return from_node;
}

/// The node has let go of the parent, so there is nothing to decide any more.
result<void> daemon::settle_commit(const lock& held, const std::string& node_committed) {
  commit_open_ = false;
  if (!store_.in_probation() || store_.in_flight() || store_.running() != node_committed) return ok();
  MOLT_CHECK(write_down(held, "the commit of " + node_committed, [this, node_committed] {
    return store_.in_probation() && store_.running() == node_committed ? store_.commit() : ok();
  }));
  spdlog::info("{} is permanent", store_.permanent());
  return ok();
}

}  // namespace molt::daemon
