#include "state_migration/transformation.hpp"

#include "base/assert.hpp"
#include "base/heap_budget.hpp"
#include "plugin/storage.hpp"
#include "plugin/text.hpp"

#include <boost/container/small_vector.hpp>

#include <algorithm>
#include <ctime>
#include <new>
#include <string_view>
#include <utility>

namespace molt::migration {
namespace {

using clock = std::chrono::steady_clock;

/// Both are CLOCK_MONOTONIC; the coarse one stands still for a few ms.
clock::time_point now(const transformation_settings& settings) noexcept {
  if (!settings.coarse_clock) return clock::now();
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return clock::time_point{std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec}};
}

std::string what_went_wrong(int status, const molt_text& text) {
  if (text.size != 0) return std::string{text_of(text)};
  switch (status) {
    case MOLT_BAD_ARCHIVE:
      return "the archive does not hold such a state";
    case MOLT_OUT_OF_BOUNDS:
      return "a limit was reached";
    default:
      return "failed without saying why";
  }
}

/// An object made on the way, and what it is made of.
class passing_object {
 public:
  passing_object() = default;
  passing_object(const molt_schema& schema, void* storage) noexcept : schema_{&schema}, storage_{storage} {}
  passing_object(passing_object&& other) noexcept
      : schema_{other.schema_},
        storage_{std::exchange(other.storage_, nullptr)},
        made_{std::exchange(other.made_, false)} {}
  passing_object& operator=(passing_object&& other) noexcept {
    if (this == &other) return *this;
    reset();
    schema_ = other.schema_;
    storage_ = std::exchange(other.storage_, nullptr);
    made_ = std::exchange(other.made_, false);
    return *this;
  }
  ~passing_object() { reset(); }

  [[nodiscard]] void* storage() const noexcept { return storage_; }
  void made() noexcept { made_ = true; }
  [[nodiscard]] void* release() noexcept {
    made_ = false;
    return std::exchange(storage_, nullptr);
  }

 private:
  void reset() noexcept {
    if (made_) schema_->destroy(storage_);
    if (storage_ != nullptr) free_storage(*schema_, storage_);
    made_ = false;
    storage_ = nullptr;
  }

  const molt_schema* schema_ = nullptr;
  void* storage_ = nullptr;
  bool made_ = false;
};

}  // namespace

transformation::transformation(const migration_path& path, void* old_state, const molt_change& change,
                               const transformation_settings& settings) noexcept
    : path_{&path}, old_{old_state} {
  MOLT_ASSERT(path.from.schema != nullptr && path.to.schema != nullptr);
  const auto begun = now(settings);
  if (settings.begun != nullptr) settings.begun->store(begun, std::memory_order_relaxed);
  try {
    run(change, settings, begun);
  } catch (const std::bad_alloc&) {
    fail_for_memory();
  }
  if (outcome_ != state::complete) note_elapsed(begun, settings);
}

transformation::transformation(transformation&& other) noexcept
    : path_{other.path_},
      old_{std::exchange(other.old_, nullptr)},
      new_{std::exchange(other.new_, nullptr)},
      outcome_{std::exchange(other.outcome_, state::failed)},
      consumed_{other.consumed_},
      late_{other.late_},
      spare_{std::exchange(other.spare_, nullptr)},
      before_{std::move(other.before_)},
      failure_{std::move(other.failure_)},
      elapsed_{other.elapsed_} {}

transformation::~transformation() {
  if (outcome_ == state::complete) keep_new();
  drop_undo();
}

void transformation::drop_undo() noexcept {
  before_.reset();
  if (spare_ != nullptr) free_storage(*path_->from.schema, std::exchange(spare_, nullptr));
}

void transformation::keep_new() noexcept {
  MOLT_ASSERT(outcome_ == state::complete);
  if (old_ != nullptr && old_ != new_) destroy_and_free(*path_->from.schema, old_);
  old_ = nullptr;
  drop_undo();
}

void transformation::revert() noexcept {
  MOLT_ASSERT(outcome_ == state::complete && old_ != nullptr);
  if (new_ != old_) destroy_and_free(*path_->to.schema, new_);
  new_ = nullptr;
  outcome_ = state::failed;
  if (consumed_) restore_old();
}

/// The old state was emptied: makes it again from the archive taken before, beside it, and only then lets the emptied
/// one go.
void transformation::restore_old() noexcept {
  molt_text text;
  if (before_ == nullptr || spare_ == nullptr ||
      load_all(*path_->from.schema, before_->bytes(), spare_, text) != MOLT_OK) {
    outcome_ = state::lost;
    return;
  }
  destroy_and_free(*path_->from.schema, old_);
  old_ = std::exchange(spare_, nullptr);
  drop_undo();
}

void transformation::fail(std::string step, std::string error, bool timed_out) noexcept {
  failure_ = {std::move(step), std::move(error), timed_out};
  outcome_ = state::failed;
  if (consumed_) restore_old();
}

void transformation::fail_for_memory() noexcept {
  // Short enough for the string itself: nothing is allocated.
  fail({}, "out of memory", false);
}

