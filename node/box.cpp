#include "node/box.hpp"

#include "node/box_parts.hpp"
#include "node/crash_folder.hpp"
#include "node/crash_signal.hpp"
#include "node/listening.hpp"

#include <utility>

namespace molt::node {

// ---- Start and stop

box::implementation::implementation(box_options options) : options_{std::move(options)} {
  if (!options_.log) options_.log = [](int, std::string_view) {};
}

box::implementation::~implementation() {
  if (runtime_) stop(std::chrono::milliseconds{0});
}

result<void> box::implementation::start(const std::filesystem::path& release_folder) {
  MOLT_TRY(loaded_release release, load_release_folder(release_folder, options_.contents));
  for (auto& each : options_.listeners) offered_[each.name] = std::move(each.fd);
  MOLT_TRY(listening_sockets sockets, sockets_for(nullptr, release.facts.manifest));

  options_.servers.log = [log = options_.log](int level, std::string_view from, std::string_view text) {
    log(level, from.empty() ? std::string{text} : std::string{from} + ": " + std::string{text});
  };
  runtime_ = std::make_unique<servers::runtime>(options_.servers);
  report_failures();
  MOLT_TRY(plane_, data_plane::make(*runtime_, options_.data_plane, options_.log));
  supervisor_ = std::make_unique<servers::supervisor>(*runtime_, [this](std::string_view why) {
    options_.log(MOLT_LOG_ERROR, "the supervisor has given up: " + std::string{why});
    if (options_.gave_up) options_.gave_up(why);
  });
  exits_go_to_ = supervisor_.get();
  runtime_->on_exit([this](const servers::exit_event& event) { hear_exit(event); });
  switcher_ = std::make_unique<upgrade::switcher>(*runtime_);
  retirement_ = std::make_unique<image_retirement>(image_retirement::surroundings{
      *runtime_, without_rest_, options_.log,
      options_.crash_folder.empty() ? std::filesystem::path{} : options_.crash_folder / archived_images_folder,
      [this](const loader::plugin_image& image) { return has_image(image); }});
  retirement_->set(image_settings_of(release.facts.manifest));
  switcher_->retire_images_with([this](loader::lease last) { return retirement_->retire(std::move(last)); });
  switcher_->start(release.content);
  report_for(release.facts);
  record_as({}, release.facts.manifest, recorded::later);
  MOLT_CHECK(supervisor_->start(supervisor_spec_of(release.facts.manifest)));
  current_ = std::move(release.facts);
  return start_listeners(current_.manifest, std::move(sockets));
}

result<void> box::implementation::start_listeners(const releases::manifest& manifest, listening_sockets sockets) {
  for (const auto& entry : manifest.listeners)
    MOLT_CHECK(plane_->listen(std::move(sockets.at(entry.name)), listener_settings_of(entry)));
  return ok();
}

result<box::implementation::listening_sockets> box::implementation::sockets_for(const releases::manifest* now,
                                                                                const releases::manifest& next) {
  listening_sockets sockets;
  listening_sockets offered;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [name, fd] : offered_) offered[name] = unique_fd{::dup(fd.get())};
  }
  for (const auto& entry : next.listeners) {
    const auto* kept = now == nullptr ? nullptr : find_listener(*now, entry.name);
    if (kept != nullptr && kept->address == entry.address) continue;
    if (const auto given = offered.find(entry.name); given != offered.end()) {
      sockets[entry.name] = std::move(given->second);
    } else if (options_.open_listeners) {
      MOLT_TRY(sockets[entry.name], listen_tcp(entry.name, entry.address));
    } else {
      return error{reason::refused, "listener " + entry.name + ": no socket was handed over for it"};
    }
  }
  return sockets;
}

void box::implementation::hear_exit(const servers::exit_event& event) {
  plane_->server_ended(event);
  const std::shared_lock lock{exits_};
  if (exits_go_to_ != nullptr) exits_go_to_->child_ended(event);
}

void box::implementation::report_failures() {
  if (options_.crash_folder.empty()) return;
  reporter_ = std::make_unique<crash_reporter>(crash_reporter::surroundings{
      options_.crash_folder, [this](const std::string& name) { return runtime_->lookup(name); }, options_.log});
  runtime_->on_failure([this](const servers::server_failure& told) { reporter_->note(told); });
}

void box::implementation::report_for(const release_facts& running) {
  if (!reporter_) return;
  reporter_->note_release(running.id(), running.folder);
  note_release(running.id(), running.folder.native());
}

