#include "node/connection_host.hpp"

namespace molt::node {

void connection_registry::add(connection& which) {
  const std::lock_guard lock{mutex_};
  all_.insert(&which);
}

void connection_registry::starting() {
  const std::lock_guard lock{mutex_};
  ++starting_;
}

void connection_registry::started(connection& which, molt_ref server) {
  const std::lock_guard lock{mutex_};
  if (ended_early_.erase(server.bits) != 0) {
    which.server_ended();
  } else {
    by_server_.emplace(server.bits, &which);
  }
  start_ended();
}

void connection_registry::start_failed() {
  const std::lock_guard lock{mutex_};
  start_ended();
}

void connection_registry::start_ended() noexcept {
  if (--starting_ == 0) ended_early_.clear();
}

bool connection_registry::server_ended(molt_ref server) noexcept {
  const std::lock_guard lock{mutex_};
  const auto found = by_server_.find(server.bits);
  if (found == by_server_.end()) {
    if (starting_ > 0) ended_early_.insert(server.bits);
    return false;
  }
  // Under the lock: remove() then cannot let the connection go before it is queued.
  found->second->server_ended();
  by_server_.erase(found);
  return true;
}

bool connection_registry::remove(connection& which) noexcept {
  const std::lock_guard lock{mutex_};
  if (which.queued()) return false;
  all_.erase(&which);
  return true;
}

std::vector<connection*> connection_registry::of(const io_loop& loop) const {
  const std::lock_guard lock{mutex_};
  std::vector<connection*> found;
  for (connection* each : all_)
    if (&each->loop() == &loop) found.push_back(each);
  return found;
}

std::vector<connection*> connection_registry::all() const {
  const std::lock_guard lock{mutex_};
  return {all_.begin(), all_.end()};
}

std::size_t connection_registry::size() const {
  const std::lock_guard lock{mutex_};
  return all_.size();
}

}  // namespace molt::node
