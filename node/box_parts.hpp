// Inside of box.hpp: what box.cpp, box_call.cpp, box_change.cpp and box_images.cpp share.
#pragma once

#include "node/box.hpp"
#include "node/crash_reporter.hpp"
#include "node/release_setup.hpp"
#include "server/supervisor.hpp"

#include <atomic>
#include <map>
#include <mutex>
#include <shared_mutex>

namespace molt::node {

class box::implementation {
 public:
  explicit implementation(box_options);
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;
  ~implementation();

  result<void> start(const std::filesystem::path& release_folder);
  void cancel_change() noexcept { cancelled_.store(true); }
  [[nodiscard]] bool stops() const noexcept { return cancelled_.load(); }
  result<void> cancel_upgrade();
  void stop(std::chrono::milliseconds patience);

  result<upgrade::plan> plan_upgrade(const std::filesystem::path&, const change_request&, std::string* id);
  result<upgrade::plan> plan_rollback(const change_request&, const std::filesystem::path& parent);
  result<rehearsal_report> rehearse(const std::filesystem::path&, const change_request&,
                                    std::function<bool()> given_up);
  result<upgrade::report> upgrade(const std::filesystem::path&, const change_request&);
  result<upgrade::report> rollback(const change_request&, const std::filesystem::path& parent);
  result<std::vector<loader::unload_report>> commit(std::chrono::nanoseconds timeout,
                                                    std::optional<std::uint64_t> adoption);
  std::uint64_t adopt();

  result<void> offer_listeners(std::vector<named_fd>);
  [[nodiscard]] box_status status() const;
  [[nodiscard]] std::vector<image_status> images() const;  // box_images.cpp
  [[nodiscard]] image_retirement& retirement() noexcept { return *retirement_; }
  result<std::string> call(const json_call&);

  [[nodiscard]] servers::runtime& runtime() noexcept { return *runtime_; }
  [[nodiscard]] data_plane& plane() noexcept { return *plane_; }

 private:
  using listening_sockets = std::map<std::string, unique_fd, std::less<>>;

  /// One change of release, with what its end needs.
  struct change {
    upgrade::direction going = upgrade::direction::up;
    release_facts from;
    release_facts to;
    std::vector<plugin_description> plugins;  ///< of `to`
    upgrade::release_content content;         ///< of `to`, when it is to be loaded
    upgrade::settings settings;
    std::vector<std::string> leaving;  ///< types that the manifest starts and the next release lacks
    listening_sockets sockets;         ///< for the listeners that are new
    bool supervision_begun = false;    ///< what the next release adds runs; what it lacks does so still
  };

  [[nodiscard]] bool has_image(const loader::plugin_image&) const;
  void hear_exit(const servers::exit_event&);
  void report_failures();
  void report_for(const release_facts&);
  [[nodiscard]] result<void> start_listeners(const releases::manifest&, listening_sockets);
  /// Sockets for the listeners of `next` that `now` does not have at the same address: offered ones, or opened.
  [[nodiscard]] result<listening_sockets> sockets_for(const releases::manifest* now, const releases::manifest& next);

  [[nodiscard]] change prepare(upgrade::direction, release_facts to, std::vector<plugin_description>,
                               const change_request&) const;
  [[nodiscard]] bool must_load(const std::filesystem::path& parent) const;
  [[nodiscard]] result<change> prepare_rollback(const change_request&) const;
  [[nodiscard]] upgrade::plan plan_of(const change&) const;
  [[nodiscard]] result<upgrade::report> run(change);
  [[nodiscard]] result<upgrade::report> carry_out(change&);
  [[nodiscard]] result<upgrade::report> do_switch(change&);
  void announce_connection_types(const change&);
  void restore(const change&);
  void apply_listeners(change&, upgrade::report&);
  [[nodiscard]] bool leaves_with(const change&, const servers::server_info&) const;
  void follow_switch(change&);
  void tell_of_late_hooks(change&);
  void finish_supervision(const change&, upgrade::report&);
  void remember(const change&);
  /// What of servers is recorded: those that will start, or also those that run.
  enum class recorded { later, now_too };
  void record_as(const releases::manifest& before, const releases::manifest& next, recorded which);
  class change_under_way;
  [[nodiscard]] result<void> begin(const std::filesystem::path& to, upgrade::direction, const change_request&);
  void note_loaded(const std::string& to);
  void end(std::optional<upgrade::report>);
  [[nodiscard]] result<void> check_adoption(std::optional<std::uint64_t>) const;
  void note_rehearsal(std::string of);

  [[nodiscard]] error call_error(int status, const json_call&, const molt_handler&, molt_ref to,
                                 std::string text) const;
  [[nodiscard]] error failed_error(const json_call&, molt_ref to, const std::string& text) const;
  [[nodiscard]] release_facts current() const;

  box_options options_;
  bool stopped_ = false;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> upgrade_cancelled_{false};    // the one under way; set under mutex_
  std::atomic<bool> rehearsal_cancelled_{false};  // likewise
  std::unique_ptr<crash_reporter> reporter_;  // null: failures are not reported
  std::unique_ptr<servers::runtime> runtime_;
  std::unique_ptr<data_plane> plane_;
  std::unique_ptr<upgrade::switcher> switcher_;
  std::unique_ptr<image_retirement> retirement_;
  std::unique_ptr<servers::supervisor> supervisor_;
  mutable std::shared_mutex exits_;             // held shared while an exit is passed on
  servers::supervisor* exits_go_to_ = nullptr;  // guarded by exits_

  std::mutex operation_;     // held for one operation
  std::mutex without_rest_;  // held by what must not be disturbed by a rest; after operation_
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  release_facts current_;
  std::vector<release_facts> parents_;
  listening_sockets offered_;
  std::uint64_t adoptions_ = 0;
  std::string changing_to_;
  bool loading_ = false;  ///< what is changed to; nothing has been touched yet
  bool changing_up_ = false;
  std::string rehearsing_;
  bool committed_ = false;
  std::optional<upgrade::report> last_;
};

}  // namespace molt::node
