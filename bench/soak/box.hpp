// The box under test: a runtime with its switcher and its supervision tree, and the round of releases it goes through.
//
//   step   from    operation                                        to
//   0      1.0.0   upgrade to 2.0.1, whose hook throws              1.0.0, rolled back
//   1      1.0.0   upgrade                                          2.0.0
//   2      2.0.0   commit, which unmaps 1.0.0; upgrade              3.0.0
//   3      3.0.0   rollback                                         2.0.0
//   4      2.0.0   upgrade, 3.0.0 loaded again                      3.0.0
//   5      3.0.0   rollback                                         2.0.0
//   6      2.0.0   rollback to 1.0.0, loaded again                  1.0.0; nothing but it is mapped then
//
// Gone through twice, so that each step is done in either mode: lazy, atomic, lazy... and then atomic first. Releases
// from 2.0.0 on have one server more, `season`.
#pragma once

#include "bench/soak/messages.hpp"
#include "bench/soak/verdict.hpp"
#include "server/supervisor.hpp"
#include "upgrade/transaction.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace soak {

inline constexpr unsigned steps = 7;
inline constexpr unsigned steps_per_round = 2 * steps;  ///< each in either mode
inline constexpr std::size_t wardens = 64;
inline constexpr std::array groups{"all", "rest",
                                   "brittle"};  ///< one_for_all, rest_for_one, one that escalates at once
inline constexpr std::size_t group_size = 3;

[[nodiscard]] std::string worker_name(std::size_t index);
[[nodiscard]] std::string group_member(std::string_view group, std::size_t index);

struct step_report {
  std::uint64_t migrated = 0;
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds at_rest{0};
};

/// Ownership: the verdict outlives it. Threading: step() on one thread; the rest any.
class box {
 public:
  /// Starts 1.0.0 and `servers` servers, one in a hundred of them a worker.
  box(std::size_t servers, verdict&);
  ~box();
  box(const box&) = delete;
  box& operator=(const box&) = delete;

  /// The nth of steps_per_round.
  step_report step(unsigned n);

  [[nodiscard]] molt::servers::runtime& on() noexcept { return runtime_; }
  [[nodiscard]] molt::servers::supervisor& keeper() noexcept { return keeper_; }
  [[nodiscard]] const std::vector<molt_ref>& accounts() const noexcept { return accounts_; }
  [[nodiscard]] const std::vector<molt_ref>& warden_refs() const noexcept { return wardens_; }
  [[nodiscard]] std::size_t workers() const noexcept { return workers_; }
  /// Of all servers, in 1.0.0 and with no temporary ones.
  [[nodiscard]] std::size_t population() const noexcept {
    return accounts_.size() + workers_ + wardens + groups.size() * group_size;
  }
  [[nodiscard]] std::uint64_t seasons() const noexcept { return seasons_.load(); }  ///< how often that one was started

 private:
  using settings = molt::upgrade::settings;
  using report = molt::upgrade::report;

  void start_children();
  [[nodiscard]] molt::upgrade::release_content load(const char* version);
  [[nodiscard]] static molt::servers::supervisor_spec tree(bool has_season);
  /// Makes the tree follow the release.
  [[nodiscard]] settings following(molt::upgrade::mode, bool has_season);
  step_report expect(const char* what, molt::result<report>, molt::upgrade::phase);
  void commit();
  void leave_one_image();

  verdict& verdict_;
  molt::servers::runtime runtime_;
  molt::upgrade::switcher switcher_{runtime_};
  molt::servers::supervisor keeper_;
  std::size_t workers_ = 0;
  std::vector<molt_ref> accounts_;
  std::vector<molt_ref> wardens_;
  bool begun_ = false;  // an update of the tree
  std::atomic<std::uint64_t> seasons_{0};
};

/// A call, and whether it was answered: MOLT_OK with `reply`, or why not.
template <class M>
struct outcome {
  int status = MOLT_OK;
  typename M::reply reply{};
  [[nodiscard]] bool ok() const noexcept { return status == MOLT_OK; }
};

template <class M>
outcome<M> call(molt::servers::runtime& on, molt_ref to, M message,
                std::chrono::nanoseconds timeout = std::chrono::seconds{60}) {
  using reply_type = typename M::reply;
  outcome<M> made;
  alignas(reply_type) unsigned char storage[sizeof(reply_type)];
  made.status = on.call(to, molt::message_of<M>(), &message, storage, timeout);
  if (!made.ok()) return made;
  auto* const reply = std::launder(reinterpret_cast<reply_type*>(storage));
  made.reply = std::move(*reply);
  std::destroy_at(reply);
  return made;
}

template <class M>
int cast(molt::servers::runtime& on, molt_ref to, M message) {
  return on.cast(to, molt::message_of<M>(), &message);
}

}  // namespace soak
