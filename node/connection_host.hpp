// What the connections of one data plane share, and which connection belongs to which server.
#pragma once

#include "node/connection.hpp"
#include "node/data_plane.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace molt::node {

/// Threading: any thread.
class connection_registry {
 public:
  void add(connection&);
  /// A server is about to be started: an end of it that is reported before `started` is kept in mind.
  void starting();
  void started(connection&, molt_ref server);
  void start_failed();
  /// Tells the connection of that server, if it is one. Whether it is.
  bool server_ended(molt_ref server) noexcept;
  /// Forgets it, unless it is queued; then it will be attended once more. Afterwards it may be destroyed.
  [[nodiscard]] bool remove(connection&) noexcept;
  [[nodiscard]] std::vector<connection*> of(const io_loop&) const;
  [[nodiscard]] std::vector<connection*> all() const;
  [[nodiscard]] std::size_t size() const;

 private:
  void start_ended() noexcept;

  mutable std::mutex mutex_;
  std::unordered_set<connection*> all_;
  std::unordered_map<std::uint64_t, connection*> by_server_;
  std::unordered_set<std::uint64_t> ended_early_;
  std::size_t starting_ = 0;
};

struct connection_host {
  servers::runtime& runtime;
  data_plane_options options;
  log_function log;
  connection_registry registry;
};

/// A listener as its connections see it.
struct listener_state {
  std::atomic<std::size_t> connections{0};
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> refused{0};
};

}  // namespace molt::node
