// What the hooks of one server may ask while they run (molt_change_host).
#pragma once

#include "plugin/abi.h"
#include "server/runtime.hpp"
#include "state_migration/migration_path.hpp"
#include "upgrade/hook_watch.hpp"

#include <atomic>
#include <chrono>
#include <string>

namespace molt::upgrade {

class handed_states;

/// What is the same for all servers of one operation.
struct hook_settings {
  std::chrono::nanoseconds timeout{0};  ///< of all hooks of one server together; zero: none
  unsigned threads = 0;                 ///< that run parts of one hook at once; 0: one per core
  /// As in migration::transformation_settings.
  void (*begins)(const migration::path_step*, void* with) noexcept = nullptr;
  void* begins_with = nullptr;
};

/// Lives on the stack of whoever migrates one server.
///
/// Threading: the thread that holds the server; what hooks run in parallel asks for the time only.
class hook_host {
 public:
  using clock = std::chrono::steady_clock;

  /// `watch`: where the hooks are listed as long as this lives; null: nowhere.
  hook_host(const servers::resting_server&, const hook_settings&, const char* from_version, const char* to_version,
            molt_arguments arguments, handed_states* others, hook_watch* watch = nullptr) noexcept;
  hook_host(const hook_host&) = delete;
  hook_host& operator=(const hook_host&) = delete;

  /// To be set before the first hook runs.
  [[nodiscard]] std::atomic<clock::time_point>& begun() noexcept { return run_.begun(); }
  [[nodiscard]] const molt_change& change() const noexcept { return change_; }
  /// For transformation_settings::begins; `with` is the hook_host.
  static void step_begins(const migration::path_step*, void* with) noexcept;

 private:
  static hook_host& of(const molt_change* change) noexcept { return *static_cast<hook_host*>(change->with); }
  static const char* server_name(const molt_change*) noexcept;
  static molt_arguments config(const molt_change*) noexcept;
  static std::int64_t time_left_ns(const molt_change*) noexcept;
  static int parallel(const molt_change*, std::size_t count, std::size_t least,
                      int (*part)(void* with, std::size_t begin, std::size_t end), void* with, molt_text*) noexcept;
  static int other(const molt_change*, const char* name, const molt_schema* as, const void** state,
                   molt_text*) noexcept;
  static int give(const molt_change*, const char* name, const molt_schema* of, void* state, molt_text*) noexcept;
  static const molt_change_host functions;
  static const molt_change_host functions_at_rest;

  const servers::resting_server& server_;
  const hook_settings& settings_;
  hook_watch::run run_;
  const migration::path_step* step_ = nullptr;  // null: none yet, or self_check
  handed_states* const others_;                 // null: the hook may not use them now
  molt_change change_;
  std::string name_;
  bool named_ = false;
};

}  // namespace molt::upgrade
