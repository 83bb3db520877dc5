// What is recorded of servers that somebody watches.
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
// Invariants: a server that has a watched twin has a record; who changes either holds the server. The watched twin
// keeps messages off the path that records nothing, so servers that are not watched pay nothing.
//
// Threading: any thread.
#pragma once

#include "server/introspection.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace molt::servers {

inline constexpr std::size_t watched_max = 64;        ///< servers at once
inline constexpr std::size_t trace_events_max = 256;  ///< kept for each

class watch_record {
 public:
  /// One more watches, until `until_ns` of the steady clock unless it is read meanwhile.
  void begin(std::int64_t until_ns, std::int64_t lasts_ns);
  /// One less watches. True: that was the last one.
  bool leave();
  void end(std::string_view why);  ///< the server's end
  /// True: nobody watches any more, or its time is over, and then from now on nobody does.
  [[nodiscard]] bool expire(std::int64_t now_ns);
  [[nodiscard]] bool watching() const;
  void add(trace_event);  ///< the number is given here
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
};

class watches {
 public:
  /// The server's record, made if there is none; null if watched_max servers are watched.
  [[nodiscard]] std::shared_ptr<watch_record> make(molt_ref);
  [[nodiscard]] std::shared_ptr<watch_record> find(molt_ref) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<watch_record>> records_;
};

struct engine;
struct cell;

/// One run of a handler: recorded if the server is watched.
class observation {
 public:
  /// The server is held; `from` as in trace_event.
  observation(engine&, cell& held, message_kind, std::string_view message, std::string from = {});
  void done(int status);

 private:
  std::shared_ptr<watch_record> record_;
  trace_event event_;
  std::int64_t begun_ns_ = 0;
};

}  // namespace molt::servers
