// Messages that a server handled not long ago, handled again in a copy of the process: by one version's code, on a copy
// of the state. Two such runs, on the versions before and after an upgrade, are compared.
//
// Nothing leaves it. What a handler is offered:
//
//   call                                             no_such_server: nobody is there to answer
//   cast, continue_with, timers, offload, stop,      taken, and dropped; a handler may ask for them
//   monitors, links, groups, logs, close
//   start, start_child                               refused
//   lookup                                           0: nobody has a name
//   clocks                                           the time at which the message was handled
//   a deferred reply, at once or in a later message  is a reply to the message that was deferred; one that a call from
//                                                    before the first message waits for: not_found
//   write                                            is kept, to be compared
//
// Threading: one thread, the copy's.
#pragma once

#include "plugin/abi.h"
#include "server/introspection.hpp"
#include "server/server_type.hpp"
#include "state_migration/archive_buffer.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt::upgrade {

/// What became of one message.
struct replayed {
  bool handled = false;  ///< false: no handler takes it, or its payload is not there; `text` says why
  int status = MOLT_OK;
  std::string text;  ///< what failed
  struct answer {
    const molt_message* to = nullptr;  ///< as it was handled: this one, or one before it that deferred its reply
    const molt_schema* reply = nullptr;
    std::string archive;
  };
  std::vector<answer> answers;  ///< in the order in which they were given
  std::string written;          ///< a connection's output
};

/// A copy of one server's state, and the code of its type.
class replayer {
 public:
  /// `state`: an archive of `type`'s state.
  replayer(const servers::server_type& type, std::string_view state, molt_ref self);
  replayer(const replayer&) = delete;
  replayer& operator=(const replayer&) = delete;
  ~replayer();

  /// False: there is no state to handle messages with, for the reason in `why`.
  [[nodiscard]] bool is_ready() const noexcept { return state_ != nullptr; }
  [[nodiscard]] const std::string& why() const noexcept { return why_; }
  /// `senders`: a type that has the message as it was recorded; its version's edges lead here.
  replayed handle(const servers::recorded_message&, const servers::server_type& senders);

 private:
  struct host;
  replayed handle_data(const servers::recorded_message&);
  void run(const molt_handler&, void* payload);
  void keep_reply(const molt_message& to, const molt_schema&, const void* value);
  std::uint64_t defer();
  int reply(std::uint64_t token, const molt_schema&, const void* value);

  const servers::server_type& type_;
  molt_ref self_;
  void* state_ = nullptr;
  std::string why_;
  replayed now_;
  const molt_message* handling_ = nullptr;   // null: data
  bool defers_ = false;                      // its token has been asked for, and is the last one of owed_
  std::vector<const molt_message*> owed_{};  // by token; null: answered
  std::int64_t at_ns_ = 0;
};

/// In which way the second is not the first; empty if it is alike. `later` is the type of the second run, whose edges
/// lead from its replies to older ones.
[[nodiscard]] std::string difference_of(const replayed& before, const replayed& after,
                                        const servers::server_type& later);

}  // namespace molt::upgrade
