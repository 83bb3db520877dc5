// What is recorded of servers that somebody watches, and of those whose last messages are kept.
//
//   record     event                                            next
//   (none)     watch()                                          watching  the server has its type's watched twin
//   watching   watch() again                                    watching  with one more who watches
//              unwatch() by the last who watches                over      the server has its own type again: at once,
//              nobody read it for as long as was agreed         over      or, if it is busy, from its next message on
//              the server ended                                 over
//   over       watch() of the same server                       watching
//              another record needs the room                    (none)
//
// Beside that a record may keep the server's last messages, from record() on until that is taken back or the server
// ends; then it is in use though nobody watches.
//
// Invariants: a server that has a watched twin has a record; who changes either holds the server. The watched twin
// keeps messages off the path that records nothing, so servers that are neither watched nor recorded pay nothing. A
// record in use is not given away.
//
// Threading: any thread.
#pragma once

#include "server/introspection.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace molt::servers {

inline constexpr std::size_t watched_max = 64;        ///< servers at once, with those that are recorded
inline constexpr std::size_t trace_events_max = 256;  ///< kept for each

/// The messages that a server handled last; the oldest go when the bounds are passed.
class message_ring {
 public:
  void keep(recording most);
  void add(recorded_message);
  [[nodiscard]] const recording& most() const noexcept { return most_; }
  [[nodiscard]] const std::deque<recorded_message>& all() const noexcept { return all_; }  ///< oldest first

 private:
  void make_room();
  recording most_;
  std::size_t payload_bytes_ = 0;
  std::deque<recorded_message> all_;
};

class watch_record {
 public:
  /// One more watches, until `until_ns` of the steady clock unless it is read meanwhile.
  void begin(std::int64_t until_ns, std::int64_t lasts_ns);
  /// One less watches. True: that was the last one.
  bool leave();
  void end(std::string_view why);  ///< the server's end
  /// What there is to record now: who watches beyond his time does so no more.
  struct wanted {
    bool trace = false;
    recording last;
    [[nodiscard]] bool anything() const noexcept { return trace || last.messages != 0; }
  };
  [[nodiscard]] wanted expire(std::int64_t now_ns);
  [[nodiscard]] bool watching() const;
  [[nodiscard]] bool in_use() const;
  void add(trace_event);  ///< the number is given here
  void keep(recording);
  void add(recorded_message);
  [[nodiscard]] recording kept() const;
  [[nodiscard]] std::vector<recorded_message> last_messages() const;
  /// For the handler of a fatal signal: waits for nobody. False: somebody is writing.
  bool try_visit(void (*visit)(const recorded_message&, void*), void* with, std::size_t most) noexcept;
  /// Reading renews the time.
  [[nodiscard]] trace_page read(std::uint64_t after, std::int64_t now_ns);
  [[nodiscard]] duration_histogram handlers() const;

 private:
  mutable std::mutex mutex_;
  unsigned watchers_ = 0;
  bool ended_ = false;
  std::string why_;
  std::int64_t until_ns_ = 0;
  std::int64_t lasts_ns_ = 0;
  std::uint64_t last_ = 0;
  duration_histogram handlers_;
  std::vector<trace_event> ring_;  // event n at (n - 1) % trace_events_max
  message_ring last_messages_;
};

class watches {
 public:
  /// The server's record, made if there is none; null if watched_max servers are watched.
  [[nodiscard]] std::shared_ptr<watch_record> make(molt_ref);
  [[nodiscard]] std::shared_ptr<watch_record> find(molt_ref) const;
  /// For the handler of a fatal signal: waits for nobody; null also when somebody else looks. Valid as long as the
  /// server is held and recorded.
  [[nodiscard]] watch_record* try_find(molt_ref) noexcept;

  /// What is to be kept of each server that starts under that name.
  void keep_for(const std::string& name, recording);
  [[nodiscard]] recording kept_for(std::string_view name) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<watch_record>> records_;
  std::map<std::string, recording, std::less<>> by_name_;
  std::atomic<bool> any_name_{false};  // those who start unrecorded servers need not ask further
};

struct engine;
struct cell;

/// One run of a handler: recorded if the server is watched or its last messages are kept.
class observation {
 public:
  /// The server is held; `from` as in trace_event.
  observation(engine&, cell& held, const molt_message&, const void* payload, std::string from = {});
  observation(engine&, cell& held, std::string_view data);  ///< of a connection
  void done(int status);

 private:
  void begin(engine&, cell& held, message_kind, std::string_view message, std::string from);

  std::shared_ptr<watch_record> record_;
  watch_record::wanted wanted_;
  trace_event event_;
  recorded_message message_;
  std::int64_t begun_ns_ = 0;
};

}  // namespace molt::servers