void box::implementation::stop(std::chrono::milliseconds patience) {
  if (std::exchange(stopped_, true)) return;
  cancel_change();
  const std::lock_guard alone{operation_};
  if (plane_) plane_->stop(patience);
  if (supervisor_) {
    if (const auto done = supervisor_->stop("the node stops"); !done)
      options_.log(MOLT_LOG_WARNING, done.error().text());
    {
      const std::unique_lock lock{exits_};
      exits_go_to_ = nullptr;
    }
    supervisor_.reset();
  }
  if (reporter_) reporter_->stop();
  retirement_.reset();  // asks the switcher
  switcher_.reset();
  runtime_.reset();
  plane_.reset();
}

// ---- Questions

release_facts box::implementation::current() const {
  const std::lock_guard lock{mutex_};
  return current_;
}

box_status box::implementation::status() const {
  box_status now;
  now.servers = runtime_->size();
  now.statistics = runtime_->stats();
  now.connections = plane_->connections();
  now.images_kept = retirement_->kept();
  now.listeners = plane_->listeners();
  now.phase = switcher_->now();
  now.migrated = switcher_->migrated_so_far();
  now.entries_left = switcher_->entries_left();
  now.late_hooks = switcher_->late_hooks();
  if (const auto kept = switcher_->kept()) now.kept = kept->summary();
  const std::lock_guard lock{mutex_};
  now.current = {current_.id(), current_.folder};
  for (const auto& parent : parents_) now.parents.push_back({parent.id(), parent.folder});
  now.changing_to = changing_to_;
  if (loading_) now.phase = upgrade::phase::prepared;
  now.rehearsing = rehearsing_;
  now.committed = committed_;
  now.last = last_;
  return now;
}

result<void> box::implementation::offer_listeners(std::vector<named_fd> given) {
  if (given.size() > fd_channel_fds_max) return error{reason::out_of_bounds, "too many listening sockets"};
  const std::lock_guard lock{mutex_};
  for (auto& each : given) offered_[each.name] = std::move(each.fd);
  if (offered_.size() <= fd_channel_fds_max) return ok();
  offered_.clear();
  return error{reason::out_of_bounds, "too many listening sockets are on offer"};
}

// ---- The outside

box::box(std::unique_ptr<implementation> made) noexcept : implementation_{std::move(made)} {}
box::~box() = default;

result<std::unique_ptr<box>> box::start(const std::filesystem::path& release_folder, box_options options) {
  auto made = std::make_unique<implementation>(std::move(options));
  MOLT_CHECK(made->start(release_folder));
  return std::unique_ptr<box>{new box{std::move(made)}};
}

result<void> box::cancel_upgrade() { return implementation_->cancel_upgrade(); }

void box::cancel_change() noexcept { implementation_->cancel_change(); }
bool box::stops() const noexcept { return implementation_->stops(); }
std::uint64_t box::adopt() { return implementation_->adopt(); }
void box::stop(std::chrono::milliseconds patience) { implementation_->stop(patience); }

result<upgrade::plan> box::plan_upgrade(const std::filesystem::path& release_folder, const change_request& request,
                                        std::string* id) {
  return implementation_->plan_upgrade(release_folder, request, id);
}
result<upgrade::plan> box::plan_rollback(const change_request& request, const std::filesystem::path& parent) {
  return implementation_->plan_rollback(request, parent);
}
result<rehearsal_report> box::rehearse(const std::filesystem::path& release_folder, const change_request& request,
                                       std::function<bool()> given_up) {
  return implementation_->rehearse(release_folder, request, std::move(given_up));
}
result<upgrade::report> box::upgrade(const std::filesystem::path& release_folder, const change_request& request) {
  return implementation_->upgrade(release_folder, request);
}
result<upgrade::report> box::rollback(const change_request& request, const std::filesystem::path& parent) {
  return implementation_->rollback(request, parent);
}
result<std::vector<loader::unload_report>> box::commit(std::chrono::nanoseconds timeout,
                                                       std::optional<std::uint64_t> adoption) {
  return implementation_->commit(timeout, adoption);
}
result<void> box::offer_listeners(std::vector<named_fd> given) {
  return implementation_->offer_listeners(std::move(given));
}

std::vector<named_fd> box::duplicate_listeners() const {
  std::vector<named_fd> all;
  for (auto& [name, fd] : implementation_->plane().duplicate_listeners()) all.push_back({name, std::move(fd)});
  return all;
}

box_status box::status() const { return implementation_->status(); }
std::vector<image_status> box::images() const { return implementation_->images(); }
last_look box::looked_for_holders() const { return implementation_->retirement().looked(); }
bool box::settle_images(std::chrono::milliseconds patience) const {
  return implementation_->retirement().settle(patience);
}
std::vector<servers::server_info> box::servers() const { return implementation_->runtime().servers(); }
result<std::string> box::call(const json_call& asked) { return implementation_->call(asked); }
servers::runtime& box::runtime() noexcept { return implementation_->runtime(); }

}  // namespace molt::node
