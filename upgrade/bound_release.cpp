#include "upgrade/bound_release.hpp"

#include "plugin/storage.hpp"
#include "plugin/text.hpp"
#include "state_migration/migration_graph.hpp"

#include <algorithm>
#include <new>

namespace molt::upgrade {
namespace {

using migration::step_failure;

/// An old state that took longer than this to migrate is large: it is destroyed later, not while its server's callers
/// wait.
constexpr std::chrono::microseconds destroy_at_once_max{200};

/// Reading the clock takes longer than moving a small state. A type of which so many have moved in less than that is
/// measured by sampling; the deadline of its hooks is kept by the coarse clock.
constexpr std::chrono::microseconds short_move{20};
constexpr std::uint64_t timed_at_first = 256;
constexpr std::uint64_t timed_one_in = 16;
constexpr std::chrono::milliseconds coarse_deadline_min{100};

/// How long a server's callers wait for entries to be converted. A caller that finds its server held looks again for
/// about twice as long before it queues, which would take far longer.
constexpr std::chrono::nanoseconds slice_time{4000};
/// On the way back callers convert what they touch up again: shorter slices would never be done beside busy ones.
constexpr std::chrono::nanoseconds slice_time_down{50'000};

/// Short enough for the string itself: nothing is allocated.
step_failure out_of_memory() noexcept { return {{}, "out of memory", false}; }

server_failure describe_failure(const servers::resting_server& server, const step_failure& failure) {
  return {server.ref(), shown_name(server), std::string{server.type().name()},
          failure.step, failure.error,      failure.timed_out};
}

}  // namespace

// ---- loaded_plugin, release_content

loaded_plugin::loaded_plugin(loader::lease image) : lease_{std::move(image)} {
  const auto& table = lease_->table();
  // Given, so that the linker need not be asked: its lock may not be taken while a copy of the process is made.
  const auto where = lease_->range();
  const servers::image_range range{where.begin(), where.begin() + where.size()};
  for (std::uint32_t index = 0; index < table.server_type_count; ++index)
    types_.push_back(servers::server_type::make(table.server_types[index], lease_->version(), lease_, range));
}

std::shared_ptr<const loaded_plugin> loaded_plugin::make(loader::lease image) {
  return std::make_shared<loaded_plugin>(std::move(image));
}

result<std::shared_ptr<const loaded_plugin>> loaded_plugin::load(const loader::plugin_file& file) {
  MOLT_TRY(auto image, loader::load(file));
  return make(std::move(image));
}

const servers::server_type* loaded_plugin::find_type(std::string_view name) const noexcept {
  for (const auto& type : types_)
    if (type->name() == name) return type.get();
  return nullptr;
}

std::vector<plugin_description> release_content::descriptions() const {
  std::vector<plugin_description> all;
  for (const auto& plugin : plugins) all.push_back(plugin->description());
  return all;
}

const servers::server_type* release_content::find_type(std::string_view name) const noexcept {
  for (const auto& plugin : plugins)
    if (const auto* const found = plugin->find_type(name)) return found;
  return nullptr;
}

result<release_content> load_release(std::string id, std::span<const loader::plugin_file> plugins) {
  release_content content{std::move(id), {}};
  for (const auto& file : plugins) {
    auto plugin = loaded_plugin::load(file);
    if (!plugin) return std::move(plugin).error().with(content.id);
    content.plugins.push_back(std::move(*plugin));
  }
  return content;
}

void share_loaded_plugins(std::span<const release_content> loaded, release_content& next) {
  for (const auto& known : loaded)
    for (const auto& plugin : known.plugins)
      for (auto& wanted : next.plugins)
        if (&wanted->image() == &plugin->image()) wanted = plugin;
}

// ---- bound_release

/// From one type that may be running to this release's type of the same name.
struct bound_release::binding {
  const servers::server_type* from = nullptr;
  const servers::server_type* to = nullptr;  // null: this release has no such type
  bool same_image = false;                   // only the type's owner differs
  bool forbidden = false;                    // loses what nobody accepted
  std::string from_version;
  std::string to_version;
  migration::migration_path path;
  error problem;  // if there is no way
  bool has_path = false;
  bool uses_others = false;  // a hook of the path reads or gives states of other servers
  bool leaving = false;      // the release lacks it, and somebody else ends its servers
  mutable std::atomic<std::uint64_t> moved{0};
  mutable std::atomic<std::uint64_t> quick{0};  // moves timed one after the other and found short; 0: one was not

