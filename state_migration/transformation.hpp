// One state taken along a path, as a transaction: the old state lives until the new one is complete.
//
//   state      event                           next       the server may use
//   old        run, all steps done             complete   the new state (the old one is kept until keep_new or revert)
//   old        a step fails, or runs too long, failed     the old state, as before
//              or self_check refuses the new state
//   old        ... and the old one was         lost       the old state, emptied by its hook: only when
//              consumed and cannot be                     memory runs out while restoring
//              restored
//   complete   keep_new                        finished   the new state; the old one is destroyed
//   complete   revert                          failed     the old state, as before
//
// Invariants: nothing is destroyed that the server may still use; every object made on the way is destroyed exactly
// once by the image that made it.
#pragma once

#include "base/result.hpp"
#include "state_migration/archive_buffer.hpp"
#include "state_migration/migration_path.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::migration {

struct transformation_settings {
  /// All steps of one server together. Hooks cannot be interrupted: a path that took longer is undone afterwards. Zero:
  /// no limit.
  std::chrono::nanoseconds hook_timeout{0};
  /// What a step may take of the heap, in bytes, where operator new keeps to it (base/heap_budget.hpp); it then throws
  /// std::bad_alloc. Not for hooks that are noexcept. Zero: no limit.
  std::size_t hook_memory_max = 0;
  /// Read the clock that is five times as fast and ticks each few ms: for the many that take far less. What took long
  /// is then known to within two ticks.
  bool coarse_clock = false;
  std::size_t archive_size_max = migration::archive_size_max;
  /// Keep what is needed to revert a complete transformation.
  bool revertible = false;
  /// molt_server_type::self_check of what the path ends at, asked about the new state when a step was taken; null: not
  /// asked. What it finds broken is a failure like a step's.
  int (*self_check)(const void* state, molt_text* error) = nullptr;
  /// Told before each step, and with null before self_check; null: nobody.
  void (*begins)(const path_step*, void* with) noexcept = nullptr;
  void* begins_with = nullptr;
  /// Told when the time of hook_timeout began; null: nobody.
  std::atomic<std::chrono::steady_clock::time_point>* begun = nullptr;
  /// The old state as somebody else has archived it just now; null: nobody has. It takes the place of the one that
  /// would be made before a hook that may empty the old state.
  std::shared_ptr<const archive_buffer> archive_of_old{};
};

struct step_failure {
  std::string step;   ///< path_step::text() of what failed, or "self_check"
  std::string error;  ///< what the hook threw, or what was wrong
  bool timed_out = false;
};

/// Threading: one thread, the one that holds the server. Ownership: owns old or new, whichever the server does not use,
/// in the end.
class transformation {
 public:
  using clock = std::chrono::steady_clock;
  enum class state { complete, failed, lost };

  /// Takes `old_state` (of path.from) along the path. The path must be bound to loaded images and outlive this.
  transformation(const migration_path&, void* old_state, const molt_change&, const transformation_settings&) noexcept;
  transformation(transformation&&) noexcept;
  transformation& operator=(transformation&&) = delete;
  /// A complete transformation that was not reverted keeps the new state: as keep_new().
  ~transformation();

  [[nodiscard]] state outcome() const noexcept { return outcome_; }
  /// What the server must use now: the new state if complete, otherwise the old one (restored: perhaps at another
  /// address).
  [[nodiscard]] void* current() const noexcept { return outcome_ == state::complete ? new_ : old_; }
  [[nodiscard]] const step_failure& failure() const noexcept { return failure_; }
  [[nodiscard]] std::chrono::nanoseconds elapsed() const noexcept { return elapsed_; }
  /// Complete but over hook_timeout, and could not be undone: every hook consumed its input and is noexcept.
  [[nodiscard]] bool late() const noexcept { return late_; }

  /// Of a complete, revertible one: the old state if it is whole, and otherwise null and its archive.
  [[nodiscard]] const void* whole_old() const noexcept { return consumed_ ? nullptr : old_; }
  [[nodiscard]] std::string_view archive_of_old() const noexcept {
    return before_ == nullptr ? std::string_view{} : before_->bytes();
  }

  /// Destroys the old state. The server uses the new one for good.
  void keep_new() noexcept;
  /// Puts the old state back; needs `revertible`. Then outcome() is failed, or lost when memory ran out.
  void revert() noexcept;

 private:
  void run(const molt_change&, const transformation_settings&, std::chrono::steady_clock::time_point begun);
  void note_elapsed(std::chrono::steady_clock::time_point begun, const transformation_settings&) noexcept;
  [[nodiscard]] bool prepare_undo(const transformation_settings&);
  int take_step(const path_step&, void* from, void* to, const molt_change&, const transformation_settings&, molt_text&);
  int apply_hook(const path_step&, void* from, void* to, const molt_change&, molt_text&) noexcept;
  int bridge(const path_step&, const void* from, void* to, const transformation_settings&, molt_text&) noexcept;
  [[nodiscard]] bool undo_late(const std::string& step, std::chrono::nanoseconds spent, const transformation_settings&);
  [[nodiscard]] bool check(const void* made, std::chrono::steady_clock::time_point begun,
                           const transformation_settings&);
  void fail(std::string step, std::string error, bool timed_out) noexcept;
  void fail_for_memory() noexcept;
  void restore_old() noexcept;
  void drop_undo() noexcept;

  const migration_path* path_;
  void* old_;
  void* new_ = nullptr;
  state outcome_ = state::failed;
  bool consumed_ = false;
  bool late_ = false;
  void* spare_ = nullptr;                         // storage to restore the old state in
  std::shared_ptr<const archive_buffer> before_;  // the old state, where a hook may empty it
  step_failure failure_;
  std::chrono::nanoseconds elapsed_{0};
};

}  // namespace molt::migration