/// Archives the old state where a hook may empty it and the emptying may have to be undone.
bool transformation::prepare_undo(const transformation_settings& settings) {
  const bool undone_when_complete = settings.revertible || settings.self_check != nullptr;
  if (!(undone_when_complete ? path_->needs_archive_to_revert() : path_->needs_archive_to_undo())) return true;
  const auto& schema = *path_->from.schema;
  before_ = settings.archive_of_old;
  if (before_ == nullptr) {
    const auto made = std::make_shared<archive_buffer>(settings.archive_size_max);
    molt_text text;
    if (const int status = made->save(schema, old_, text); status != MOLT_OK) {
      fail("archive of " + path_->from.name + " before the hook", what_went_wrong(status, text), false);
      return false;
    }
    made->shrink();  // mode atomic keeps one for each server until all have moved
    before_ = made;
  }
  spare_ = allocate_storage(schema);
  if (spare_ == nullptr) throw std::bad_alloc{};
  return true;
}

void transformation::note_elapsed(clock::time_point begun, const transformation_settings& settings) noexcept {
  static const auto tick = [] {
    timespec resolution{};
    ::clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
    return std::chrono::seconds{resolution.tv_sec} + std::chrono::nanoseconds{resolution.tv_nsec};
  }();
  elapsed_ = now(settings) - begun;
  if (settings.coarse_clock) elapsed_ = std::max(elapsed_ - tick, std::chrono::nanoseconds{0});  // at least so much
}

void transformation::run(const molt_change& change, const transformation_settings& settings, clock::time_point begun) {
  if (path_->steps.empty()) {
    new_ = old_;
    outcome_ = state::complete;
    return;
  }
  boost::container::small_vector<passing_object, 4> made;
  made.reserve(path_->steps.size());
  for (const auto& step : path_->steps) {  // all storage first: nothing of ours fails between two hooks
    made.emplace_back(*step.to.schema, allocate_storage(*step.to.schema));
    if (made.back().storage() == nullptr) throw std::bad_alloc{};
  }
  if (!prepare_undo(settings)) return;

  void* here = old_;
  for (std::size_t index = 0; index < made.size(); ++index) {
    const auto& step = path_->steps[index];
    text_buffer text;
    if (settings.begins != nullptr) settings.begins(&step, settings.begins_with);
    const int status = take_step(step, here, made[index].storage(), change, settings, text);
    if (status != MOLT_OK) return fail(step.text(), what_went_wrong(status, text), false);
    made[index].made();
    if (index > 0) made[index - 1] = {};  // its image destroys it
    here = made[index].storage();
    note_elapsed(begun, settings);
    if (settings.hook_timeout.count() > 0 && elapsed_ > settings.hook_timeout &&
        !undo_late(step.text(), elapsed_, settings))
      return;
  }
  if (settings.self_check != nullptr && !check(here, begun, settings)) return;
  new_ = made.back().release();
  outcome_ = state::complete;
}

int transformation::take_step(const path_step& step, void* from, void* to, const molt_change& change,
                              const transformation_settings& settings, molt_text& text) {
  heap_budget budget{settings.hook_memory_max};
  int status = MOLT_OK;
  {
    const heap_limit bound{settings.hook_memory_max != 0 && step.may_fail() ? &budget : nullptr};
    status = step.what == path_step::kind::hook ? apply_hook(step, from, to, change, text)
                                                : bridge(step, from, to, settings, text);
  }
  if (status == MOLT_OK || !budget.exceeded.load(std::memory_order_relaxed)) return status;
  const auto why = "took more than " + std::to_string(settings.hook_memory_max >> 20U) +
                   " MiB of memory, which is as much as a hook may (hook_memory_mb)";
  text.size = static_cast<std::uint32_t>(why.copy(text.data, sizeof text.data));
  return status;
}

int transformation::apply_hook(const path_step& step, void* from, void* to, const molt_change& change,
                               molt_text& text) noexcept {
  const int status = step.edge.hook->apply(from, to, &change, &text);
  if (from == old_ && step.consumes() && (status == MOLT_OK || !step.fails_whole())) consumed_ = true;
  return status;
}

int transformation::bridge(const path_step& step, const void* from, void* to, const transformation_settings& settings,
                           molt_text& text) noexcept {
  archive_buffer bytes{settings.archive_size_max};
  if (const int status = bytes.save(*step.from.schema, from, text); status != MOLT_OK) return status;
  return load_all(*step.to.schema, bytes.bytes(), to, text);
}

bool transformation::check(const void* made, clock::time_point begun, const transformation_settings& settings) {
  text_buffer text;
  if (settings.begins != nullptr) settings.begins(nullptr, settings.begins_with);
  if (const int status = settings.self_check(made, &text); status != MOLT_OK) {
    fail("self_check", what_went_wrong(status, text), false);
    return false;
  }
  note_elapsed(begun, settings);
  return settings.hook_timeout.count() <= 0 || elapsed_ <= settings.hook_timeout ||
         undo_late("self_check", elapsed_, settings);
}

/// A step ran over the deadline. Fails the transformation, unless the old state is gone and was not archived (noexcept
/// hooks that consume): then the complete new state is all there is.
bool transformation::undo_late(const std::string& step, std::chrono::nanoseconds spent,
                               const transformation_settings& settings) {
  if (consumed_ && before_ == nullptr) {
    late_ = true;
    return true;
  }
  const auto in_ms = [](std::chrono::nanoseconds time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) + " ms";
  };
  fail(step, "took " + in_ms(spent) + ", longer than the hook timeout of " + in_ms(settings.hook_timeout), true);
  return false;
}

}  // namespace molt::migration