  /// Once many have been short, one in so many is still timed.
  [[nodiscard]] bool is_timed() const noexcept {
    return quick.load(std::memory_order_relaxed) < timed_at_first ||
           moved.load(std::memory_order_relaxed) % timed_one_in == 0;
  }
};

bound_release::bound_release(release_content content, adopt_settings settings)
    : content_{std::move(content)},
      settings_{std::move(settings)},
      hooks_{settings_.hook_timeout, settings_.hook_threads, settings_.begins, settings_.begins_with} {
  for (const auto& [key, value] : settings_.arguments) arguments_.push_back({key.c_str(), value.c_str()});
  for (const auto& plugin : content_.plugins)
    for (const auto& type : plugin->types()) by_name_.emplace(type->name(), type.get());
}

bound_release::~bound_release() = default;

std::shared_ptr<bound_release> bound_release::make(release_content content, std::span<const release_content> sources,
                                                   adopt_settings settings) {
  auto made = std::make_shared<bound_release>(std::move(content), std::move(settings));
  for (const auto& source : sources) made->bind(source);
  return made;
}

void bound_release::bind(const release_content& source) {
  sources_.push_back(source);
  for (const auto& plugin : source.plugins)
    for (const auto& type : plugin->types())
      if (!bindings_.contains(&type->abi())) bind(*plugin, *type);
}

void bound_release::bind(const loaded_plugin& source, const servers::server_type& from) {
  auto bound = std::make_unique<binding>();
  bound->from = &from;
  bound->to = find_type(from.name());
  bound->from_version = source.description().version;
  if (bound->to == nullptr) {
    bound->leaving =
        std::find(settings_.leaving.begin(), settings_.leaving.end(), from.name()) != settings_.leaving.end();
    bound->problem = {reason::not_found, content_.id + " has no type " + std::string{from.name()}};
  } else {
    bound->to_version = std::string{bound->to->version()};
    bound->same_image = &bound->to->abi() == &from.abi();
    const bool up = settings_.going == direction::up;
    migration::migration_graph graph;
    const auto newer = graph.add(up ? bound->to->abi() : from.abi(), up ? bound->to_version : bound->from_version);
    const auto older = graph.add(up ? from.abi() : bound->to->abi(), up ? bound->from_version : bound->to_version);
    auto path =
        choose_path(graph, *graph.state_of(up ? older : newer), *graph.state_of(up ? newer : older), settings_.going);
    bound->has_path = path.has_value();
    if (path) bound->path = std::move(*path);
    if (path)
      bound->uses_others = bound->path.uses_others();
    else
      bound->problem = std::move(path).error();
    for (const auto& loss : bound->path.losses())
      if (std::find(settings_.accept_loss.begin(), settings_.accept_loss.end(), loss.name) ==
          settings_.accept_loss.end()) {
        bound->forbidden = true;
        bound->problem = {reason::refused, "would lose " + loss.name + ", which was not accepted"};
      }
  }
  bindings_.emplace(&from.abi(), std::move(bound));
}

const servers::server_type* bound_release::find_type(std::string_view name) const noexcept {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const bound_release::binding* bound_release::find_binding(const servers::server_type& type) const noexcept {
  const auto found = bindings_.find(&type.abi());
  return found == bindings_.end() ? nullptr : found->second.get();
}

result<const migration::migration_path*> bound_release::path_for(const servers::server_type& type) const {
  if (find_type(type.name()) == &type) return nullptr;
  const auto* const bound = find_binding(type);
  if (bound == nullptr)
    return error{reason::internal, content_.id + " does not know where " + std::string{type.name()} + " comes from"};
  if (!bound->has_path || bound->forbidden) return bound->problem;
  return &bound->path;
}

bool bound_release::uses_others(const servers::server_type& type) const noexcept {
  const auto* const bound = find_binding(type);
  return bound != nullptr && bound->uses_others && bound->to != &type;
}

bool bound_release::uses_others(const release_content& of) const noexcept {
  return std::any_of(of.plugins.begin(), of.plugins.end(), [&](const auto& plugin) {
    return std::any_of(plugin->types().begin(), plugin->types().end(),
                       [&](const auto& type) { return uses_others(*type); });
  });
}

void bound_release::adopt(servers::resting_server& server) const noexcept {
  const auto& type = server.type();
  const auto* const bound = find_binding(type);
  if (bound == nullptr) {
    if (find_type(type.name()) == &type) return;
    return record_failure(server, {"no way", "its type is not known to the release", false}, false);
  }
  if (bound->leaving || bound->to == &type) return;
  not_moved failed;
  try {
    auto done = move_state(server, *bound, false, failed);
    if (!done) return record_failure(server, failed.why, failed.lost);
    // Evolving containers keep their parts until the end: they take long to destroy, though not to leave.
    const bool large = done->elapsed() > destroy_at_once_max || type.abi().evolve != nullptr;
    if (!large) return;  // destroys the old state
    const std::scoped_lock lock{mutex_};
    graves_.push_back(std::move(*done));
  } catch (const std::bad_alloc&) {
    if (bound->to != &server.type()) record_failure(server, out_of_memory(), failed.lost);
  }
}

/// Null if nothing is to be kept. False: it could not be.
bool bound_release::keep_state(const servers::resting_server& server, const binding& bound,
                               std::shared_ptr<const migration::archive_buffer>& archive, not_moved& failed) const {
  const auto keep = settings_.keep.lock();
  if (keep == nullptr || bound.same_image || bound.path.steps.empty()) return true;
  auto kept = keep->keep(server);
  if (kept)
    archive = std::move(*kept);
  else
    failed.why = {"keeping its state", kept.error().message(), false};
  return kept.has_value();
}

std::optional<migration::transformation> bound_release::move_state(servers::resting_server& server,
                                                                   const binding& bound, bool revertible,
                                                                   not_moved& failed) const {
  if (!bound.has_path || bound.forbidden) {
    failed.why = {"no way", bound.problem.text(), false};
    return std::nullopt;
  }
  std::shared_ptr<const migration::archive_buffer> archive;
  if (!keep_state(server, bound, archive, failed)) return std::nullopt;
  hook_host host{server,
                 hooks_,
                 bound.from_version.c_str(),
                 bound.to_version.c_str(),
                 molt_arguments{arguments_.data(), arguments_.size()},
                 bound.uses_others ? handed_.load(std::memory_order_acquire) : nullptr,
                 bound.path.steps.empty() ? nullptr : settings_.watch.get()};
  const bool tight = settings_.hook_timeout.count() != 0 && settings_.hook_timeout < coarse_deadline_min;
  const bool timed = tight || bound.is_timed();
  const migration::transformation_settings settings{settings_.hook_timeout,
                                                    settings_.hook_memory_max,
                                                    !timed,
                                                    migration::archive_size_max,
                                                    revertible,
                                                    bound.to->abi().self_check,
                                                    &hook_host::step_begins,
                                                    &host,
                                                    &host.begun(),
                                                    std::move(archive)};
  transformation done{bound.path, server.state(), host.change(), settings};
  if (done.outcome() == transformation::state::complete) {
    server.become(*bound.to, done.current());
    if (timed)
      bound.quick.store(done.elapsed() < short_move ? bound.quick.load(std::memory_order_relaxed) + 1 : 0,
                        std::memory_order_relaxed);
    record_move(bound, done);
    return done;
  }
  if (done.current() != server.state()) server.become(server.type(), done.current());  // restored elsewhere
  if (const auto keep = settings_.keep.lock()) keep->forget(server.ref());
  failed.lost = done.outcome() == transformation::state::lost;
  failed.why = done.failure();
  return std::nullopt;
}

bound_release::moved bound_release::adopt_revertibly(servers::resting_server& server,
                                                     std::optional<move>& undo) const noexcept {
  const auto& before = server.type();
  if (find_type(before.name()) == &before) return moved::nothing_to_do;
  const auto* const bound = find_binding(before);
  if (bound == nullptr) {
    record_failure(server, {"no way", "its type is not known to the release", false}, false);
    return moved::failed;
  }
  if (bound->leaving) return moved::nothing_to_do;
  not_moved failed;
  try {
    auto done = move_state(server, *bound, true, failed);
    if (!done) return restore(server, *bound, failed, undo);
    undo.emplace(std::move(*done), before);
    return moved::moved;
  } catch (const std::bad_alloc&) {
    record_failure(server, out_of_memory(), failed.lost);
    return moved::failed;
  }
}

/// The server's hooks have failed, or there are none: it becomes again what was kept of it, or fails.
bound_release::moved bound_release::restore(servers::resting_server& server, const binding& bound,
                                            const not_moved& failed, std::optional<move>& undo) const {
  const auto give_up = [&](const std::string& more) {
    record_failure(server, {failed.why.step, failed.why.error + more, failed.why.timed_out}, failed.lost);
    return moved::failed;
  };
  const auto kept = settings_.from_kept.lock();
  if (kept == nullptr || bound.to == nullptr) return give_up({});
  const auto since = kept->since(server.ref(), bound.to->abi());
  if (!since) return give_up("; and nothing was kept of it");
  server_restoration made{describe_failure(server, failed.why), *since, kept->lost(server.ref())};
  const bool accepted = settings_.lose_since && *settings_.lose_since <= *since;
  if (accepted) {
    auto again = kept->make(server.ref(), bound.to->abi());
    if (!again) return give_up("; and " + again.error().text());
    undo.emplace(server.type(), server.state());
    server.become(*bound.to, *again);
    adopted_.fetch_add(1, std::memory_order_relaxed);
  }
  auto& all = accepted ? restored_ : not_accepted_;
  const std::scoped_lock lock{mutex_};
  ++all.count;
  all.since = all.since ? std::min(*all.since, *since) : *since;
  if (all.servers.size() < failures_listed_max) {
    try {
      all.servers.push_back(std::move(made));
    } catch (const std::bad_alloc&) {
      return accepted ? moved::moved : moved::nothing_to_do;  // counted all the same
    }
  }
  return accepted ? moved::moved : moved::nothing_to_do;
}

bound_release::restorations bound_release::restored() const {
  const std::scoped_lock lock{mutex_};
  return restored_;
}

bound_release::restorations bound_release::not_accepted() const {
  const std::scoped_lock lock{mutex_};
  return not_accepted_;
}

bound_release::move::~move() {
  if (replaced_ != nullptr) destroy_and_free(*before_->abi().state, replaced_);
}

bool bound_release::revert(servers::resting_server& server, move& undo) const noexcept {
  const auto* const bound = find_binding(*undo.before_);
  if (bound == nullptr || !bound->same_image) adopted_.fetch_sub(1, std::memory_order_relaxed);
  if (undo.done_ && bound != nullptr && !bound->same_image) bound->moved.fetch_sub(1, std::memory_order_relaxed);
  if (!undo.done_) {
    destroy_and_free(*server.type().abi().state, server.state());
    server.become(*undo.before_, std::exchange(undo.replaced_, nullptr));
    return true;
  }
  undo.done_->revert();
  server.become(*undo.before_, undo.done_->current());
  if (const auto keep = settings_.keep.lock()) keep->forget(server.ref());
  if (undo.done_->outcome() != transformation::state::lost) return true;
  record_failure(server, {"going back", "out of memory", false}, true);
  return false;
}

std::optional<std::uint64_t> bound_release::convert_entries(servers::resting_server& server, bool down) const noexcept {
  const auto& type = server.type().abi();
  std::uint64_t left = 0;
  text_buffer text;
  if (type.evolve(server.state(), down ? 1 : 0, (down ? slice_time_down : slice_time).count(), &left, &text) == MOLT_OK)
    return left;
  if (down) return std::nullopt;
  try {
    step_failure failure{std::string{"entries of "} + type.state->name, std::string{text_of(text)}, false};
    record_failure(server, failure, false, true);
  } catch (const std::bad_alloc&) {
    record_failure(server, {}, false, true);
  }
  return std::nullopt;
}

void bound_release::destroy_old_states() const noexcept {
  std::vector<transformation> graves;
  {
    const std::scoped_lock lock{mutex_};
    graves.swap(graves_);
  }
}

void bound_release::record_move(const binding& bound, const transformation& done) const noexcept {
  if (bound.same_image) return;
  bound.moved.fetch_add(1, std::memory_order_relaxed);
  adopted_.fetch_add(1, std::memory_order_relaxed);
  if (done.late()) late_.fetch_add(1, std::memory_order_relaxed);
  auto largest = largest_ns_.load(std::memory_order_relaxed);
  while (largest < done.elapsed().count() &&
         !largest_ns_.compare_exchange_weak(largest, done.elapsed().count(), std::memory_order_relaxed)) {
  }
}

void bound_release::record_failure(const servers::resting_server& server, const step_failure& failure, bool lost,
                                   bool entry) const noexcept {
  try {
    auto made = describe_failure(server, failure);
    made.lost = lost;
    made.entry = entry;
    const std::scoped_lock lock{mutex_};
    if (failures_.size() < failures_listed_max) failures_.push_back(std::move(made));
  } catch (const std::bad_alloc&) {
    // counted below all the same
  }
  if (lost) lost_.fetch_add(1, std::memory_order_relaxed);
  failed_.fetch_add(1, std::memory_order_release);
}

std::vector<server_failure> bound_release::failures() const {
  const std::scoped_lock lock{mutex_};
  return failures_;
}

std::vector<type_count> bound_release::counts() const {
  std::vector<type_count> all;
  for (const auto& [abi, bound] : bindings_)
    if (const auto moved = bound->moved.load(std::memory_order_relaxed); moved != 0)
      all.push_back({std::string{bound->from->name()}, bound->path.way, bound->path.step_texts(), moved});
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.type < b.type; });
  return all;
}

std::chrono::nanoseconds bound_release::largest_migration() const noexcept {
  return std::chrono::nanoseconds{largest_ns_.load(std::memory_order_relaxed)};
}

}  // namespace molt::upgrade
